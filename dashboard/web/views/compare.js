// Jobs beside each other: hypervolume in one box, fronts, and what was asked differently.

import { get } from "../api.js";
import { button, empty, fill, h, labelled, loading, select } from "../dom.js";
import { MARKS, capital, label, number, objective } from "../format.js";
import { legend, marked, state, table } from "../parts.js";
import { figure } from "../plot.js";
import { here, link, note } from "../router.js";
import { color } from "../theme.js";

const MOST = 8;
const DASHES = ["solid", "dash", "dot", "dashdot"];
const OPEN = 100;  // Plotly's number of a symbol's open form is this much higher

export async function show(main, { query, onleave, current }) {
  document.title = "Compare · nas";
  const ids = query.getAll("job").slice(0, MOST);
  const { items } = await get("/jobs", { limit: 200 });
  if (!current()) return;
  const choose = select([["", "add a job …"], ...items.filter((j) => !ids.includes(j.job_id)).map((j) => [j.job_id, `${j.name} (${j.job_id})`])], "", (id) => { if (id) go([...ids, id]); }, { disabled: ids.length >= MOST });
  const go = (all) => { location.hash = link(["compare"], { job: all }); };
  const box = h("div", {}, loading());
  const named = (id) => items.find((j) => j.job_id === id)?.name ?? id;
  fill(main, h("div", { class: "head" }, h("h1", {}, "Compare jobs")),
    h("div", { class: "filters" }, labelled("Jobs", choose),
      h("ul", { class: "chips", "aria-label": "Compared" }, ids.map((id) => h("li", {}, h("a", { href: link(["jobs", id]) }, named(id)), button("×", () => go(ids.filter((one) => one !== id)), { "aria-label": `Leave out ${named(id)}`, class: "quiet" }))))),
    box);
  if (ids.length < 2) return fill(box, empty("Choose at least two jobs", "They need the same objectives; then one box measures the hypervolume of all.", h("a", { href: "#/jobs" }, "All jobs")));
  let told;
  try {
    told = await get("/compare", { job: ids });
  } catch (error) {
    if (error.code !== "invalid_input") throw error;
    return fill(box, empty("These jobs cannot be compared", `They do not have the same objectives: ${error.expected}.`));
  }
  if (!current()) return;
  const metrics = told.objectives.map(objective).map((o) => o.metric);
  let over = query.get("over") ?? "trials";
  const ink = (i) => color(`series-${i % MOST}`);
  const volume = figure("Hypervolume", { note: "In one box: from the best values of all these jobs to a tenth beyond the worst.", controls: [labelled("over", select(["trials", "time"], over, (v) => { over = v; note({ over }); drawVolume(); }))], name: "hypervolume of jobs" });
  const fronts = figure("Fronts", { height: 420, name: "fronts of jobs", click: (p) => { location.hash = link(["jobs", told.jobs[p.data.meta].job.job_id, "trials", String(p.customdata)]); } });
  onleave(() => { volume.end(); fronts.end(); });
  const [x, y] = [metrics[1] ?? metrics[0], metrics[0]];
  const drawVolume = () => volume.draw(() => ({
    data: told.jobs.map((j, i) => ({ x: over === "time" ? j.seconds.map((s) => s / 60) : j.n, y: j.hypervolume, name: j.job.name, mode: "lines", line: { color: ink(i), width: 2, shape: "hv", dash: DASHES[i % 4] } })),
    layout: { xaxis: { title: over === "time" ? "Minutes since submission" : "Search trials", rangemode: "tozero" }, yaxis: { title: "Share of the box", rangemode: "tozero" }, showlegend: true },
    rows: told.jobs.flatMap((j) => j.n.map((n, i) => ({ job: j.job.job_id, name: j.job.name, trials: n, seconds: j.seconds[i], hypervolume: j.hypervolume[i] }))),
    say: told.jobs.map((j) => `${j.job.name} ${number(j.hypervolume.at(-1) ?? 0)}`).join(", "),
  }));
  const unmeasured = (j, k) => [x, y].some((m) => j.kinds[m][k] in MARKS);
  const hover = (j, k) => [`trial ${j.numbers[k]}`, ...metrics.map((m) => `${label(m)} ${MARKS[j.kinds[m][k]] ?? ""}${number(j.front[m][k])}`)].join("<br>");
  const drawFronts = () => fronts.draw(() => ({
    data: told.jobs.map((j, i) => ({
      x: j.front[x] ?? [], y: j.front[y] ?? [], customdata: j.numbers, meta: i, name: `${j.job.name} (${j.front_fidelity ?? "none"})`, mode: "markers",
      marker: { color: ink(i), size: 9, symbol: j.numbers.map((_, k) => i + (unmeasured(j, k) ? OPEN : 0)) }, text: j.numbers.map((_, k) => hover(j, k)), hovertemplate: "%{text}",
    })),
    layout: { xaxis: { title: capital(label(x)) }, yaxis: { title: capital(label(y)) }, showlegend: true, hovermode: "closest" },
    rows: told.jobs.flatMap((j) => j.numbers.map((trial, i) => ({ job: j.job.job_id, trial, ...Object.fromEntries(metrics.flatMap((m) => [[m, j.front[m][i]], [`${m} is`, j.kinds[m][i]]])) }))),
    note: told.jobs.some((j) => j.numbers.some((_, k) => unmeasured(j, k))) ? "Open symbols: a value of the two was simulated or predicted." : undefined,
    say: told.jobs.map((j) => `${j.job.name}: ${j.numbers.length} on the front`).join(", "),
  }));
  fill(box, volume.node, fronts.node, h("section", { class: "card" }, h("h2", {}, "What differs"), differences(told)));
  await Promise.all([drawVolume(), drawFronts()]);
  if (!here().query.get("over")) note({ over: "" });
}

function differences({ jobs, objectives }) {
  const flat = (value, prefix = "") => (value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.entries(value).flatMap(([k, v]) => flat(v, prefix ? `${prefix}.${k}` : k)) : [[prefix, Array.isArray(value) ? value.join(", ") : String(value)]]);
  const specs = jobs.map((j) => Object.fromEntries(flat(j.job.spec)));
  const names = [...new Set(specs.flatMap(Object.keys))].filter((n) => n !== "name" && new Set(specs.map((s) => s[n])).size > 1);
  const goals = objectives.map(objective), metrics = goals.map((o) => o.metric), leaders = jobs.map((j) => leader(j, goals));
  const rows = [
    { name: "state", cells: jobs.map((j) => state(j.job)) },
    { name: "search trials", cells: jobs.map((j) => number(j.n.at(-1) ?? 0)) },
    { name: "hypervolume", cells: jobs.map((j) => number(j.hypervolume.at(-1) ?? 0)) },
    ...metrics.map((m) => ({ name: `best ${label(m)}`, cells: leaders.map(({ values, kinds }) => marked(number(values[m]), kinds[m])) })),
    ...names.map((n) => ({ name: n, cells: specs.map((s) => s[n] ?? "–") })),
  ];
  return [table("What differs", [{ text: "", cell: (r) => r.name }, ...jobs.map((j, i) => ({ text: j.job.name, cell: (r) => r.cells[i] }))], rows), legend(leaders)];
}

/** The best value of each objective on a job's front, and how it came about. */
function leader({ front, kinds, numbers }, goals) {
  const found = { values: {}, kinds: {} };
  if (!numbers.length) return found;
  for (const { metric, max } of goals) {
    const values = front[metric], i = values.indexOf((max ? Math.max : Math.min)(...values));
    found.values[metric] = values[i];
    found.kinds[metric] = kinds[metric][i];
  }
  return found;
}
