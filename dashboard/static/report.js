const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = () => getComputedStyle(document.body).color;
const line = () => getComputedStyle(document.body).getPropertyValue("--line");

function draw() {
  for (const figure of JSON.parse(document.getElementById("figures").textContent)) {
    const layout = { ...figure.layout, font: { color: ink() } };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) layout[key] = { ...layout[key], gridcolor: line(), zerolinecolor: line() };
    }
    Plotly.react(figure.target, figure.data, layout, { responsive: true, displaylogo: false });
  }
}

function sortBy(button) {
  const cell = button.closest("th"), table = cell.closest("table"), column = cell.cellIndex;
  const down = cell.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  cell.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)], [m, n] = [parseFloat(x), parseFloat(y)];
    const result = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
    return down ? -result : result;
  };
  const rows = [...table.tBodies[0].rows].sort(order);
  table.tBodies[0].append(...rows);
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button));
}
document.getElementById("filter")?.addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const row of document.querySelectorAll("#trials tbody tr")) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
  }
});
draw();
dark.addEventListener("change", draw);
