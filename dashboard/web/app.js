// The frame around all views: navigation, who is logged in, light and dark.

import { ApiError, get, needs, remove } from "./api.js";
import { button, empty, fill, h, loading, toast } from "./dom.js";
import { go, here, link } from "./router.js";
import * as theme from "./theme.js";

const main = document.getElementById("main");
const PAGES = [["Jobs", ["jobs"]], ["New search", ["new"]], ["Compare", ["compare"]], ["Devices", ["devices"]], ["System", ["system"]]];
const VIEWS = {
  jobs: (path) => (path.length === 1 ? "jobs" : path[2] === "trials" && path[3] ? "candidate" : "job"),
  new: () => "submit", compare: () => "compare", devices: () => "devices", system: () => "system", login: () => "login",
};
let leave = () => {};
let turn = 0;

/** Who is asking; null until known. */
export const session = { user: null };

async function show() {
  const { path, query } = here();
  if (!path.length) return go(["jobs"]);
  const mine = (turn += 1);
  leave();
  leave = () => {};
  navigate(path[0]);
  const name = VIEWS[path[0]]?.(path);
  if (!name) return fill(main, empty("There is no such page", `Nothing is at ${location.hash}.`, h("a", { href: "#/jobs" }, "All jobs")));
  fill(main, loading());
  try {
    if (!session.user && name !== "login") session.user = await get("/me");
    who();
    const view = await import(`./views/${name}.js`);
    if (mine !== turn) return;
    const ends = [];
    leave = () => ends.forEach((end) => end());
    await view.show(main, { path, query, session, onleave: (end) => (mine === turn ? ends.push(end) : end()), current: () => mine === turn });
  } catch (error) {
    if (mine !== turn || error.name === "AbortError" || error.status === 401) return;
    failed(error);
  }
}

function failed(error) {
  const told = error instanceof ApiError;
  const [title, text] = error.code === "not_found"
    ? ["Not found", `${error.message}. It may have been deleted, or belong to somebody else.`]
    : [told ? "The server could not answer" : "This page failed", error.message];
  fill(main, empty(title, text, button("Try again", show), " ", h("a", { href: "#/jobs" }, "All jobs")));
  if (!told) console.error(error);
  document.title = `${title} · nas`;
}

function navigate(at) {
  fill(document.getElementById("nav"), PAGES.map(([text, path]) =>
    h("a", { href: link(path), "aria-current": at === path[0] ? "page" : undefined }, text)));
}

function who() {
  const user = session.user;
  fill(document.getElementById("who"),
    user?.owner && h("span", { class: "user", title: user.role }, user.owner),
    user?.owner && button("Log out", logout, { class: "quiet" }),
    theme.toggle());
}

async function logout() {
  await remove("/session");
  session.user = null;
  toast("Logged out; the token stays valid.");
  go(["login"]);
}

needs.token = () => {
  const from = location.hash;
  session.user = null;
  if (!from.startsWith("#/login")) go(["login"], { from });
};

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const found = { j: ["jobs"], n: ["new"], c: ["compare"], d: ["devices"], s: ["system"] }[event.key];
  if (found) go(found);
  if (event.key === "/") {
    const box = main.querySelector("input[type=search]");
    if (box) { event.preventDefault(); box.focus(); }
  }
});
theme.start();
who();
show();
