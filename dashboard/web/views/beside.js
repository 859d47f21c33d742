// A candidate beside others of its job: what they score, and which decisions differ.

import { get, job as at } from "../api.js";
import { empty, fill, h, labelled } from "../dom.js";
import { number, option } from "../format.js";
import { exporting, legend, metricColumns, table } from "../parts.js";
import { here, link, note } from "../router.js";

const MOST = 8, FIRST = 4;

/** Fills `card`; the others are those the link names, or the first of the front at this fidelity. */
export async function beside(card, { job, trial, metrics, current }) {
  const asked = here().query.get("with");
  const input = h("input", { type: "search", value: asked ?? "", placeholder: "3, 12", onchange: () => { note({ with: input.value }); draw(input.value); } });
  const box = h("div", {}), rows = [];
  fill(card, h("div", { class: "card-head" }, h("h2", {}, "Beside others"), labelled("Trials", input), exporting(`trial ${trial.number} beside others`, () => rows)), box);
  await draw(asked ?? "");

  async function draw(text) {
    const named = [...new Set(text.split(/[\s,]+/).filter((t) => /^\d+$/.test(t)).map(Number))].filter((n) => n !== trial.number).slice(0, MOST);
    const [mine, ...others] = await Promise.all([trial.number, ...named].map((n) => only({ where: `number=${n}`, limit: 1 })));
    const front = named.length ? [] : await only({ front: true, fidelity: trial.task.fidelity, sort: metrics[0], limit: FIRST + 1 });
    if (!current()) return;
    const found = [...others.flat(), ...front.filter((t) => t.number !== trial.number).slice(0, FIRST)].filter((t) => t.key);
    rows.splice(0, rows.length, ...[...mine, ...found].map((t) => ({ trial: t.number, fidelity: t.fidelity, ...t.metrics, ...t.values })));
    if (!mine.length || !found.length) {
      return fill(box, empty(named.length ? "No such candidate has finished" : "Nothing to compare with yet", "Name finished trials of this job by their numbers."));
    }
    const all = [...mine, ...found], decisions = [...new Set(all.flatMap((t) => Object.keys(t.values)))];
    const differing = decisions.filter((name) => new Set(all.map((t) => t.values[name])).size > 1);
    fill(box, table("Beside others", [
      { text: "Trial", cell: (t) => (t.number === trial.number ? h("strong", {}, `${number(t.number)}, this one`) : h("a", { href: link(["jobs", job.job_id, "trials", String(t.number)]) }, number(t.number))) },
      { text: "Fidelity", cell: (t) => t.fidelity },
      ...metricColumns(metrics, all),
      ...differing.map((name) => ({ text: name, number: true, cell: (t) => (name in t.values ? option(t.values[name]) : "–") })),
    ], all), h("p", { class: "note" }, differing.length ? "Decisions are shown where they differ." : "All chose the same."), legend(all));
  }

  async function only(query) {
    return (await get(at(job.job_id, "/table"), query)).items;
  }
}
