// Building pages: text is always set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `props` are properties, attributes (`aria-…`, `data-…`, `role` …) and `on…` listeners. */
export function h(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** An SVG element; `props` are attributes. */
export function svg(tag, props = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.setAttribute("class", value);
    else if (name === "value" || name === "checked" || name === "indeterminate") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...present(children));
  return node;
}

function present(children) {
  return children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);
}

/** Replace what is inside `node`. */
export function fill(node, ...children) {
  node.replaceChildren(...present(children));
  return node;
}

let count = 0;

/** An id no other element has. */
export function fresh(prefix = "n") {
  count += 1;
  return `${prefix}-${count}`;
}

/** A labelled control. */
export function labelled(text, control, hint) {
  control.id ||= fresh("field");
  const note = hint && h("span", { class: "hint", id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  const words = text.charAt(0).toUpperCase() + text.slice(1);
  return h("div", { class: control.type === "checkbox" ? "field check" : "field" }, h("label", { for: control.id }, words), control, note);
}

/** A drop-down list of `[value, text]` or plain texts. */
export function select(options, value, change, props = {}) {
  const node = h("select", { ...props, onchange: () => change(node.value) });
  for (const option of options) {
    const [key, text] = Array.isArray(option) ? option : [option, option];
    node.append(h("option", { value: key }, text));
  }
  node.value = value;
  return node;
}

export function button(text, click, props = {}) {
  return h("button", { type: "button", onclick: click, ...props }, text);
}

/** What stands where there is nothing yet: what it is, and what to do. */
export function empty(title, text, ...actions) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), text && h("p", {}, text), actions.length > 0 && h("p", {}, ...actions));
}

/** What stands where something is still to come. */
export function loading(text = "Loading …") {
  return h("p", { class: "loading" }, text);
}

/** A short message in the corner. */
export function toast(text, kind = "") {
  const node = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), 6000);
}

/** Ask in a dialog; gives what `read` says, or null where it was closed. */
export function ask(title, body, action, { danger = false, read = () => true } = {}) {
  return new Promise((resolve) => {
    const heading = fresh("dialog");
    const done = (value) => { dialog.close(); dialog.remove(); resolve(value); };
    const form = h("form", { method: "dialog", onsubmit: (e) => { e.preventDefault(); done(read()); } },
      h("h2", { id: heading }, title), body,
      h("div", { class: "actions end" },
        button("Back", () => done(null)),
        h("button", { type: "submit", class: danger ? "danger" : "primary" }, action)));
    const dialog = h("dialog", { "aria-labelledby": heading, oncancel: (e) => { e.preventDefault(); done(null); } }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}
