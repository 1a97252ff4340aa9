// The page as a whole: takes pictures, draws the newest one, and says when there is no news.

const KEYS = [
  ["j, k", "next queue, previous queue"],
  ["Enter", "open the queue: its slowest, failed and sampled messages"],
  ["/", "filter queues"],
  ["q, t, r", "go to queues, tree, restarts"],
  ["f", "hold the page still, or let it move"],
  ["?", "this list"],
  ["Esc", "close"],
];

const page = { picture: null, drawn: null, at: 0, isHeld: false, isStale: false };

// The service's clock, which the page's times are of; this machine's clock may differ.
function serverNow() {
  if (!page.picture) return Date.now();
  const passed = page.isHeld || page.isStale ? 0 : performance.now() - page.at;
  return (page.isHeld ? page.drawn : page.picture).at + Math.min(passed, QUIET);
}

function take(picture) {
  const missed = history.at > 0 && picture.at - history.at > 5 * history.step;
  const isNew = page.picture !== null && page.picture.process.since !== picture.process.since;
  continueHistory(picture);
  if (missed || isNew) fetchHistory();
  page.picture = picture;
  page.at = performance.now();
  sayNews();
  if (!document.hidden && !page.isHeld) draw();
}

function draw() {
  const { picture } = page;
  if (!picture) return;
  page.drawn = picture;
  allowed = picture.actions;
  summaryView.update(picture, page.isStale);
  queuesView.update(picture);
  treeView.update(picture);
  sectionsView.update(picture);
}

// Says how old the news is. Without news the page keeps what it shows, in grey.
function sayNews() {
  const quiet = performance.now() - news.at;
  const isStale = quiet > QUIET;
  if (isStale !== page.isStale) {
    page.isStale = isStale;
    document.documentElement.classList.toggle("stale", isStale);
    if (page.picture) summaryView.update(page.drawn ?? page.picture, isStale);
  }
  const why = news.words ? `: ${news.words}` : "";
  const shown = page.picture ? ` This is what was at ${clock(page.picture.at)}.` : "";
  if (isStale) text(byId("news-words"), `No news for ${span(quiet)}${why}.${shown}`);
  else if (page.isHeld) text(byId("news-words"), `held at ${clock(page.drawn?.at)}`);
  else text(byId("news-words"), page.picture ? `live, ${clock(page.picture.at)}` : "waiting for the service");
}

function hold(isHeld) {
  page.isHeld = isHeld;
  byId("hold").setAttribute("aria-pressed", String(isHeld));
  text(byId("hold"), isHeld ? "Go on" : "Hold");
  document.documentElement.classList.toggle("held", isHeld);
  sayNews();
  if (!isHeld) draw();
}

function sayKeys() {
  const list = el("dl", "keys");
  for (const [key, words] of KEYS) list.append(el("dt", "", el("kbd", "", key)), el("dd", "", words));
  openDialog("Keys", [list], [button("Close", "go", () => dialog.close())]);
}

function onKey(event) {
  const isTyping = event.target instanceof HTMLInputElement;
  if (isTyping && event.key === "Escape") return event.target.blur();
  if (isTyping || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = {
    j: () => queuesView.step(1),
    k: () => queuesView.step(-1),
    f: () => hold(!page.isHeld),
    q: () => goTo(byId("queues")),
    t: () => goTo(byId("tree")),
    r: () => goTo(byId("stories")),
    "/": () => queuesView.focusFilter(),
    "?": sayKeys,
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

async function start() {
  const brought = (id) => JSON.parse(byId(id).textContent);
  const picture = brought("picture") ?? (await get("/picture.json"));
  const kept = brought("history");
  if (kept) takeHistory(kept);
  if (picture) take(picture);
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !page.isHeld) draw();
  });
  byId("hold").addEventListener("click", () => hold(!page.isHeld));
  byId("keys").addEventListener("click", sayKeys);
  setInterval(sayNews, 500);
  setInterval(() => {
    if (page.isStale || page.isHeld || document.hidden) return;
    const now = serverNow();
    for (const say of countdowns) say(now);
  }, 200);
  startStream(take);
  if (!kept) fetchHistory();
}

// At the start, and after a time without news, of which the service has kept what this page has missed.
async function fetchHistory() {
  const kept = await get("/history.json");
  if (!kept) return;
  takeHistory(kept);
  if (!page.isHeld) draw();
}

start();
