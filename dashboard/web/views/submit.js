// A new search: the form is made from the server's own schemas, and checked by the server as it is filled.

import { ApiError, get, job as at, post } from "../api.js";
import { button, fill, fresh, h, labelled, loading, select, toast } from "../dom.js";
import { capital, duration, label, number, share } from "../format.js";
import { facts, table } from "../parts.js";
import { go } from "../router.js";

const WIDE = ["objectives", "constraints"];
const FIRST = ["name", "data", "objectives", "constraints"];
const LONG = { objectives: "Metrics with a direction, comma-separated: accuracy, latency_ms:min", constraints: "Metric and bound, comma-separated: weight_bytes<=20000" };

export async function show(main, { query, current }) {
  document.title = "New search · nas";
  const from = query.get("from");
  const [schema, spaces, strategies, learning, data, copied] = await Promise.all([
    get("/job-schema"), get("/spaces"), get("/strategies"), get("/learning"), get("/datasets"), from ? get(at(from)) : null,
  ]);
  if (!current()) return;
  const spec = structuredClone(copied?.spec ?? {}), controls = new Map(), told = describe(schema.description);
  const read = (path) => path.reduce((place, name) => place?.[name], spec);
  let timer, slow, turn = 0, working = false;
  const known = { space: spaces, strategy: strategies };
  if (copied) spec.name = `${copied.name} again`.slice(0, 200);
  const wrong = h("div", { role: "alert", class: "wrong-box" }), estimate = h("section", { class: "card estimate", "aria-live": "polite" });
  const send = h("button", { type: "submit", class: "primary" }, "Start the search");
  const form = h("form", { novalidate: true, onsubmit: submit, oninput: () => later(), onchange: () => later() });
  const group = (title, ...inside) => h("fieldset", { class: "card" }, h("legend", {}, title), ...inside);
  const def = (name) => schema.$defs[schema.properties[name].$ref.split("/").at(-1)];
  const source = select([...new Set([...(spec.data ? [spec.data] : []), ...data.map((d) => d.source)])], spec.data ?? "digits", (v) => { spec.data = v; });
  controls.set("data", source);
  form.append(
    group("What", h("div", { class: "fields" }, FIRST.map((name) => (name === "data" ? labelled("data", source, "Built in, or sent with nas search --data.") : field(schema.properties[name], [name], LONG[name] ?? told[name]))))),
    group("Budget", sub(def("budget"), ["budget"])),
    choice("space", "Space"), choice("strategy", "Strategy"),
    group("Training", sub(def("training"), ["training"])),
    ...learning.map((one) => optional(one)),
    group("More", h("div", { class: "fields" }, Object.keys(schema.properties).filter((n) => ![...FIRST, "budget", "training", "space", "strategy", ...learning.map((l) => l.name)].includes(n)).map((n) => field(schema.properties[n], [n], told[n])))),
    wrong, h("div", { class: "actions" }, send));
  fill(main, h("div", { class: "head" }, h("h1", {}, "New search")), h("div", { class: "with-side" }, form, h("aside", { class: "side", "aria-label": "Estimate" }, estimate)));
  idle();

  function write(path, value) {
    let place = spec;
    for (const name of path.slice(0, -1)) place = place[name] ??= {};
    if (value === undefined) delete place[path.at(-1)]; else place[path.at(-1)] = value;
  }

  function sub(part, path) {
    const about = describe(part.description);
    return h("div", { class: "fields" }, Object.entries(part.properties).map(([name, one]) => field(one, [...path, name], about[name])));
  }

  /** One control for one property of a schema; empty means the default. */
  function field(one, path, about) {
    const kinds = one.anyOf ?? [one], kind = kinds.find((k) => k.type !== "null") ?? kinds[0];
    const start = read(path) ?? undefined, usual = one.default ?? undefined, name = path.join(".");
    const hint = about ? capital(about) : "";
    const nothing = path.at(-1) === "worker_seconds" || path.at(-1) === "data_limit" ? "no limit" : Array.isArray(usual) ? "none" : "unset";
    const text = path.at(-1).replaceAll("_", " ");
    let control;
    if (kind.type === "boolean") {
      control = h("input", { type: "checkbox", checked: start ?? usual ?? false, onchange: () => write(path, control.checked) });
    } else if (kind.enum) {
      control = select(kind.enum.map(String), start ?? usual ?? kind.enum[0], (v) => write(path, v));
    } else if (kind.type === "integer" || kind.type === "number") {
      control = h("input", {
        type: "number", step: kind.type === "integer" ? 1 : "any", min: kind.minimum ?? kind.exclusiveMinimum, max: kind.maximum, value: start ?? "", inputmode: "decimal",
        placeholder: usual === undefined ? nothing : String(usual), oninput: () => write(path, control.value === "" ? undefined : control.valueAsNumber),
      });
    } else if (kind.type === "array" || kind.type === undefined || kind.type === "object") {
      const lists = (v) => (v === undefined ? "" : Array.isArray(v) && v.every((x) => typeof x !== "object") ? v.join(", ") : JSON.stringify(v));
      const texts = kind.items?.type === "string";
      control = h("input", { type: "text", value: lists(start), placeholder: lists(usual) || nothing, spellcheck: "false", oninput: () => write(path, parse(control.value, texts)) });
    } else {
      control = h("input", { type: "text", value: start ?? "", maxlength: kind.maxLength, placeholder: usual === undefined ? nothing : String(usual), oninput: () => write(path, control.value === "" ? undefined : control.value) });
    }
    controls.set(name, control);
    const node = labelled(text, control, hint);
    if (WIDE.includes(path.at(-1))) node.classList.add("wide");
    return node;
  }

  function choice(name, title) {
    const start = spec[name]?.name ?? def(name).properties.name.default, box = h("div", {}), about = h("p", { class: "note" });
    const fields = (value, options) => {
      const one = known[name].find((k) => k.name === value);
      write([name], { name: value, options });
      about.textContent = one?.description ?? "";
      const inside = one && Object.keys(one.options.properties ?? {}).length ? h("details", { open: Object.keys(options).length > 0 }, h("summary", {}, "Options"), sub(one.options, [name, "options"])) : "";
      fill(box, inside);
    };
    const list = select(known[name].map((k) => k.name), start, (v) => fields(v, {}));
    controls.set(name, list);
    const node = group(title, labelled(name, list), about, box);
    fields(start, spec[name]?.options ?? {});
    return node;
  }

  function optional(one) {
    const box = h("div", {}), title = one.name === "supernet" ? "Shared weights first" : "Gradients first";
    const toggle = h("input", { type: "checkbox", checked: Boolean(spec[one.name]), onchange: () => { write([one.name], toggle.checked ? {} : undefined); draw(); } });
    const draw = () => fill(box, toggle.checked ? sub(one.options, [one.name]) : "");
    draw();
    return group(title, labelled(one.name, toggle, one.name === "supernet" ? "Train one network whose weights all candidates share." : "Learn a distribution over candidates by gradients."), box);
  }

  function later() {
    clearTimeout(timer); clearTimeout(slow);
    turn += 1;
    const mine = turn;
    timer = setTimeout(async () => {
      if (await checked() && mine === turn && current()) slow = setTimeout(preview, 1200);
    }, 350);
  }

  async function checked() {
    const mine = turn;
    try {
      await post("/check", spec);
      if (mine === turn) clear();
      return mine === turn;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (mine === turn && current()) refuse(error);
      return false;
    }
  }

  function clear() {
    form.querySelectorAll("[aria-invalid]").forEach((node) => node.removeAttribute("aria-invalid"));
    form.querySelectorAll(".field-error").forEach((node) => node.remove());
    fill(wrong);
  }

  function refuse(error) {
    clear();
    const name = error.field ?? "", words = name.split(/[\s.]+/);
    const control = controls.get(name) ?? [...controls].find(([key]) => key.split(".").at(-1) === words.at(-1))?.[1] ?? controls.get(words[0]) ?? controls.get(`${words[0]}s`);
    if (!control?.isConnected) return fill(wrong, h("p", { class: "error" }, error.message));
    const text = h("span", { class: "field-error error", id: fresh("error") }, error.expected ? `${error.expected}` : error.message);
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-errormessage", text.id);
    control.closest(".field").append(text);
    control.closest("details")?.setAttribute("open", "");
    fill(wrong, h("p", { class: "error" }, error.message));
    fill(estimate, h("h2", {}, "Estimate"), h("p", { class: "note" }, "As soon as the form is right."));
  }

  function idle() {
    fill(estimate, h("h2", {}, "Estimate"), h("p", { class: "note" }, "Size of the space, ranges of costs and time, before anything is spent. Takes some seconds."), button("Estimate", preview));
  }

  async function preview() {
    if (working) return;
    working = true;
    const mine = turn;
    fill(estimate, h("h2", {}, "Estimate"), loading("Timing a few training steps …"));
    try {
      const told = await post("/preview", spec);
      if (!current()) return;
      if (mine === turn) clear();
      fill(estimate, h("h2", {}, "Estimate"),
        facts([["whole job", `about ${duration(told.job_seconds)}`], ["one trial", duration(told.trial_seconds)], ["candidates", Number(told.n_candidates).toLocaleString("en-US", { notation: "compact", maximumSignificantDigits: 3 })], ["meet the constraints", share(told.feasible_share)], ["workers", number(told.n_workers)], ["fastest latency", `${number(told.latency_floor_ms)} ms`]]),
        table("Ranges of costs", [{ text: "Cost", cell: ([m]) => label(m) }, { text: "Least", number: true, cell: ([, [a]]) => number(a) }, { text: "Most", number: true, cell: ([, [, b]]) => number(b) }], Object.entries(told.cost_ranges)),
        Object.entries(told.ruled_out).length > 0 && h("ul", { class: "plain" }, Object.entries(told.ruled_out).map(([c, s]) => h("li", {}, `${c} rules out ${share(s)}`))));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (current()) { if (mine === turn) refuse(error); else idle(); }
    } finally { working = false; }
    if (mine !== turn && current() && !form.querySelector("[aria-invalid]")) later();
  }

  async function submit(event) {
    event.preventDefault();
    clearTimeout(timer); clearTimeout(slow);
    turn += 1;
    send.disabled = true;
    try {
      const job = await post("/jobs", spec, { headers: { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) } });
      toast(`${job.name} is queued.`);
      go(["jobs", job.job_id]);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      refuse(error);
      (form.querySelector("[aria-invalid]") ?? wrong).scrollIntoView({ block: "center" });
      form.querySelector("[aria-invalid]")?.focus();
    } finally { send.disabled = false; }
  }
}

/** What a list's text means: JSON where it looks so, else parts between commas. */
function parse(text, texts) {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  if (trimmed.startsWith("[") || trimmed.startsWith("{")) { try { return JSON.parse(trimmed); } catch { return trimmed; } }
  return trimmed.split(",").map((t) => t.trim()).filter(Boolean).map((t) => (texts ? t : t === "true" ? true : t === "false" ? false : Number.isNaN(Number(t)) ? t : Number(t)));
}

/** The attributes of a docstring, `name: text` each. */
function describe(text = "") {
  const found = {};
  let name;
  for (const line of (text.split("Attributes:")[1] ?? "").split("\n")) {
    const head = line.match(/^ {4}([\w, ]+): (.*)$/);
    if (head) head[1].split(", ").forEach((one) => { name = one; found[name] = head[2]; });
    else if (name && line.trim()) found[name] += ` ${line.trim()}`;
  }
  return Object.fromEntries(Object.entries(found).map(([k, v]) => [k, v.replaceAll("`", "")]));
}
