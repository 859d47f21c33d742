// What the server has: nodes, data sets, jobs at work, tokens.

import { get, job as at } from "../api.js";
import { empty, fill, h } from "../dom.js";
import { bytes, clock, number } from "../format.js";
import { facts, state, table } from "../parts.js";
import { link } from "../router.js";

export async function show(main, { session, current }) {
  document.title = "System · nas";
  const admin = session.user?.role === "admin";
  const [cluster, data, running, queued, spaces, strategies, tokens] = await Promise.all([
    get("/cluster"), get("/datasets"), get("/jobs", { state: "running", limit: 100 }), get("/jobs", { state: "created", limit: 500 }),
    get("/spaces"), get("/strategies"), admin ? get("/tokens") : [],
  ]);
  if (!current()) return;
  const card = (title, ...inside) => h("section", { class: "card" }, h("h2", {}, title), ...inside);
  const onRay = cluster.dashboard ? new Map(await Promise.all(running.items.map(async (j) => [j.job_id, (await get(at(j.job_id, "/driver"))).page]))) : new Map();
  if (!current()) return;
  const workers = running.items.reduce((sum, job) => sum + (job.workers ?? 0), 0);
  fill(main, h("div", { class: "head" }, h("h1", {}, "System")),
    facts([["version", session.user?.version], ["jobs running", number(running.items.length)], ["jobs waiting", `${number(queued.items.length)}${queued.next ? " or more" : ""}`], ["trials at once", cluster.workers === null ? (workers ? number(workers) : "–") : number(cluster.workers)]]),
    card("Jobs at work", running.items.length
      ? table("Jobs at work", [
        { text: "Name", cell: (j) => h("a", { href: link(["jobs", j.job_id]) }, j.name) }, { text: "State", cell: state }, { text: "Owner", cell: (j) => j.owner || "–" },
        { text: "Trials at once", number: true, cell: (j) => (j.workers === null ? "all" : number(j.workers)) }, { text: "Priority", number: true, cell: (j) => number(j.priority) },
        ...(onRay.size ? [{ text: "Logs and tasks", cell: (j) => onRay.get(j.job_id) && h("a", { href: onRay.get(j.job_id), target: "_blank", rel: "noopener" }, "On Ray") }] : []),
      ], running.items)
      : empty("No job is running", "Workers wait.", h("a", { href: "#/new" }, "New search"))),
    card("Cluster", cluster.nodes.length
      ? table("Nodes", [
        { text: "Node", cell: (n) => h("strong", {}, n.name) }, { text: "CPUs", number: true, cell: (n) => number(n.n_cpus) }, { text: "GPUs", number: true, cell: (n) => number(n.n_gpus) },
        { text: "Memory", number: true, cell: (n) => (n.memory_bytes === null ? "–" : bytes(n.memory_bytes)) },
      ], cluster.nodes)
      : empty("No node is known", cluster.starts_jobs ? "The Ray cluster does not answer; jobs wait for it." : "This server starts no jobs; another one does."),
    h("p", { class: "note" }, cluster.executor === "ray" ? "Trials are Ray tasks." : "Trials run in processes of this machine.", cluster.dashboard && [" ", h("a", { href: cluster.dashboard, target: "_blank", rel: "noopener" }, "Ray's dashboard")])),
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

