// The top of the page: is all well, does the ledger balance, and if not, what to do.

const COLOURS = { ok: "#2da44e", note: "#2da44e", warn: "#d29922", bad: "#e5484d", idle: "#8b949e" };

const summaryView = (() => {
  const facts = {
    state: fact("state"),
    uptime: fact("up for"),
    rate: fact("messages/s", "received from all queues, over the last five seconds"),
    process: fact("process"),
    version: fact("fluffle"),
  };
  byId("facts").append(...Object.values(facts).map((one) => one.node));
  const publish = ledgerLine();
  const consume = ledgerLine();
  const verdict = el("strong", "ledger-verdict");
  byId("ledger").append(verdict, publish.node, consume.node);
  let title = "";

  const update = (picture, isStale) => {
    const { process, health } = picture;
    text(byId("name"), process.name);
    text(facts.state.value, process.state);
    text(facts.uptime.value, span(picture.at - process.since));
    text(facts.rate.value, rate(picture.queues.reduce((sum, one) => sum + one.received_rate, 0)));
    text(facts.process.value, String(process.pid));
    text(facts.version.value, process.version);

    const findings = findingsOf(picture);
    const { tone, headline, reasons } = judge(picture, findings);
    cls(byId("summary"), `summary ${tone === "note" ? "ok" : tone}`);
    text(byId("mark"), { ok: "✓", note: "✓", warn: "▲", bad: "✕", idle: "…" }[tone]);
    text(byId("headline"), headline);
    text(byId("subline"), reasons);

    const isBroken = picture.ledger.some((line) => line.imbalance !== 0);
    cls(byId("ledger"), isBroken ? "ledger broken" : "ledger");
    const isEmpty = picture.ledger.every((line) => line.entered === 0);
    text(verdict, isBroken ? brokenWords(picture.ledger) : isEmpty ? "Nothing to count yet" : "Nothing is missing");
    publish.update(picture.ledger.filter((line) => line.side === "publish"), publishParts(picture));
    consume.update(picture.ledger.filter((line) => line.side === "consume"), null);

    each(byId("findings"), findings, (one) => one.key, findingView);
    show(byId("findings"), findings.length > 0);
    const wrong = findings.filter((one) => one.tone === "bad").length + (health.live.length + health.ready.length > 0);
    const sign = isStale ? "? " : wrong > 0 ? "✕ " : tone === "warn" ? "▲ " : "";
    const wanted = `${sign}${process.name} · Fluffle`;
    if (title !== wanted) {
      title = wanted;
      document.title = wanted;
      icon(isStale ? COLOURS.idle : COLOURS[tone]);
    }
  };
  return { update };
})();

function icon(colour) {
  const drawing =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${colour}"/></svg>`;
  byId("icon").href = `data:image/svg+xml,${encodeURIComponent(drawing)}`;
}

// Green needs both lists of the service's health to be empty, and no finding that is wrong.
function judge({ process, health, queues }, findings) {
  const notes = health.notes ?? [];
  const reasons = [...health.live, ...health.ready, ...notes].join("\n");
  if (health.live.length > 0) return { tone: "bad", headline: "Not alive", reasons };
  const bad = findings.filter((one) => one.tone === "bad").length;
  if (process.state === "ended") return { tone: "bad", headline: "The service has ended", reasons };
  if (process.state === "draining") return { tone: "warn", headline: "Draining: it finishes what it has", reasons };
  if (process.state === "starting") return { tone: "warn", headline: "Starting", reasons };
  if (health.ready.length > 0) return { tone: "bad", headline: "Alive, but not ready", reasons };
  const rest = [`Alive and ready. ${plural(queues.length, "queue")}`, ...notes].join("\n");
  if (bad > 0) {
    const headline = bad === 1 ? findings[0].title : `${bad} things are wrong`;
    return { tone: "bad", headline, reasons: rest };
  }
  const warn = findings.filter((one) => one.tone === "warn").length;
  if (warn > 0) {
    const headline = warn === 1 ? "One thing to look at" : `${warn} things to look at`;
    return { tone: "warn", headline, reasons: rest };
  }
  return { tone: findings.length > 0 ? "note" : "ok", headline: "All is well", reasons: rest };
}

function brokenWords(ledger) {
  const broken = ledger.filter((line) => line.imbalance !== 0);
  const each = broken.slice(0, 3).map(({ of, side, imbalance }) => {
    const words = imbalance > 0 ? "missing" : "too many";
    return `${number(Math.abs(imbalance))} ${words} ${side === "publish" ? "at publisher" : "at queue"} ${of}`;
  });
  if (broken.length > 3) each.push(`and ${broken.length - 3} more`);
  return `The ledger does not balance: ${each.join(", ")}`;
}

// The outcomes of all publishers, if they add up to what the ledger has settled: both are read a moment apart.
function publishParts({ publishers, ledger }) {
  const sums = new Map();
  for (const one of publishers) {
    for (const { outcome, messages } of one.outcomes) sums.set(outcome, (sums.get(outcome) ?? 0) + messages);
  }
  let settled = 0;
  for (const line of ledger) if (line.side === "publish") settled += line.settled;
  let all = 0;
  for (const count of sums.values()) all += count;
  return all === settled ? [...sums].filter(([outcome, count]) => count > 0 || outcome === "confirmed") : null;
}

// `12,345,678 accepted = 12,345,600 confirmed + 3 returned + 75 outstanding`
function ledgerLine() {
  const node = el("span", "equation");
  const update = (lines, parts) => {
    show(node, lines.length > 0);
    if (lines.length === 0) return;
    const sum = (of) => lines.reduce((all, line) => all + line[of], 0);
    const isPublish = lines[0].side === "publish";
    const right = (parts ?? [["settled", sum("settled")]]).map(([name, count]) => `${number(count)} ${readable(name)}`);
    right.push(`${number(sum("open"))} ${isPublish ? "outstanding" : "in hand"}`);
    const isBroken = lines.some((line) => line.imbalance !== 0);
    const sign = isBroken ? "≠" : "=";
    text(node, `${number(sum("entered"))} ${isPublish ? "accepted" : "received"} ${sign} ${right.join(" + ")}`);
    cls(node, isBroken ? "equation broken" : "equation");
  };
  return { node, update };
}

function findingView() {
  const mark = el("span");
  mark.setAttribute("aria-hidden", "true");
  const title = el("strong", "");
  const words = el("p", "words");
  const advice = el("p", "advice");
  const links = el("p", "links");
  const node = el("li", "finding", mark, el("div", "", title, words, advice, links));
  const update = (one) => {
    cls(node, `finding ${one.tone}`);
    lamp(mark, one.tone);
    text(title, one.title);
    text(words, one.words);
    show(words, one.words !== "");
    text(advice, one.advice ?? "");
    show(advice, Boolean(one.advice));
    each(links, one.links, ([id, name]) => `${id} ${name}`, linkView);
  };
  return { node, update };
}

function linkView() {
  const node = el("a", "");
  node.addEventListener("click", (event) => {
    const target = document.getElementById(node.hash.slice(1));
    if (!target) return;
    event.preventDefault();
    goTo(target);
  });
  const update = ([id, name]) => {
    attr(node, "href", `#${id}`);
    text(node, name);
  };
  return { node, update };
}

function goTo(target) {
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  target.scrollIntoView({ block: "start", behavior: isCalm ? "auto" : "smooth" });
  const focus = target.querySelector("button, [tabindex]") ?? target;
  focus.focus({ preventScroll: true });
}
