// Publishers, connections, threads, ledgers, and the stories of restarts.

const sectionsView = (() => {
  const all = [
    whenSeen(byId("publishers"), ({ publishers }) => {
      each(byId("publishers-list"), publishers, (one) => one.name, publisherView);
      text(byId("publishers-count"), number(publishers.length));
    }),
    whenSeen(byId("connections"), ({ connections }) => {
      each(byId("connections-list"), connections, (one) => one.name, connectionView);
      const up = connections.filter((one) => one.up).length;
      text(byId("connections-count"), `${number(up)} of ${number(connections.length)} up`);
    }),
    whenSeen(byId("threads"), ({ arbiters }) => {
      each(byId("threads-list"), arbiters, (one) => one.name, threadView);
      text(byId("threads-count"), number(arbiters.length));
    }),
    whenSeen(byId("ledgers"), ({ ledger }) => {
      // What does not balance comes first.
      const lines = [...ledger].sort((a, b) => (b.imbalance !== 0) - (a.imbalance !== 0));
      each(byId("ledgers-list"), lines, (one) => `${one.side} ${one.of}`, ledgerView);
      const broken = lines.filter((one) => one.imbalance !== 0).length;
      text(byId("ledgers-count"), broken > 0 ? `${number(broken)} broken` : "balanced");
    }),
    whenSeen(byId("stories"), ({ stories }) => {
      each(byId("stories-list"), stories, (one) => `${one.at} ${one.node}`, storyView);
      text(byId("stories-count"), stories.length > 0 ? `the last ${number(stories.length)}` : "none");
    }),
  ];
  return {
    update: (picture) => {
      for (const draw of all) draw(picture);
    },
  };
})();

function publisherView() {
  const name = el("h3", "");
  const facts = { accepted: fact("accepted/s"), settled: fact("settled/s"), republished: fact("republished") };
  const open = meter("outstanding", "accepted and without an outcome, of the window");
  const rates = sparkline("accepted", (value) => `${rate(value)}/s`);
  const stages = waterfall();
  const outcomes = el("ul", "outcomes");
  const store = el("p", "store");
  const figures = el("dl", "facts figures", ...Object.values(facts).map((one) => one.node), open.node);
  const node = el("article", "panel publisher", name, figures, rates.node, stages.node, outcomes, store);
  const update = (one) => {
    text(name, one.name);
    text(facts.accepted.value, rate(one.accepted_rate));
    text(facts.settled.value, rate(one.settled_rate));
    text(facts.republished.value, number(one.republished));
    open.update(`${number(one.outstanding)} of ${number(one.window)}`, one.outstanding, one.window);
    rates.update(seriesOf("publisher", one.name)?.entered, null);
    stages.update(one.stages);
    each(outcomes, outcomesOf(one), ([outcome]) => outcome, outcomeView);
    show(store, isKnown(one.store));
    if (one.store) {
      text(store, storeWords(one.store));
      cls(store, one.store.error ? "store error" : "store");
    }
  };
  return { node, update };
}

function storeWords(store) {
  if (store.error) return `${store.kind}: not known, ${store.error}`;
  const size = isKnown(store.bytes) ? `, ${bytes(store.bytes)}` : "";
  const oldest = isKnown(store.oldest) ? `, the oldest ${duration(store.oldest)}` : "";
  return `${store.kind}: ${plural(store.messages ?? 0, "message")}${size}${oldest}`;
}

function connectionView() {
  const mark = el("span");
  mark.setAttribute("aria-hidden", "true");
  const name = el("h3", "");
  const state = el("span", "state-words");
  const facts = { endpoint: fact("broker"), channels: fact("channels"), connects: fact("connects") };
  const blocked = el("p", "exit");
  const figures = el("dl", "facts small", ...Object.values(facts).map((one) => one.node));
  const head = el("div", "card-head", name, el("span", "state", mark, state));
  const node = el("article", "panel", head, figures, blocked);
  const update = (one) => {
    const isBlocked = typeof one.blocked === "string";
    lamp(mark, one.up ? (isBlocked ? "warn" : "ok") : "bad");
    text(name, one.name);
    const since = isKnown(one.since) ? ` ${age(serverNow() - one.since)}` : "";
    text(state, `${one.up ? (isBlocked ? "up, blocked" : "up") : "away"}${since}`);
    text(facts.endpoint.value, one.endpoint ?? NONE);
    text(facts.channels.value, number(one.channels));
    text(facts.connects.value, number(one.connects));
    show(blocked, isBlocked);
    const time = isKnown(one.blocked_since) ? ` for ${span(serverNow() - one.blocked_since)}` : "";
    text(blocked, isBlocked ? `blocked by the broker${time}: ${one.blocked || "no reason given"}` : "");
  };
  return { node, update };
}

function threadView() {
  const name = el("span", "name");
  const lag = el("span", "number");
  const fill = el("i", "fill");
  const box = el("span", "meter", fill);
  box.setAttribute("aria-hidden", "true");
  const node = el("div", "lag", name, box, lag);
  const update = (one) => {
    text(name, one.name);
    text(lag, `${duration(one.lag)} late`);
    // From 10 µs to 10 s, each factor of ten is a sixth of the bar.
    const share = Math.max(0, Math.min(1, (Math.log10(Math.max(one.lag, 0.001)) + 2) / 6));
    part(fill, 0, share);
    cls(fill, one.lag >= LATE ? "fill full" : "fill");
  };
  return { node, update };
}

function ledgerView() {
  const of = el("span", "name");
  const words = el("span", "equation");
  const node = el("div", "ledger-row", of, words);
  const update = (one) => {
    const isBroken = one.imbalance !== 0;
    cls(node, isBroken ? "ledger-row broken" : "ledger-row");
    text(of, `${one.side} ${one.of}`);
    const what = one.imbalance > 0 ? "missing" : "too many";
    text(words, `${isBroken ? "✕" : "✓"} ${ledgerWords(one)}${
      isBroken ? `: ${number(Math.abs(one.imbalance))} ${what}` : ""}`);
  };
  return { node, update };
}

// One restart as a sentence for each thing that came of it, in the order in which they happened.
function storyView() {
  const when = el("span", "when");
  const node = el("li", "panel story");
  const title = el("h3", "");
  const remark = el("p", "remark");
  const steps = el("ol", "steps");
  node.append(el("div", "story-head", title, when), remark, steps);
  const update = (one) => {
    text(title, one.node);
    text(when, `${clock(one.at)}, ${age(serverNow() - one.at)} ago`);
    attr(when, "title", day(one.at));
    show(remark, Boolean(one.remark));
    text(remark, one.remark ?? "");
    const all = [["ended", one.reason]];
    if (one.in_hand.length > 0) all.push(["in hand", one.in_hand.join(", ")]);
    if (one.siblings.length > 0) all.push(["restarted with it", one.siblings.join(", ")]);
    if (one.redelivered > 0) all.push(["came again", plural(one.redelivered, "delivery", "deliveries")]);
    if (one.republished > 0) all.push(["published again", plural(one.republished, "message")]);
    const isBack = isKnown(one.recovered_in);
    if (isBack) all.push(["ready again", `after ${duration(one.recovered_in)}`]);
    else all.push(["not ready yet", "it is being restarted"]);
    cls(node, `panel story${isBack ? "" : " pending"}`);
    each(steps, all, ([label]) => label, stepView);
  };
  return { node, update };
}

function stepView() {
  const label = el("span", "key");
  const words = el("span", "");
  const update = ([name, value]) => {
    text(label, name);
    text(words, value);
  };
  return { node: el("li", "", label, words), update };
}
