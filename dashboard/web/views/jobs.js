// All jobs: state, progress, best values, owner; filters and pages.

import { follow, get, job as at, paced } from "../api.js";
import { button, empty, fill, h, labelled, loading, select } from "../dom.js";
import { ago, clock, duration, label, number } from "../format.js";
import { STATES, marked, progress, spark, state, table } from "../parts.js";
import { link, go, note } from "../router.js";

const PAGE = 25;
const AT_ONCE = 4;

export async function show(main, { query, session, onleave, current }) {
  document.title = "Jobs · nas";
  const chosen = new Set(query.getAll("pick"));
  const summaries = new Map();
  const filter = { name: query.get("name") ?? "", state: query.get("state") ?? "", owner: query.get("owner") ?? "" };
  const pages = [undefined];
  let items = [], next = null;

  const search = h("input", { type: "search", value: filter.name, placeholder: "part of a name", oninput: () => { filter.name = search.value; later(); } });
  const states = select([["", "any"], ...Object.entries(STATES)], filter.state, (v) => { filter.state = v; changed(); });
  const owner = h("input", { type: "search", value: filter.owner, placeholder: "anyone", oninput: () => { filter.owner = owner.value; later(); } });
  const compare = button("Compare", () => go(["compare"], { job: [...chosen] }), { disabled: true });
  const box = h("div", { class: "jobs" }, loading());
  fill(main,
    h("div", { class: "head" }, h("h1", {}, "Jobs"), h("div", { class: "actions" }, compare, h("a", { class: "button primary", href: "#/new" }, "New search"))),
    h("div", { class: "filters" }, labelled("Name", search), labelled("State", states), session.user?.role === "admin" && labelled("Owner", owner)),
    box);

  let timer;
  const later = () => { clearTimeout(timer); timer = setTimeout(changed, 250); };
  const changed = () => { note({ ...filter }); pages.length = 1; load(); };

  async function load() {
    const body = await get("/jobs", { name: filter.name, state: filter.state, owner: filter.owner, after: pages.at(-1), limit: PAGE });
    if (!current()) return;
    ({ items, next } = body);
    draw();
    await summarise(items.map((job) => job.job_id).filter((id) => !summaries.has(id)));
  }

  async function summarise(ids) {
    const queue = [...new Set(ids)];
    const work = async () => {
      for (let id = queue.shift(); id && current(); id = queue.shift()) {
        summaries.set(id, await get(at(id, "/summary")).catch(() => null));
        replace(id);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  }

  const rows = new Map();

  function draw() {
    const narrowed = filter.name || filter.state || filter.owner;
    if (!items.length) {
      return fill(box, narrowed
        ? empty("No job fits these filters", "Take one away to see more.", button("Show all jobs", () => { Object.assign(filter, { name: "", state: "", owner: "" }); search.value = owner.value = ""; states.value = ""; changed(); }))
        : empty("No jobs yet", "A search over architectures, pruning and quantization starts here, or with nas search --server.", h("a", { class: "button primary", href: "#/new" }, "New search")));
    }
    const node = table("Jobs", columns, items);
    node.querySelectorAll("tbody tr").forEach((row, i) => rows.set(items[i].job_id, row));
    fill(box, node, (next || pages.length > 1) && h("div", { class: "pager" },
      button("‹ Newer", () => { pages.pop(); load(); }, { disabled: pages.length === 1 }),
      button("Older ›", () => { pages.push(next); load(); }, { disabled: !next })));
  }

  const columns = [
    { text: "", class: "pick", cell: (job) => h("input", { type: "checkbox", checked: chosen.has(job.job_id), "aria-label": `Pick ${job.name} for comparison`, onchange: (e) => pick(job.job_id, e.target.checked) }) },
    { text: "Name", class: "name", cell: (job) => h("a", { href: link(["jobs", job.job_id]) }, job.name) },
    { text: "State", cell: state },
    { text: "Progress", cell: (job) => {
      const told = summaries.get(job.job_id);
      const asked = job.spec.budget.trials + job.spec.budget.finalists;
      const done = told ? told.n_evaluated : 0;
      return told ? progress(done, told.asked, `${number(done)} of ${number(asked)}`) : h("span", { class: "soft" }, `of ${number(asked)}`);
    } },
    { text: "Best", class: "best", cell: (job) => {
      const { best = {}, kinds } = summaries.get(job.job_id) ?? {};
      return Object.entries(best).slice(0, 3).map(([m, v]) => h("span", { class: "metric" }, h("span", { class: "soft" }, label(m)), " ", marked(number(v), kinds[m])));
    } },
    { text: "Front", number: true, cell: (job) => { const n = summaries.get(job.job_id)?.n_front; return n ? number(n) : ""; } },
    { text: "Hypervolume", cell: (job) => spark(summaries.get(job.job_id)?.hypervolume ?? []) },
    { text: "Time", cell: (job) => {
      const told = summaries.get(job.job_id);
      if (!told) return "";
      return job.state === "running" && told.left_seconds ? `${duration(told.left_seconds)} left` : told.span_seconds ? duration(told.span_seconds) : "";
    } },
    { text: "Owner", cell: (job) => job.owner || h("span", { class: "soft" }, "–") },
    { text: "Submitted", cell: (job) => h("time", { title: clock(job.created_at) }, ago(job.created_at)) },
  ];

  function replace(id) {
    const job = items.find((one) => one.job_id === id), row = rows.get(id);
    if (!job || !row?.isConnected) return;
    row.querySelectorAll("td").forEach((cell, i) => { if (i) fill(cell, columns[i].cell(job) ?? ""); });
  }

  function pick(id, on) {
    if (on) chosen.add(id); else chosen.delete(id);
    compare.disabled = chosen.size < 2;
    compare.textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
  }

  await load();
  const stale = new Set();
  const pace = paced(async () => { const ids = [...stale]; stale.clear(); await summarise(ids); }, 2);
  let primed = false;
  setTimeout(() => { primed = true; }, 1500);
  onleave(follow(undefined, {
    heard: (job) => {
      const known = items.find((one) => one.job_id === job.job_id);
      if (known) {
        const moved = known.state !== job.state || known.wanted !== job.wanted || known.last_sequence !== job.last_sequence;
        const first = known.last_sequence === undefined;
        Object.assign(known, job);
        if (moved) replace(job.job_id);
        if (moved && !first) { stale.add(job.job_id); pace.again(); }
      } else if (primed && pages.length === 1 && !filter.name && !filter.owner) load();
    },
    gone: (id) => { if (items.some((job) => job.job_id === id)) load(); },
  }));
  onleave(pace.end);
}
