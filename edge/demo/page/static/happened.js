// What happened: told from the differences between two snapshots, the newest first.

import { byId, clock, h } from "/status/dom.js";
import { stateOf } from "/demo/servers.js";

const MOST = 60;
const BECAME = { dead: ["was killed or stopped", "error"], asleep: ["fell asleep", "info"], draining: ["is leaving", "info"], booting: ["boots for a request", "info"], full: ["is full", "warning"], slow: ["became slow", "warning"], running: ["is itself again", "info"] };
const REASONS = { closed_early: "it was being executed, and a POST is never tried twice" };
const GOOD = new Set(["healthy", "recovering", "cold"]);

let before = null;

export function differences(earlier, now) {
  const found = [], known = new Map(earlier.containers.map((container) => [container.id, container]));
  const tell = (text, level = "info") => found.push({ text, level });
  for (const container of now.containers) {
    const last = known.get(container.id), name = `${container.id} of ${container.site}`;
    known.delete(container.id);
    if (!last) {
      tell(`${name} came to ${container.server}`);
      continue;
    }
    if (last.server !== container.server) tell(`${name} moved: ${last.server} → ${container.server}`);
    const [old, state] = [stateOf(last), stateOf(container)];
    if (old !== state) tell(`${name} ${(old === "asleep" || old === "booting") && state === "running" ? "woke up" : BECAME[state][0]}`, BECAME[state][1]);
    const [saw, sees] = [last.seen?.condition, container.seen?.condition];
    // What styx sees for the first time is only told when it is bad.
    if (sees && saw !== sees && (saw || !GOOD.has(sees))) tell(`styx: ${name} ${saw ? `${saw} → ` : ""}${sees}${container.seen.why ? ` (${container.seen.why})` : ""}`, sees === "down" ? "error" : GOOD.has(sees) ? "info" : "warning");
  }
  for (const gone of known.values()) tell(`${gone.id} of ${gone.site} is gone`);
  if (earlier.core_api_up !== now.core_api_up) tell(now.core_api_up ? "the core API is up" : "the core API is down: styx goes on with what it knows", now.core_api_up ? "info" : "error");
  const lost = now.traffic.failed - earlier.traffic.failed;
  const reason = Object.entries(REASONS).find(([error]) => now.traffic.last_failure.includes(error))?.[1];
  if (lost > 0) tell(`${lost} request${lost > 1 ? "s" : ""} failed: ${now.traffic.last_failure}${reason ? `: ${reason}` : ""}`, "error");
  return found;
}

export function showHappened(snapshot) {
  const list = byId("happened");
  const news = before ? differences(before, snapshot) : [];
  before = snapshot;
  if (!news.length) return;
  list.querySelector(".none")?.remove();
  const time = clock(Date.now() / 1000);
  list.prepend(...news.reverse().map(({ text, level }) => h("li", { dataset: { level } }, h("time", {}, time), h("span", { className: "what" }, text))));
  while (list.childElementCount > MOST) list.lastElementChild.remove();
}
