// Numbers, times and names for people.

const UNITS = { _ms: "ms", _bytes: "bytes", _mj: "mJ", _seconds: "s" };
const SHORT = { se: "squeeze-excitation", macs: "MACs", onnx: "ONNX" };

/** A metric's name for people: `latency_ms@pi` as `latency (ms) on pi`. */
export function label(metric) {
  const at = metric.indexOf("@");
  if (at > 0) return `${label(metric.slice(0, at))} on ${metric.slice(at + 1)}`;
  for (const [suffix, unit] of Object.entries(UNITS)) {
    if (metric.endsWith(suffix)) return `${metric.slice(0, -suffix.length).replaceAll("_", " ")} (${unit})`;
  }
  return SHORT[metric] ?? metric.replaceAll("_", " ");
}

/** What stands before a value that nobody measured. */
export const MARKS = { simulated: "~", predicted: "≈" };

/** A text that begins with a capital. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A number with four significant digits, whole ones with all. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-US");
  if (size >= 1e4) return Math.round(value).toLocaleString("en-US");
  return size < 1e-3 && size > 0 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** How to write the numbers of one column so that their points stand below each other. */
export function columnFormat(values) {
  const there = values.filter((v) => typeof v === "number" && Number.isFinite(v));
  if (there.every(Number.isInteger)) return number;
  const most = Math.max(...there.map(Math.abs), 1e-9);
  const digits = Math.min(Math.max(3 - Math.floor(Math.log10(most)), 0), 6);
  const form = new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (v) => (typeof v === "number" ? form.format(v) : "–");
}

/** Large numbers in short: 12.3 k, 4.5 M. */
export function short(value) {
  for (const [size, sign] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${sign}`;
  }
  return number(value);
}

export function bytes(value) {
  if (value >= 2 ** 30) return `${(value / 2 ** 30).toFixed(1)} GiB`;
  return value >= 1024 * 1024 ? `${(value / 1048576).toFixed(1)} MiB` : value >= 1024 ? `${(value / 1024).toFixed(1)} KiB` : `${value} B`;
}

export function share(value, digits = 0) {
  return `${(100 * value).toFixed(digits)} %`;
}

/** Seconds as `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.round(seconds);
  if (s < 60) return seconds < 10 && seconds > 0 ? `${Number(seconds.toPrecision(2))} s` : `${s} s`;
  const parts = s < 3600 ? [[60, "min"], [1, "s"]] : s < 86400 ? [[3600, "h"], [60, "min"]] : [[86400, "d"], [3600, "h"]];
  const [[a, u], [b, v]] = parts;
  const whole = Math.floor(s / a), rest = Math.floor((s % a) / b);
  return rest ? `${whole} ${u} ${rest} ${v}` : `${whole} ${u}`;
}

export function ago(at) {
  const s = Date.now() / 1000 - at;
  return s < 5 ? "just now" : `${duration(s < 60 ? Math.round(s) : s).split(" ").slice(0, 2).join(" ")} ago`;
}

export function clock(at) {
  return new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** `accuracy:max` as its metric and direction. */
export function objective(text) {
  const at = text.lastIndexOf(":");
  return at < 0 ? { metric: text, max: /accuracy|probability/.test(text) } : { metric: text.slice(0, at), max: text.endsWith(":max") };
}

/** `weight_bytes<=20000` as its parts. */
export function constraint(text) {
  const [, metric, relation, bound] = text.match(/^\s*([\w.@-]+)\s*(<=|>=)\s*(\S+)\s*$/) ?? [];
  return metric && { metric, relation, bound: Number(bound), text };
}

/** A constraint's bound: `≤ 20,000`. */
export function limit({ relation, bound }) {
  return `${relation === "<=" ? "≤" : "≥"} ${number(bound)}`;
}

/** Decisions by stage, `""` for those of none: pairs of a stage and its options by field. */
export function byStage(values) {
  const stages = new Map();
  for (const [name, value] of Object.entries(values)) {
    const [stage, field] = name.includes(".") ? name.split(/\.(.*)/) : ["", name];
    if (!stages.has(stage)) stages.set(stage, {});
    stages.get(stage)[field] = value;
  }
  return [...stages];
}

/** A decision's value. */
export function option(value) {
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}
