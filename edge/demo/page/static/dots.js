// Requests as dots on a canvas: from their site over the river to the containers that they tried. Shapes differ as the
// colours do. What is drawn is bounded, and nothing is drawn while nobody can see it.

import { byId } from "/status/dom.js";

const MOST_DOTS = 500, MOST_RINGS = 150;
const LEG = 560, RING = 420, TRAIL = 46; // milliseconds
const RADIUS = 3.6;
const COLOURS = { ok: "--ok", retried: "--retried", refused: "--refused", failed: "--failed" };

const canvas = byId("dots"), stage = byId("stage-of-all"), pen = canvas.getContext("2d");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dots = [], rings = [];
let colours = {}, frame = 0, scale = 1;

export const isCalm = () => calm.matches;
export const count = () => dots.length;

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  colours = Object.fromEntries(Object.entries(COLOURS).map(([outcome, name]) => [outcome, style.getPropertyValue(name).trim()]));
}

new ResizeObserver(() => {
  scale = Math.min(2, devicePixelRatio || 1);
  canvas.width = Math.round(stage.clientWidth * scale);
  canvas.height = Math.round(stage.clientHeight * scale);
}).observe(stage);

// The middle of an element, in the coordinates of the canvas: where it is laid out, also while it glides there. null
// if there is no such element.
export function middle(element, down = 0.5) {
  if (!element) return null;
  let x = element.offsetWidth / 2, y = element.offsetHeight * down;
  for (let box = element; box && box !== stage; box = box.offsetParent) {
    x += box.offsetLeft;
    y += box.offsetTop;
  }
  return { x, y, spread: element.offsetWidth * 0.38 };
}

const near = ({ x, y, spread = 0 }, part = 1) => ({ x: x + (Math.random() * 2 - 1) * spread * part, y });

// The points that a dot comes to, one after the other.
function way(dot, placeOf) {
  const from = placeOf.site(dot.site);
  if (!from) return null;
  const river = placeOf.river(), start = near(from);
  const points = [start];
  for (const id of dot.tried) {
    const place = placeOf.container(id);
    if (place) points.push(near(place, 0.7));
  }
  const last = dot.container ? placeOf.container(dot.container) : null;
  const water = { x: start.x + (Math.random() * 2 - 1) * 40, y: river };
  if (dot.outcome === "retried" && points.length === 1) points.push(water); // whom it tried first is not known
  if (last) points.push(near(last, 0.7));
  else if (dot.outcome === "refused") points.push(...(points.length === 1 ? [water] : []), near(from));
  else points.push(water);
  return points;
}

// Lets dots fly. `delay`: milliseconds from the time of a dot until it is shown.
export function fly(list, delay, placeOf) {
  if (calm.matches || document.hidden) return;
  const now = performance.now();
  for (const [ago, outcome, site, container, tried] of list) {
    if (dots.length >= MOST_DOTS) break;
    const points = way({ outcome, site, container, tried }, placeOf);
    if (points) dots.push({ begins: now + Math.max(0, delay - ago), outcome, points, river: placeOf.river(), leg: 0, sinks: !container && outcome === "failed" });
  }
  if (dots.length && !frame) frame = requestAnimationFrame(draw);
}

// A curve over the river between two points.
function at(dot, leg, part) {
  const [from, to] = [dot.points[leg], dot.points[leg + 1]];
  const eased = part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2;
  const bend = { x: (from.x + to.x) / 2, y: leg ? Math.min(dot.river, from.y, to.y) + 10 : (from.y + to.y) / 2 };
  const rest = 1 - eased;
  return { x: rest * rest * from.x + 2 * rest * eased * bend.x + eased * eased * to.x, y: rest * rest * from.y + 2 * rest * eased * bend.y + eased * eased * to.y };
}

function mark(outcome, { x, y }, radius) {
  pen.beginPath();
  if (outcome === "refused") pen.rect(x - radius, y - radius, 2 * radius, 2 * radius);
  else if (outcome === "failed") {
    const far = radius * 1.35;
    pen.moveTo(x, y - far);
    pen.lineTo(x + far, y);
    pen.lineTo(x, y + far);
    pen.lineTo(x - far, y);
    pen.closePath();
  } else pen.arc(x, y, radius, 0, 2 * Math.PI);
  if (outcome === "retried") {
    pen.lineWidth = 2.4;
    pen.stroke();
  } else pen.fill();
}

function ring(point, colour) {
  if (rings.length < MOST_RINGS) rings.push({ point, colour, begins: performance.now() });
}

function draw(now) {
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  for (let index = rings.length - 1; index >= 0; index -= 1) {
    const { point, colour, begins } = rings[index], part = (now - begins) / RING;
    if (part >= 1) {
      rings.splice(index, 1);
      continue;
    }
    pen.globalAlpha = 0.6 * (1 - part);
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(point.x, point.y, RADIUS + 11 * Math.max(0, part), 0, 2 * Math.PI);
    pen.stroke();
  }
  for (let index = dots.length - 1; index >= 0; index -= 1) {
    const dot = dots[index], elapsed = now - dot.begins;
    if (elapsed < 0) continue;
    const leg = Math.floor(elapsed / LEG), last = dot.points.length - 1;
    while (dot.leg < Math.min(leg, last)) {
      dot.leg += 1;
      const isEnd = dot.leg === last;
      ring(dot.points[dot.leg], isEnd ? colours[dot.outcome] : colours.retried);
    }
    if (leg >= last) {
      dots.splice(index, 1);
      continue;
    }
    const part = (elapsed % LEG) / LEG, here = at(dot, leg, part), before = at(dot, leg, Math.max(0, part - TRAIL / LEG));
    pen.strokeStyle = pen.fillStyle = colours[dot.outcome];
    pen.globalAlpha = 0.28;
    pen.lineWidth = RADIUS * 1.1;
    pen.lineCap = "round";
    pen.beginPath();
    pen.moveTo(before.x, before.y);
    pen.lineTo(here.x, here.y);
    pen.stroke();
    pen.globalAlpha = dot.sinks ? 1 - 0.6 * part : 1;
    mark(dot.outcome, here, dot.outcome === "ok" ? RADIUS : RADIUS + 1);
  }
  pen.globalAlpha = 1;
  frame = dots.length || rings.length ? requestAnimationFrame(draw) : 0;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return;
  dots.length = rings.length = 0;
});
