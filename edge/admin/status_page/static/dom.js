// Builds elements, never from text as HTML, and formats numbers.

export const byId = (id) => document.getElementById(id);

// h("li", {className: "a", dataset: {tone: "bad"}, title: "..."}, "text", child, ...)
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("aria-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return element;
}

// Sets the text only when it differs, so that nothing is laid out again in vain.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 100_000) return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
  return Intl.NumberFormat("en", { maximumFractionDigits: value < 10 && value % 1 ? 1 : 0 }).format(value);
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${number(value / 1000)} s`;
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export function percent(part) {
  const value = 100 * part;
  return value > 0 && value < 0.1 ? "< 0.1 %" : `${value < 10 && value % 1 >= 0.05 ? value.toFixed(1) : Math.round(value)} %`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(1).replace(/\.0$/, "")} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  let rest = Math.round(seconds);
  for (const [at, [size, unit]] of units.entries()) {
    if (rest < size) continue;
    const count = Math.floor(rest / size);
    rest -= count * size;
    const [smaller, name] = units[at + 1] ?? [1, "s"];
    const more = Math.floor(rest / smaller);
    return more ? `${count} ${unit} ${more} ${name}` : `${count} ${unit}`;
  }
  return "";
}

export const clock = (epoch) => new Date(epoch * 1000).toLocaleTimeString([], { hour12: false });
