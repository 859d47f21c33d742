// Files out of plots and tables.

/** Let the browser save `blob` as `name`. */
export function save(name, blob) {
  const where = URL.createObjectURL(blob);
  const anchor = document.createElement("a");
  anchor.href = where;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(where), 10_000);
}

/** Rows of objects as CSV; texts that a spreadsheet would take for formulas get a quote before. */
export function csv(rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    let text = typeof value === "object" ? JSON.stringify(value) : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((row) => names.map((n) => row[n]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

export function saveCsv(name, rows) {
  save(`${name}.csv`, new Blob([csv(rows)], { type: "text/csv" }));
}

export function saveJson(name, value) {
  save(`${name}.json`, new Blob([JSON.stringify(value, null, 2)], { type: "application/json" }));
}

/** An SVG element as PNG; it may use attributes only, no style sheet. */
export async function savePng(name, node, background) {
  const { width, height } = node.getBoundingClientRect();
  const copy = node.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * width, 2 * height];
  const context = canvas.getContext("2d");
  context.scale(2, 2);
  context.fillStyle = background;
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  canvas.toBlob((blob) => save(`${name}.png`, blob));
}
