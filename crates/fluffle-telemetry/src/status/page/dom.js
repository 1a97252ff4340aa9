// Elements. Texts reach the page through `textContent` alone, so that no text becomes HTML. What has not changed is not
// written, so that an update costs what has changed.

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

// An element with a class and children, which are elements or texts.
function el(tag, name, ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children);
  return node;
}

function svg(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes ?? {})) node.setAttribute(key, value);
  return node;
}

// Characters that would turn the words around them the other way; they are shown as unknown characters.
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;

function text(node, words) {
  if (node.shownText === words) return;
  node.shownText = words;
  const shown = words.replace(TURNING, "\ufffd");
  // To change a text node costs less than to make another one.
  if (node.textNode?.parentNode === node && node.childNodes.length === 1) {
    node.textNode.data = shown;
    return;
  }
  node.textContent = shown;
  node.textNode = node.firstChild;
}

function cls(node, name) {
  if (node.shownClass === name) return;
  node.shownClass = name;
  node.setAttribute("class", name);
}

function attr(node, key, value) {
  const shown = (node.shownAttributes ??= new Map());
  if (shown.get(key) === value) return;
  shown.set(key, value);
  if (value === null) node.removeAttribute(key);
  else node.setAttribute(key, value);
}

function show(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

const sights = new Map();
const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) sights.get(entry.target)?.(entry.isIntersecting);
}, { rootMargin: "300px" });

// Draws what is given only while `node` is in sight or near it, and the last of it when it comes into sight.
function whenSeen(node, draw) {
  let isSeen = true;
  let missed = null;
  sights.set(node, (value) => {
    isSeen = value;
    if (!value || missed === null) return;
    draw(missed);
    missed = null;
  });
  sight.observe(node);
  return (what) => {
    missed = isSeen ? null : what;
    if (isSeen) draw(what);
  };
}

function forget(node) {
  sight.unobserve(node);
  sights.delete(node);
}

function button(words, name, act) {
  const node = el("button", name, words);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

// One child of `parent` for each item, in the order of the items. `make(item)` builds what has `node` and `update`.
function each(parent, items, key, make) {
  const kept = (parent.kept ??= new Map());
  const wanted = new Set();
  let place = parent.firstElementChild;
  for (const [index, item] of items.entries()) {
    let name = key(item, index);
    while (wanted.has(name)) name += "'";
    wanted.add(name);
    let view = kept.get(name);
    if (!view) {
      view = make(item);
      kept.set(name, view);
    }
    view.update(item, index);
    if (view.node === place) place = place.nextElementSibling;
    else parent.insertBefore(view.node, place);
  }
  if (kept.size === wanted.size) return;
  for (const [name, view] of kept) {
    if (wanted.has(name)) continue;
    view.node.remove();
    kept.delete(name);
  }
}

// A button that copies a text, and says that it did.
function copyButton(what) {
  let copied = "";
  const node = button("copy", "copy", async () => {
    let words = "copied";
    try {
      await navigator.clipboard.writeText(copied);
    } catch {
      words = "select it";
    }
    text(node, words);
    setTimeout(() => text(node, "copy"), 1200);
  });
  node.setAttribute("aria-label", `copy the ${what}`);
  return { node, set: (words) => (copied = words) };
}

// A name with a value to copy: an id, a trace.
function copied(what) {
  const code = el("code", "id");
  const copy = copyButton(what);
  const node = el("span", "copied", el("span", "key", what), code, copy.node);
  const set = (words) => {
    show(node, isKnown(words));
    text(code, words ?? "");
    copy.set(words ?? "");
  };
  return { node, set };
}

// A label above a value, as in a list of facts.
function fact(label, title) {
  const value = el("dd", "");
  const node = el("div", "fact", el("dt", "", label), value);
  if (title) node.title = title;
  return { node, value };
}

// A mark for each tone: a shape as well as a colour, for eyes and screens without colours.
const MARKS = { ok: "●", idle: "○", busy: "◐", note: "◆", warn: "▲", bad: "✕" };

function lamp(node, tone) {
  cls(node, `lamp ${tone}`);
  text(node, MARKS[tone] ?? MARKS.idle);
}
