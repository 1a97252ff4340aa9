// Pictures as they come. All tabs share one stream: the tab that holds the lock `fluffle-stream` reads `/events` and
// hands each picture to the others. Where there are no locks (plain HTTP on another host), each tab reads for itself.

const QUIET = 4_000;
const FORSAKEN = 15_000;
const LONGEST_WAIT = 5_000;

const news = { at: performance.now(), heard: performance.now(), words: "", isFirst: true };

function startStream(take) {
  const channel = new BroadcastChannel("fluffle-stream");
  let isWanted = false;
  // A line is one picture as JSON; it is parsed in each tab.
  const takeLine = (line) => {
    let picture;
    try {
      picture = JSON.parse(line);
    } catch {
      news.words = "the service sent something that is no picture";
      return;
    }
    news.at = performance.now();
    news.heard = news.at;
    news.words = "";
    take(picture);
  };
  const say = (words) => {
    news.words = words;
    news.heard = performance.now();
    channel.postMessage({ words });
  };
  channel.addEventListener("message", ({ data }) => {
    if (data.hello) return void (isWanted = true);
    if (data.line) return takeLine(data.line);
    news.words = data.words;
    news.heard = performance.now();
  });
  // Tabs that wait for the lock want the line, and a new tab says hello; without them it is not copied.
  let lastLook = -Infinity;
  const look = async () => {
    lastLook = performance.now();
    const { pending } = await navigator.locks.query();
    isWanted = pending.some(({ name }) => name === "fluffle-stream");
  };
  const handLine = (line) => {
    takeLine(line);
    if (navigator.locks && performance.now() - lastLook > 10_000) look();
    if (isWanted) channel.postMessage({ line });
  };
  if (!navigator.locks) return void read(handLine, say, new AbortController().signal);
  channel.postMessage({ hello: true });
  lead(handLine, say, false);
  // A leader that says nothing at all, not even that it tries again, is a tab that the browser has frozen.
  setInterval(() => {
    if (document.hidden || performance.now() - news.heard < FORSAKEN) return;
    news.heard = performance.now();
    lead(handLine, say, true);
  }, 1_000);
}

// Waits for the lock, or takes it away; then reads until another tab takes it away.
function lead(handLine, say, steal) {
  const stop = new AbortController();
  const reads = navigator.locks.request("fluffle-stream", { steal }, () => read(handLine, say, stop.signal));
  reads.catch(() => {
    stop.abort();
    if (!steal) setTimeout(() => lead(handLine, say, false), 1_000);
  });
}

// Reads the stream, again and again, with a wait that grows to five seconds.
async function read(handLine, say, stopped) {
  let tries = 0;
  while (!stopped.aborted) {
    try {
      await readOnce((line) => {
        tries = 0;
        handLine(line);
      }, stopped);
      say("the service has ended the stream");
    } catch (error) {
      if (stopped.aborted) return;
      if (error instanceof Refused) await askToRead();
      if (error instanceof Refused) say("the service asks for a token");
      else say(error instanceof Answered ? `the service says: ${error.message}` : "the service does not answer");
    }
    tries += 1;
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** Math.min(tries, 6)) * (0.8 + 0.4 * Math.random());
    say(`${news.words}; try ${tries + 1} comes in ${(wait / 1000).toFixed(1)} s`);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

class Refused extends Error {}
class Answered extends Error {}

async function readOnce(handLine, stopped) {
  const ended = new AbortController();
  const end = () => ended.abort();
  stopped.addEventListener("abort", end);
  // A stream that is open and silent is as broken as one that has ended.
  let last = performance.now();
  const watch = setInterval(() => {
    if (performance.now() - last > 2 * QUIET) end();
  }, 1_000);
  try {
    const response = await fetch("/events", { headers: credentials(), cache: "no-store", signal: ended.signal });
    if (response.status === 401 || response.status === 403) throw new Refused();
    if (!response.ok) throw new Answered((await response.text()).trim().slice(0, 200) || `${response.status}`);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      last = performance.now();
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line !== "") handLine(line);
    }
  } finally {
    clearInterval(watch);
    stopped.removeEventListener("abort", end);
    ended.abort();
  }
}

// What the document did not bring with it. Resolves to `null` if it cannot be had.
async function get(address) {
  try {
    const response = await fetch(address, { headers: credentials(), cache: "no-store" });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}
