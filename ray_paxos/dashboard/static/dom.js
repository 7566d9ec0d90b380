// Making elements, and writing numbers and times for people. Text only ever gets into the page as
// text: nothing here, or anywhere else, parses HTML.

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  // A string becomes a text node.
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Put new children in, and the keyboard's focus back to where it was, by id.
export function refill(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.id : "";
  parent.replaceChildren(...children.flat());
  if (focused) byId(focused)?.focus({ preventScroll: true });
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(number) {
  return number === null || number === undefined ? "–" : whole.format(number);
}

export function rate(number) {
  if (number === null || number === undefined) return "–";
  return number > 0 && number < 10 ? number.toFixed(1) : whole.format(number);
}

export function milliseconds(number) {
  if (number === null || number === undefined) return "–";
  return number > 0 && number < 10 ? number.toFixed(1) : whole.format(number);
}

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  for (; number >= 1000 && power < units.length - 1; power += 1) number /= 1000;
  return `${number < 10 && power ? number.toFixed(1) : whole.format(number)} ${units[power]}`;
}

export function time(ms) {
  return new Date(ms).toLocaleTimeString([], { hourCycle: "h23" });
}

export function moment(ms, nowMs) {
  const date = new Date(ms);
  if (date.toDateString() === new Date(nowMs).toDateString()) return time(ms);
  return `${date.toLocaleDateString()} ${time(ms)}`;
}

export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  // A number and its unit stay on one line.
  const written = (...parts) => parts.join("\u00a0");
  if (seconds < 60) return written(seconds, "s");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${written(minutes, "min")} ${written(seconds % 60, "s")}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${written(hours, "h")} ${written(minutes % 60, "min")}`;
  return written(Math.floor(hours / 24), "days");
}

export function since(ms, nowMs) {
  return `since ${moment(ms, nowMs)}, for ${duration(nowMs - ms)}`;
}

export function capitalized(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const inOrder = new Intl.Collator("en", { numeric: true });

// Names of members as a person would sort them: m2 before m10.
export function sortedNames(names) {
  return [...names].sort(inOrder.compare);
}

// Numbers in ascending order, as ranges: 0–3, 7.
export function ranges(numbers) {
  const found = [];
  for (const number of numbers) {
    const last = found[found.length - 1];
    if (last && last[1] === number - 1) last[1] = number;
    else found.push([number, number]);
  }
  return found;
}

// What names its columns once, as objects.
export function rowsOf(table) {
  return table.rows.map((row) => Object.fromEntries(table.columns.map((name, i) => [name, row[i]])));
}
