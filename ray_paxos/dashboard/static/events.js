// What happened, the newest first.

import { byId, count, element, moment, refill, setText } from "./dom.js";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];
let last = null;

export function showEvents(view) {
  last = view;
  const words = byId("event-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const least = LEVELS.indexOf(byId("event-level").value);
  const found = view.events.filter((event) => {
    if (LEVELS.indexOf(event.level) < least) return false;
    const group = event.group === null ? "" : `group ${event.group}`;
    const text = `${event.member} ${event.role} ${group} ${event.kind} ${event.text}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  setText(byId("event-count"), `${count(found.length)} of the last ${count(view.events.length)}`);
  const key = JSON.stringify([found.length, found[0], found[found.length - 1]]);
  const list = byId("events");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  refill(list, found.length ? found.map((event) => lineOf(event, view.at_ms))
    : element("li", { class: "faint" }, "nothing"));
}

function lineOf(event, nowMs) {
  return element("li", { class: event.level.toLowerCase() },
    element("time", { datetime: new Date(event.at_ms).toISOString() }, moment(event.at_ms, nowMs)),
    element("span", { class: "where" }, `${event.member}/${event.role}`),
    event.group === null ? element("span", {}, "")
      : element("a", { href: `#group=${event.group}` }, `group ${event.group}`),
    element("span", { class: "what", title: event.kind }, event.text));
}

for (const id of ["event-filter", "event-level"]) {
  byId(id).addEventListener("input", () => last && showEvents(last));
  byId(id).form.addEventListener("submit", (event) => event.preventDefault());
}
