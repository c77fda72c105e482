// The servers with their containers: one tile for each, which is kept when it moves from one server to another.

import { byId, duration, h, number, percent, setText } from "/status/dom.js";
import { send } from "/demo/actions.js";
import { isCalm } from "/demo/dots.js";
import { paint } from "/demo/sites.js";

const MOST_SLOTS = 16;
const MOVE = 750; // milliseconds
const SLOW_FACTOR = 20;
const WORDS = { dead: "dead", booting: "boots", asleep: "asleep", draining: "draining", full: "full" };

const racks = new Map(), tiles = new Map();
let shown = null; // the id of the container in the dialog

export const tileOf = (id) => tiles.get(id)?.button ?? null;

export function stateOf(container) {
  if (!container.listening) return "dead";
  if (container.booting) return "booting";
  if (container.state !== "running") return container.state;
  if (container.full) return "full";
  return container.slow > 1 ? "slow" : "running";
}

export function showServers({ servers, containers, dragon, reaper, not_shown }) {
  const hottest = Math.max(60, ...servers.map(({ heat }) => heat));
  for (const server of servers) showServer(server, hottest);
  const before = places();
  const seen = new Set();
  for (const container of containers) {
    seen.add(container.id);
    let tile = tiles.get(container.id);
    if (!tile) {
      tile = newTile(container);
      tiles.set(container.id, tile);
    }
    if (tile.server !== container.server) {
      racks.get(container.server)?.list.append(tile.item);
      tile.moved = tile.server !== "";
      tile.server = container.server;
    }
    update(tile, container, reaper);
  }
  for (const [id, tile] of tiles) {
    if (seen.has(id)) continue;
    tile.item.remove();
    tiles.delete(id);
    if (shown === id) byId("details").close();
  }
  glide(before, dragon.on);
  for (const { list, total } of racks.values()) setText(total, String(list.childElementCount));
  byId("not-shown").hidden = !not_shown;
  setText(byId("not-shown"), `${number(not_shown)} more containers are not shown.`);
  if (shown) showDetails(tiles.get(shown)?.container, reaper);
}

function showServer({ name, heat }, hottest) {
  let rack = racks.get(name);
  if (!rack) {
    rack = { list: h("ul", { className: "tile-list", "aria-label": `Containers on ${name}` }), heat: h("i"), total: h("span", { className: "total" }) };
    rack.bar = h("span", { className: "heat", role: "img" }, rack.heat);
    rack.element = h("li", { className: "server" }, h("header", {}, h("h3", {}, name), rack.bar, rack.total), rack.list);
    racks.set(name, rack);
    byId("servers").append(rack.element);
  }
  const part = Math.min(100, (100 * heat) / hottest);
  rack.heat.style.setProperty("--heat", `${part.toFixed(0)}%`);
  rack.heat.style.setProperty("--span", `${(10000 / Math.max(1, part)).toFixed(0)}%`);
  const text = `Heat ${number(heat)}: requests per second, and one for each container that is awake`;
  if (rack.bar.title !== text) {
    rack.bar.title = text;
    rack.bar.setAttribute("aria-label", text);
  }
}

function places() {
  const found = new Map();
  for (const [id, { item }] of tiles) found.set(id, item.getBoundingClientRect());
  return found;
}

// Tiles that have come to another place glide there from where they were (FLIP: first, last, invert, play).
function glide(before, carried) {
  if (isCalm() || document.hidden) {
    for (const tile of tiles.values()) tile.moved = false;
    return;
  }
  for (const [id, tile] of tiles) {
    const from = before.get(id), to = tile.item.getBoundingClientRect();
    const moved = tile.moved;
    tile.moved = false;
    if (!from || (Math.abs(from.left - to.left) < 1 && Math.abs(from.top - to.top) < 1)) continue;
    if (!moved && tile.gliding) continue;
    const shift = `translate(${from.left - to.left}px, ${from.top - to.top}px)`;
    tile.gliding = true;
    if (moved) lift(tile, carried);
    const lifted = moved ? " scale(1.08)" : "";
    const animation = tile.item.animate([{ transform: shift }, { transform: `translate(${(from.left - to.left) / 2}px, ${(from.top - to.top) / 2 - (moved ? 18 : 0)}px)${lifted}` }, { transform: "none" }], { duration: moved ? MOVE : 260, easing: "cubic-bezier(.45, 0, .2, 1)" });
    animation.onfinish = animation.oncancel = () => {
      tile.gliding = false;
      if (moved) land(tile);
    };
  }
}

const SVG = "http://www.w3.org/2000/svg";

function lift(tile, carried) {
  tile.button.classList.add("moving");
  tile.item.style.zIndex = "4";
  tile.item.style.position = "relative";
  if (!carried || tile.wings) return;
  const svg = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 62 30");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "wings");
  path.setAttribute("d", "M31 27c-3-5-6-7-9-6-1-4-4-6-8-5-2-3-6-5-13-4C9 3 19 1 27 12l2-5 2 3 2-3 2 5C43 1 53 3 61 12c-7-1-11 1-13 4-4-1-7 1-8 5-3-1-6 1-9 6z");
  svg.append(path);
  tile.wings = svg;
  tile.button.append(svg);
}

function land(tile) {
  tile.button.classList.remove("moving");
  tile.item.style.zIndex = tile.item.style.position = "";
  tile.wings?.remove();
  tile.wings = null;
}

