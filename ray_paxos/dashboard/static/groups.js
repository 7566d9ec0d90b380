// All groups: one cell each where they are many, and a table of those that are wanted.

import { byId, count, duration, element, moment, rate, refill, rowsOf, setText, sortedNames } from "./dom.js";

const GRID_FROM = 40;
const ROWS = 50;
// How a group may be, the gravest last; with a sign and a meaning each. The server names them.
let healths = {};
const ill = (group) => Object.keys(healths).indexOf(group.health);

const COLUMNS = [
  { name: "Group", key: (g) => g.group, cell: (g) => link(g) },
  { name: "Health", key: (g) => -ill(g), cell: (g) => badge(g.health, healths[g.health]) },
  { name: "Master", key: (g) => g.master ?? "", cell: (g) => g.master ?? element("b", { class: "bad" }, "none") },
  { name: "Voters up", key: (g) => g.voters_up - g.majority,
    cell: (g) => `${g.voters_up} of ${g.voters.length}, needs ${g.majority}` },
  { name: "Voters", key: (g) => g.voters.join(), cell: (g) => voters(g), wide: true },
  { name: "Commands/s", key: (g) => -(g.commands_per_s ?? 0), cell: (g) => rate(g.commands_per_s), number: true },
  { name: "Applied", key: (g) => -g.applied, cell: (g) => count(g.applied), number: true },
  { name: "Lag", key: (g) => -g.lag, cell: (g) => count(g.lag), number: true },
  { name: "Since", key: (g) => -g.since_ms, number: true,
    cell: (g) => element("span", { title: `for ${duration(view.at_ms - g.since_ms)}` }, moment(g.since_ms, view.at_ms)) },
];

let view = null;
let groups = [];
let down = new Set();
let rowsMax = ROWS;
let sorted = { column: 1, sign: 1 };

export function showGroups(seen) {
  view = seen;
  showHealths(seen.healths);
  groups = rowsOf(seen.groups);
  for (const group of groups) group.voters = sortedNames(group.voters);
  down = new Set(seen.members.filter((member) => !member.is_up).map((member) => member.name));
  showChoices();
  render();
}

export function badge(health, { sign, meaning }) {
  return element("span", { class: `badge ${classOf(health)}`, title: meaning },
    element("span", { "aria-hidden": "true" }, sign), health);
}

function showHealths(told) {
  const isSame = JSON.stringify(told) === JSON.stringify(healths);
  healths = told;
  if (isSame) return;
  refill(byId("group-legend"), Object.entries(healths).map(([health, { sign, meaning }]) =>
    element("li", { title: meaning },
      element("span", { class: `cell ${classOf(health)}`, "aria-hidden": "true" }, sign), health)));
}

function classOf(health) {
  return health.replace(" ", "-");
}

function link(group) {
  return element("a", { href: `#group=${group.group}`, id: `row-${group.group}` }, `${group.group}`);
}

function voters(group) {
  return group.voters.flatMap((name, i) => [i ? ", " : "",
    down.has(name) ? element("b", { class: "bad", title: "down" }, `${name} (down)`) : name]);
}

function showChoices() {
  const counts = new Map();
  for (const group of groups) counts.set(group.health, (counts.get(group.health) ?? 0) + 1);
  const select = byId("group-health");
  const chosen = select.value || "all";
  const unhealthy = groups.length - (counts.get("ok") ?? 0);
  const choices = [["all", `all (${count(groups.length)})`], ["ill", `unhealthy (${count(unhealthy)})`],
    ...Object.keys(healths).map((health) => [health, `${health} (${count(counts.get(health) ?? 0)})`])];
  const key = JSON.stringify(choices);
  if (select.dataset.key === key) return;
  select.dataset.key = key;
  select.replaceChildren(...choices.map(([value, text]) => element("option", { value }, text)));
  select.value = chosen;
}

function wanted() {
  const health = byId("group-health").value;
  const text = byId("group-filter").value.trim().toLowerCase();
  const isNumber = /^\d+$/.test(text);
  const [, part, member] = /^(voter|master|follower):\s*(.*)$/.exec(text) ?? [null, null, text];
  return groups.filter((group) => {
    if (health === "ill" ? group.health === "ok" : health !== "all" && group.health !== health) return false;
    if (isNumber) return `${group.group}`.startsWith(text);
    const names = { voter: group.voters, master: [group.master ?? "none"], follower: group.followers };
    if (part) return names[part].some((name) => name.toLowerCase() === member);
    return !text || [...group.voters, ...group.followers].some((name) => name.toLowerCase().includes(text));
  });
}

