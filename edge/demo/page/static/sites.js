// The sites: their goal, what part of the load they get, and a form for one more.

import { byId, h, number, setText } from "/status/dom.js";
import { latestOnly, send } from "/demo/actions.js";

const LOADS = { off: "no load", visits: "only visits", light: "light load", heavy: "heavy load" };
const COLOURS = 8;

const cards = new Map();
const order = []; // of sites as they came; colours follow it
let most = { goal: 20, sites: 8 }, styx = "", form = null;

export function setUp(start) {
  most = { goal: start.most_goal, sites: start.most_sites };
  styx = start.styx;
}

// The colour of a site, as a custom property for the style of an element.
export function paint(element, site) {
  let index = order.indexOf(site);
  if (index < 0) index = order.push(site) - 1;
  element.style.setProperty("--site", `var(--site-${index % COLOURS})`);
}

export const cardOf = (site) => cards.get(site)?.element ?? null;

export function showSites(sites, containers) {
  const list = byId("sites"), seen = new Set();
  for (const site of sites) {
    seen.add(site.site);
    let card = cards.get(site.site);
    if (!card) {
      card = newCard(site);
      cards.set(site.site, card);
      list.insertBefore(card.element, form?.parentNode === list ? form : null);
    }
    update(card, site, containers.filter((container) => container.site === site.site));
  }
  for (const [name, card] of cards) {
    if (seen.has(name)) continue;
    card.element.remove();
    cards.delete(name);
  }
  if (!form) {
    form = newForm();
    list.append(form);
  }
  form.hidden = sites.length >= most.sites;
}

function newCard(site) {
  const { site: name } = site;
  const card = { goal: h("b", { "aria-live": "polite" }), rate: h("span", { className: "rate" }), awake: h("p", { className: "awake-count" }), wanted: site.goal };
  const path = `/v1/platform/environments/${site.path}`;
  const setGoal = latestOnly((containers) => send("PATCH", path, { containers }));
  const step = (by) => {
    card.wanted = Math.min(most.goal, Math.max(0, card.wanted + by));
    card.changedAt = performance.now();
    showGoal(card);
    setGoal(card.wanted);
  };
  card.less = h("button", { type: "button", "aria-label": `One container less for ${name}`, onclick: () => step(-1) }, "−");
  card.more = h("button", { type: "button", "aria-label": `One container more for ${name}`, onclick: () => step(1) }, "+");
  card.select = h("select", { "aria-label": `Load of ${name}` }, ...Object.entries(LOADS).map(([value, text]) => h("option", { value }, text)));
  card.select.addEventListener("change", () => {
    card.chosenAt = performance.now();
    send("PATCH", "/v1/demo/load", { sites: { [name]: card.select.value } });
  });
  const link = h("a", { href: styx.replace("127.0.0.1", site.hostname), target: "_blank", rel: "noopener", title: "Open the site, through styx" }, `${site.hostname} ↗`);
  card.element = h("li", { className: "site" }, h("header", {}, h("h3", {}, name), link, card.rate),
    h("div", { className: "row" }, h("span", { className: "stepper", role: "group", "aria-label": `Goal of ${name}` }, card.less, card.goal, card.more), h("span", { className: "grow" }), card.select),
    card.awake);
  paint(card.element, name);
  return card;
}

function showGoal(card) {
  setText(card.goal, String(card.wanted));
  card.less.disabled = card.wanted <= 0;
  card.more.disabled = card.wanted >= most.goal;
}

const SETTLING = 1500; // milliseconds for which what was chosen here is shown, and not what is told

function update(card, site, containers) {
  const now = performance.now();
  if (now - (card.changedAt ?? -SETTLING) >= SETTLING) card.wanted = site.goal;
  showGoal(card);
  if (now - (card.chosenAt ?? -SETTLING) >= SETTLING && card.select.value !== site.load) card.select.value = site.load;
  const rate = number(site.rate);
  if (card.shownRate !== rate) {
    card.shownRate = rate;
    card.rate.replaceChildren(rate, h("small", {}, " /s"));
  }
  const awake = containers.filter(({ state, listening }) => state === "running" && listening).length;
  const standby = site.standby ? ` + ${site.standby} standby` : "";
  setText(card.awake, `${card.wanted} container${card.wanted === 1 ? "" : "s"} wanted${standby}, ${awake} awake`);
}

function newForm() {
  const name = h("input", { id: "new-site", maxLength: 32, pattern: "[a-z0-9]([a-z0-9\\-]{0,30}[a-z0-9])?", required: true, placeholder: "hooli", spellcheck: false, autocomplete: "off" });
  const element = h("form", { className: "add-site" }, h("label", { htmlFor: "new-site" }, "Another site"), name, h("button", { type: "submit" }, "Create"));
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await send("POST", "/v1/platform/environments", { site: name.value, containers: 2 })) name.value = "";
  });
  return h("li", {}, element);
}
