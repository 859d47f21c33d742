// One job: what it found, what it teaches, every trial.

import { ApiError, follow, get, job as at, paced, post, remove } from "../api.js";
import { ask, button, fill, h, labelled, loading, toast } from "../dom.js";
import { ago, clock, constraint, duration, label, limit, number, objective } from "../format.js";
import { facts, marked, progress, state } from "../parts.js";
import { go, link } from "../router.js";

const PANES = [["overview", "Overview"], ["decisions", "Decisions"], ["supernet", "Shared weights"], ["gradients", "Gradients"], ["trials", "Trials"], ["specification", "Specification"]];

export async function show(main, { path, onleave, current }) {
  const id = path[1], pane = PANES.some(([key]) => key === path[2]) ? path[2] : "overview";
  let job = await get(at(id)), ray = null;
  if (!current()) return;
  document.title = `${job.name} · nas`;
  const head = h("div", {}), told = h("div", { class: "told" }), body = h("div", { class: "pane" }, loading());
  const tabs = h("nav", { class: "tabs", "aria-label": "Views of this job" }, PANES
    .filter(([key]) => (key !== "gradients" || job.spec.differentiable) && (key !== "supernet" || job.spec.supernet))
    .map(([key, text]) => h("a", { href: link(["jobs", job.job_id, ...(key === "overview" ? [] : [key])]), "aria-current": key === pane ? "page" : undefined }, text)));
  fill(main, head, told, tabs, body);
  drawHead();
  get(at(job.job_id, "/driver")).then(({ page }) => { ray = page; if (ray && current()) drawHead(); }, () => {});
  let summary = null;
  const sum = async () => {
    summary = await get(at(job.job_id, "/summary"));
    if (current()) drawTold();
  };

  function drawHead() {
    const on = (name, text, props) => button(text, () => act(name), props);
    const s = job.state, over = s === "completed" || s === "cancelled";
    fill(head,
      h("p", { class: "crumbs" }, h("a", { href: "#/jobs" }, "Jobs"), " / ", h("span", { class: "mono" }, job.job_id)),
      h("div", { class: "head" },
        h("h1", {}, job.name, " ", state(job)),
        h("div", { class: "actions" },
          (s === "running" || s === "created") && !job.wanted && on("pause", "Pause"),
          (["paused", "interrupted", "failed"].includes(s) || (job.wanted === "paused")) && on("resume", "Resume", { class: "primary" }),
          !over && job.wanted !== "cancelled" && button("Cancel", cancel),
          s !== "running" && s !== "cancelled" && button("Extend", extend),
          s !== "running" && button("Delete", erase, { class: "danger" }),
          h("a", { class: "button", href: `/v1/jobs/${job.job_id}/report`, target: "_blank", rel: "noopener" }, "Report"),
          ray && h("a", { class: "button", href: ray, target: "_blank", rel: "noopener" }, "On Ray"),
          h("a", { class: "button", href: link(["compare"], { job: job.job_id }) }, "Compare"),
          h("a", { class: "button", href: link(["new"], { from: job.job_id }) }, "Copy"))),
      job.message && h("p", { class: s === "failed" ? "error" : "note" }, job.message));
  }

  function drawTold() {
    const { trials, asked, best, kinds, n_evaluated: done } = summary;
    const running = trials.running ? `, ${trials.running} running` : "", failed = trials.failed ? `, ${number(trials.failed)} failed` : "";
    fill(told, progress(done, asked, `${number(done)} of ${number(asked)} trials${running}${failed}`),
      facts([
        ...Object.entries(best).map(([m, v]) => [`best ${label(m)}`, marked(number(v), kinds[m])]),
        ["on the front", summary.n_front ? `${number(summary.n_front)} ${summary.fidelity}` : "none yet"],
        job.state === "running" && summary.left_seconds ? ["about", `${duration(summary.left_seconds)} left`] : ["searched for", summary.span_seconds ? duration(summary.span_seconds) : "–"],
        ["submitted", h("time", { title: clock(job.created_at) }, ago(job.created_at))],
        job.owner && ["owner", job.owner],
        ["constraints", job.spec.constraints.map(constraint).map((c) => `${label(c.metric)} ${limit(c)}`).join(", ") || "none"],
      ].filter(Boolean)));
  }

  async function act(name, body) {
    try {
      const changed = name === "delete" ? await remove(at(job.job_id)) : await post(at(job.job_id, `/${name}`), body ?? {});
      if (changed) { job = { ...job, ...changed }; drawHead(); }
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "wrong");
      return false;
    }
  }

  async function cancel() {
    if (await ask("Cancel this job?", h("p", {}, "It stops for good. What it found stays."), "Cancel the job", { danger: true })) act("cancel");
  }

  async function erase() {
    if (await ask("Delete this job?", h("p", {}, "Its trials, models and files go for good."), "Delete", { danger: true }) && await act("delete")) go(["jobs"]);
  }

  async function extend() {
    const { budget, constraints } = job.spec;
    const trials = h("input", { type: "number", min: budget.trials, max: 1e6, value: budget.trials, required: true });
    const finalists = h("input", { type: "number", min: budget.finalists, max: 1e6, value: budget.finalists, required: true });
    const bounds = h("input", { value: constraints.join(", ") });
    const read = () => ({ trials: trials.valueAsNumber, finalists: finalists.valueAsNumber, constraints: bounds.value.split(",").map((t) => t.trim()).filter(Boolean) });
    const form = h("div", {}, labelled("Trials in all", trials), labelled("Finalists", finalists), labelled("Constraints", bounds, "Comma-separated; they may only become tighter."));
    const wanted = await ask("Extend this job", form, "Extend", { read });
    if (wanted) act("extend", wanted);
  }

  const view = await import(`./${pane}.js`);
  if (!current()) return;
  const goals = { objectives: job.spec.objectives.map(objective), constraints: job.spec.constraints.map(constraint) };
  const shown = await Promise.all([view.show(body, { job, goals, onleave, current }), sum()]);
  const refresh = shown[0] ?? (async () => {});
  const pace = paced(async () => { if (current()) await Promise.all([sum(), refresh()]).catch((e) => { if (!(e instanceof ApiError)) throw e; }); }, 1.5);
  onleave(pace.end);
  let sequence = job.last_sequence;
  onleave(follow(job.job_id, {
    heard: (news) => {
      if (news.state !== job.state || news.wanted !== job.wanted || news.message !== job.message) {
        job = { ...job, ...news };
        drawHead();
        pace.again();
      }
      if (news.last_sequence !== sequence) { sequence = news.last_sequence; pace.again(); }
    },
    gone: () => { toast("This job was deleted."); go(["jobs"]); },
  }));
}
