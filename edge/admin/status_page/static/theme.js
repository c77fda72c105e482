// The theme of a page, light or dark: as the system has it, or as chosen with the button, and kept in this browser.

import { byId } from "/status/dom.js";

const THEMES = ["", "light", "dark"];
const NAMES = { "": "as the system", light: "light", dark: "dark" };

function show(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-label", `Theme: ${NAMES[theme]}`);
  byId("theme").title = `Theme: ${NAMES[theme]}`;
}

// Shows the theme that was chosen last, and lets the button choose. `redraw` is called when the colours have changed.
export function showThemes(redraw) {
  const chosen = localStorage.getItem("theme") ?? "";
  show(THEMES.includes(chosen) ? chosen : "");
  byId("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    localStorage.setItem("theme", next);
    show(next);
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
