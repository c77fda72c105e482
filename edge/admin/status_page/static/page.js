// The status page: receives a snapshot each second, and shows it.

import { addPoint, makeCharts, setHistory, watchSizes } from "/status/charts.js";
import { hasToken, reason, request, stream, useToken } from "/status/connection.js";
import { byId, duration, h, milliseconds, number, percent, setText } from "/status/dom.js";
import * as environments from "/status/environments.js";
import * as explanation from "/status/explanation.js";
import * as panels from "/status/panels.js";
import { showThemes } from "/status/theme.js";
import * as top from "/status/top.js";

const DRAIN_SECONDS = 600;
const MOST_CHANGES = 40, MOST_EVENTS = 60;
let mayAct = false, last = null;
const changes = []; // of the conditions of containers, as this page saw them; the newest first

showThemes(makeCharts);

// what arrives

function received(event, data) {
  if (event === "history") setHistory(data);
  if (event !== "snapshot") return;
  const first = last === null;
  last = data;
  setText(byId("edge"), data.edge || "styx");
  document.title = `${data.edge || "styx"} · styx status`;
  const stage = byId("stage");
  stage.dataset.stage = data.stage;
  setText(stage, data.reason ? `${data.stage}: ${data.reason}` : data.stage);
  setText(byId("version"), `styx ${data.version}`);
  panels.showNow(data.now);
  addPoint(data.at, data.now);
  top.showTop(data.environments.top);
  environments.showEnvironments(data.environments);
  panels.showRoutes(data.routes, data.source);
  panels.showWorkers(data.workers);
  panels.showTrouble(data.source, data.workers);
  panels.showListeners(data.listeners);
  panels.showDrains(data.drains, data.at, mayAct ? endDrain : null);
  panels.showCertificates(data.certificates);
  panels.showEvents([...data.events, ...changes].sort((one, other) => other.at - one.at).slice(0, MOST_EVENTS));
  if (first) performance.mark("first-snapshot"); // since when there is something to see
}

function changed(problem, status) {
  const lost = byId("lost");
  lost.hidden = !problem;
  if (!problem) return askRights();
  const stage = byId("stage");
  stage.dataset.stage = "lost";
  setText(stage, "no connection");
  setText(lost, status === 401 ? problem : `No connection: ${problem}. Trying again.`);
  if (status === 401) {
    byId("unlock").hidden = false;
    openTokenDialog();
  }
  return undefined;
}

const GOOD = new Set(["healthy", "recovering", "cold"]);

function noteChange(environment, container, before) {
  const level = container.condition === "down" ? "error" : GOOD.has(container.condition) ? "info" : "warning";
  changes.unshift({ at: last.at, level, by: "this page", code: "condition", text: `${environment}/${container.id}: ${before} → ${container.condition}`, fields: container.why });
  changes.length = Math.min(changes.length, MOST_CHANGES);
}

// rights

async function askRights() {
  const response = await request("/v1/rights").catch(() => null);
  if (!response?.ok) return;
  mayAct = (await response.json()).may_act;
  setText(byId("rights"), mayAct ? "may change things" : "read only");
  byId("unlock").hidden = mayAct && !hasToken();
  setText(byId("unlock"), hasToken() ? "Lock" : "Unlock");
  explanation.showRights(mayAct);
  if (last) panels.showDrains(last.drains, last.at, mayAct ? endDrain : null);
}

function openTokenDialog() {
  byId("token-fault").textContent = "";
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
}
byId("unlock").addEventListener("click", () => {
  if (!hasToken()) return openTokenDialog();
  useToken("");
  return reconnect();
});
byId("token-cancel").addEventListener("click", () => byId("token-dialog").close());
byId("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  useToken(byId("token").value.trim());
  const response = await request("/v1/rights").catch(() => null);
  if (response?.ok) {
    byId("token-dialog").close();
    byId("token").value = "";
    reconnect();
  } else {
    useToken("");
    byId("token-fault").textContent = response ? await reason(response) : "The edge cannot be reached.";
  }
});

// a container in detail

async function act(path, body, fault) {
  const response = await request(path, { body }).catch(() => null);
  if (response?.ok) byId("details").close();
  else fault.textContent = response ? await reason(response) : "The edge cannot be reached.";
}

const endDrain = (drain) => act("/v1/drains", { kind: drain.kind, name: drain.name, seconds: 0 }, byId("lost"));

function openContainer(environment, container) {
  const name = `${environment.site}/${environment.environment}/${container.id}`;
  const rows = [
    ["Condition", environments.CONDITIONS[container.condition] ?? container.condition], container.why && ["Because", container.why],
    ["Share of the requests", percent(container.share)], ["Demerits", container.points.toFixed(2)], ["Requests in flight", number(container.in_flight)],
    ["Typical response", milliseconds(container.typical_ms)], ["Failed responses", percent(container.error_ratio)],
    container.rests_for > 0 && ["Rests for", duration(container.rests_for)],
    container.next_probe !== null && ["Tried again in", duration(container.next_probe)],
    ...container.failures.map(({ cause, count, age }) => [cause.replaceAll("_", " "), `${number(count)} times, last ${duration(age)} ago`]),
    ["Address", container.address], container.server && ["Server", container.server],
  ].filter(Boolean);
  byId("details-title").textContent = name;
  const fault = h("p", { className: "fault", role: "alert" });
  const drain = (kind, target, label) => h("button", { type: "button", onclick: () => act("/v1/drains", { kind, name: target, seconds: DRAIN_SECONDS }, fault) }, label);
  byId("details-body").replaceChildren(
    h("dl", { className: "facts" }, ...rows.flatMap(([title, value]) => [h("dt", {}, title), h("dd", {}, value)])), fault,
    h("div", { className: "buttons" },
      h("button", { type: "button", onclick: () => { byId("details").close(); explanation.explainHostname(environment.hostname); } }, "Explain its hostname"),
      mayAct && drain("backend", name, "Drain it for 10 min"), mayAct && container.server && drain("server", container.server, `Drain ${container.server}`)));
  byId("details").showModal();
}
byId("close-details").addEventListener("click", () => byId("details").close());

// start

panels.makeTiles();
makeCharts();
watchSizes();
environments.setUp({ openContainer, explainHostname: explanation.explainHostname, noteChange });
top.setUp({ explainHostname: explanation.explainHostname });
explanation.setUp(mayAct);
const reconnect = stream("/v1/status/stream", received, changed);
