// What was asked for, as JSON.

import { button, fill, h, toast } from "../dom.js";
import { saveJson } from "../export.js";

export async function show(body, { job }) {
  const text = JSON.stringify(job.spec, null, 2);
  fill(body, h("section", { class: "card" },
    h("div", { class: "card-head" }, h("h2", {}, "Specification"), h("div", { class: "exports" },
      button("Copy", async () => { await navigator.clipboard.writeText(text); toast("Copied."); }),
      button("JSON", () => saveJson(`${job.name} specification`, job.spec)))),
    h("p", { class: "note" }, "The same specification, seed and earlier jobs give the same search. In Python: ", h("code", {}, "nas.Client(URL).submit(**specification)"), "."),
    h("pre", { tabindex: 0, "aria-label": "Specification as JSON" }, text)));
}
