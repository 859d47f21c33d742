// What the job teaches: decisions beside results, which of them matter, how well they predict.

import { get, job as at } from "../api.js";
import { button, empty, fill, fresh, h, loading, svg } from "../dom.js";
import { saveCsv, saveJson, savePng } from "../export.js";
import { capital, label, number, option, share } from "../format.js";
import { table } from "../parts.js";
import { figure } from "../plot.js";
import { link } from "../router.js";
import { changed, color } from "../theme.js";

const TOP = 12;
/** Of points, by how the trial's own value came about; "" where nobody said. */
const FORMS = [["", "circle"], ["measured", "diamond"], ["simulated", "circle"], ["computed", "circle"], ["predicted", "triangle-up"]];

export async function show(body, { job, goals, onleave, current }) {
  const lines = h("section", { class: "card" }), rest = h("div", {}, loading("Working out which decisions matter …"));
  fill(body, lines, rest);
  const found = await get(at(job.job_id, "/decisions"), { limit: 400 });
  if (!current()) return;
  const parallel = parallelCoordinates(lines, job, found, goals);
  onleave(changed(parallel));
  const resized = new ResizeObserver(parallel);
  resized.observe(lines);
  onleave(() => resized.disconnect());
  analyse().catch((error) => { if (current()) fill(rest, empty("The analysis failed", error.message, button("Try again", analyse))); });

  async function analyse() {
    const told = await get(at(job.job_id, "/analysis"));
    if (!current()) return;
    if (!Object.keys(told.importance).length) {
      const few = told.n_trials < 10;
      return fill(rest, empty(few ? "Too few trials to tell what matters" : "Nothing to explain", few ? `10 completed search trials are needed; there are ${told.n_trials}.` : "All trials score the same."));
    }
    const grid = h("div", { class: "grid pairs" }), figures = [];
    const add = (f, make) => { grid.append(f.node); figures.push(f); onleave(f.end); return [f, make]; };
    const drawn = [];
    for (const [metric, shares] of Object.entries(told.importance)) {
      const top = Object.entries(shares).slice(0, TOP).reverse();
      if (!top.length) continue;
      drawn.push(add(figure(`What decides ${label(metric)}`, { note: "Mean absolute SHAP values of boosted trees, as shares.", height: 90 + 24 * top.length, name: `${job.name} importance ${metric}` }), () => ({
        data: [{ type: "bar", orientation: "h", x: top.map(([, v]) => v), y: top.map(([k]) => k), marker: { color: color("search") }, hovertemplate: "%{y} %{x:.1%}<extra></extra>" }],
        layout: { xaxis: { title: "Share of the explanation", tickformat: ".0%" }, margin: { l: 8, r: 16, t: 4, b: 44 }, bargap: 0.3 },
        rows: Object.entries(shares).map(([decision, value]) => ({ decision, share: value })),
        say: `${top.at(-1)[0]} decides most: ${share(top.at(-1)[1])}`,
      })));
    }
    for (const [metric, { predicted, measured, number: numbers, kinds, tau }] of Object.entries(told.prediction)) {
      const low = Math.min(...predicted, ...measured), high = Math.max(...predicted, ...measured);
      drawn.push(add(figure(`Predictor against trials: ${label(metric)}`, { note: `Each trial is predicted from the others. Kendall's τ ${tau === null ? "is not defined" : tau.toFixed(2)}.`, height: 380, name: `${job.name} predicted ${metric}`, click: (p) => { location.hash = link(["jobs", job.job_id, "trials", String(p.customdata)]); } }), () => ({
        data: [
          { x: [low, high], y: [low, high], mode: "lines", line: { color: color("limit"), dash: "dash", width: 1.5 }, hoverinfo: "skip", showlegend: false },
          ...FORMS.map(([kind, symbol]) => [kind, symbol, kinds.flatMap((k, i) => (k === kind ? [i] : []))]).filter(([, , index]) => index.length).map(([kind, symbol, index]) => ({
            x: index.map((i) => measured[i]), y: index.map((i) => predicted[i]), customdata: index.map((i) => numbers[i]), name: kind || "measured", mode: "markers",
            marker: { color: color(kind === "predicted" ? "front" : "search"), size: 7, opacity: 0.7, symbol }, hovertemplate: `trial %{customdata}<br>${kind || "measured"} %{x:.4~g}<br>by the predictor %{y:.4~g}<extra></extra>`,
          })),
        ],
        layout: { xaxis: { title: `${capital(label(metric))} of the trial` }, yaxis: { title: "By the predictor" }, showlegend: kinds.some(Boolean), hovermode: "closest" },
        rows: numbers.map((n, i) => ({ trial: n, value: measured[i], kind: kinds[i], predicted: predicted[i] })),
        say: `${numbers.length} trials, Kendall's tau ${tau}`,
      })));
    }
    const harm = told.harmful.length > 0 && h("section", { class: "card" },
      h("div", { class: "card-head" }, h("h2", {}, "Options that only did harm")),
      h("p", { class: "note" }, "By SHAP values of boosted trees; options of the best trade-offs are spared. With the strategy option narrowing=1 a search leaves them out."),
      table("Options that only did harm", [
        { text: "Decision", cell: (r) => r.decision }, { text: "Option", cell: (r) => option(r.option) }, { text: "Harms", cell: (r) => label(r.harms) },
        { text: "Mean harm", number: true, cell: (r) => number(r.mean_harm) }, { text: "Trials", number: true, cell: (r) => number(r.trials) },
      ], told.harmful));
    const ranking = Object.keys(told.prediction).length > 0 && figure("How well the predictor ranks, over time", { note: "Kendall's τ of out-of-fold predictions among the first trials of the search, in hindsight.", height: 280, name: `${job.name} tau` });
    fill(rest, h("p", { class: "note" }, `From ${number(told.n_trials)} search trials.`), grid, ranking && ranking.node, harm);
    await Promise.all(drawn.map(([f, make]) => f.draw(make)));
    if (!ranking) return;
    onleave(ranking.end);
    const { metrics } = await get(at(job.job_id, "/tau"));
    if (current()) await ranking.draw(() => tauFigure(metrics));
  }
}

