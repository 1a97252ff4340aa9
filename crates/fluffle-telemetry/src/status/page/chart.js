// Charts: a line over up to fifteen minutes as SVG, and the waterfall of stages.

const WIDTH = 300;
const HEIGHT = 44;

// The next round number, so that a scale changes rarely: 1, 2, 5, 10, 20, 50 and so on.
function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999) ?? value;
}

// How many steps a chart has room for: one minute, five or fifteen, so that a young service is not a dot at the edge.
const SPANS = [30, 150, KEPT];

const roomFor = (values) => SPANS.find((steps) => steps >= values.length) ?? KEPT;

// A line for `main`, an area for `failed`. Pointing at it shows the values of that time.
function sparkline(label, unit) {
  const area = svg("path", { class: "failed" });
  const line = svg("path", { class: "line" });
  const cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, x1: -9, x2: -9 });
  const drawing = svg("svg", {
    class: "spark",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
  });
  drawing.append(area, line, cursor);
  const most = el("span", "most");
  const said = el("span", "said");
  const key = el("span", "key");
  const node = el("figure", "chart", el("figcaption", "", key, said, most), drawing);
  let drawn = -1;
  let shown = { main: [], failed: null };

  const at = (event) => {
    const box = drawing.getBoundingClientRect();
    const room = roomFor(shown.main);
    const back = Math.round((1 - (event.clientX - box.left) / box.width) * (room - 1));
    const index = shown.main.length - 1 - back;
    if (index < 0 || back < 0) return leave();
    const x = WIDTH * (1 - back / (room - 1));
    attr(cursor, "x1", x);
    attr(cursor, "x2", x);
    const failed = shown.failed?.[index] > 0 ? `, ${rate(shown.failed[index])} failed` : "";
    const value = shown.main[index];
    text(said, `${clock(history.at - back * history.step)}: ${value === null ? "not known" : unit(value)}${failed}`);
  };
  const leave = () => {
    attr(cursor, "x1", -9);
    attr(cursor, "x2", -9);
    text(said, "");
  };
  drawing.addEventListener("pointermove", at);
  drawing.addEventListener("pointerleave", leave);

  const update = (main, failed) => {
    if (drawn === history.version) return;
    drawn = history.version;
    shown = { main: main ?? [], failed };
    text(key, `${label}, ${Math.round((roomFor(shown.main) * history.step) / 60_000)} min`);
    let peak = 0;
    for (const value of shown.main) if (value > peak) peak = value;
    const scale = roundUp(peak);
    attr(line, "d", path(shown.main, scale));
    if (failed) attr(area, "d", areaPath(failed, scale));
    text(most, peak > 0 ? `max ${unit(peak)}` : "");
    const now = shown.main.at(-1);
    attr(drawing, "aria-label", `${label}: ${Number.isFinite(now) ? unit(now) : "not known"}; most ${unit(peak)}`);
  };
  return { node, update };
}

// Two values become one point, the larger of them: a peak stays a peak.
function points(values, scale) {
  const all = [];
  const room = roomFor(values);
  const offset = room - values.length;
  for (let index = values.length % 2; index < values.length; index += 2) {
    const pair = values.slice(index, index + 2).filter((value) => value !== null);
    const x = (WIDTH * (offset + index + 1)) / (room - 1);
    const value = pair.length > 0 ? Math.max(...pair) : null;
    all.push([Math.round(x * 10) / 10, value === null ? null : y(value, scale)]);
  }
  return all;
}

const y = (value, scale) => Math.round((HEIGHT - 2 - (HEIGHT - 4) * Math.min(value / scale, 1)) * 10) / 10;

function path(values, scale) {
  let d = "";
  let isOpen = false;
  for (const [x, top] of points(values, scale)) {
    if (top !== null) d += `${isOpen ? "L" : "M"}${x} ${top}`;
    isOpen = top !== null;
  }
  return d;
}

// Bars from below. A value above zero is at least 2 high: one failed message among thousands is seen.
function areaPath(values, scale) {
  let d = "";
  const floor = HEIGHT - 1;
  for (const [x, top] of points(values, scale)) {
    if (top !== null && top < HEIGHT - 2) d += `M${x} ${floor}V${Math.min(top, floor - 2)}`;
  }
  return d;
}

const STAGE_WORDS = {
  batch_wait: ["batch wait", "waits until its batch is full or due"],
  confirm: ["confirm", "written, and the broker has not confirmed it"],
  broker: ["broker", "published, and waits in the queue"],
  handler_wait: ["handler wait", "delivered, and waits for a handler"],
  decode: ["decode", "bytes become a message"],
  handle: ["handle", "in the handler"],
  settle: ["settle", "answered, and its ack or copy is not written"],
  retry_wait: ["retry wait", "failed, and waits for its next attempt"],
};

