// What the page may do to the service, if the service allows it. Each action says what will happen and asks first.

const TOKEN = "fluffle-token";

const settings = JSON.parse(byId("settings").textContent);
let allowed = [];

const can = (action) => allowed.includes(action);

const ACTIONS = {
  pause: {
    title: (name) => `Pause ${name}?`,
    words: [
      "Handlers finish the messages that they have begun, and these are settled. Then this process's consumers of " +
        "the queue unsubscribe.",
      "What they have not begun goes back into its place in the queue; other processes may take it. The consumers " +
        "stay paused, also if their connection is lost and comes back, until you resume them.",
    ],
    act: "Pause",
    body: (queue) => ({ queue }),
  },
  resume: {
    title: (name) => `Resume ${name}?`,
    words: ["This process's consumers of the queue subscribe again and take messages at once."],
    act: "Resume",
    body: (queue) => ({ queue }),
  },
  resume_breaker: {
    title: (name) => `Close the breaker of ${name}?`,
    words: [
      "Consumers take messages again at once, at full speed, with an empty window of failures.",
      "If the cause is still there, messages fail again and spend their attempts until the breaker opens again.",
    ],
    act: "Close the breaker",
    body: (queue) => ({ queue }),
  },
  replay: {
    title: (name) => `Replay the dead letters of ${name}?`,
    words: [
      "First a dry run looks at the dead letters and counts them; it sends nothing.",
      "A replay publishes each letter to its queue again, waits for the confirm, and only then takes it out of the " +
        "dead-letter queue. Handlers see each message again, with new attempts.",
    ],
    act: "Replay",
    body: (queue) => ({ queue }),
    hasDryRun: true,
  },
  kill: {
    title: (name) => `Kill ${name}?`,
    words: [
      "For demonstrations. The actor ends as if it had crashed, with whatever it has in hand.",
      "Its supervisor restarts it. What was not settled is delivered again; watch the ledger and “Restarts”.",
    ],
    act: "Kill",
    body: (node) => ({ node }),
  },
};

// Asks, acts, and says what came of it. `target` is a queue's name or a node's path.
function ask(action, target) {
  const { title, words, act, body, hasDryRun } = ACTIONS[action];
  const field = tokenField(() => go.click());
  const result = el("div", "result");
  result.setAttribute("role", "status");
  let isDry = Boolean(hasDryRun);
  const go = button(isDry ? "Dry run" : act, action === "kill" ? "go danger" : "go", async () => {
    field.keep();
    go.disabled = true;
    text(go, "Waiting for the service");
    const answer = await post(action, { ...body(target), ...(hasDryRun ? { dry_run: isDry } : {}) });
    go.disabled = false;
    result.replaceChildren(el("p", answer.isDone ? "done" : "error", answer.words));
    if (answer.lines.length > 0) result.append(el("pre", "lines", answer.lines.join("\n")));
    if (answer.isRefused) field.ask();
    if (answer.isDone && !isDry) {
      go.hidden = true;
      text(cancel, "Close");
      cancel.focus();
      return;
    }
    if (answer.isDone) isDry = false;
    text(go, isDry ? "Dry run" : act);
  });
  const cancel = button("Cancel", "quiet", () => dialog.close());
  openDialog(title(target), [...words.map((one) => el("p", "", one)), field.node, result], [cancel, go]);
  cancel.focus();
}

// The token, asked for once and kept for this tab.
function tokenField(enter) {
  const input = el("input", "token");
  input.type = "password";
  input.autocomplete = "off";
  input.spellcheck = false;
  const label = el("label", "field", "Token of this status page, kept until this tab is closed", input);
  const node = el("form", "", label);
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    enter();
  });
  node.hidden = !settings.token_needed || Boolean(sessionStorage.getItem(TOKEN));
  const keep = () => {
    if (node.hidden || input.value === "") return;
    sessionStorage.setItem(TOKEN, input.value.trim());
    input.value = "";
    node.hidden = true;
  };
  const ask = () => {
    sessionStorage.removeItem(TOKEN);
    node.hidden = false;
    input.focus();
  };
  return { node, input, keep, ask };
}

// Asks for the token that reading needs, and resolves when there is one.
function askToRead() {
  return new Promise((resolve) => {
    const keep = () => {
      field.keep();
      if (sessionStorage.getItem(TOKEN)) dialog.close();
    };
    const field = tokenField(keep);
    field.node.hidden = false;
    dialog.addEventListener("close", resolve, { once: true });
    openDialog("This page needs a token", [el("p", "", "Whoever runs the service has set it."), field.node],
      [button("Show the page", "go", keep)]);
    field.input.focus();
  });
}

function credentials() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function post(action, body) {
  try {
    const response = await fetch(`/actions/${action}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...credentials() },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(60_000),
    });
    const said = await response.text();
    const { words, lines } = inWords(said);
    const isRefused = response.status === 401 || (response.status === 403 && words.includes("token"));
    const fallback = response.ok ? "Done." : `The service refused it (${response.status}).`;
    return { isDone: response.ok, isRefused, words: words || fallback, lines };
  } catch (error) {
    const words = `The service did not answer (${error.message}). It may have done it: look before you try again.`;
    return { isDone: false, isRefused: false, words, lines: [] };
  }
}

// An answer is JSON, `{"words": "…", "lines": ["…"]}` or `{"error": "…"}`, or plain text.
function inWords(said) {
  try {
    const answer = JSON.parse(said);
    if (answer && typeof answer === "object") {
      const lines = Array.isArray(answer.lines) ? answer.lines.map(String) : [];
      return { words: String(answer.words ?? answer.error ?? ""), lines };
    }
  } catch {
    // Not JSON: shown as it is.
  }
  return { words: said.trim(), lines: [] };
}

const dialog = byId("dialog");

function openDialog(title, parts, buttons) {
  const heading = el("h2", "", title);
  heading.id = "dialog-title";
  dialog.replaceChildren(heading, ...parts, el("div", "buttons", ...buttons));
  if (!dialog.open) dialog.showModal();
}

// Only the queue's own card offers an action, and only one that changes something.
function actionsOf(queue) {
  const isStopped = ["breaker open", "probing", "killed"].includes(queue.state);
  const offered = [
    [queue.state === "paused" ? "resume" : "pause", queue.state === "paused" ? "Resume" : "Pause"],
    ...(isStopped ? [["resume_breaker", "Resume now"]] : []),
  ];
  return offered.filter(([action]) => can(action));
}

function actionButton(name) {
  let action = null;
  let target = null;
  const node = button("", `action ${name ?? ""}`, () => ask(action, target));
  const set = (newAction, words, newTarget) => {
    [action, target] = [newAction, newTarget];
    text(node, words);
    attr(node, "aria-label", `${words} ${newTarget}`);
  };
  return { node, set };
}
