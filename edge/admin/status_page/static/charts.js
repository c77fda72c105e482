// The charts of the last five minutes: uPlot on a canvas, in the colours of the theme.

import uPlot from "/status/uplot/uPlot.esm.js";
import { byId, milliseconds, number } from "/status/dom.js";

const MOST_POINTS = 300;
const HEIGHT = 190;
const COLUMNS = ["at", "nobody", "client", "backend", "core", "edge", "p50", "p95", "p99", "retries", "refusals"];

const CHARTS = [
  { id: "chart-requests", show: number, series: [
    { label: "fine", column: "nobody", colour: "--c-ok", fill: true }, { label: "client", column: "client", colour: "--c-client" },
    { label: "backend", column: "backend", colour: "--c-backend" }, { label: "core API", column: "core", colour: "--c-core" },
    { label: "edge", column: "edge", colour: "--c-edge" } ] },
  { id: "chart-latency", show: milliseconds, series: [
    { label: "median", column: "p50", colour: "--c-ok", fill: true }, { label: "95 %", column: "p95", colour: "--c-core" },
    { label: "99 %", column: "p99", colour: "--c-backend" } ] },
  { id: "chart-retries", show: number, series: [
    { label: "retries", column: "retries", colour: "--c-core", fill: true }, { label: "refusals", column: "refusals", colour: "--c-edge" } ] },
];

const data = Object.fromEntries(COLUMNS.map((name) => [name, []]));
let plots = [];

export function setHistory(history) {
  for (const name of COLUMNS) data[name] = history[name] ?? [];
  draw();
}

export function addPoint(at, now) {
  const last = data.at.at(-1);
  if (last !== undefined && at <= last) return;
  const point = { at, ...now.by_blame, ...now };
  for (const name of COLUMNS) {
    data[name].push(point[name] ?? null);
    if (data[name].length > MOST_POINTS) data[name].shift();
  }
  draw();
}

function draw() {
  if (document.hidden) return;
  for (const { chart, plot } of plots) {
    plot.setData([data.at, ...chart.series.map(({ column }) => data[column])]);
    if (plot.cursor.left < 0) plot.setLegend({ idx: data.at.length - 1 }); // nobody points at it: the latest values
  }
}

// Makes the charts, again when the theme has changed.
export function makeCharts() {
  for (const { plot } of plots) plot.destroy();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  plots = CHARTS.map((chart) => {
    const place = byId(chart.id);
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const plot = new uPlot({
      width: Math.max(200, place.clientWidth), height: HEIGHT - 24, padding: [8, 8, 0, 0],
      cursor: { points: { size: 6 }, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(1, (high ?? 0) * 1.12)] } },
      axes: [{ ...axis, space: 76, size: 26, incrs: [5, 10, 20, 30, 60, 120, 300], values: (_, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString([], { hour12: false, minute: "2-digit", hour: "2-digit", second: "2-digit" })) },
        { ...axis, size: 46, space: 34, values: (_, ticks) => ticks.map(number) }],
      series: [{ value: (_, at) => (at ? new Date(at * 1000).toLocaleTimeString([], { hour12: false }) : "") },
        ...chart.series.map(({ label, colour: name, fill }) => ({
          label, stroke: colour(name), width: 1.8, points: { show: false }, spanGaps: false,
          fill: fill ? `${colour(name)}22` : undefined, value: (_, value) => chart.show(value) }))],
    }, [data.at, ...chart.series.map(({ column }) => data[column])], place);
    return { chart, plot, place };
  });
}

export function watchSizes() {
  const observer = new ResizeObserver(() => {
    for (const { plot, place } of plots) {
      const width = Math.max(200, place.clientWidth);
      if (width !== plot.width) plot.setSize({ width, height: HEIGHT - 24 });
    }
  });
  for (const { id } of CHARTS) observer.observe(byId(id));
  document.addEventListener("visibilitychange", draw);
}
