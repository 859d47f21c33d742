// What the server has: devices, data sets, jobs at work, tokens.

import { get } from "../api.js";
import { empty, fill, h } from "../dom.js";
import { bytes, clock, label, number } from "../format.js";
import { facts, state, table } from "../parts.js";
import { link } from "../router.js";

export async function show(main, { session, current }) {
  document.title = "System · nas";
  const admin = session.user?.role === "admin";
  const [devices, data, running, queued, spaces, strategies, tokens] = await Promise.all([
    get("/devices"), get("/datasets"), get("/jobs", { state: "running", limit: 100 }), get("/jobs", { state: "created", limit: 500 }),
    get("/spaces"), get("/strategies"), admin ? get("/tokens") : [],
  ]);
  if (!current()) return;
  const card = (title, ...inside) => h("section", { class: "card" }, h("h2", {}, title), ...inside);
  const workers = running.items.reduce((sum, job) => sum + (job.workers ?? 0), 0);
  fill(main, h("div", { class: "head" }, h("h1", {}, "System")),
    facts([["version", session.user?.version], ["jobs running", number(running.items.length)], ["jobs waiting", `${number(queued.items.length)}${queued.next ? " or more" : ""}`], ["trials at once", workers ? number(workers) : "as many as there are CPUs"]]),
    card("Jobs at work", running.items.length
      ? table("Jobs at work", [
        { text: "Name", cell: (j) => h("a", { href: link(["jobs", j.job_id]) }, j.name) }, { text: "State", cell: state }, { text: "Owner", cell: (j) => j.owner || "–" },
        { text: "Trials at once", number: true, cell: (j) => (j.workers === null ? "all" : number(j.workers)) }, { text: "Priority", number: true, cell: (j) => number(j.priority) },
      ], running.items)
      : empty("No job is running", "Workers wait.", h("a", { href: "#/new" }, "New search"))),
    card("Devices", table("Devices", [{ text: "Name", cell: (d) => h("strong", {}, d.name) }, { text: "What", cell: (d) => d.description }], devices)),
    card("Data sets", table("Data sets", [{ text: "Source", cell: (d) => h("span", { class: "mono" }, d.source) }, { text: "Size", number: true, cell: (d) => (d.bytes === null ? "built in" : bytes(d.bytes)) }], data),
      h("p", { class: "note" }, "Send your own with ", h("code", {}, "nas search --server URL --data images.npz"), ".")),
    card("Spaces and strategies", facts([["spaces", spaces.map((s) => s.name).join(", ")], ["strategies", strategies.map((s) => s.name).join(", ")]])),
    admin && card("Tokens", tokens.length
      ? table("Tokens", [
        { text: "Name", cell: (t) => t.name }, { text: "Owner", cell: (t) => t.owner }, { text: "Role", cell: (t) => t.role },
        { text: "Made", cell: (t) => clock(t.created_at) }, { text: "State", cell: (t) => (t.revoked_at ? "revoked" : t.expires_at && t.expires_at < Date.now() / 1000 ? "expired" : "valid") },
      ], tokens)
      : empty("No tokens", "Anyone on this machine may use the server. Make one with nas token create NAME, and it asks for it from then on.")));
}

