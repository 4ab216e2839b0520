// A uPlot chart in the colours of the page, as wide as there is room.

import { html, useEffect, useRef, useState } from "./dom.js";
import { duration } from "./format.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const HEIGHT = 170;

export function Chart({ title, kind, data, summary }) {
  const place = useRef(null);
  const chart = useRef(null);
  const [scheme, setScheme] = useState(dark.matches);
  useEffect(() => {
    const changed = () => setScheme(dark.matches);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);
  useEffect(() => {
    const width = () => Math.max(200, place.current.clientWidth);
    chart.current = new uPlot(options(kind, width()), data, place.current);
    const resized = new ResizeObserver(() => {
      if (chart.current.width !== width()) chart.current.setSize({ width: width(), height: HEIGHT });
    });
    resized.observe(place.current);
    return () => {
      resized.disconnect();
      chart.current.destroy();
    };
  }, [kind, scheme]);
  useEffect(() => chart.current?.setData(data), [data]);
  return html`<figure class="chart"><figcaption>${title}</figcaption>
    <div ref=${place} class="plot" role="img" aria-label=${summary}></div></figure>`;
}

function options(kind, width) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const dots = (label, name) => ({
    label, stroke: colour(name), paths: () => null,
    points: { show: true, size: 6, stroke: colour(name), fill: colour(name) },
    value: (_, value) => (value == null ? "–" : duration(value)),
  });
  const common = {
    width, height: HEIGHT, cursor: { y: false, drag: { x: false, y: false } },
    legend: { live: false, show: kind === "times" },
    padding: [8, 8, 0, 0],
  };
  const x = { ...axis, space: 90, size: 26, values: (_, splits) => splits.map(shortTime) };
  if (kind === "times") {
    return {
      ...common,
      scales: { y: { distr: 3 } },
      axes: [x, { ...axis, size: 58, space: 24, values: (_, splits) => splits.map((each) => (oneOfTen(each) ? duration(each) : "")) }],
      series: [{}, dots("healed", "--good"), dots("failed", "--bad")],
    };
  }
  return {
    ...common,
    scales: { y: { range: [0, 105] } },
    axes: [x, { ...axis, size: 50, values: (_, splits) => splits.map((each) => `${each} %`) }],
    series: [{}, { label: "success rate", stroke: colour("--good"), width: 2, points: { show: false } }],
  };
}

const oneOfTen = (value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6;

function shortTime(seconds) {
  const at = new Date(seconds * 1000);
  const pad = (number) => String(number).padStart(2, "0");
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}`;
  if (at.toDateString() === new Date().toDateString()) return `${time}:${pad(at.getSeconds())}`;
  return `${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${time}`;
}
