// The supervision tree, live. A branch that is closed is not updated; its row says whether all below it runs.

const TONES = {
  running: "ok",
  waiting: "idle",
  starting: "busy",
  stopping: "busy",
  "backing off": "warn",
  stopped: "idle",
  failed: "bad",
};

// From this many nodes on, only the first levels are open at the start: half a screen, or a phone's screen.
const LARGE_TREE = matchMedia("(max-width: 46rem)").matches ? 12 : 48;

const opened = new Map();
const countdowns = new Set();

const treeView = (() => {
  const list = byId("tree-list");
  let phase = 0;
  const draw = (picture) => {
    countdowns.clear();
    let count = 0;
    let restarts = 0;
    nodes(picture.tree, (node) => {
      count += 1;
      restarts += node.restarts;
    });
    const isLarge = count > LARGE_TREE;
    each(list, [picture.tree], (node) => node.path, (node) => nodeView(node, 0, isLarge));
    // Traffic moves by one step with each picture, so it stands still when no picture comes.
    phase = (phase + 1) % 4;
    attr(list, "data-phase", String(phase));
    text(byId("tree-count"), `${plural(count, "node")}, ${plural(restarts, "restart")}`);
  };
  return { update: whenSeen(byId("tree"), draw) };
})();

// How thick a branch is: one step for each factor of ten.
function traffic(perSecond) {
  if (!(perSecond > 0)) return 0;
  return Math.max(1, Math.min(4, Math.ceil(Math.log10(perSecond + 0.1) + 0.5)));
}

function nodeView(first, level, isLarge) {
  const isSupervisor = first.children.length > 0 || first.kind !== "actor";
  const mark = el("span", "lamp");
  mark.setAttribute("role", "img");
  const name = el("span", "node-name");
  const toggle = isSupervisor ? button("", "toggle", () => setOpen(!isOpen)) : el("span", "toggle");
  const restarts = el("span", "node-restarts");
  const label = el("span", "node-label", mark, name, restarts);
  const state = el("span", "node-state");
  const flow = el("span", "node-rate");
  const inside = el("span", "node-inside");
  const kill = actionButton("kill");
  const exit = el("p", "node-more exit");
  const note = el("p", "node-more");
  const trouble = el("p", "node-more exit");
  const list = el("ul");
  const row = el("div", "node", toggle, label, state, inside, flow, kill.node);
  const node = el("li", "", row, exit, note, trouble, list);
  restarts.title = "restarts";
  inside.title = isSupervisor ? "what it restarts" : "messages in the mailbox, of its capacity";
  let isOpen = opened.get(first.path) ?? (!isLarge || level < 2);
  let last = first;

  const setOpen = (value) => {
    isOpen = value;
    opened.set(last.path, value);
    update(last);
  };
  const update = (one) => {
    last = one;
    cls(node, `flow-${traffic(one.rate)}${TONES[one.state] === "ok" ? "" : " troubled"}`);
    lamp(mark, TONES[one.state] ?? "note");
    attr(mark, "aria-label", one.state);
    attr(mark, "title", one.state);
    text(name, one.id);
    attr(name, "title", one.path);
    if (isKnown(one.restart_at) && one.state === "backing off") {
      const say = (now) => {
        const left = Math.max(0, one.restart_at - now);
        text(state, left > 0 ? `starts again in ${(left / 1000).toFixed(1)} s` : "starts again now");
      };
      countdowns.add(say);
      say(serverNow());
    } else {
      // Most nodes run: their mark says so, and the word stays for those that do not.
      const words = one.state === "running" ? "" : `${one.state} `;
      text(state, words + age(serverNow() - one.since));
    }
    text(flow, isKnown(one.rate) ? `${rate(one.rate)}/s` : "");
    const [depth, capacity] = one.mailbox ?? [0, 1];
    const kind = one.kind === "actor" ? "" : one.kind;
    const isClosed = isSupervisor && !isOpen && one.children.length > 0;
    const below = isClosed ? troubleBelow(one) : null;
    const within = isClosed ? `${number(below.count)} below` : kind;
    text(inside, one.mailbox ? `${number(depth)}/${number(capacity)}` : within);
    cls(inside, depth >= capacity ? "node-inside full" : "node-inside");
    text(restarts, one.restarts > 0 ? `↻ ${number(one.restarts)}` : "");
    show(kill.node, can("kill") && one.kind === "actor");
    kill.set("kill", "kill", one.path);
    show(exit, Boolean(one.last_exit));
    // Of a node that runs again it is the past, of which the restarts tell the story.
    cls(exit, one.state === "running" ? "node-more" : "node-more exit");
    text(exit, one.last_exit ? `last exit: ${one.last_exit}` : "");
    show(note, Boolean(one.note));
    text(note, one.note ?? "");
    if (isSupervisor) {
      attr(toggle, "aria-expanded", String(isOpen));
      attr(toggle, "aria-label", `${isOpen ? "close" : "open"} ${one.id}`);
      text(toggle, isOpen ? "▾" : "▸");
      cls(toggle, one.children.length > 0 ? "toggle" : "toggle empty");
    }
    show(list, isOpen && one.children.length > 0);
    show(trouble, Boolean(below?.words));
    text(trouble, below?.words ?? "");
    if (isOpen) each(list, one.children, (child) => child.path, (child) => nodeView(child, level + 1, isLarge));
  };
  return { node, update };
}

// How many nodes are below a closed branch, and which of them do not run.
function troubleBelow(one) {
  let count = -1;
  const wrong = new Map();
  nodes(one, (child) => {
    count += 1;
    if (child !== one && child.state !== "running") wrong.set(child.state, (wrong.get(child.state) ?? 0) + 1);
  });
  const states = [...wrong].map(([state, nodes]) => `${number(nodes)} ${state}`).join(", ");
  return { count, words: wrong.size > 0 ? `below: ${states}` : "" };
}
