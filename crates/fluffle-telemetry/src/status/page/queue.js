// The card of one queue: why is it slow, what to try, and the numbers that say so.

const STATES = {
  consuming: "ok",
  unsubscribed: "bad",
  paused: "warn",
  "breaker open": "bad",
  probing: "busy",
  isolating: "warn",
  killed: "bad",
};

const ids = new Map();

// The id of a card's element. A name may have any character, so it gets a number.
function cardId(name) {
  if (!ids.has(name)) ids.set(name, `queue-${ids.size}`);
  return ids.get(name);
}

function queueView(first, list) {
  const toggle = button("", "disclose", () => setOpen(!isOpen));
  const arrow = el("span", "arrow");
  const name = el("span", "name");
  arrow.setAttribute("aria-hidden", "true");
  toggle.append(arrow, name);
  const mark = el("span", "lamp");
  mark.setAttribute("aria-hidden", "true");
  const state = el("span", "state-words");
  const glance = el("span", "glance");
  const actions = el("span", "actions");
  const kind = el("strong", "kind-words");
  const words = el("p", "words");
  const advice = el("p", "advice");
  const verdict = el("div", "verdict", el("p", "because", kind), words, advice);
  const body = queueBody();
  const messages = messagesView();
  const title = el("h3", "", toggle);
  const head = el("header", "card-head", title, el("span", "state", mark, state), glance, actions);
  const node = el("article", "card", head, verdict, body.node, messages.node);
  node.id = cardId(first.name);
  messages.node.hidden = true;
  messages.node.id = `${node.id}-messages`;
  toggle.setAttribute("aria-controls", messages.node.id);
  let isOpen = false;
  let last = first;

  const setOpen = (value) => {
    isOpen = value;
    draw();
  };
  const draw = () => {
    const [tone, short] = verdictOf(last.verdict.kind);
    const isLine = list.isCompact() && !isOpen;
    cls(node, `card ${tone}${isLine ? " line" : ""}${isOpen ? " open" : ""}`);
    text(arrow, isOpen ? "▾" : "▸");
    attr(toggle, "aria-expanded", String(isOpen));
    attr(toggle, "title", isOpen ? "hide its messages" : "show its slowest, failed and sampled messages");
    text(name, last.name);
    lamp(mark, STATES[last.state] ?? "note");
    const since = isKnown(last.since) ? ` ${age(serverNow() - last.since)}` : "";
    text(state, `${last.state}${since}`);
    text(kind, short);
    text(words, last.verdict.words);
    text(advice, last.verdict.advice ?? "");
    show(advice, Boolean(last.verdict.advice));
    show(glance, isLine);
    show(body.node, !isLine);
    show(messages.node, isOpen);
    each(actions, actionsOf(last), ([action]) => action, () => {
      const view = actionButton();
      return { node: view.node, update: ([action, label]) => view.set(action, label, last.name) };
    });
    const held = `${number(last.in_hand)}/${number(last.prefetch)} in hand`;
    if (isLine) text(glance, `${rate(last.received_rate)}/s · ${held}`);
    else body.update(last);
    if (isOpen) messages.update(last.messages);
  };
  const update = list.watch(node, (one) => {
    last = one;
    draw();
  });
  return { node, update };
}

function queueBody() {
  const facts = {
    received: fact("received/s", "deliveries"),
    settled: fact("settled/s", "messages"),
    failed: fact("failed/s", "messages whose attempt failed"),
    waiting: fact("waiting", "deliveries in hand that wait for a handler"),
  };
  const inHand = meter("in hand", "deliveries received and not settled, of the prefetch");
  const busy = meter("handlers busy", "how much of the handlers' time is used");
  const figures = el("dl", "facts figures", ...Object.values(facts).map((one) => one.node), inHand.node, busy.node);
  const rates = sparkline("rate", (value) => `${rate(value)}/s`);
  const times = sparkline("handler p99", duration);
  const stages = waterfall();
  const outcomes = el("ul", "outcomes");
  const letters = el("span", "letters-words");
  const replay = actionButton("replay");
  const dead = el("p", "letters", letters, replay.node);
  const charts = el("div", "charts", rates.node, times.node);
  const node = el("div", "card-body", figures, charts, stages.node, outcomes, dead);
  const update = (one) => {
    text(facts.received.value, rate(one.received_rate));
    text(facts.settled.value, rate(one.settled_rate));
    text(facts.failed.value, rate(one.failed_rate));
    cls(facts.failed.node, one.failed_rate > one.settled_rate / 100 ? "fact failing" : "fact");
    text(facts.waiting.value, number(one.waiting));
    inHand.update(`${number(one.in_hand)} of ${number(one.prefetch)}`, one.in_hand, one.prefetch);
    busy.update(`${percent(one.busy)} of ${number(one.handlers)}`, one.busy, 1);
    const lines = seriesOf("queue", one.name);
    rates.update(lines?.entered, lines?.failed);
    times.update(lines?.p99, null);
    stages.update(one.stages);
    const all = outcomesOf(one);
    if (one.crashed > 0) all.push(["crashed its handler", one.crashed]);
    each(outcomes, all, ([outcome]) => outcome, outcomeView);
    text(letters, isKnown(one.dead_letters) ? plural(one.dead_letters, "dead letter") : "dead letters not known");
    cls(dead, one.dead_letters > 0 ? "letters some" : "letters");
    show(replay.node, can("replay") && one.dead_letters > 0);
    replay.set("replay", "Replay", one.name);
  };
  return { node, update };
}

// The good outcome, and those that have happened.
function outcomesOf(one) {
  const all = one.outcomes.map(({ outcome, messages }) => [outcome, messages]);
  return all.filter(([outcome, messages]) => messages > 0 || outcome === "handled" || outcome === "confirmed");
}

function outcomeView() {
  const count = el("b", "");
  const name = el("span", "");
  const node = el("li", "", count, " ", name);
  const update = ([outcome, messages]) => {
    text(count, number(messages));
    text(name, readable(outcome));
    const isBad = ["dead_lettered", "dropped", "crashed its handler", "returned", "nacked", "failed", "unknown"];
    cls(node, messages === 0 ? "none" : isBad.includes(outcome) ? "bad" : "");
  };
  return { node, update };
}

// A value with a bar below it.
function meter(label, title) {
  const view = fact(label, title);
  const fill = el("i", "fill");
  const box = el("span", "meter", fill);
  box.setAttribute("aria-hidden", "true");
  view.node.append(box);
  cls(view.node, "fact wide");
  const update = (words, value, most) => {
    text(view.value, words);
    const share = most > 0 ? Math.max(0, Math.min(1, value / most)) : 0;
    part(fill, 0, share);
    cls(fill, share >= 0.95 ? "fill full" : "fill");
  };
  return { node: view.node, update };
}
