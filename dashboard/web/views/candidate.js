// One candidate: its network layer by layer, what was measured and how, its files.

import { get, job as at } from "../api.js";
import { button, empty, fill, h, loading } from "../dom.js";
import { saveJson } from "../export.js";
import { byStage, constraint, duration, label, limit, number, objective, option, share, short } from "../format.js";
import { exporting, facts, marked, table } from "../parts.js";
import { link } from "../router.js";
import { beside } from "./beside.js";

const FILES = { onnx: ["Model", "ONNX, runs in ONNX Runtime"], torch_source: ["Network", "PyTorch source that imports torch alone"], torch_weights: ["Weights", "safetensors for that source"] };

export async function show(main, { path, onleave, current }) {
  const [, id, , which] = path;
  const [job, trial] = await Promise.all([get(at(id)), get(at(id, `/trials/${encodeURIComponent(which)}`))]);
  if (!current()) return;
  const task = trial.task, candidate = task.kind === "evaluate";
  const title = candidate ? `Candidate ${task.key}` : `Training of shared weights (${task.method})`;
  document.title = `Trial ${trial.number} · ${job.name} · nas`;
  const layers = h("section", { class: "card" }, h("h2", {}, "Network"), loading("Building it …"));
  const again = h("section", { class: "card", hidden: true }), others = h("section", { class: "card" });
  const goals = job.spec.objectives.map(objective).map((o) => o.metric);
  fill(main,
    h("p", { class: "crumbs" }, h("a", { href: "#/jobs" }, "Jobs"), " / ", h("a", { href: link(["jobs", job.job_id]) }, job.name), " / ", h("a", { href: link(["jobs", job.job_id, "trials"]) }, "Trials"), ` / ${trial.number}`),
    h("div", { class: "head" }, h("h1", {}, title, " ", h("span", { class: `state ${trial.state}` }, trial.state)),
      h("div", { class: "actions" },
        trial.number > 0 && h("a", { class: "button", href: link(["jobs", job.job_id, "trials", String(trial.number - 1)]) }, "‹ Trial before"),
        h("a", { class: "button", href: link(["jobs", job.job_id, "trials", String(trial.number + 1)]) }, "Next trial ›"))),
    trial.error && h("p", { class: "error" }, trial.error),
    facts([["trial", number(trial.number)], candidate && ["fidelity", task.fidelity], candidate && task.effort !== undefined && ["effort", share(task.effort)], ["worker time", trial.seconds ? duration(trial.seconds) : "–"], ...goals.filter((m) => m in trial.metrics).map((m) => [label(m), marked(number(trial.metrics[m]), trial.sources[m].kind)])].filter(Boolean)),
    downloads(job, trial, candidate),
    candidate && layers,
    candidate && again,
    measured(job, trial),
    candidate && others,
    candidate && decisions(task.values));
  if (!candidate) return;
  const [built, same] = await Promise.allSettled([
    get(at(id, `/trials/${trial.number}/layers`)), get(at(id, "/trials"), { candidate: task.key }), beside(others, { job, trial, metrics: goals, current }),
  ]);
  if (!current()) return;
  if (built.status === "fulfilled") network(layers, trial, built.value);
  else fill(layers, h("h2", {}, "Network"), empty("It cannot be drawn", built.reason.message));
  const twins = same.status === "fulfilled" ? same.value.items.filter((t) => t.number !== trial.number) : [];
  if (twins.length) {
    again.hidden = false;
    fill(again, h("h2", {}, "The same candidate elsewhere in this job"), h("ul", { class: "plain" }, twins.map((t) => h("li", {},
      h("a", { href: link(["jobs", job.job_id, "trials", String(t.number)]) }, `Trial ${t.number}`), ` ${t.task.fidelity}, ${t.state} `,
      h("span", { class: "soft" }, goals.filter((m) => m in t.metrics).map((m) => `${label(m)} ${number(t.metrics[m])}`).join(", "))))));
  }
}

function downloads(job, trial, candidate) {
  const there = Object.keys(FILES).filter((role) => role in trial.artifacts);
  const where = (role) => `/v1/jobs/${encodeURIComponent(job.job_id)}/trials/${trial.number}/artifacts/${role}`;
  return h("section", { class: "card" }, h("h2", {}, "Files"),
    there.length
      ? h("div", { class: "files" }, there.map((role) => h("a", { class: "file", href: where(role), download: "" }, h("strong", {}, FILES[role][0]), h("span", { class: "soft" }, FILES[role][1]))))
      : h("p", { class: "note" }, candidate ? "Only finalists are exported: they are fine-tuned further and measured on the file. This trial has none." : "Shared weights stay on the server."),
    candidate && h("p", { class: "row" }, button("Model card", async () => saveJson(`card-${trial.task.key}`, await get(at(job.job_id, `/trials/${trial.number}/card`)))), button("Decisions", () => saveJson(`genotype-${trial.task.key}`, trial.task.values))));
}

