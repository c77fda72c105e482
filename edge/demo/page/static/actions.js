// What the page asks its server to do. A request that fails is told in one place, for a while.

import { byId, setText } from "/status/dom.js";

const FAULT_SHOWN = 8000; // milliseconds
const ANSWER_WITHIN = 40_000;
let timer = 0;

export function tell(fault) {
  clearTimeout(timer);
  byId("fault").hidden = !fault;
  setText(byId("fault"), fault);
  if (fault) timer = setTimeout(() => tell(""), FAULT_SHOWN);
}

// Sends a request; returns whether it was done.
export async function send(method, path, body = {}) {
  try {
    const response = await fetch(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(ANSWER_WITHIN) });
    if (response.ok) {
      tell("");
      return true;
    }
    tell((await response.json().catch(() => ({}))).error ?? `The demo answered with status ${response.status}.`);
  } catch {
    tell("The demo cannot be reached, or did not answer in time.");
  }
  return false;
}

// Sends at most one request at a time, and then the latest of those that were asked for meanwhile.
export function latestOnly(act) {
  let busy = false, waiting = null;
  return async function ask(...values) {
    waiting = values;
    if (busy) return;
    busy = true;
    while (waiting) {
      const now = waiting;
      waiting = null;
      await act(...now);
    }
    busy = false;
  };
}
