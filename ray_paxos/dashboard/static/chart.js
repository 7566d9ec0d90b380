// A line chart of the last 15 minutes, drawn as SVG.

import { element, refill, svg, time } from "./dom.js";

const SPAN_MS = 15 * 60 * 1000;
const HEIGHT = 150;
const LEFT = 44;
const BOTTOM = 20;
const TOP = 8;
const GAP_MS = 30_000;

// series: [{ name, key, area }]; points: objects with end_ms and a number, or null, for each key.
export function drawChart(parent, points, series, endMs, write) {
  const width = Math.max(260, Math.round(parent.clientWidth || 600));
  const shown = points.filter((point) => point.end_ms > endMs - SPAN_MS);
  const values = shown.flatMap((point) => series.map((each) => point[each.key] ?? 0));
  const top = niceTop(Math.max(0, ...values));
  const x = (ms) => LEFT + ((ms - endMs + SPAN_MS) / SPAN_MS) * (width - LEFT - 8);
  const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
  const drawn = svg("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
    "aria-label": spoken(shown, series, write),
  });
  for (const value of [0, top / 2, top]) {
    drawn.append(
      svg("line", { class: "rule", x1: LEFT, x2: width - 8, y1: y(value), y2: y(value) }),
      svg("text", { class: "label end", x: LEFT - 6, y: y(value) + 4 }, write(value)),
    );
  }
  for (const minutes of [15, 10, 5, 0]) {
    const ms = endMs - minutes * 60_000;
    const place = minutes === 15 ? "" : minutes === 0 ? "end" : "middle";
    drawn.append(svg("text", { class: `label ${place}`, x: x(ms), y: HEIGHT - 4 },
      minutes ? `${minutes} min ago` : "now"));
  }
  for (const each of series) {
    for (const run of runs(shown, each.key)) {
      const line = run.map((point) => `${x(point.end_ms).toFixed(1)},${y(point[each.key]).toFixed(1)}`);
      if (each.area) {
        const [first, last] = [run[0], run[run.length - 1]];
        const d = `M${x(first.end_ms)},${y(0)}L${line.join("L")}L${x(last.end_ms)},${y(0)}Z`;
        drawn.append(svg("path", { class: `area ${each.key}`, d }));
      }
      // One point alone is a dot: a line of no length with round ends.
      const d = `M${line.join("L")}${run.length === 1 ? "h0.1" : ""}`;
      drawn.append(svg("path", { class: `line ${each.key}`, d }));
    }
  }
  readOut(drawn, shown, series, x, width, write);
  refill(parent, shown.length ? drawn : element("p", { class: "hint" }, "nothing yet"));
}

// A vertical line under the pointer, with the numbers there.
function readOut(drawn, points, series, x, width, write) {
  const line = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const label = svg("text", { class: "label read", y: TOP + 8, visibility: "hidden" });
  drawn.append(line, label);
  drawn.addEventListener("pointermove", (event) => {
    const at = event.clientX - drawn.getBoundingClientRect().left;
    const distance = (point) => Math.abs(x(point.end_ms) - at);
    const near = points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
    const place = x(near.end_ms);
    for (const name of ["x1", "x2"]) line.setAttribute(name, place);
    label.textContent = [time(near.end_ms), ...series.map((each) => write(near[each.key]))].join("  ");
    label.setAttribute("x", place > width / 2 ? place - 6 : place + 6);
    label.classList.toggle("end", place > width / 2);
    for (const part of [line, label]) part.setAttribute("visibility", "visible");
  });
  drawn.addEventListener("pointerleave", () => {
    for (const part of [line, label]) part.setAttribute("visibility", "hidden");
  });
}

// Points one after the other without a gap: where nothing was measured there is no line.
function runs(points, key) {
  const found = [];
  let last = null;
  for (const point of points) {
    if (point[key] === null) last = null;
    else if (last && point.end_ms - last.end_ms < GAP_MS) found[found.length - 1].push(point);
    else found.push([point]);
    if (point[key] !== null) last = point;
  }
  return found;
}

function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((step) => step * power).find((top) => top >= value);
}

function spoken(points, series, write) {
  if (!points.length) return "nothing yet";
  return series.map((each) => {
    const values = points.map((point) => point[each.key]).filter((value) => value !== null);
    if (!values.length) return `${each.name}: nothing`;
    const [last, most] = [values[values.length - 1], Math.max(...values)];
    return `${each.name}: now ${write(last)}, at most ${write(most)}`;
  }).join("; ");
}
