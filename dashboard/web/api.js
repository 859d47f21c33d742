// The public API: requests, errors, and news.

import { queried } from "./router.js";

/** An error the server told: `code`, `message`, and `field` and `expected` where an input was wrong. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.message);
    Object.assign(this, { status, code: body.code, field: body.field, expected: body.expected });
  }
}

const unreachable = { code: "unreachable", message: "The server does not answer. It may be restarting; this page tries again." };

/** Whoever wants to know that a token is needed. */
export const needs = { token: () => {} };

async function send(method, path, body, options = {}) {
  const headers = { ...options.headers };
  if (method !== "GET") headers["X-NAS-Page"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: options.signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, unreachable);
  }
  if (answer.status === 204) return null;
  if (answer.ok) return options.raw ? answer : answer.json();
  const told = await answer.json().catch(() => null);
  const error = new ApiError(answer.status, told?.error ?? { code: "http_error", message: `${answer.status} ${answer.statusText}` });
  if (error.status === 401 && path !== "/v1/session") needs.token();
  throw error;
}

const url = (path, query = {}) => queried(`/v1${path}`, query);

/** A path below a job. */
export const job = (id, rest = "") => `/jobs/${encodeURIComponent(id)}${rest}`;
export const get = (path, query, options) => send("GET", url(path, query), undefined, options);
export const post = (path, body = {}, options) => send("POST", url(path), body, options);
export const remove = (path) => send("DELETE", url(path));

/**
 * Follow one job, or all: `heard` is given each job that changed, `gone` the id of one deleted.
 * Gives a function that ends it. The browser reconnects by itself.
 */
export function follow(jobId, { heard, gone = () => {}, lost = () => {} }) {
  const source = new EventSource(url("/live", { job: jobId }));
  source.addEventListener("job", (event) => heard(JSON.parse(event.data)));
  source.addEventListener("gone", (event) => gone(JSON.parse(event.data).job_id));
  source.onerror = () => lost();
  return () => source.close();
}

/** Call `work` at once and after each `again()`, one at a time and at most every `seconds`. */
export function paced(work, seconds) {
  let busy = false, wanted = false, ended = false;
  const again = async () => {
    if (busy || ended) { wanted = true; return; }
    busy = true; wanted = false;
    const began = performance.now();
    try { await work(); } finally {
      const rest = Math.max(seconds * 1000, 2 * (performance.now() - began));
      setTimeout(() => { busy = false; if (wanted) again(); }, rest);
    }
  };
  return { again, end: () => { ended = true; } };
}
