// The cards of all queues. More than a dozen are shown as lines, which open into cards.

const MANY = 12;

const queuesView = (() => {
  const cards = byId("cards");
  const watched = new Set();
  let count = 0;
  let wanted = "";
  let isTroubleOnly = false;
  let last = null;
  const list = {
    isCompact: () => count > MANY,
    watch: (node, draw) => {
      watched.add(node);
      return whenSeen(node, draw);
    },
  };
  const filter = el("input", "filter");
  filter.type = "search";
  filter.placeholder = "Filter (/)";
  filter.setAttribute("aria-label", "show queues whose name contains");
  filter.addEventListener("input", () => {
    wanted = filter.value.trim().toLowerCase();
    if (last) update(last);
  });
  const trouble = button("Not healthy", "quiet", () => {
    isTroubleOnly = !isTroubleOnly;
    trouble.setAttribute("aria-pressed", String(isTroubleOnly));
    if (last) update(last);
  });
  trouble.setAttribute("aria-pressed", "false");
  trouble.title = "only queues that are not healthy or idle";
  byId("queues-tools").append(trouble, filter);

  const update = (picture) => {
    last = picture;
    count = picture.queues.length;
    const isWell = (one) => ["ok", "idle"].includes(verdictOf(one.verdict.kind)[0]);
    const shown = picture.queues.filter((one) => one.name.toLowerCase().includes(wanted)
      && !(isTroubleOnly && isWell(one)));
    show(byId("queues-tools"), count > 3);
    cls(cards, count > MANY ? "cards lines" : "cards");
    each(cards, shown, (one) => one.name, (one) => queueView(one, list));
    const some = shown.length === count ? "" : `${number(shown.length)} of `;
    text(byId("queues-count"), `${some}${number(count)}`);
    if (watched.size <= shown.length) return;
    for (const node of watched) {
      if (node.isConnected) continue;
      forget(node);
      watched.delete(node);
    }
  };
  // Moves the focus to the next or previous card.
  const step = (by) => {
    const all = [...cards.querySelectorAll(".disclose")];
    const now = all.indexOf(document.activeElement);
    const next = all[now < 0 ? 0 : Math.max(0, Math.min(all.length - 1, now + by))];
    next?.focus();
    next?.closest(".card").scrollIntoView({ block: "nearest" });
  };
  return { update, step, focusFilter: () => !byId("queues-tools").hidden && filter.focus() };
})();