const stageWords = (stage) => STAGE_WORDS[stage]?.[0] ?? readable(stage);

// A part of a bar: where it begins and how long it is, from 0 to 1 of the bar. The policy of the page forbids `style`
// attributes, and allows a script to set single properties.
function part(node, left, share) {
  const key = `${(Math.min(left, 0.99) * 100).toFixed(1)} ${(share * 100).toFixed(1)}`;
  if (node.shownPart === key) return;
  node.shownPart = key;
  const [x, width] = key.split(" ");
  node.style.left = `${x}%`;
  node.style.width = `${width}%`;
}

// A bar that begins where the stage before it ends.
function bar(kind) {
  const fill = el("i", kind);
  const node = el("span", "bar-box", fill);
  node.setAttribute("aria-hidden", "true");
  const set = (before, value, sum) => {
    const isSeen = sum > 0 && value > 0;
    part(fill, sum > 0 ? before / sum : 0, isSeen ? Math.max(value / sum, 0.008) : 0);
  };
  return { node, set };
}

// The stages of a queue or publisher: the median and the slowest of a hundred, each as a share of its column's sum.
// The wait for a retry is left out of the sums: few messages have it, and it would hide all other stages.
function waterfall() {
  const body = el("tbody");
  const sums = el("tr", "sums", el("th", "", "in sum"), el("td"), el("td"), el("td"));
  const p50 = el("th", "number", el("span", "p50-key", "p50"));
  const p99 = el("th", "number", el("span", "p99-key", "p99"));
  const head = el("tr", "", el("th", "", "last minute"), p50, p99, el("th", "bars", "where the time goes"));
  for (const cell of head.children) cell.scope = "col";
  const node = el("table", "waterfall", el("thead", "", head), body, el("tfoot", "", sums));
  node.setAttribute("aria-label", "time of each stage in the last minute");
  let drawn = -1;
  // The figures are of the last minute, so they are drawn with each step of the history, not with each picture.
  const update = (stages) => {
    if (drawn === history.version) return;
    drawn = history.version;
    const timed = stages.filter((one) => one.stage !== "retry_wait");
    const sum50 = timed.reduce((sum, one) => sum + (one.p50 ?? 0), 0);
    const sum99 = timed.reduce((sum, one) => sum + (one.p99 ?? 0), 0);
    let before50 = 0;
    let before99 = 0;
    each(body, stages, (one) => one.stage, stageRow);
    for (const one of timed) {
      const row = body.kept.get(one.stage);
      row.p50.set(before50, one.p50 ?? 0, sum50);
      row.p99.set(before99, one.p99 ?? 0, sum99);
      before50 += one.p50 ?? 0;
      before99 += one.p99 ?? 0;
    }
    text(sums.children[1], sum50 > 0 ? duration(sum50) : NONE);
    text(sums.children[2], sum99 > 0 ? duration(sum99) : NONE);
  };
  return { node, update };
}

function stageRow(one) {
  const [words, title] = STAGE_WORDS[one.stage] ?? [readable(one.stage), ""];
  const name = el("th", "", words);
  name.scope = "row";
  name.title = title;
  const first = el("td", "number");
  const second = el("td", "number");
  const p50 = bar("p50");
  const p99 = bar("p99");
  const few = el("span", "few");
  const isRetry = one.stage === "retry_wait";
  const bars = el("td", "bars", ...(isRetry ? [few] : [p50.node, p99.node]));
  const node = el("tr", "", name, first, second, bars);
  const update = (stage) => {
    text(first, duration(stage.p50 ?? NaN));
    text(second, duration(stage.p99 ?? NaN));
    if (isRetry) text(few, stage.count > 0 ? `${number(stage.count)} retried, not in the sum` : "");
  };
  return { node, update, p50, p99 };
}

// The stages of one message in one bar.
function strip() {
  const node = el("span", "strip");
  node.setAttribute("aria-hidden", "true");
  const update = (stages) => {
    const sum = stages.reduce((all, [, ms]) => all + ms, 0);
    let before = 0;
    const bars = stages.map(([stage, ms]) => {
      const left = sum > 0 ? before / sum : 0;
      before += ms;
      return { stage, left, share: sum > 0 ? ms / sum : 0 };
    });
    each(node, bars, (one) => one.stage, (one) => {
      const fill = el("i", `stage-${one.stage}`);
      return { node: fill, update: ({ left, share }) => part(fill, left, share) };
    });
  };
  return { node, update };
}
