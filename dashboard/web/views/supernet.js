// Shared weights: how their training went, epoch by epoch.

import { get, job as at } from "../api.js";
import { empty, fill, h } from "../dom.js";
import { number } from "../format.js";
import { facts } from "../parts.js";
import { figure } from "../plot.js";
import { link } from "../router.js";
import { color } from "../theme.js";

export async function show(body, { job, onleave, current }) {
  let losses = null;
  async function load() {
    const { history, number: trial, reused_epochs: reused, version } = await get(at(job.job_id, "/supernet"));
    if (!current()) return;
    if (!history.length) {
      return fill(body, trial === null
        ? empty("No epoch yet", "Shared weights are trained before the first candidate is tried; curves appear when the first part of the training ends.")
        : empty("No curves were kept", "These weights were trained by an earlier version, which kept none."));
    }
    if (!losses) {
      losses = figure("Training loss of the shared weights", { note: "Mean cross-entropy over each epoch's batches.", height: 360, name: `${job.name} supernet` });
      onleave(losses.end);
      fill(body, h("div", { class: "told" }), losses.node);
    }
    const last = history.at(-1), apart = history.some((e) => e.largest_loss !== e.student_loss);
    const lines = apart
      ? [["largest candidate", "front", (e) => e.largest_loss], ["other candidates of each step", "search", (e) => e.student_loss]]
      : [["candidates drawn", "search", (e) => e.student_loss]];
    fill(body.firstChild, facts([
      ["epochs", number(last.epoch)], ...lines.map(([name, , of]) => [`loss, ${name}`, number(of(last))]),
      reused > 0 && ["found trained", `${number(reused)} epochs`], ["weights", h("span", { class: "mono" }, version)],
      ["told by", h("a", { href: link(["jobs", job.job_id, "trials", String(trial)]) }, `trial ${trial}`)],
    ].filter(Boolean)));
    const epochs = history.map((e) => e.epoch);
    await losses.draw(() => ({
      data: lines.map(([name, ink, of]) => ({ x: epochs, y: history.map(of), name, mode: epochs.length < 2 ? "markers" : "lines", line: { color: color(ink), width: 2 }, marker: { color: color(ink) }, hovertemplate: "%{y:.4~g}" })),
      layout: { xaxis: { title: "Epoch", rangemode: "tozero" }, yaxis: { title: "Loss", rangemode: "tozero" }, showlegend: apart, hovermode: "x unified" },
      rows: history,
      say: `Loss over ${epochs.length} epochs; now ${number(last.student_loss)}`,
    }));
  }
  await load();
  return load;
}
