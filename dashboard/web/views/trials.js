// Every trial: sorted, filtered, searched and paged by the server.

import { ApiError, get, job as at } from "../api.js";
import { button, empty, fill, h, labelled, loading, select } from "../dom.js";
import { duration, number } from "../format.js";
import { brief, exporting, legend, metricColumns, pager, table } from "../parts.js";
import { here, link, note } from "../router.js";

const PAGE = 50;

export async function show(body, { job, goals, current }) {
  const query = here().query, metrics = [...new Set([...goals.objectives, ...goals.constraints].map((o) => o.metric))];
  const wanted = {
    sort: query.get("sort") ?? "number", descending: query.get("descending") !== "no", state: query.get("state") ?? "", fidelity: query.get("fidelity") ?? "",
    text: query.get("text") ?? "", where: query.get("where") ?? "", front: query.get("front") === "yes", offset: Number(query.get("offset") ?? 0),
  };
  const asked = (more = {}) => ({ ...wanted, descending: String(wanted.descending), where: wanted.where.split(",").map((t) => t.trim()).filter(Boolean), limit: PAGE, ...more });
  let timer;
  const set = (name, value, wait = 0) => {
    wanted[name] = value;
    if (name !== "offset") wanted.offset = 0;
    note({ ...wanted, descending: wanted.descending ? "" : "no", front: wanted.front ? "yes" : "", offset: wanted.offset || "", sort: wanted.sort === "number" ? "" : wanted.sort });
    clearTimeout(timer);
    timer = setTimeout(load, wait);
  };
  const search = h("input", { type: "search", value: wanted.text, placeholder: "number, key or error", oninput: () => set("text", search.value, 250) });
  const where = h("input", { type: "search", value: wanted.where, placeholder: `${metrics[0]}>=0.9, stage1.width=24`, oninput: () => set("where", where.value, 400), class: "wide", spellcheck: "false" });
  const front = h("input", { type: "checkbox", checked: wanted.front, onchange: () => set("front", front.checked) });
  const wrong = h("p", { class: "error", role: "alert" }), box = h("div", {}, loading());
  fill(body,
    h("div", { class: "filters" },
      labelled("Search", search), labelled("Where", where),
      labelled("State", select([["", "any"], "running", "completed", "failed"], wanted.state, (v) => set("state", v))),
      labelled("Fidelity", select([["", "any"], "proxy", "inherited", "trained", "deployed"], wanted.fidelity, (v) => set("fidelity", v))),
      labelled("On the front", front),
      exporting(`${job.name} trials`, everything)),
    wrong, box);

  async function everything() {
    const rows = [];
    for (let offset = 0, total = 1; offset < total; offset += 1000) {
      const page = await get(at(job.job_id, "/table"), asked({ offset, limit: 1000 }));
      total = page.total;
      rows.push(...page.items.map(({ metrics, values, kinds, ...rest }) => ({ ...rest, ...metrics, ...Object.fromEntries(Object.entries(kinds).map(([m, kind]) => [`${m} is`, kind])), ...values })));
    }
    return rows;
  }

  async function load() {
    let found;
    try {
      found = await get(at(job.job_id, "/table"), asked());
      wrong.textContent = "";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      wrong.textContent = error.message;
      box.querySelector(".loading")?.remove();
      return;
    }
    if (!current()) return;
    if (!found.items.length) {
      const narrowed = wanted.state || wanted.fidelity || wanted.text || wanted.where || wanted.front;
      return fill(box, narrowed
        ? empty("No trial fits these filters", "Take one away to see more.", button("Show all trials", () => { location.hash = link(["jobs", job.job_id, "trials"]); dispatchEvent(new HashChangeEvent("hashchange")); }))
        : empty("No trials yet", job.state === "created" ? "The job waits for a free place." : "They appear here as soon as they start."));
    }
    const sort = { by: wanted.sort, down: wanted.descending, change: (name) => { wanted.descending = wanted.sort === name ? !wanted.descending : true; set("sort", name); } };
    const scroll = box.querySelector(".scroll")?.scrollLeft ?? 0;
    fill(box, table("Trials", [
      { name: "number", text: "Trial", cell: (t) => h("a", { href: link(["jobs", job.job_id, "trials", String(t.number)]) }, number(t.number)) },
      { text: "State", cell: (t) => h("span", { class: `state ${t.state}` }, t.state) },
      { name: "fidelity", text: "Fidelity", cell: (t) => (t.method ? `trains: ${t.method}` : t.effort < 1 ? `${t.fidelity} (${Number((100 * t.effort).toPrecision(2))} %)` : t.fidelity) },
      ...metricColumns(metrics, found.items),
      { name: "seconds", text: "Time", number: true, cell: (t) => (t.state === "running" ? "" : duration(t.seconds)) },
      { text: "Candidate", cell: (t) => t.key && h("span", { class: "mono" }, t.key) },
      { text: "Decisions", class: "decisions", cell: (t) => (t.error ? h("span", { class: "error" }, t.error) : brief(t.values)) },
    ], found.items, { sort }), legend(found.items), pager(wanted.offset, PAGE, found.total, (offset) => set("offset", offset)));
    box.querySelector(".scroll").scrollLeft = scroll;
  }

  await load();
  return () => load();
}

