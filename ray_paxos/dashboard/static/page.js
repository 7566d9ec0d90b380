// The page: asks for the view each interval while it is to be seen, and shows it.

import { drawChart } from "./chart.js";
import { groupInAddress, showDetail } from "./detail.js";
import { byId, capitalized, count, duration, element, milliseconds, moment, rate, refill, rowsOf, setText, since }
  from "./dom.js";
import { showEvents } from "./events.js";
import { showGroups } from "./groups.js";
import { load } from "./loading.js";
import { showMembers } from "./members.js";

const FIRST_INTERVAL_MS = 2_000;
const OLD_MS = 15_000;
let intervalMs = FIRST_INTERVAL_MS;
let view = null;
let lostSinceMs = null;
let timer = null;
let isAsking = false;

async function tick() {
  clearTimeout(timer);
  if (document.hidden || isAsking) return;
  isAsking = true;
  try {
    await update();
  } finally {
    isAsking = false;
    if (!document.hidden) timer = setTimeout(tick, intervalMs);
  }
}

async function update() {
  const answer = await load("/api/view");
  if (answer.error !== null) {
    lostSinceMs ??= Date.now();
    showSummary({ level: "unknown", text: answer.error, data: "Nobody can say now; below is how it was before.", since_ms: lostSinceMs }, Date.now());
    document.body.classList.add("old");
    return;
  }
  const seen = answer.document;
  const wasLost = lostSinceMs !== null;
  lostSinceMs = null;
  intervalMs = seen.interval_ms;
  if (answer.isNew || wasLost) show(seen);
  showClock(seen);
  await showDetail();
}

function show(seen) {
  view = seen.view;
  showSummary(seen.summary, view && !seen.problem ? view.at_ms : Date.now());
  if (!view) return;
  setText(byId("cluster"), view.cluster);
  document.title = `${seen.summary.level === "ok" ? "" : "(!) "}${view.cluster} · ray_paxos`;
  showTiles(view);
  showCharts(view);
  showMembers(byId("members"), view);
  showGroups(view);
  showEvents(view);
}

function showSummary(summary, nowMs) {
  byId("summary").className = summary.level;
  setText(byId("summary-data"), summary.data);
  setText(byId("summary-text"), summary.text);
  const began = summary.since_ms;
  setText(byId("summary-since"), began === null ? "" : `${capitalized(since(began, nowMs))}.`);
}

function showClock(seen) {
  if (!view) return;
  const age = Date.now() - view.at_ms;
  const isOld = seen.problem !== null || age > Math.max(OLD_MS, 4 * intervalMs);
  document.body.classList.toggle("old", isOld);
  setText(byId("clock"), isOld ? `as of ${moment(view.at_ms, Date.now())}, ${duration(age)} ago`
    : `live, as of ${moment(view.at_ms, Date.now())}`);
}

function showTiles(view) {
  const groups = view.groups.rows.length;
  const up = view.members.filter((member) => member.is_up).length;
  const tiles = [
    ["Commands per second", rate(view.commands_per_s), "", "tile-rate"],
    ["Half of them within", milliseconds(view.p50_ms), "ms (p50)", "tile-p50"],
    ["99 of 100 within", milliseconds(view.p99_ms), "ms (p99)", "tile-p99"],
    ["Members up", `${count(up)} / ${count(view.members.length)}`, "", "tile-members", up < view.members.length],
    ["Groups served", `${count(view.groups_served)} / ${count(groups)}`, "", "tile-groups", view.groups_served < groups],
  ];
  refill(byId("tiles"), tiles.map(([name, value, unit, id, isBad]) =>
    element("div", { class: isBad ? "tile bad" : "tile", id },
      element("span", { class: "name" }, name), element("span", { class: "value" }, value),
      element("span", { class: "unit" }, unit))));
}

function showCharts(view) {
  const points = rowsOf(view.history);
  const last = points.length ? points[points.length - 1].end_ms : 0;
  if (view.commands_per_s !== null && view.at_ms > last) {
    // What no span holds yet.
    const { commands_per_s, p50_ms, p99_ms } = view;
    points.push({ end_ms: view.at_ms, commands_per_s, p50_ms, p99_ms });
  }
  drawChart(byId("chart-rate"), points,
    [{ name: "commands per second", key: "commands_per_s", area: true }], view.at_ms, rate);
  drawChart(byId("chart-latency"), points, [
    { name: "99 of 100 within, in milliseconds", key: "p99_ms" },
    { name: "half within, in milliseconds", key: "p50_ms" },
  ], view.at_ms, milliseconds);
  const hops = Object.entries(view.hops_p99_ms).map(([hop, ms]) => `${hop} ${milliseconds(ms)}\u00a0ms`);
  setText(byId("hops"), hops.length ? `p99 by hop: ${hops.join(", ")}` : "");
}

document.addEventListener("visibilitychange", tick);
addEventListener("resize", () => view && showCharts(view));
if (groupInAddress() !== null) showDetail();
tick();
