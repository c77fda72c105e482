// Environments with their containers: a tile for each, as wide as its share of the requests, coloured by its
// condition. Elements are kept and changed, so that tiles move instead of being drawn anew.

import { byId, duration, h, milliseconds, number, percent, setText } from "/status/dom.js";

export const CONDITIONS = {
  healthy: "healthy", recovering: "recovering, its share grows", probation: "on probation, probed with copies", silent: "silent with requests in flight",
  cold: "cold, it may sleep", down: "down, connected to in the background", draining: "draining, says the core API", drained: "drained by an operator",
};
const LEAVES_AFTER = 6; // snapshots without an environment until its card goes: the busiest change all the time
const NARROW = 58; // pixels: tiles without room for words show their name upright

const cards = new Map();
let onlyTrouble = false, opened = () => {}, explain = () => {}, conditionChanged = () => {};
const widths = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) target.dataset.narrow = String(contentRect.width < NARROW);
});

export function setUp({ openContainer, explainHostname, noteChange }) {
  conditionChanged = noteChange;
  opened = openContainer;
  explain = explainHostname;
  byId("legend").append(...Object.entries(CONDITIONS).map(([name, text]) => h("li", {}, h("i", { dataset: { condition: name } }), text)));
  for (const [id, trouble] of [["show-all", false], ["show-trouble", true]]) {
    byId(id).addEventListener("click", () => {
      onlyTrouble = trouble;
      byId("show-all").setAttribute("aria-pressed", String(!trouble));
      byId("show-trouble").setAttribute("aria-pressed", String(trouble));
      choose();
    });
  }
}

export function showEnvironments({ total, in_trouble, shown }) {
  const seen = new Set();
  for (const environment of shown) {
    const name = `${environment.site}/${environment.environment}`;
    seen.add(name);
    let card = cards.get(name);
    if (!card) {
      card = newCard(name);
      cards.set(name, card);
      byId("environment-list").append(card.element);
    }
    card.missing = 0;
    update(card, environment);
  }
  for (const [name, card] of cards) {
    if (seen.has(name) || (card.missing += 1) < LEAVES_AFTER) continue;
    card.element.remove();
    cards.delete(name);
  }
  setText(byId("environments-count"), total > shown.length ? `${shown.length} of ${number(total)}: those in trouble and the busiest` : `${number(total)}`);
  setText(byId("trouble-count"), in_trouble ? `(${number(in_trouble)})` : "");
  choose();
}

function choose() {
  let visible = 0;
  for (const { element } of cards.values()) {
    element.hidden = onlyTrouble && element.dataset.trouble !== "true";
    visible += !element.hidden;
  }
  const empty = byId("no-environments");
  empty.hidden = visible > 0;
  setText(empty, onlyTrouble ? "No environment is in trouble." : "No environment has had a request yet.");
}

function newCard(name) {
  const title = h("h3", { title: name }, name);
  const host = h("button", { type: "button", className: "host" });
  const rate = h("span", { className: "rate" });
  const note = h("p", { className: "note", hidden: true });
  const list = h("ul", { className: "containers", "aria-label": `Containers of ${name}` });
  const card = { name, host, rate, note, list, tiles: new Map(), missing: 0, environment: null };
  card.element = h("li", { className: "environment" }, h("header", {}, title, host, rate), note, list);
  host.addEventListener("click", () => explain(card.environment.hostname));
  return card;
}

function notes(environment) {
  const found = [];
  if (environment.maintenance) found.push("maintenance: requests get 503");
  if (environment.redirect) found.push(`redirected to ${environment.redirect}`);
  if (environment.drained) found.push("drained by an operator: requests get 503");
  if (environment.panicking) found.push("panic: most containers are unhealthy, so probation is ignored");
  if (environment.queued) found.push(`${number(environment.queued)} requests wait for a slot`);
  for (const container of environment.containers) {
    if (container.condition !== "down" && container.condition !== "probation") continue;
    const again = container.next_probe === null ? "" : `, tried again in ${duration(container.next_probe)}`;
    const name = container.condition === "down" ? "down" : "on probation";
    if (found.length < 3) found.push(`${container.id} ${name}${container.why ? ` (${container.why})` : ""}${again}`);
  }
  if (!environment.containers.length && !environment.maintenance && !environment.redirect) found.push("no container: requests get 503");
  return found.join(" · ");
}

