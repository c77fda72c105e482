// What is served now, in numbers, and the panels below the environments.

import { byId, clock, duration, h, milliseconds, number, percent, setText } from "/status/dom.js";

const TILES = [
  ["requests", "Requests"], ["errors", "Errors"], ["latency", "Median latency"], ["p99", "99 % within"],
  ["retries", "Retries"], ["refusals", "Refusals"], ["in-flight", "In flight"], ["connections", "Connections"],
];
const SILENT = 2; // seconds without a heartbeat
const tiles = {};

export function makeTiles() {
  for (const [name, title] of TILES) {
    const value = h("dd"), note = h("dd", { className: "note" });
    tiles[name] = { box: h("div", {}, h("dt", {}, title), value, note), value, note };
    byId("now").append(tiles[name].box);
  }
}

function tile(name, text, unit = "", note = "", tone = "") {
  const { box, value, note: noteElement } = tiles[name];
  const shown = `${text}|${unit}`;
  if (value.dataset.shown !== shown) {
    value.dataset.shown = shown;
    value.replaceChildren(text, ...(unit ? [h("small", {}, unit)] : []));
  }
  setText(noteElement, note);
  box.dataset.tone = tone;
}

export function showNow(now) {
  const blamed = { backend: now.by_blame.backend, "core API": now.by_blame.core, edge: now.by_blame.edge, client: now.by_blame.client };
  const errors = now.by_blame.backend + now.by_blame.core + now.by_blame.edge;
  const who = Object.entries(blamed).filter(([, rate]) => rate > 0).map(([name, rate]) => `${name} ${number(rate)}`);
  const part = now.requests ? errors / now.requests : 0;
  tile("requests", number(now.requests), "/s", `${size(now.bytes_out)}/s sent`);
  tile("errors", percent(part), "", who.length ? `${who.join(", ")} /s` : "none", part > 0.01 ? "bad" : part > 0 ? "warn" : "");
  tile("latency", milliseconds(now.p50), "", `95 % within ${milliseconds(now.p95)}`);
  tile("p99", milliseconds(now.p99), "", "of the last seconds");
  tile("retries", number(now.retries), "/s", "failed attempts made good");
  tile("refusals", number(now.refusals), "/s", "containers that were full");
  tile("in-flight", number(now.in_flight), "", "requests");
  tile("connections", number(now.connections), "", "of clients");
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let at = 0;
  for (; bytes >= 1000 && at < 3; at += 1) bytes /= 1000;
  return `${bytes < 10 && at ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
}

function facts(id, rows) {
  const list = byId(id);
  rows = rows.filter(Boolean);
  const shown = JSON.stringify(rows);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...rows.flatMap(([name, value, tone]) => [h("dt", {}, name), h("dd", { dataset: { tone: tone ?? "" } }, value)]));
}

export function showRoutes(routes, source) {
  const isFile = source.kind === "file";
  facts("routes", [
    ["Hostnames with a route", number(routes.known)], ["ready to use", number(routes.ready)],
    ["Unknown hostnames", number(routes.unknown_hosts)], ["Environments", number(routes.environments)],
    ["Found in the cache", percent(routes.hit_ratio)],
    routes.not_accepted > 0 && ["Responses not accepted", number(routes.not_accepted), "warn"],
    isFile ? ["File of routes", source.up ? "in use" : "cannot be used", source.up ? "good" : "bad"]
      : ["Core API", source.up ? "responds" : "fails", source.up ? "good" : "bad"],
    isFile && source.held_back > 0 && ["Hostnames held back", number(source.held_back), "warn"],
    isFile && ["Hostnames in the file", number(source.hostnames)],
    !isFile && ["Lookups", `${number(source.lookups)} /s`], !isFile && source.failures > 0 && ["Failed lookups", `${number(source.failures)} /s`, "bad"],
    !isFile && ["Lookup time, median", milliseconds(source.p50)],
    !isFile && ["Stream of changes", source.changes_up ? "connected" : "not connected", source.changes_up ? "good" : "warn"],
    !isFile && source.changes_silence !== null && ["last heard", `${duration(source.changes_silence)} ago`],
    source.problem && ["Problem", source.problem, "bad"],
  ]);
}

function table(id, headings, rows, empty) {
  const place = byId(id), shown = JSON.stringify(rows);
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  if (!rows.length) {
    place.replaceChildren(h("p", { className: "quiet" }, empty));
    return;
  }
  const cell = (value) => h("td", {}, ...(Array.isArray(value) ? [h("span", { className: "dot", dataset: { tone: value[0] } }), value[1]] : [value]));
  place.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ...headings.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map(cell))))));
}

export function showWorkers(workers) {
  table("workers", ["worker", "in flight", "clients", "loop lag", "heard"], workers.map((worker) => [
    [worker.heard > SILENT ? "bad" : worker.leaving ? "warn" : "good", `${worker.slot}${worker.leaving ? " (leaving)" : ""} · ${worker.pid}`],
    number(worker.in_flight), number(worker.connections), milliseconds(worker.lag_ms), worker.heard > SILENT ? `silent for ${duration(worker.heard)}` : "now",
  ]), "No worker runs.");
}

// What is wrong with the edge as a whole, in words that stay the same while it lasts.
export function showTrouble(source, workers) {
  const silent = workers.filter((worker) => worker.heard > SILENT).map((worker) => worker.slot);
  const said = [
    !source.up && (source.kind === "file" ? "The file of routes cannot be used: the routes of before are served."
      : "The core API fails: known hostnames are served from the cache, others get 503."),
    silent.length && `No heartbeat from ${silent.length > 1 ? "workers" : "worker"} ${silent.join(", ")}.`,
  ].filter(Boolean).join(" ");
  byId("trouble").hidden = !said;
  setText(byId("trouble"), said);
}

export function showListeners(listeners) {
  table("listeners", ["address", "open", "waiting"], listeners.map(({ address, connections, queue }) => [address, number(connections), number(queue)]), "None.");
}

export function showDrains(drains, at, end) {
  const place = byId("drains"), shown = JSON.stringify([drains.map(({ seconds, ...rest }) => rest), Boolean(end)]);
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  place.replaceChildren(...(drains.length ? drains.map((drain) => h("div", { className: "card-head drain" },
    h("span", {}, `${drain.kind} `, h("b", {}, drain.name)), h("span", { className: "grow" }),
    h("span", { className: "quiet" }, `by ${drain.by || "unknown"}, until ${clock(drain.until)}`),
    end && h("button", { type: "button", onclick: () => end(drain) }, "End"))) : [h("p", { className: "quiet" }, "None.")]));
}

export function showCertificates(certificates) {
  byId("certificates-card").hidden = !certificates.length;
  const place = byId("certificates"), shown = JSON.stringify(certificates.map((found) => ({ ...found, days_left: Math.floor(found.days_left) })));
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  place.replaceChildren(...certificates.map(({ name, days_left, more_names, source, last_error }) => h("li", {},
    h("span", {}, more_names ? `${name} and ${more_names} more` : name, " ", h("span", { className: "quiet" }, source && `from ${source}`),
      last_error && h("div", { className: "fault" }, last_error)),
    h("span", { className: `days ${days_left < 7 ? "fault" : ""}` }, days_left < 0 ? "expired" : `${Math.floor(days_left)} days`))));
}

export function showEvents(events) {
  const list = byId("events"), shown = events.length ? `${events[0].at}${events[0].text}${events.length}` : "none";
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...(events.length ? events.map((event) => h("li", { dataset: { level: event.level } },
    h("time", { dateTime: new Date(event.at * 1000).toISOString() }, clock(event.at)), h("span", { className: "by" }, event.by),
    h("span", { className: "what" }, event.text, " ", h("span", { className: "fields" }, event.fields)))) : [h("li", { className: "quiet" }, "Nothing to report.")]));
}
