// The search box: what the workers know about a hostname, in the words of `styx explain`.

import { byId, h } from "/status/dom.js";
import { reason, request } from "/status/connection.js";

let current = "", asked = 0;

export function setUp(mayAct) {
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    explainHostname(byId("hostname").value);
  });
  byId("close-explanation").addEventListener("click", close);
  byId("look-up-again").addEventListener("click", async () => {
    const response = await request("/v1/invalidate", { body: { kind: "hostname", name: current } });
    if (!response.ok) show(h("p", { className: "fault" }, await reason(response)));
    else explainHostname(current);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      byId("hostname").focus();
      byId("hostname").select();
    } else if (event.key === "Escape" && !byId("explanation").hidden && !document.querySelector("dialog[open]")) {
      close();
    }
  });
  addEventListener("hashchange", fromAddress);
  showRights(mayAct);
  fromAddress();
}

export function showRights(mayAct) {
  byId("look-up-again").hidden = !mayAct;
}

function fromAddress() {
  const match = location.hash.match(/^#explain=(.+)$/);
  if (match) explainHostname(decodeURIComponent(match[1]));
}

function close() {
  byId("explanation").hidden = true;
  current = "";
  history.replaceState(null, "", location.pathname);
  byId("hostname").focus();
}

function show(...children) {
  byId("explained").replaceChildren(...children);
}

export async function explainHostname(text) {
  text = text.trim();
  if (!text) return;
  const number = (asked += 1);
  byId("hostname").value = text;
  byId("explanation").hidden = false;
  byId("explained-title").textContent = text;
  history.replaceState(null, "", `#explain=${encodeURIComponent(text)}`);
  let shown;
  try {
    const response = await request(`/v1/routes/${encodeURIComponent(text)}/explain`, { accept: "text/plain" });
    shown = response.ok ? h("pre", { tabIndex: 0 }, await response.text()) : h("p", { className: "fault" }, await reason(response));
  } catch {
    shown = h("p", { className: "fault" }, "The edge cannot be reached.");
  }
  if (number !== asked) return; // another one was asked for meanwhile
  current = text;
  show(shown);
  byId("explained-title").focus();
  byId("explanation").scrollIntoView({ block: "nearest" });
}