function newTile(container) {
  const parts = { slots: h("span", { className: "slots", "aria-hidden": "true" }), demerits: h("span", { className: "demerits", "aria-hidden": "true" }),
    condition: h("span", { className: "condition" }), word: h("span", { className: "word" }), share: h("span", { className: "share" }), due: h("i") };
  const site = container.role === "standby" ? `${container.site} · standby` : container.site;
  const button = h("button", { type: "button", className: "tile", onclick: () => openDetails(container.id) },
    h("span", { className: "tile-head" }, h("b", {}, container.id), parts.demerits), h("span", { className: "tile-site" }, site), parts.slots,
    h("span", { className: "tile-foot" }, parts.condition, parts.word, parts.share), h("span", { className: "due", "aria-hidden": "true" }, parts.due));
  const item = h("li", { className: `tile-slot${tiles.size ? " new" : ""}` }, button);
  paint(button, container.site);
  const count = Math.min(MOST_SLOTS, container.workers + container.queue), workers = Math.min(container.workers, count);
  parts.slots.append(...Array.from({ length: count }, (_, index) => h("i", { className: index < workers ? "" : index === workers ? "queue first" : "queue" })));
  return { ...parts, button, item, server: "", moved: false, gliding: false, wings: null, container, pips: 0, busy: -1 };
}

export function describe(container) {
  const state = stateOf(container);
  const words = [`${container.id} of ${container.site} on ${container.server}`, state === "slow" ? `${container.slow} times slower` : WORDS[state] ?? "running"];
  if (container.in_flight) words.push(`${container.in_flight} in flight`);
  if (container.seen) words.push(`styx: ${container.seen.condition}${container.seen.why ? ` (${container.seen.why})` : ""}, ${percent(container.seen.share)}`);
  return words.join(", ");
}

function update(tile, container, reaper) {
  const { button } = tile, state = stateOf(container), seen = container.seen;
  tile.container = container;
  if (button.dataset.state !== state) button.dataset.state = state;
  setText(tile.word, state === "slow" ? `${number(container.slow)} × slow` : WORDS[state] ?? "");
  tile.condition.dataset.condition = seen?.condition ?? "";
  tile.condition.hidden = !seen || seen.condition === "healthy";
  const share = seen && seen.condition !== "down" ? percent(seen.share) : "";
  setText(tile.share, state !== "running" ? "" : seen && seen.condition !== "healthy" && seen.condition !== "cold" ? seen.condition : share);
  const text = describe(container);
  if (button.title !== text) {
    button.title = text;
    button.setAttribute("aria-label", text);
  }
  if (tile.busy !== container.in_flight) {
    tile.busy = container.in_flight;
    for (const [index, slot] of [...tile.slots.children].entries()) slot.classList.toggle("busy", index < container.in_flight);
  }
  const pips = Math.min(5, Math.max(0, Math.ceil((seen?.points ?? 0) - 0.25)));
  if (tile.pips !== pips) {
    tile.pips = pips;
    tile.demerits.replaceChildren(...Array.from({ length: pips }, () => h("i")));
  }
  const due = reaper.on && container.due_in !== null && !container.in_flight ? Math.min(100, (100 * container.due_in) / reaper.seconds) : 0;
  tile.due.style.setProperty("--due", `${due.toFixed(0)}%`);
}

// a container in detail

const act = (id, action, body) => send("POST", `/v1/platform/containers/${id}/${action}`, body).then((done) => setText(byId("details-fault"), done ? "" : byId("fault").textContent));

function actionsFor(container) {
  const { id } = container, state = stateOf(container);
  const button = (label, action, body) => h("button", { type: "button", onclick: () => act(id, action, body) }, label);
  return [
    state === "full" ? button("Not full any more", "fill", { on: false }) : button("Fill", "fill"),
    state === "dead" ? button("Start again", "heal") : button("Kill", "kill"),
    container.slow > 1 ? button("Normal speed", "slow", { factor: 1 }) : button(`${SLOW_FACTOR} times slower`, "slow", { factor: SLOW_FACTOR }),
    button("Move", "move"),
    container.state === "asleep" ? button("Wake", "wake") : button("Put to sleep", "sleep"),
    (container.full || container.slow > 1 || state === "dead") && button("Heal", "heal"),
  ];
}

function openDetails(id) {
  shown = id;
  byId("details-actions").dataset.shown = "";
  setText(byId("details-fault"), "");
  showDetails(tiles.get(id).container, { on: false });
  byId("details").showModal();
}

function showDetails(container, reaper) {
  if (!container) return;
  const state = stateOf(container), seen = container.seen;
  setText(byId("details-title"), `${container.id} of ${container.site}`);
  const facts = [
    ["Server", `${container.server}, port ${container.port}`],
    ["State", `${state === "slow" ? `${container.slow} times slower` : WORDS[state] ?? "running"}${container.role === "standby" ? ", standby" : ""}`],
    ["Room", `${container.workers} workers, ${container.queue} may queue`],
    ["In flight, served", `${container.in_flight}, ${number(container.served)}`],
    ["Kept awake by", container.kept_by || "nothing"],
    ...(reaper.on && container.due_in !== null ? [["Sleeps in", duration(container.due_in)]] : []),
    ["Styx says", seen ? `${seen.condition}${seen.why ? `: ${seen.why}` : ""}` : "nothing yet"],
    ...(seen ? [["Its share, demerits", `${percent(seen.share)}, ${seen.points.toFixed(1)}`]] : []),
  ];
  byId("details-facts").replaceChildren(...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  const actions = byId("details-actions"), key = [container.id, state, container.full, container.slow > 1, container.state].join();
  if (actions.dataset.shown === key) return;
  const focused = [...actions.children].indexOf(document.activeElement);
  actions.dataset.shown = key;
  actions.replaceChildren(...actionsFor(container).filter(Boolean));
  if (focused >= 0) (actions.children[focused] ?? actions.firstChild).focus();
}

byId("details").addEventListener("close", () => { shown = null; });
byId("close-details").addEventListener("click", () => byId("details").close());
