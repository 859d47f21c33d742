// Trading a token for a cookie that no script can read.

import { ApiError, post } from "../api.js";
import { fill, h, labelled } from "../dom.js";
import { here } from "../router.js";

export async function show(main, { session }) {
  document.title = "Log in · nas";
  const input = h("input", { type: "password", autocomplete: "current-password", required: true, spellcheck: "false", name: "token" });
  const wrong = h("p", { class: "error", role: "alert" });
  const form = h("form", { class: "card narrow", onsubmit: submit },
    h("h1", {}, "Log in"),
    h("p", { class: "note" }, "This server asks for a token. Whoever runs it makes one with ", h("code", {}, "nas token create NAME"), "."),
    labelled("Token", input), wrong,
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Log in")));
  fill(main, form);
  input.focus();

  async function submit(event) {
    event.preventDefault();
    wrong.textContent = "";
    try {
      session.user = await post("/session", { token: input.value.trim() });
      const from = here().query.get("from");
      location.hash = from?.startsWith("#/") ? from : "#/jobs";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      wrong.textContent = error.status === 401 ? "This token is unknown, revoked or expired." : error.message;
      input.select();
    }
  }
}
