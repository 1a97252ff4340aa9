// What is wrong with a picture, what could be better, and what to do: the first thing that the page says.

const VERDICTS = {
  healthy: ["ok", "healthy"],
  idle: ["idle", "idle"],
  "prefetch-starved": ["note", "short of prefetch", "short of prefetch"],
  "handler-bound": ["note", "bound by its handlers", "bound by handlers"],
  "ack-bound": ["note", "bound by its acks", "bound by acks"],
  "broker-bound": ["note", "bound by the broker", "bound by the broker"],
  poison: ["bad", "poison message", "a message ends its handlers"],
  "breaker-open": ["bad", "breaker open", "the circuit breaker is open"],
  paused: ["warn", "paused", "paused"],
  away: ["bad", "away", "not consuming"],
};

const verdictOf = (kind) => VERDICTS[kind] ?? ["note", readable(kind), readable(kind)];
const RANK = { bad: 0, warn: 1, note: 2 };

// A thread that runs late by this much delays what runs on it; ten times as much delays heartbeats of the connection.
const LATE = 100;

function findingsOf(picture) {
  const all = [];
  const add = (tone, key, title, words, advice, links) => all.push({ tone, key, title, words, advice, links });
  for (const line of picture.ledger.filter((one) => one.imbalance !== 0)) {
    const unit = line.side === "publish" ? "message" : "delivery";
    const many = line.side === "publish" ? "messages" : "deliveries";
    const amount = plural(Math.abs(line.imbalance), unit, many);
    add("bad", `ledger ${line.side} ${line.of}`, `The ledger of ${line.of} does not balance`,
      `${amount} ${line.imbalance > 0 ? "missing" : "too many"}: ${ledgerWords(line)}.`,
      "This is a defect of Fluffle, not of your settings: keep the log and report it with this line.",
      [["ledgers", "ledger"]]);
  }
  for (const one of picture.connections) {
    const link = [["connections", one.name]];
    if (!one.up) {
      const since = one.since ? ` for ${span(picture.at - one.since)}` : "";
      add("bad", `connection ${one.name}`, `Connection ${one.name} is away${since}`,
        "Nothing is lost: the broker keeps what is not acked, publishers keep what is not confirmed.",
        `The service connects again by itself. If that lasts, look at the broker${at(one.endpoint)}.`, link);
    } else if (typeof one.blocked === "string") {
      const since = one.blocked_since ? ` for ${span(picture.at - one.blocked_since)}` : "";
      add("warn", `blocked ${one.name}`, `The broker blocks connection ${one.name}${since}`,
        `Its reason: ${one.blocked || "none given"}. Publishing waits.`,
        "Free memory or disk at the broker; it unblocks by itself.", link);
    }
  }
  // Their connections were named above.
  const away = picture.connections.filter((one) => !one.up).map((one) => one.name);
  nodes(picture.tree, (node) => {
    if (node.state === "failed") {
      add("bad", `node ${node.path}`, `${node.path} has failed and is not restarted`, node.last_exit ?? "", null,
        [["tree", "tree"]]);
    } else if (node.state === "backing off" && !away.some((name) => node.path.endsWith(`/${name}/socket`))) {
      add("warn", `node ${node.path}`, `${node.path} waits for its restart`,
        `${plural(node.restarts, "restart")} so far. ${node.last_exit ? `Last exit: ${node.last_exit}` : ""}`, null,
        [["tree", "tree"]]);
    }
  });
  queueFindings(picture, add);
  for (const one of picture.arbiters.filter((thread) => thread.lag >= LATE)) {
    add(one.lag >= 10 * LATE ? "bad" : "warn", `thread ${one.name}`, `Thread ${one.name} is late`,
      `It runs what it is given ${duration(one.lag)} late: something blocks it.`,
      "Move blocking work to SyncArbiter or spawn_blocking, or give the queue more handlers.",
      [["threads", "threads"]]);
  }
  publisherFindings(picture, add);
  return all.sort((a, b) => RANK[a.tone] - RANK[b.tone]);
}

const at = (endpoint) => (endpoint ? ` at ${endpoint}` : "");

function queueFindings(picture, add) {
  const groups = new Map();
  for (const one of picture.queues) {
    const [tone] = verdictOf(one.verdict.kind);
    if (tone === "ok" || tone === "idle") continue;
    const group = groups.get(one.verdict.kind) ?? [];
    groups.set(one.verdict.kind, [...group, one]);
  }
  for (const [kind, queues] of groups) {
    const [tone, , title] = verdictOf(kind);
    const first = queues[0];
    const words = queues.length > 1 ? `${first.name}: ${first.verdict.words}` : first.verdict.words;
    const links = queues.slice(0, 6).map((one) => [cardId(one.name), one.name]);
    if (queues.length > 6) links.push(["queues", `and ${queues.length - 6} more`]);
    const who = queues.length > 1 ? plural(queues.length, "queue") : first.name;
    add(tone, `verdict ${kind}`, `${who}: ${title}`, words, first.verdict.advice, links);
  }
  const dead = picture.queues.filter((one) => one.dead_letters > 0);
  if (dead.length > 0) {
    const sum = dead.reduce((all, one) => all + one.dead_letters, 0);
    const links = dead.slice(0, 6).map((one) => [cardId(one.name), one.name]);
    if (dead.length > 6) links.push(["queues", `and ${dead.length - 6} more`]);
    add("note", "dead letters", `${plural(sum, "dead letter")} ${sum === 1 ? "waits" : "wait"}`,
      "Their headers say why each failed.", "When the cause is mended, replay them.", links);
  }
}

function publisherFindings(picture, add) {
  const isCutOff = picture.connections.some((one) => !one.up || typeof one.blocked === "string");
  for (const one of picture.publishers) {
    const link = [["publishers", one.name]];
    const store = one.store;
    if (store?.error) {
      add("warn", `store ${one.name}`, `The ${store.kind} of ${one.name} does not answer`, store.error, null, link);
    } else if (store?.oldest >= 60_000) {
      add("warn", `store ${one.name}`, `The ${store.kind} of ${one.name} is behind`,
        `Its oldest message has waited ${span(store.oldest)}.`, "Look whether the connection is up and not blocked.",
        link);
    }
    if (one.window > 0 && one.outstanding >= one.window) {
      add("warn", `window ${one.name}`, `Publisher ${one.name} waits for confirms`,
        `All ${plural(one.window, "place")} of its window are taken.`,
        isCutOff ? "It goes on when its connection does." :
          "The broker confirms slowly: look at its disk, or widen the window.", link);
    }
  }
}

function nodes(node, visit) {
  visit(node);
  for (const child of node.children) nodes(child, visit);
}

function ledgerWords(line) {
  const [entered, open] = line.side === "publish" ? ["accepted", "outstanding"] : ["received", "in hand"];
  return `${number(line.entered)} ${entered}, ${number(line.settled)} settled, ${number(line.open)} ${open}`;
}
