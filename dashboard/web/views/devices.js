// Devices: how each is, what waits for it, and how well its latency is predicted while it is away.

import { get } from "../api.js";
import { empty, fill, h, loading } from "../dom.js";
import { ago, clock, label, number, share } from "../format.js";
import { table } from "../parts.js";
import { figure } from "../plot.js";
import { color } from "../theme.js";

const LOOK_SECONDS = 5;

export async function show(main, { onleave, current }) {
  document.title = "Devices · nas";
  const box = h("div", {}, loading()), plots = h("div", { class: "grid pairs" }), figures = new Map();
  fill(main, h("div", { class: "head" }, h("h1", {}, "Devices")), box, plots);
  onleave(() => figures.forEach(({ plot }) => plot.end()));

  async function load() {
    const devices = await get("/devices");
    if (!current()) return;
    const agents = devices.filter((d) => d.kind === "agent");
    fill(box, h("section", { class: "card" }, listed(devices)), agents.length === 0 && empty("No device has registered", "Any machine with Python and ONNX Runtime can: nas agent --server URL --name NAME, with a token of role device. Jobs then name it: latency_ms@NAME."));
    for (const device of agents) await calibrate(device);
  }

  async function calibrate(device) {
    const known = figures.get(device.name);
    if (known?.done === device.done) return;
    const plot = known?.plot ?? figure(`${device.name}: predicted against measured`, { height: 360, name: `${device.name} calibration` });
    if (!known) plots.append(plot.node);
    figures.set(device.name, { plot, done: device.done });
    const told = await get(`/devices/${encodeURIComponent(device.name)}/calibration`);
    if (current()) await plot.draw(() => calibration(device, told));
  }

  await load();
  const timer = setInterval(() => load().catch(() => {}), 1000 * LOOK_SECONDS);
  onleave(() => clearInterval(timer));
}

function listed(devices) {
  return table("Devices", [
    { text: "Name", cell: (d) => h("strong", {}, d.name) },
    { text: "State", cell: (d) => h("span", { class: `state ${d.is_live ? "completed" : "failed"}` }, d.kind === "table" ? "table" : d.is_live ? "live" : "gone") },
    { text: "Last seen", cell: (d) => d.last_seen && h("time", { title: clock(d.last_seen) }, ago(d.last_seen)) },
    { text: "Waiting", number: true, cell: (d) => (d.kind === "agent" ? number(d.waiting) : "") },
    { text: "Measured", number: true, cell: (d) => (d.kind === "agent" ? number(d.done) : "") },
    { text: "Owner", cell: (d) => d.owner || "–" },
    { text: "What", class: "on", cell: (d) => h("span", { class: "soft" }, d.description) },
  ], devices);
}

function calibration(device, { measured, predicted, std, error, tau, needed }) {
  if (!measured.length) {
    return { empty: empty("Too few measurements to predict from", `${needed} files of one kind of network are needed; until then jobs wait for the device when it is away.`) };
  }
  const ends = [Math.min(...measured, ...predicted), Math.max(...measured, ...predicted)], unit = label("latency_ms");
  return {
    data: [
      { x: ends, y: ends, mode: "lines", line: { color: color("limit"), dash: "dash", width: 1.5 }, hoverinfo: "skip", showlegend: false },
      { x: measured, y: predicted, mode: "markers", marker: { color: color("search"), size: 7, opacity: 0.75, symbol: "triangle-up" }, error_y: { type: "data", array: std, color: color("faint"), thickness: 1, width: 0 }, hovertemplate: "measured %{x:.4~g} ms<br>≈ predicted %{y:.4~g} ms<extra></extra>", showlegend: false },
    ],
    layout: { xaxis: { title: `Measured ${unit}` }, yaxis: { title: `Predicted ${unit}` }, hovermode: "closest" },
    note: `Each of the newest ${number(measured.length)} is predicted from the others, as the device's latency is while it is away. Median error ${share(error, 1)}, Kendall's τ ${tau === null ? "not defined" : tau.toFixed(2)}; bars are one standard deviation.`,
    rows: measured.map((value, i) => ({ measured_ms: value, predicted_ms: predicted[i], std_ms: std[i] })),
    say: `${measured.length} measurements of ${device.name}; median error of predictions ${share(error, 1)}`,
  };
}