function measured(job, trial) {
  const goals = job.spec.objectives.map(objective).map((o) => o.metric), bounds = job.spec.constraints.map(constraint);
  const names = Object.keys(trial.metrics).sort((a, b) => (goals.includes(b) - goals.includes(a)) || 0);
  if (!names.length) return h("section", { class: "card" }, h("h2", {}, "Metrics"), empty(trial.state === "running" ? "Still running" : "No metrics", trial.state === "running" ? "They appear when the trial finishes." : "The trial failed before anything was measured."));
  const rows = names.map((m) => ({ metric: m, value: trial.metrics[m], ...trial.sources[m] }));
  const latency = trial.provenance.latency_ms;
  const conditions = latency?.conditions ?? {};
  return h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Metrics"), exporting(`trial ${trial.number} metrics`, () => rows)),
    table("Metrics", [
      { text: "Metric", cell: (r) => h("span", { class: goals.includes(r.metric) ? "strong" : "" }, label(r.metric)) },
      { text: "Value", number: true, cell: (r) => marked(number(r.value), r.kind) },
      { text: "Constraint", cell: (r) => bounds.filter((b) => b?.metric === r.metric).map((b) => { const ok = b.relation === "<=" ? r.value <= b.bound : r.value >= b.bound; return h("span", { class: ok ? "good" : "error" }, `${ok ? "meets" : "breaks"} ${limit(b)}`); }) },
      { text: "How", cell: (r) => r.kind && h("span", { class: `tag ${r.kind}` }, r.kind) },
      { text: "On what", class: "on", cell: (r) => h("span", { class: "soft" }, r.on) },
    ], rows),
    latency && h("details", {}, h("summary", {}, "How latency was measured"),
      facts([["runs", latency.n_runs && number(latency.n_runs)], ["spread", latency.spread !== undefined && share(latency.spread, 1)], ...Object.entries(conditions).filter(([, v]) => typeof v !== "object").map(([k, v]) => [k, String(v)])]),
      latency.executed && table("Bits asked and executed", [
        { text: "Stage", cell: ([stage]) => stage }, { text: "Asked", cell: ([stage]) => latency.asked?.[stage] ?? "" }, { text: "Executed", cell: ([, text]) => text },
      ], Object.entries(latency.executed)),
      conditions.operators && h("p", { class: "soft" }, `Operators in the file: ${Object.entries(conditions.operators).map(([k, v]) => `${v} ${k}`).join(", ")}.`)));
}

function network(card, trial, layers) {
  const sum = (values) => values.reduce((a, b) => a + b, 0), widest = Math.max(...layers.map((l) => l.n_out), 1);
  const total = sum(layers.map((l) => l.macs)), times = Object.values(trial.provenance.latency_ms?.modules_ms ?? {}), spent = sum(times);
  const timed = spent > 0, cost = timed ? (l) => (l.ms ?? 0) / spent : (l) => l.macs / Math.max(total, 1), most = Math.max(...layers.map(cost), 1e-9);
  const size = (name, value, of) => { const bar = h("span", { class: `meter ${name}`, "aria-hidden": "true" }); bar.style.width = `${Math.max((100 * value) / of, 1)}%`; return h("span", { class: `meter-box ${name}-box` }, bar); };
  const parts = [], sparse = layers.some((l) => l.zeros > 0.005);
  for (const layer of layers) {
    const bits = layer.weight_bits === 32 ? "float32" : `w${layer.weight_bits} a${layer.activation_bits}`;
    if (parts.at(-1)?.name !== layer.part || parts.at(-1).bits !== bits) parts.push({ name: layer.part, bits, layers: [] });
    parts.at(-1).layers.push(layer);
  }
  fill(card,
    h("div", { class: "card-head" }, h("h2", {}, "Network"), h("span", { class: "soft" }, `${layers.length} layers with weights, ${short(total)} MACs`), exporting(`trial ${trial.number} layers`, () => layers)),
    h("p", { class: "note" }, `After pruning, in the order the layers run. Bars: output channels, and each layer's share of ${timed ? "the exported file's time, by the runtime's own profile" : "the multiply-accumulates; finalists are timed"}.`),
    h("div", { class: "network", tabindex: 0, role: "region", "aria-label": "Layers" }, parts.map((p) => h("section", { class: "stage", "aria-label": p.name },
      h("h3", {}, p.name, h("span", { class: "tag" }, p.bits)),
      p.layers.map((l) => h("div", { class: `layer ${sparse ? "sparse" : ""}`, title: l.name },
        h("span", { class: `kind ${l.kind}` }, `${l.kind} ${l.kind === "linear" || l.kind === "pointwise" ? "" : `${l.kernel}×${l.kernel}`}${l.stride > 1 ? ` /${l.stride}` : ""}`),
        h("span", { class: "shape" }, `${l.n_in} → ${l.n_out}`), size("channels", l.n_out, widest),
        h("span", { class: "soft shape map" }, l.kind === "linear" ? "" : `${l.height}×${l.width}`),
        size("cost", cost(l), most), h("span", { class: "shape" }, timed ? share(cost(l), 1) : `${short(l.macs)} MACs`),
        sparse && h("span", { class: "soft" }, l.zeros > 0.005 ? `${share(l.zeros)} zeros` : "")))))),
    timed && h("p", { class: "note" }, `The other ${share(1 - sum(layers.map(cost)), 1)} of the time goes between these layers: pools, sums, changes of precision and layout.`));
}

function decisions(values) {
  const all = byStage(values), plain = all.find(([stage]) => !stage)?.[1], stages = all.filter(([stage]) => stage);
  const fields = [...new Set(stages.flatMap(([, v]) => Object.keys(v)))];
  return h("section", { class: "card" }, h("h2", {}, "Decisions"),
    plain && facts(Object.entries(plain).map(([k, v]) => [k, option(v)])),
    stages.length > 0 && table("Decisions by stage", [{ text: "Stage", cell: ([s]) => s }, ...fields.map((f) => ({ text: f.replaceAll("_", " "), number: true, cell: ([, v]) => (f in v ? option(v[f]) : "–") }))], stages));
}