function render() {
  const found = wanted();
  const all = found.length === groups.length ? "" : ` of ${count(groups.length)}`;
  setText(byId("group-count"), `${count(found.length)}${all} shown`);
  showGrid(new Set(found.map((group) => group.group)));
  const { key } = COLUMNS[sorted.column];
  const order = (a, b) => {
    const [x, y] = [key(a), key(b)];
    return (x < y ? -1 : x > y ? 1 : 0) * sorted.sign || a.group - b.group;
  };
  const rows = [...found].sort(order).slice(0, rowsMax);
  const table = byId("group-table");
  refill(table.tHead, element("tr", {}, COLUMNS.map(headOf)));
  refill(table.tBodies[0], rows.map((group) => element("tr", { class: classOf(group.health) },
    COLUMNS.map((column) => element("td", { class: column.number ? "number" : column.wide ? "wide" : null },
      column.cell(group))))));
  const more = byId("group-more");
  more.hidden = rows.length === found.length;
  setText(more, `Show ${count(Math.min(found.length - rows.length, rowsMax))} more of ${count(found.length)}`);
}

function headOf(column, index) {
  const isSorted = index === sorted.column;
  const order = isSorted ? (sorted.sign > 0 ? "ascending" : "descending") : null;
  const sort = () => {
    sorted = { column: index, sign: isSorted ? -sorted.sign : 1 };
    render();
  };
  return element("th", { scope: "col", "aria-sort": order, class: column.number ? "number" : null },
    element("button", { type: "button", id: `sort-${index}`, onclick: sort }, column.name,
      element("span", { "aria-hidden": "true" }, isSorted ? (sorted.sign > 0 ? " ▾" : " ▴") : "")));
}

// Show the groups of a member, such as those with voter:m2.
export function findGroups(words) {
  byId("group-filter").value = words;
  byId("group-health").value = "all";
  rowsMax = ROWS;
  render();
  byId("groups").scrollIntoView();
  byId("group-filter").focus({ preventScroll: true });
}

// The grid: cells stay, and change only where their group did.

const cells = new Map();

function showGrid(found) {
  const grid = byId("group-grid");
  grid.hidden = groups.length < GRID_FROM;
  byId("group-legend").hidden = grid.hidden;
  if (grid.hidden) return;
  if (cells.size !== groups.length || groups.some((group) => !cells.has(group.group))) makeCells(grid);
  for (const group of groups) {
    const cell = cells.get(group.group);
    const state = `cell ${classOf(group.health)}${found.has(group.group) ? "" : " unwanted"}`;
    const label = `group ${group.group}: ${group.health}, master ${group.master ?? "none"}`;
    if (cell.className !== state) cell.className = state;
    if (cell.title !== label) {
      cell.title = label;
      cell.setAttribute("aria-label", label);
      cell.textContent = healths[group.health].sign;
    }
  }
}

function makeCells(grid) {
  cells.clear();
  for (const { group } of groups) {
    const open = () => { location.hash = `group=${group}`; };
    cells.set(group, element("button", { type: "button", id: `cell-${group}`, tabindex: -1, onclick: open }));
  }
  cells.values().next().value.tabIndex = 0;
  refill(grid, ...cells.values());
}

// One cell is in the order of the tab key; arrows move from there.
byId("group-grid").addEventListener("keydown", (event) => {
  const all = [...cells.values()];
  const at = all.indexOf(document.activeElement);
  const across = Math.max(all.findIndex((cell) => cell.offsetTop > all[0].offsetTop), 1);
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across,
    Home: -at, End: all.length - 1 - at }[event.key];
  const next = all[at + step];
  if (at < 0 || step === undefined || !next) return;
  event.preventDefault();
  all[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

for (const id of ["group-filter", "group-health"]) {
  byId(id).addEventListener("input", () => {
    rowsMax = ROWS;
    if (view) render();
  });
}
byId("group-tools").addEventListener("submit", (event) => event.preventDefault());
byId("group-more").addEventListener("click", () => {
  rowsMax *= 2;
  render();
});
