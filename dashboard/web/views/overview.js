// The trade-offs found so far and how they were found: Pareto plot with history, hypervolume.

import { get, job as at } from "../api.js";
import { empty, fill, fresh, h, labelled, select } from "../dom.js";
import { capital, label, limit, number } from "../format.js";
import { legend, metricColumns, table } from "../parts.js";
import { figure, plotly } from "../plot.js";
import { here, link, note } from "../router.js";
import { color } from "../theme.js";

const RANK = ["proxy", "inherited", "trained", "deployed"];

export async function show(body, { job, goals, onleave, current }) {
  plotly().catch(() => {});
  const query = here().query, metrics = goals.objectives.map((o) => o.metric);
  let x = query.get("x") ?? metrics[1] ?? "weight_bytes", y = query.get("y") ?? metrics[0];
  let of = query.get("fidelity") ?? "", over = query.get("over") ?? "trials", tint = query.get("color") ?? metrics[2] ?? "none";
  let points = null, progress = null, until = Infinity;
  const pick = (set) => async (value) => { set(value); note({ x, y, color: tint, fidelity: of, over }); await load(); };
  const across = select([x], x, pick((v) => { x = v; })), up = select([y], y, pick((v) => { y = v; })), tints = select([tint], tint, pick((v) => { tint = v; }));
  const fidelities = select([["", "most trusted"]], of, (v) => { of = v; note({ fidelity: of }); drawPareto(); });
  const pareto = figure("Trade-offs", {
    height: 440, name: `${job.name} front`,
    controls: [labelled("x", across), labelled("y", up), labelled("colour", tints), labelled("front of", fidelities)],
    click: (point) => { location.hash = link(["jobs", job.job_id, "trials", String(point.customdata)]); },
  });
  const slider = h("input", { type: "range", min: 1, max: 1, value: 1, id: fresh("slider"), oninput: () => { until = slider.valueAsNumber >= Number(slider.max) ? Infinity : slider.valueAsNumber; drawPareto(); } });
  const when = h("output", { for: slider.id });
  const history = h("div", { class: "history" }, h("label", { for: slider.id }, "History"), slider, when);
  pareto.node.append(history);
  const choice = select([["trials", "trials"], ["time", "time"]], over, (v) => { over = v; note({ over }); drawProgress(); });
  const volume = figure("Hypervolume", { height: 260, name: `${job.name} hypervolume`, controls: [labelled("over", choice)] });
  const best = metrics.map((m) => figure(`Best ${label(m)}`, { height: 260, name: `${job.name} best ${m}` }));
  const members = h("section", { class: "card" });
  fill(body, pareto.node, members, h("div", { class: "grid pairs" }, volume.node, best.map((b) => b.node)));
  onleave(() => [pareto, volume, ...best].forEach((f) => f.end()));

  async function load() {
    [points, progress] = await Promise.all([
      get(at(job.job_id, "/points"), { x, y, color: tint === "none" ? "" : tint }), get(at(job.job_id, "/progress")),
    ]);
    if (!current()) return;
    const names = [...new Set([...metrics, ...points.metrics, x, y])];
    for (const [node, value] of [[across, x], [up, y]]) { fill(node, names.map((m) => h("option", { value: m }, label(m)))); node.value = value; }
    fill(tints, h("option", { value: "none" }, "by fidelity"), names.map((m) => h("option", { value: m }, label(m))));
    tints.value = tint;
    fill(fidelities, h("option", { value: "" }, "most trusted"), Object.entries(points.fidelities).map(([f, n]) => h("option", { value: f }, `${f} (${number(n)})`)));
    fidelities.value = points.fidelities[of] ? of : "";
    slider.max = Math.max(points.n_finished, 1);
    if (until === Infinity) slider.value = slider.max;
    history.hidden = points.n_finished < 2;
    await Promise.all([drawPareto().then(drawProgress), drawMembers()]);
  }

  function drawPareto() {
    const last = Math.min(until, points.n_finished);
    when.textContent = until === Infinity ? `all ${number(points.n_finished)} finished trials` : `after ${number(last)} of ${number(points.n_finished)} trials`;
    return pareto.draw(() => paretoFigure(points, goals, { x, y, tint, of, last }));
  }

  function drawProgress() {
    const n = progress.n_finished.length;
    if (!n) {
      const none = { empty: empty("No finished trial yet", "The curve begins with the first.") };
      return Promise.all([volume, ...best].map((f) => f.draw(() => none)));
    }
    const timed = over === "time";
    const times = progress.at.map((t) => t - job.created_at), scale = times.at(-1) > 7200 ? [3600, "hours"] : times.at(-1) > 180 ? [60, "minutes"] : [1, "seconds"];
    const xs = timed ? times.map((t) => t / scale[0]) : progress.n_finished;
    const axis = { title: timed ? `${capital(scale[1])} since submission` : `${capital(progress.fidelity)} trials`, rangemode: "tozero" };
    const curve = (name, ys, title, form) => () => ({
      data: [{ x: xs, y: ys, mode: n < 2 ? "markers" : "lines", line: { shape: "hv", color: color(name), width: 2 }, marker: { color: color(name) }, hovertemplate: `%{y:${form}}<extra></extra>` }],
      layout: { xaxis: axis, yaxis: { title, ...(name === "front" ? { range: [0, 1.04], tickformat: ".0%" } : {}) }, showlegend: false, hovermode: "x" },
      rows: progress.n_finished.map((count, i) => ({ trials: count, at: progress.at[i], value: ys[i] })),
      say: `${title} over ${axis.title}; now ${number(ys.at(-1))}`,
    });
    return Promise.all([
      volume.draw(curve("front", progress.hypervolume, "Share of the latest", ".1%")),
      ...best.map((f, i) => f.draw(curve("search", progress.best[metrics[i]] ?? [], capital(label(metrics[i])), ".5~g"))),
    ]);
  }

  async function drawMembers() {
    const trusted = RANK.filter((f) => points.fidelities[f]).at(-1);
    const found = trusted ? await get(at(job.job_id, "/table"), { front: true, fidelity: trusted, sort: metrics[0], descending: goals.objectives[0].max, limit: 100 }) : { items: [], total: 0 };
    if (!current()) return;
    const extra = ["test_accuracy", "latency_p90_ms", "weight_bytes", "file_bytes", "params"].filter((m) => !metrics.includes(m) && found.items.some((t) => m in t.metrics)).slice(0, 3);
    fill(members, h("div", { class: "card-head" }, h("h2", {}, "Best trade-offs"), found.total > 100 && h("span", { class: "soft" }, `the first 100 of ${number(found.total)}`)),
      found.items.length
        ? table("Best trade-offs", [
          { text: "Candidate", cell: (t) => h("a", { class: "mono", href: link(["jobs", job.job_id, "trials", String(t.number)]) }, t.key) },
          ...metricColumns([...metrics, ...extra], found.items),
          { text: "Fidelity", cell: (t) => t.fidelity },
        ], found.items)
        : empty(points.n_finished ? "No completed trial meets all constraints" : "Nothing found yet", points.n_finished ? "Extend the job, or look for the nearest among its trials." : "The first candidates appear here as soon as their trials finish."),
      legend(found.items));
  }

  await load();
  return load;
}

