// The sites with most requests, most failures, and the slowest of the busiest: three short lists, each row opens an explanation.

import { byId, h, milliseconds, number, percent, setText } from "/status/dom.js";

// key, title, what is measured, its text, what else is told, the text of an empty list
const LISTS = [
  ["rate", "Most requests", (site) => site.requests_per_second, (value) => `${number(value)} /s`, (site) => milliseconds(site.mean_ms), "No site has had a request yet."],
  ["errors", "Most errors", (site) => site.failures_per_second, (value) => `${number(value)} /s`, (site) => `${percent(site.error_ratio)} of them`, "No site has had an error."],
  ["latency", "Slowest of the busiest", (site) => site.mean_ms, milliseconds, (site) => `${number(site.requests_per_second)} /s`, "No site has had a request yet."],
];
const lists = {};
let explain = () => {};

export function setUp({ explainHostname }) {
  explain = explainHostname;
  for (const [key, title, , , , empty] of LISTS) {
    const list = h("ol", { className: "top-list", "aria-label": title });
    const none = h("p", { className: "quiet", hidden: true }, empty);
    lists[key] = { list, none, rows: [] };
    byId("top-lists").append(h("div", { className: "card", dataset: { list: key } }, h("h3", {}, title), list, none));
  }
}

function newRow() {
  const name = h("span", { className: "name" }), value = h("b"), note = h("span", { className: "note" }), bar = h("i", { "aria-hidden": "true" });
  const button = h("button", { type: "button" }, name, " ", value, " ", note, bar);
  const row = { item: h("li", {}, button), button, name, value, note, bar, site: null };
  button.addEventListener("click", () => explain(row.site.hostname));
  return row;
}

// Rows keep their place and their focus; only what they show changes.
export function showTop(top) {
  byId("top").hidden = !top;
  if (!top) return;
  setText(byId("top-seconds"), top.seconds < 60 ? "since the start" : "of the last minute or two");
  for (const [key, , measure, text, more] of LISTS) {
    const { list, none, rows } = lists[key];
    const sites = top[key], most = Math.max(...sites.map(measure), 1e-9);
    while (rows.length < sites.length) rows.push(newRow());
    for (const [at, row] of rows.entries()) {
      const site = sites[at];
      if (!site) {
        row.item.remove();
        continue;
      }
      row.site = site;
      const name = `${site.site}/${site.environment}`;
      setText(row.name, name);
      row.name.title = name;
      setText(row.value, text(measure(site)));
      setText(row.note, more(site));
      row.button.disabled = !site.hostname;
      row.button.title = site.hostname ? `Explain ${site.hostname}` : "No route of it is known any more";
      row.bar.style.setProperty("--share", Math.max(0.01, measure(site) / most).toFixed(3));
      if (!row.item.isConnected) list.append(row.item);
    }
    none.hidden = sites.length > 0;
  }
}
