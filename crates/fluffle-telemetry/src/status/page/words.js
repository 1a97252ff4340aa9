// Numbers and times as words. Durations are in milliseconds.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

const NONE = "–";

// A field without a value is `null`, or left out.
const isKnown = (value) => value !== null && value !== undefined;

function number(value) {
  return Number.isFinite(value) ? whole.format(value) : NONE;
}

function rate(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value !== 0 && Math.abs(value) < 0.05) return "< 0.1";
  return value !== 0 && Math.abs(value) < 99.95 ? tenth.format(value) : whole.format(value);
}

function percent(share) {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : NONE;
}

// Three digits are enough to compare stages: 420 µs, 4.2 ms, 42 ms, 4.2 s, 4 min 12 s.
function duration(ms) {
  if (!Number.isFinite(ms)) return NONE;
  if (ms < 0.9995) return `${Math.round(Math.max(ms, 0) * 1000)} µs`;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  return span(ms);
}

// A span in whole seconds and its two largest units: 13 s, 4 min 12 s, 3 h 12 min, 4 d 3 h.
function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

// For what is only read at a glance: the largest unit alone, so that the text keeps its width.
function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86_400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} d`;
}

function bytes(count) {
  if (!Number.isFinite(count)) return NONE;
  if (count < 1024) return `${count} B`;
  const kib = count / 1024;
  return kib < 1024 ? `${tenth.format(kib)} KiB` : `${tenth.format(kib / 1024)} MiB`;
}

function clock(at) {
  return Number.isFinite(at) ? clockFormat.format(at) : NONE;
}

function day(at) {
  return Number.isFinite(at) ? dayFormat.format(at) : NONE;
}

function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

function readable(name) {
  return String(name).replaceAll("_", " ");
}