/** Completed evaluations by two metrics; the front up to `last`, constraints drawn. */
function paretoFigure(points, goals, { x, y, tint, of, last }) {
  const names = points.fidelities, there = RANK.filter((f) => names[f]);
  const seen = points.number.map((_, i) => i).filter((i) => points.order[i] <= last);
  if (!seen.length) {
    return { empty: empty("Nothing to draw yet", points.n_finished ? `No finished trial has both ${label(x)} and ${label(y)}; choose others.` : "Points appear as trials finish.") };
  }
  const trusted = of || there.filter((f) => seen.some((i) => points.fidelity[i] === f)).at(-1);
  const on = seen.filter((i) => points.fidelity[i] === trusted && points.entered[i] && (points.left[i] === null || points.left[i] > last));
  on.sort((a, b) => points.x[a] - points.x[b]);
  const tinted = points.color !== null, how = (m, i) => (points.kinds[m][i] ? ` (${points.kinds[m][i]})` : "");
  const shade = (i) => (tinted && points.color[i] !== null ? `<br>${label(tint)} ${number(points.color[i])}` : "");
  const trace = (name, index, marker, more = {}) => ({
    type: "scatter", mode: "markers", name, x: index.map((i) => points.x[i]), y: index.map((i) => points.y[i]),
    customdata: index.map((i) => points.number[i]), marker,
    text: index.map((i) => `trial ${points.number[i]}<br>${label(x)} ${number(points.x[i])}${how(x, i)}<br>${label(y)} ${number(points.y[i])}${how(y, i)}${shade(i)}`),
    hovertemplate: `%{text}<extra>${name}</extra>`, ...more,
  });
  const thin = seen.length > 1000;
  const data = [];
  const off = seen.filter((i) => !points.feasible[i]);
  if (off.length) data.push(trace("breaks a constraint", off, { color: color("faint"), size: thin ? 4 : 6, opacity: 0.55, symbol: "x-thin-open" }));
  for (const f of there) {
    const final = f === "deployed", ink = color(final ? "deployed" : "search");
    for (const kind of ["", "measured", "simulated", "predicted"]) {
      const index = seen.filter((i) => points.fidelity[i] === f && points.feasible[i] && least(points, x, y, i) === kind);
      const paint = tinted ? { color: index.map((i) => points.color[i]), coloraxis: "coloraxis" } : { color: ink };
      if (!index.length) continue;
      const name = kind ? `${f}, ${kind}` : f, form = { size: final ? 9 : thin ? 4 : 7, symbol: symbol(f, kind) };
      if (tinted) data.push({ x: [null], y: [null], name, mode: "markers", marker: { ...form, color: color("soft") }, hoverinfo: "skip" });  // its legend: Plotly draws that of shaded points black
      data.push(trace(name, index, { ...form, ...paint, opacity: final || tinted ? 0.95 : thin ? 0.5 : 0.65 }, { showlegend: !tinted }));
    }
  }
  const pair = goals.objectives.length === 2 && goals.objectives.every((o) => o.metric === x || o.metric === y);
  if (on.length) data.push(trace("Pareto front", on, { color: color("front"), symbol: "circle-open", size: on.length > 40 ? 9 : 13, line: { width: on.length > 40 ? 1.5 : 2 } }, pair ? { mode: "lines+markers", line: { color: color("front"), width: 1.5, shape: stairs(goals, x, y) } } : {}));
  const shapes = [], annotations = [];
  for (const c of goals.constraints) {
    const line = { type: "line", line: { color: color("limit"), dash: "dash", width: 1.5 } };
    const text = { text: limit(c), showarrow: false, font: { color: color("soft"), size: 11 }, bgcolor: color("card") };
    if (c.metric === x) { shapes.push({ ...line, x0: c.bound, x1: c.bound, yref: "paper", y0: 0, y1: 1 }); annotations.push({ ...text, x: c.bound, yref: "paper", y: 1, yanchor: "top" }); }
    if (c.metric === y) { shapes.push({ ...line, y0: c.bound, y1: c.bound, xref: "paper", x0: 0, x1: 1 }); annotations.push({ ...text, y: c.bound, xref: "paper", x: 1, xanchor: "right" }); }
  }
  const thinned = points.n_points > points.number.length ? `${number(points.number.length)} of ${number(points.n_points)} points are drawn: all that were ever on the front, the others evenly.` : undefined;
  return {
    data, layout: { xaxis: { title: capital(label(x)) }, yaxis: { title: capital(label(y)) }, ...(tinted ? { coloraxis: scale(tint) } : {}), shapes, annotations, hovermode: "closest", uirevision: `${x}|${y}` }, note: thinned,
    rows: seen.map((i) => ({ trial: points.number[i], [x]: points.x[i], [y]: points.y[i], ...(tinted ? { [tint]: points.color[i] } : {}), [`${x} is`]: points.kinds[x][i], [`${y} is`]: points.kinds[y][i], fidelity: points.fidelity[i], feasible: points.feasible[i], on_front: on.includes(i) })),
    say: `${seen.length} trials by ${label(x)} and ${label(y)}; ${on.length} on the Pareto front, listed in the table below`,
  };
}

/** How far two values can be trusted together: as far as the worse of them. */
function least(points, x, y, i) {
  const kinds = [points.kinds[x][i], points.kinds[y][i]];
  return ["predicted", "simulated", "measured"].find((kind) => kinds.includes(kind)) ?? "";
}

/** The form tells how a point came about, as the colour tells its fidelity. */
function symbol(fidelity, kind) {
  const form = kind === "predicted" ? "triangle-up" : kind === "simulated" ? "circle" : kind === "measured" || fidelity === "deployed" ? "diamond" : "circle";
  return fidelity === "inherited" ? `${form}-open` : form;
}

function scale(metric) {
  const soft = color("soft");
  return {
    colorscale: [[0, color("series-0")], [0.5, color("series-7")], [1, color("series-4")]],
    colorbar: { title: { text: label(metric), font: { color: soft, size: 11 }, side: "right" }, tickfont: { color: soft, size: 11 }, thickness: 10, outlinewidth: 0, len: 0.9 },
  };
}

/** Which steps join the front: those that stay on its dominated side. */
function stairs(goals, x, y) {
  const max = (m) => goals.objectives.find((o) => o.metric === m)?.max;
  return max(x) ? "vh" : "hv";
}