function update(card, environment) {
  card.environment = environment;
  card.element.dataset.trouble = String(environment.in_trouble);
  card.element.dataset.bad = String(environment.containers.some(({ condition }) => condition === "down") || environment.panicking);
  const more = environment.hostnames - 1;
  setText(card.host, environment.hostname + (more > 0 ? ` +${number(more)}` : ""));
  card.host.title = `Explain ${environment.hostname}`;
  const rate = `${number(environment.rate)}/s`;
  if (card.shownRate !== rate) {
    card.shownRate = rate;
    card.rate.replaceChildren(`${number(environment.rate)}`, h("small", {}, " /s"));
  }
  const note = notes(environment);
  card.note.hidden = !note;
  setText(card.note, note);
  const busiest = Math.max(1, ...environment.containers.map((container) => container.in_flight));
  const drawn = environment.containers.reduce((sum, container) => sum + container.share, 0) > 0.01;
  const seen = new Set();
  for (const container of environment.containers) {
    seen.add(container.id);
    let tile = card.tiles.get(container.id);
    if (!tile) {
      tile = newTile(card, container.id);
      card.tiles.set(container.id, tile);
      card.list.append(tile.item);
    }
    updateTile(tile, container, busiest, drawn ? container.share : 1);
  }
  for (const [id, tile] of card.tiles) {
    if (seen.has(id)) continue;
    widths.unobserve(tile.button);
    tile.item.remove();
    card.tiles.delete(id);
  }
}

function newTile(card, id) {
  const parts = { id: h("b", {}, id), share: h("span", { className: "share" }), more: h("span", { className: "more" }),
    pips: h("span", { className: "pips" }), load: h("span", { className: "load" }, h("i")), words: h("span", { className: "hidden" }) };
  const button = h("button", { type: "button", className: "container" }, parts.id, parts.share, parts.more, parts.words, parts.pips, parts.load);
  const tile = { ...parts, button, item: button, condition: "", pipCount: 0, container: null };
  tile.item = h("li", { className: "slot" }, button);
  button.addEventListener("click", () => opened(card.environment, tile.container));
  tile.name = card.name;
  widths.observe(button);
  return tile;
}

export function describe(container) {
  const words = [`${container.id}: ${CONDITIONS[container.condition] ?? container.condition}`, `${percent(container.share)} of the requests`];
  if (container.points >= 0.05) words.push(`${container.points.toFixed(1)} demerits`);
  if (container.rests_for > 0) words.push(`rests for ${duration(container.rests_for)}`);
  return words.join(", ");
}

function updateTile(tile, container, busiest, width) {
  const { button } = tile;
  tile.container = container;
  tile.item.style.setProperty("--share", Math.max(0.001, width).toFixed(4));
  if (tile.condition !== container.condition) {
    button.dataset.condition = container.condition;
    if (tile.condition) {
      button.classList.remove("changed");
      void button.offsetWidth; // begin the animation again
      button.classList.add("changed");
      conditionChanged(tile.name, container, tile.condition);
    }
    tile.condition = container.condition;
  }
  const text = describe(container);
  if (button.title !== text) {
    button.title = text;
    setText(tile.words, `, ${text}`);
  }
  setText(tile.share, percent(container.share));
  setText(tile.more, container.condition === "healthy" ? milliseconds(container.typical_ms) : container.why || container.condition);
  const pips = Math.min(5, Math.ceil(container.points - 0.05));
  if (tile.pipCount !== pips) {
    tile.pips.replaceChildren(...Array.from({ length: Math.max(0, pips) }, () => h("i")));
    tile.pipCount = pips;
  }
  tile.load.firstChild.style.setProperty("--load", `${Math.round((100 * container.in_flight) / busiest)}%`);
}
