// The slowest, the failed and the sampled messages of a queue.

const GROUPS = [
  ["slow", "Slowest"],
  ["failed", "Failed"],
  ["sampled", "Sampled"],
];

const BAD_OUTCOMES = ["dead_lettered", "dropped", "requeued", "retried"];

const totalOf = (message) => message.waterfall.reduce((sum, [, ms]) => sum + ms, 0);

// The groups; a group keeps still while one of its messages is open, so that it can be read.
function messagesView() {
  const node = el("div", "messages");
  const empty = el("p", "plain", "No message yet.");
  const legend = el("p", "legend");
  const update = (messages) => {
    show(empty, messages.length === 0);
    show(legend, messages.length > 0);
    const present = new Set(messages.flatMap((one) => one.waterfall.map(([stage]) => stage)));
    each(legend, [...present], (stage) => stage, legendView);
    const groups = GROUPS.map(([why, title]) => [title, messages.filter((one) => one.why === why)]);
    each(groupsNode, groups.filter(([, all]) => all.length > 0), ([title]) => title, groupView);
  };
  const groupsNode = el("div", "groups");
  node.append(empty, legend, groupsNode);
  return { node, update };
}

function legendView(stage) {
  const node = el("span", "", el("i", `swatch stage-${stage}`), stageWords(stage));
  return { node, update: () => {} };
}

function groupView([title]) {
  const held = el("span", "held");
  const list = el("div", "message-list");
  const node = el("section", "group", el("h4", "", title, held), list);
  const update = ([, messages]) => {
    const isHeld = list.querySelector("details[open]") !== null;
    text(held, isHeld ? "stands still while a message is open" : "");
    if (isHeld) return;
    const sorted = [...messages];
    if (messages[0].why === "slow") sorted.sort((a, b) => totalOf(b) - totalOf(a));
    else sorted.sort((a, b) => b.at - a.at);
    const longest = Math.max(...sorted.map(totalOf));
    each(list, sorted, (one) => `${one.id} ${one.attempt} ${one.at}`, () => messageView(longest));
  };
  return { node, update };
}

function messageView() {
  const total = el("span", "total");
  const bars = strip();
  const outcome = el("span", "outcome");
  const when = el("span", "when");
  const short = el("code", "short");
  const body = el("div", "message-body");
  const node = el("details", "message", el("summary", "", total, bars.node, outcome, short, when), body);
  let message = null;
  let isBuilt = false;
  node.addEventListener("toggle", () => {
    if (!node.open || isBuilt) return;
    isBuilt = true;
    body.append(...messageParts(message));
  });
  const update = (one) => {
    message = one;
    text(total, duration(totalOf(one)));
    bars.update(one.waterfall);
    text(outcome, readable(one.outcome) + (one.attempt > 1 ? ` · ${number(one.attempt)}` : ""));
    attr(outcome, "title", `attempt ${number(one.attempt)}`);
    cls(outcome, BAD_OUTCOMES.includes(one.outcome) ? "outcome bad" : "outcome");
    text(short, one.id ?? "no id");
    text(when, age(serverNow() - one.at));
    attr(when, "title", `settled ${day(one.at)}`);
  };
  return { node, update };
}

function messageParts(one) {
  const id = copied("id");
  const trace = copied("trace");
  id.set(one.id);
  trace.set(one.trace);
  const facts = [
    ["attempt", number(one.attempt)],
    ["outcome", readable(one.outcome)],
    ["settled", day(one.at)],
    ["type", one.kind],
    ["size", bytes(one.bytes)],
  ];
  const list = el("dl", "facts small");
  for (const [label, value] of facts) {
    if (!isKnown(value)) continue;
    const view = fact(label);
    text(view.value, value);
    list.append(view.node);
  }
  const parts = [id.node, trace.node, list, stagesOfMessage(one)];
  if (one.failure) parts.push(el("p", "failure", one.failure));
  if (one.detail) parts.push(el("pre", "detail", one.detail));
  return parts;
}

function stagesOfMessage(one) {
  const sum = totalOf(one);
  let before = 0;
  const rows = one.waterfall.map(([stage, ms]) => {
    const name = el("th", "", stageWords(stage));
    name.scope = "row";
    name.title = STAGE_WORDS[stage]?.[1] ?? "";
    const view = bar(`stage-${stage}`);
    view.set(before, ms, sum);
    before += ms;
    return el("tr", "", name, el("td", "number", duration(ms)), el("td", "bars", view.node));
  });
  return el("table", "waterfall", el("tbody", "", ...rows));
}
