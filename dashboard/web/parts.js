// What several views show: states, progress, small curves, tables.

import { button, fill, h, svg } from "./dom.js";
import { MARKS, byStage, capital, columnFormat, label, number, option } from "./format.js";
import { saveCsv, saveJson } from "./export.js";
import { color } from "./theme.js";

export const STATES = { created: "queued", running: "running", paused: "paused", interrupted: "interrupted", completed: "completed", failed: "failed", cancelled: "cancelled" };

export function state(job) {
  const asked = job.wanted && job.state === "running" ? ` → ${job.wanted}` : "";
  return h("span", { class: `state ${job.state}` }, `${STATES[job.state] ?? job.state}${asked}`);
}

export function progress(done, asked, text) {
  const share = asked ? Math.min(done / asked, 1) : 0;
  const bar = h("span", { class: "bar-fill" });
  bar.style.width = `${100 * share}%`;
  return h("span", { class: "progress", role: "progressbar", "aria-valuenow": done, "aria-valuemin": 0, "aria-valuemax": Math.max(asked, done), "aria-label": text },
    h("span", { class: "bar" }, bar), h("span", { class: "bar-text" }, text));
}

/** A curve without axes. */
export function spark(values) {
  if (values.length < 2) return h("span", { class: "spark" });
  const most = Math.max(...values, 1e-12);
  const points = values.map((v, i) => `${(96 * i) / (values.length - 1) + 2},${26 - (22 * v) / most}`).join(" ");
  return svg("svg", { class: "spark", viewBox: "0 0 100 28", role: "img", "aria-label": "hypervolume rising over trials" },
    svg("polyline", { points, fill: "none", stroke: color("search"), "stroke-width": 2, "stroke-linejoin": "round" }));
}

/** A definition list of short facts. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, v]) => v !== null && v !== undefined && v !== "").map(([name, value]) => h("div", {}, h("dt", {}, capital(name)), h("dd", {}, value))));
}

/**
 * A table. Columns: `{name, text, cell(row), number, title}`; `sort` is `{by, down, change(name)}`.
 */
export function table(caption, columns, rows, { sort, rowClass = () => "" } = {}) {
  const heads = columns.map((column) => {
    const chosen = sort && sort.by === column.name;
    const head = sort && column.name
      ? button([column.text ?? capital(label(column.name)), h("span", { class: "arrow", "aria-hidden": "true" }, chosen ? (sort.down ? " ↓" : " ↑") : "")].flat(), () => sort.change(column.name))
      : column.text ?? capital(label(column.name));
    return h("th", { scope: "col", class: column.number ? "num" : "", "aria-sort": chosen ? (sort.down ? "descending" : "ascending") : undefined }, head);
  });
  const body = rows.map((row) => h("tr", { class: rowClass(row) }, columns.map((column) => {
    const inside = column.cell(row);
    return h("td", { class: `${column.number ? "num" : ""} ${column.class ?? ""}`, "data-name": column.text ?? capital(label(column.name)) }, inside ?? "");
  })));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body)));
}

/** Columns for metrics, decimal points below each other; what nobody measured is marked. */
export function metricColumns(metrics, rows, of = (row) => row.metrics) {
  return metrics.map((metric) => {
    const form = columnFormat(rows.map((row) => of(row)[metric]));
    return { name: metric, number: true, cell: (row) => marked(form(of(row)[metric]), row.kinds?.[metric]) };
  });
}

/** A value with the mark of its kind. */
export function marked(text, kind) {
  const sign = MARKS[kind];
  return sign ? h("span", { class: "marked", title: MEANINGS[kind] }, h("span", { class: "mark", "aria-hidden": "true" }, sign), h("span", { class: "hidden" }, kind), text) : text;
}

const MEANINGS = {
  simulated: "simulated: by the network with rounded weights and activations, before it is exported, or by the table of layers that a device is",
  predicted: "predicted, while the device was away, from what it measured before",
};

/** What the marks in these rows mean; nothing where there are none. */
export function legend(rows) {
  const kinds = new Set(rows.flatMap((row) => Object.values(row.kinds ?? {})));
  const told = Object.keys(MARKS).filter((kind) => kinds.has(kind)).map((kind) => `${MARKS[kind]} ${MEANINGS[kind]}`);
  return told.length > 0 && h("p", { class: "note legend" }, `${told.join("; ")}. All else is measured or computed.`);
}

/** Decisions in short: `stage1: width 24, kernel 5; stage2: …`. */
export function brief(values) {
  return byStage(values).map(([stage, fields]) => `${stage && `${stage}: `}${Object.entries(fields).map(([field, value]) => `${field} ${option(value)}`).join(", ")}`).join("; ");
}

/** Buttons that save rows. */
export function exporting(name, rows) {
  return h("div", { class: "exports" },
    button("CSV", async () => saveCsv(name, await rows()), { "aria-label": `${name} as CSV` }),
    button("JSON", async () => saveJson(name, await rows()), { "aria-label": `${name} as JSON` }));
}

/** `1–50 of 1,234` and buttons to turn pages. */
export function pager(offset, limit, total, turn) {
  const last = Math.min(offset + limit, total);
  return h("div", { class: "pager" },
    h("span", {}, total ? `${number(offset + 1)}–${number(last)} of ${number(total)}` : "none"),
    button("‹ Back", () => turn(Math.max(offset - limit, 0)), { disabled: offset === 0, "aria-label": "Page before" }),
    button("Next ›", () => turn(offset + limit), { disabled: last >= total, "aria-label": "Next page" }));
}