function tauFigure(metrics) {
  const inks = ["search", "front", "deployed"], all = Object.entries(metrics);
  return {
    data: all.map(([metric, { n, tau }], i) => ({ x: n, y: tau, name: label(metric), mode: "lines+markers", line: { color: color(inks[i % 3]), width: 2 }, marker: { size: 6, symbol: i }, hovertemplate: "%{y:.2f}" })),
    layout: { xaxis: { title: "Search trials" }, yaxis: { title: "Kendall's τ", range: [Math.min(0, ...all.flatMap(([, c]) => c.tau)) - 0.02, 1.02] }, showlegend: all.length > 1, hovermode: "x unified" },
    rows: all.flatMap(([metric, { n, tau }]) => n.map((count, i) => ({ metric, trials: count, tau: tau[i] }))),
    say: all.map(([metric, { tau }]) => `${label(metric)}: tau ${number(tau.at(-1))}`).join(", "),
  };
}

/** Lines through every decision and metric; options are buttons that filter. Gives a redraw. */
function parallelCoordinates(card, job, found, goals) {
  const n = found.number.length, heading = fresh("parallel");
  if (!n) {
    fill(card, h("h2", {}, "Decisions and results"), empty("No completed search trial yet", "Each becomes a line through the options it chose."));
    return () => {};
  }
  const axes = [
    ...found.decisions.filter((d) => d.options.length > 1).map((d) => ({ name: d.name, short: d.name, options: d.options.map(option), at: d.values, size: d.options.length })),
    ...Object.entries(found.metrics).map(([name, values]) => ({ name, short: label(name), values, low: Math.min(...values.filter((v) => v !== null)), high: Math.max(...values.filter((v) => v !== null)) })),
  ];
  const chosen = new Map();
  const first = axes.find((a) => a.name === goals.objectives[0].metric);
  const count = h("span", { class: "soft", role: "status" });
  const hold = h("div", { class: "scroll parallel", tabindex: 0, role: "region", "aria-labelledby": heading });
  let drawing;
  const rows = () => found.number.map((trial, i) => ({ trial, on_front: found.front[i], ...Object.fromEntries(axes.map((a) => [a.name, a.options ? a.options[a.at[i]] : a.values[i]])) }));
  const name = `${job.name}-decisions`;
  fill(card,
    h("div", { class: "card-head" }, h("h2", { id: heading }, "Decisions and results"), count,
      h("div", { class: "exports" },
        button("Clear", () => { chosen.clear(); draw(); }),
        button("PNG", () => savePng(name, drawing, color("card")), { "aria-label": "Decisions as PNG" }),
        button("CSV", () => saveCsv(name, rows()), { "aria-label": "Decisions as CSV" }),
        button("JSON", () => saveJson(name, rows()), { "aria-label": "Decisions as JSON" }))),
    h("p", { class: "note" }, `Each line is a trial; the better its ${label(first.name)}, the stronger. The front is orange. Choose options to see only trials that have them.`),
    hold);

  function draw() {
    const room = Math.max(card.clientWidth - 34, 300), step = Math.max(room / axes.length, 98), width = step * axes.length, height = 360;
    const [top, bottom] = [52, height - 26];
    const x = (j) => step * (j + 0.5);
    const y = (axis, i) => {
      if (axis.options) return axis.at[i] < 0 ? null : bottom - ((bottom - top) * (axis.size < 2 ? 0.5 : axis.at[i] / (axis.size - 1)));
      return axis.values[i] === null ? null : bottom - (bottom - top) * (axis.high > axis.low ? (axis.values[i] - axis.low) / (axis.high - axis.low) : 0.5);
    };
    const passes = (i) => [...chosen].every(([a, wanted]) => !wanted.size || wanted.has(a.at[i]));
    const worth = (i) => { const t = first.high > first.low ? (first.values[i] - first.low) / (first.high - first.low) : 1; return goals.objectives[0].max ? t : 1 - t; };
    const order = found.number.map((_, i) => i).sort((a, b) => found.front[a] - found.front[b] || worth(a) - worth(b));
    const shown = order.filter(passes);
    count.textContent = shown.length === n ? `${number(n)} trials` : `${number(shown.length)} of ${number(n)} trials`;
    const paths = shown.map((i) => {
      let d = "", pen = false;
      axes.forEach((axis, j) => { const v = y(axis, i); if (v === null) { pen = false; return; } d += `${pen ? "L" : "M"}${x(j).toFixed(1)} ${v.toFixed(1)}`; pen = true; });
      return svg("path", { d, fill: "none", stroke: color(found.front[i] ? "front" : "search"), "stroke-width": found.front[i] ? 1.8 : 1.1, "stroke-opacity": found.front[i] ? 0.9 : 0.08 + 0.5 * worth(i) ** 3 });
    });
    const text = (content, props, ...more) => svg("text", { "font-family": "system-ui, sans-serif", "font-size": 11, fill: color("soft"), ...props }, content, ...more);
    const marks = axes.map((axis, j) => {
      const [stage, ...field] = axis.options && axis.name.includes(".") ? axis.name.split(".") : ["", axis.short];
      const ticks = axis.options ? axis.options.map((o, k) => {
        const wanted = chosen.get(axis), on = wanted?.has(k), v = bottom - (bottom - top) * (axis.size < 2 ? 0.5 : k / (axis.size - 1));
        const toggle = () => { const set = wanted ?? new Set(); if (on) set.delete(k); else set.add(k); chosen.set(axis, set); draw(); hold.querySelector(`[data-tick="${j}-${k}"]`)?.focus(); };
        const long = o.length > 11 ? `${o.slice(0, 10)}…` : o, wide = 6.3 * long.length + 10;
        return svg("g", { class: "tick", role: "button", tabindex: 0, "data-tick": `${j}-${k}`, "aria-pressed": String(Boolean(on)), "aria-label": `${axis.name} ${o}`, onclick: toggle, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); toggle(); } } },
          svg("rect", { x: x(j) - wide / 2, y: v - 9, width: wide, height: 18, rx: 4, fill: on ? color("accent") : color("card"), stroke: color(on ? "accent" : "line") }),
          text(long, { x: x(j), y: v + 4, "text-anchor": "middle", fill: on ? color("on-accent") : color("ink") }, svg("title", {}, `${axis.name} ${o}`)));
      }) : [[axis.high, top - 8], [axis.low, bottom + 16]].map(([v, where]) => text(number(v), { x: x(j), y: where, "text-anchor": "middle", fill: color("ink") }));
      return svg("g", {}, svg("line", { x1: x(j), x2: x(j), y1: top, y2: bottom, stroke: color("limit"), "stroke-width": 1 }),
        text(stage, { x: x(j), y: 13, "text-anchor": "middle" }), text(field.join(".").replaceAll("_", " "), { x: x(j), y: 27, "text-anchor": "middle", "font-weight": 600, fill: color("ink") }), ticks);
    });
    drawing = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "parallel coordinates" }, paths, marks);
    fill(hold, drawing);
  }
  let last = 0;
  const redraw = () => { if (card.clientWidth !== last || !drawing) { last = card.clientWidth; draw(); } };
  redraw();
  return (entries) => { if (entries) redraw(); else draw(); };
}
