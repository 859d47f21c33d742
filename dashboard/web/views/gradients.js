// A differentiable search: the distribution it learned, and how healthy it was.

import { get, job as at } from "../api.js";
import { empty, fill, h } from "../dom.js";
import { capital, label, number, option, share } from "../format.js";
import { facts } from "../parts.js";
import { figure } from "../plot.js";
import { color } from "../theme.js";

export async function show(body, { job, goals, onleave, current }) {
  let figures = null;
  async function load() {
    const told = await get(at(job.job_id, "/learned"));
    if (!current()) return;
    if (!told.history.length) return fill(body, empty("No distribution yet", "It is learned before the first candidate is tried; curves appear after its first epochs."));
    const history = told.history, epochs = history.map((r) => r.epoch), last = history.at(-1);
    const costs = Object.keys(last.expected_costs ?? {}).filter((m) => goals.objectives.some((o) => o.metric === m) || m === "bit_ops");
    const curves = [
      ["Validation accuracy", { mixture: (r) => r.relaxed_accuracy, derived: (r) => r.derived_accuracy }, "accuracy"],
      ["Discretization gap", { gap: (r) => (r.relaxed_accuracy === null || r.derived_accuracy === null ? null : r.relaxed_accuracy - r.derived_accuracy) }, "accuracy lost by choosing"],
      ["Entropy", { entropy: (r) => r.entropy, "without weights": (r) => r.parameter_free_share }, "share of the most"],
      history.some((r) => r.curvature !== null && r.curvature !== undefined) && ["Curvature", { curvature: (r) => r.curvature }, "dominant eigenvalue"],
      ...costs.map((m) => [`Expected ${label(m)}`, { expected: (r) => r.expected_costs[m], derived: (r) => r.derived_costs[m] }, label(m)]),
    ].filter(Boolean);
    if (!figures) {
      const names = Object.keys(told.probabilities);
      figures = [
        ...curves.map(([title]) => figure(title, { height: 250, name: `${job.name} ${title}` })),
        figure("Distribution of each decision", { note: "How likely each option is now; a row becomes one dark cell as its decision is made.", height: 90 + 26 * names.length, name: `${job.name} distribution` }),
      ];
      onleave(() => figures.forEach((f) => f.end()));
      fill(body, h("div", { class: "told" }), h("div", { class: "grid" }, figures.slice(0, -1).map((f) => f.node)), figures.at(-1).node);
    }
    const m = told.metrics;
    fill(body.firstChild,
      m.collapsed ? h("p", { class: "error" }, `Collapsed: ${share(m.parameter_free_share)} of the derived candidate's operations have no weights. Try more epochs, a longer warm-up, or to stop or adapt by curvature.`) : null,
      facts([["epochs", number(m.epochs)], ["mixture's accuracy", number(m.relaxed_accuracy)], ["derived accuracy", number(m.derived_accuracy)], ["gap", number(m.discretization_gap)], ["entropy", number(m.entropy)], m.rollbacks ? ["went back", `${number(m.rollbacks)} times`] : ["", null]]));
    const inks = ["search", "front", "deployed"];
    await Promise.all([
      ...curves.map(([title, lines, axis], i) => figures[i].draw(() => ({
        data: Object.entries(lines).map(([name, of], k) => ({ x: epochs, y: history.map(of), name, mode: epochs.length < 2 ? "markers" : "lines+markers", line: { color: color(inks[k]), width: 2 }, marker: { size: 4, color: color(inks[k]) }, connectgaps: true })),
        layout: { xaxis: { title: "Epoch" }, yaxis: { title: capital(axis) }, showlegend: Object.keys(lines).length > 1, hovermode: "x unified" },
        rows: history.map((r) => ({ epoch: r.epoch, ...Object.fromEntries(Object.entries(lines).map(([name, of]) => [name, of(r)])) })),
        say: `${title} over ${epochs.length} epochs`,
      }))),
      figures.at(-1).draw(() => distribution(told)),
    ]);
  }
  await load();
  return load;
}

function distribution({ probabilities, options }) {
  const names = Object.keys(probabilities).reverse(), most = Math.max(...names.map((n) => probabilities[n].length));
  const z = names.map((n) => Array.from({ length: most }, (_, k) => probabilities[n][k] ?? null));
  const said = names.map((n) => Array.from({ length: most }, (_, k) => (k < probabilities[n].length ? option(options[n]?.[k] ?? k) : "")));
  return {
    data: [{
      type: "heatmap", z, y: names, text: said, texttemplate: "%{text}", xgap: 2, ygap: 2, zmin: 0, zmax: 1, colorscale: [[0, color("heat-low")], [1, color("search")]], showscale: true,
      colorbar: { title: { text: "Probability", side: "right" }, thickness: 10, outlinewidth: 0, tickformat: ".0%" }, hovertemplate: "%{y} = %{text}<br>%{z:.1%}<extra></extra>",
    }],
    layout: { xaxis: { visible: false }, yaxis: { showgrid: false }, margin: { l: 8, r: 8, t: 4, b: 8 } },
    rows: names.toReversed().flatMap((n) => probabilities[n].map((p, k) => ({ decision: n, option: options[n]?.[k], probability: p }))),
    say: `${names.length} decisions and how likely each option is`,
  };
}
