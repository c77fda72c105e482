// What keeps containers awake, and when the Reaper puts them to sleep.

import { byId, duration, h, setText } from "/status/dom.js";
import { paint } from "/demo/sites.js";

const MOST = 40;
const lines = new Map();

export function showAwake({ containers, reaper }) {
  const list = byId("awake"), seen = new Set();
  const awake = containers.filter(({ state, listening }) => state === "running" && listening);
  for (const container of awake.slice(0, MOST)) {
    seen.add(container.id);
    let line = lines.get(container.id);
    if (!line) {
      line = { by: h("span", { className: "by" }), due: h("span", { className: "due-in" }) };
      line.element = h("li", {}, h("b", {}, h("i"), `${container.id} ${container.site}`), line.by, line.due);
      paint(line.element, container.site);
      lines.set(container.id, line);
      list.append(line.element);
    }
    setText(line.by, container.kept_by || "nothing");
    setText(line.due, !reaper.on || container.due_in === null ? "" : container.in_flight ? "" : `sleeps in ${duration(Math.ceil(container.due_in))}`);
  }
  for (const [id, line] of lines) {
    if (seen.has(id)) continue;
    line.element.remove();
    lines.delete(id);
  }
  list.dataset.empty = String(!awake.length);
}
