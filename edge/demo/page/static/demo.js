// The page of the demo: receives five snapshots a second, shows them, and lets one do things to the platform.

import { stream } from "/status/connection.js";
import { byId, h, milliseconds, number, setText } from "/status/dom.js";
import { showThemes } from "/status/theme.js";
import { latestOnly, send } from "/demo/actions.js";
import { showAwake } from "/demo/awake.js";
import * as dots from "/demo/dots.js";
import { showHappened } from "/demo/happened.js";
import * as servers from "/demo/servers.js";
import * as sites from "/demo/sites.js";

const PERIOD = 200; // milliseconds between two snapshots
const COUNTS = [
  ["sent", "Sent", ""], ["ok", "At once", "ok"], ["retried", "Retried, then fine", "retried"], ["refused", "Refused: all full", "refused"],
  ["failed", "Failed", "failed"], ["latency", "Median latency", ""], ["lookups", "Lookups", ""],
];

showThemes(dots.readColours);
dots.readColours();

// what is counted

const cells = new Map();
byId("counts").append(...COUNTS.map(([name, label, outcome]) => {
  const value = h("span"), note = h("span", { className: "note" });
  cells.set(name, { value, note });
  return h("div", { dataset: { outcome } }, h("dt", {}, outcome && h("i"), label), h("dd", {}, value), h("dd", { className: "note" }, note));
}));

function showCounts({ traffic, lookups, styx_retries, core_api_up }) {
  const show = (name, value, note) => {
    setText(cells.get(name).value, value);
    setText(cells.get(name).note, note);
  };
  show("sent", number(traffic.sent), traffic.skipped ? `${number(traffic.rate)} /s, ${number(traffic.skipped)} not sent: too many at once` : `${number(traffic.rate)} /s`);
  show("ok", number(traffic.ok), "");
  show("retried", number(traffic.retried), styx_retries === null ? "" : `styx: ${number(styx_retries)} retries /s`);
  show("refused", number(traffic.refused), traffic.refused ? "503, try again later" : "");
  show("failed", number(traffic.failed), traffic.failed ? `last: ${traffic.last_failure}` : traffic.sent ? "none was lost" : "");
  show("latency", milliseconds(traffic.p50), traffic.p95 === null ? "" : `95 % within ${milliseconds(traffic.p95)}`);
  show("lookups", number(lookups), core_api_up ? "at the core API" : "the core API is down");
}

// controls

const rate = byId("rate");
let rateChangedAt = -Infinity;
const showRate = () => setText(byId("rate-shown"), rate.value === "0" ? "none" : `${rate.value} requests/s`);
const setRate = latestOnly((value) => send("PATCH", "/v1/demo/load", { rate: value }));
rate.addEventListener("input", () => {
  rateChangedAt = performance.now();
  showRate();
  setRate(Number(rate.value));
});
const isOn = (id) => byId(id).getAttribute("aria-checked") === "true";
for (const name of ["reaper", "dragon"]) {
  byId(name).addEventListener("click", () => send("PATCH", `/v1/platform/upkeep/${name}`, { on: !isOn(name) }));
}
byId("core-api").addEventListener("click", () => send("PATCH", "/v1/demo/core-api", { up: !isOn("core-api") }));
byId("heal").addEventListener("click", () => send("POST", "/v1/demo/heal"));

function showControls({ traffic, reaper, dragon, core_api_up }) {
  if (performance.now() - rateChangedAt > 1500 && rate.value !== String(traffic.wanted)) rate.value = String(traffic.wanted);
  showRate();
  for (const [id, on] of [["reaper", reaper.on], ["dragon", dragon.on], ["core-api", core_api_up]]) {
    if (isOn(id) !== on) byId(id).setAttribute("aria-checked", String(on));
  }
  setText(byId("reaper-note"), reaper.on ? `idle for ${number(reaper.seconds)} s → asleep; ${number(reaper.acted)} so far` : "idle containers sleep");
  setText(byId("dragon-note"), dragon.on ? (core_api_up ? `${number(dragon.acted)} moved${dragon.last ? `; ${dragon.last}` : ""}` : "rests: nobody could be told") : "moves containers, all the time");
  setText(byId("core-api-note"), core_api_up ? "tells styx where containers are" : "down: styx knows what it knows");
}

// what arrives

const placeOf = {
  site: (name) => dots.middle(sites.cardOf(name), 1),
  container: (id) => dots.middle(servers.tileOf(id), 0.6),
  river: () => dots.middle(document.querySelector(".river")).y,
};

function showDotsNote({ drawn_each, traffic }) {
  const sampled = drawn_each > 1 ? `Of the requests that succeed at once, one in ${drawn_each} is drawn; of the others, each one.` : "Each dot is one request.";
  setText(byId("dots-note"), dots.isCalm() ? "Requests are not drawn, because your system asks for less motion." : traffic.wanted ? sampled : "There is no load.");
}

function received(event, data) {
  if (event === "history") {
    sites.setUp(data);
    rate.max = String(data.most_rate);
    byId("status-page").href = data.status_page;
  }
  if (event !== "snapshot") return;
  showControls(data);
  showCounts(data);
  sites.showSites(data.sites, data.containers);
  servers.showServers(data);
  showAwake(data);
  showHappened(data);
  showDotsNote(data);
  dots.fly(data.dots, PERIOD, placeOf);
  document.documentElement.dataset.ready = "true";
}

function changed(problem) {
  const stage = byId("stage");
  byId("lost").hidden = !problem;
  setText(byId("lost"), problem ? "No connection to the demo: it has ended, or it is busy. Trying again." : "");
  stage.dataset.stage = problem ? "lost" : "ready";
  setText(stage, problem ? "no connection" : "live");
}

stream("/v1/demo/stream", received, changed);
