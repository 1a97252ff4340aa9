// Fifteen minutes of each queue and publisher: what the server has kept, continued with each picture.

const KEPT = 450;
const LINES = ["entered", "settled", "failed", "open", "p99"];

const history = { at: 0, step: 2000, series: new Map(), version: 0 };

// A `Map`, because a queue may be named `__proto__`.
const seriesOf = (of, name) => history.series.get(`${of} ${name}`);

function takeHistory(view) {
  history.at = view.at;
  history.step = view.step || 2000;
  history.series.clear();
  for (const one of view.series) {
    const lines = {};
    for (const line of LINES) lines[line] = Array.from(one[line] ?? []).slice(-KEPT);
    history.series.set(`${one.of} ${one.name}`, lines);
  }
  history.version += 1;
}

// Adds a step if one is over. Steps that no picture fell into stay empty, so that a gap is seen as a gap.
function continueHistory(picture) {
  if (history.at === 0 || picture.at < history.at - 60_000) {
    history.at = picture.at;
    history.series.clear();
    history.version += 1;
  }
  const steps = Math.floor((picture.at - history.at) / history.step);
  if (steps < 1) return;
  history.at += steps * history.step;
  history.version += 1;
  const seen = new Set();
  const add = (of, name, values) => {
    const key = `${of} ${name}`;
    seen.add(key);
    if (!history.series.has(key)) {
      history.series.set(key, { entered: [], settled: [], failed: [], open: [], p99: [] });
    }
    push(history.series.get(key), values, steps);
  };
  for (const one of picture.queues) {
    add("queue", one.name, {
      entered: one.received_rate,
      settled: one.settled_rate,
      failed: one.failed_rate,
      open: one.in_hand,
      p99: stageOf(one, "handle")?.p99,
    });
  }
  for (const one of picture.publishers) {
    add("publisher", one.name, {
      entered: one.accepted_rate,
      settled: one.settled_rate,
      failed: 0,
      open: one.outstanding,
      p99: stageOf(one, "confirm")?.p99,
    });
  }
  for (const [key, lines] of history.series) if (!seen.has(key)) push(lines, {}, steps);
}

function push(lines, values, steps) {
  for (const line of LINES) {
    const kept = lines[line];
    for (let gap = Math.min(steps, KEPT) - 1; gap > 0; gap -= 1) kept.push(null);
    kept.push(values[line] ?? null);
    if (kept.length > KEPT) kept.splice(0, kept.length - KEPT);
  }
}

const stageOf = (one, name) => one.stages.find((stage) => stage.stage === name);
