// Light and dark: as the system says, unless chosen otherwise.

import { button } from "./dom.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

/** Call `listener` whenever colours change; gives a function that ends it. */
export function changed(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A colour of the style sheet by the name of its variable. */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function start() {
  const chosen = localStorage.getItem("theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  dark.addEventListener("change", () => listeners.forEach((l) => l()));
}

export function toggle() {
  const node = button("", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
    name();
    listeners.forEach((l) => l());
  }, { class: "quiet icon" });
  const name = () => {
    node.textContent = isDark() ? "☀" : "☾";
    node.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
    node.title = node.getAttribute("aria-label");
  };
  name();
  return node;
}
