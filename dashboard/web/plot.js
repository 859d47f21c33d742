// Plots: Plotly's bundle, loaded when the first is drawn, in the colours of the page.

import { button, fill, fresh, h, loading } from "./dom.js";
import { save, saveCsv, saveJson } from "./export.js";
import { changed, color } from "./theme.js";

let library;

/** Plotly, once. */
export function plotly() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.querySelector("meta[name=plotly]").content;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { library = undefined; reject(new Error("The plotting library could not be loaded; reload the page.")); };
    document.head.append(script);
  });
  return library;
}

/**
 * A card with one plot. `make()` gives `{data, layout, rows, say}`: traces, layout, the rows behind
 * them for export, and one sentence for those who cannot see it; or `{empty}`, a node instead.
 */
export function figure(title, { note, controls = [], height = 340, click, name = title } = {}) {
  const heading = fresh("figure");
  const canvas = h("div", { class: "plot", role: "img", "aria-labelledby": heading });
  canvas.style.height = `${height}px`;
  const instead = h("div", { class: "instead" }, loading("Reading trials …"));
  canvas.hidden = true;
  const slug = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  let make, last, drawn = false, active = true;
  const exports = h("div", { class: "exports", hidden: true },
    button("PNG", async () => save(`${slug}.png`, await png(canvas)), { "aria-label": `${title} as PNG` }),
    button("CSV", () => saveCsv(slug, last.rows), { "aria-label": `${title} as CSV` }),
    button("JSON", () => saveJson(slug, last.rows), { "aria-label": `${title} as JSON` }));
  const said = h("p", { class: "note" }, note ?? "");
  const node = h("section", { class: "card figure", "aria-labelledby": heading },
    h("div", { class: "card-head" }, h("h3", { id: heading }, title), ...controls, exports), said, canvas, instead);
  said.hidden = !note;

  async function draw(maker) {
    make = maker;
    last = make();
    canvas.hidden = Boolean(last.empty);
    instead.hidden = !last.empty;
    exports.hidden = Boolean(last.empty);
    fill(instead, last.empty);
    if (last.empty) return;
    if (last.note) { said.textContent = last.note; said.hidden = false; }
    canvas.setAttribute("aria-label", last.say ?? title);
    const Plotly = await plotly();
    if (!active || !canvas.isConnected) return;
    await Plotly.react(canvas, last.data, themed(last.layout ?? {}, height), CONFIG);
    if (!drawn && click) canvas.on("plotly_click", (event) => click(event.points[0]));
    drawn = true;
  }

  const stop = changed(() => make && draw(make));
  const end = () => { active = false; stop(); if (drawn) window.Plotly.purge(canvas); };
  return { node, draw, end };
}

const CONFIG = { responsive: true, displayModeBar: false, doubleClick: "reset" };

function themed(layout, height) {
  const ink = color("ink"), soft = color("soft"), line = color("line");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, tickfont: { color: soft, size: 11 }, title: { font: { size: 12, color: soft }, standoff: 10 } };
  const out = {
    font: { family: "system-ui, sans-serif", size: 12, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 16, t: 12, b: 44 }, height,
    hoverlabel: { bgcolor: color("card"), bordercolor: line, font: { color: ink, family: "system-ui, sans-serif" }, align: "left" },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: soft, size: 12 } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...layout,
  };
  for (const key of ["xaxis", "yaxis", ...Object.keys(layout).filter((k) => /^[xy]axis\d/.test(k))]) {
    const own = layout[key] ?? {};
    const title = typeof own.title === "string" ? { text: own.title } : own.title ?? {};
    out[key] = { ...axis, ...own, title: { ...axis.title, ...title } };
  }
  return out;
}

async function png(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const data = await window.Plotly.toImage({ data: canvas.data, layout: { ...canvas.layout, paper_bgcolor: color("card") } }, { format: "png", width, height, scale: 2 });
  const raw = atob(data.split(",")[1]);
  return new Blob([Uint8Array.from(raw, (c) => c.charCodeAt(0))], { type: "image/png" });
}
