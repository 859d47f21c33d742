// Deep links: `#/jobs/ID/trials?sort=accuracy` as path and query.

/** Where the page is. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

/** `place?name=value&…`; lists become repeated names, what is empty is left out. */
export function queried(place, query) {
  const pairs = Object.entries(query).flatMap(([k, v]) => (Array.isArray(v) ? v.map((one) => [k, one]) : [[k, v]]));
  const text = new URLSearchParams(pairs.filter(([, v]) => v !== undefined && v !== null && v !== "" && v !== false)).toString();
  return text ? `${place}?${text}` : place;
}

/** A link: `link(["jobs", id], {tab: "trials"})`. */
export function link(path, query = {}) {
  return queried(`#/${path.map(encodeURIComponent).join("/")}`, query);
}

export function go(path, query) {
  location.hash = link(path, query);
}

/** Change the query of this place without leaving it. */
export function note(changes) {
  const { path, query } = here();
  const all = {};
  for (const key of new Set(query.keys())) all[key] = query.getAll(key);
  history.replaceState(null, "", link(path, { ...all, ...changes }));
}
