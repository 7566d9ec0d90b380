// One group: its voters, how far each is, whether anything is in danger, and the end of its log.
// Which one is in the address, #group=7, so that it can be linked to.

import { byId, capitalized, count, element, rate, refill, setText, since, sortedNames } from "./dom.js";
import { badge } from "./groups.js";
import { load } from "./loading.js";

const COUNT = 50;
let opened = null;
let opener = null;
// Whether something of it is not shown that was not sent again, either.
let isBlank = true;

export function groupInAddress() {
  return /^#group=(.*)$/.exec(location.hash)?.[1] ?? null;
}

// Show what the address names; called when it changes, and with each new view.
export async function showDetail() {
  const wanted = groupInAddress();
  const panel = byId("detail");
  if (wanted === null) {
    if (!panel.hidden) close();
    return;
  }
  if (wanted !== opened) open(panel, wanted);
  const path = `/api/groups/${encodeURIComponent(decoded(wanted))}`;
  const [group, log] = await Promise.all([load(path), load(`${path}/log?count=${COUNT}`)]);
  if (opened !== wanted) return;
  if (group.error) {
    refill(byId("detail-body"), element("p", { class: "problem", role: "alert" }, group.error));
    showLog({ error: "" });
    isBlank = true;
    return;
  }
  if (group.isNew || isBlank) showGroup(group.document);
  showLog(log, isBlank);
  isBlank = log.error !== null;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function open(panel, wanted) {
  if (panel.hidden) opener = document.activeElement?.id ?? null;
  opened = wanted;
  isBlank = true;
  panel.hidden = false;
  setText(byId("detail-title"), `Group ${decoded(wanted)}`);
  refill(byId("detail-body"), element("p", { class: "hint" }, "asking for it"));
  showLog({ error: "" });
  byId("detail-title").focus({ preventScroll: true });
}

function close() {
  byId("detail").hidden = true;
  opened = null;
  (byId(opener ?? "") ?? byId("groups")).focus({ preventScroll: true });
}

function showGroup(group) {
  const now = group.at_ms;
  refill(byId("detail-body"),
    element("p", {}, badge(group.health, group), ` it ${group.meaning}, `,
      element("span", { class: "faint" }, since(group.since_ms, now))),
    group.risk ? element("p", { class: "risk" }, group.risk) : null,
    element("dl", { class: "facts" },
      fact("Master", group.master ?? "none"),
      fact("Voters", `${sortedNames(group.voters).join(", ")}: ${group.voters_up} of ${group.voters.length} up, ` +
        `${group.majority} needed`),
      group.followers.length ? fact("Followers", group.followers.join(", ")) : [],
      fact("Commands", `${rate(group.commands_per_s)} per second`)),
    element("h3", {}, "How far each member is"),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "How far each member is" },
      element("table", {},
        element("thead", {}, element("tr", {}, ["Member", "Part", "Applied", "On disk", "Lag"]
          .map((name, i) => element("th", { scope: "col", class: i > 1 ? "number" : null }, name)))),
        element("tbody", {}, sortedNames(Object.keys(group.positions)).flatMap((name) =>
          positionOf(name, group.positions[name], group))))));
}

function fact(name, value) {
  return [element("dt", {}, name), element("dd", {}, value)];
}

function positionOf(name, position, group) {
  const part = name === group.master ? "master" : position.is_voter ? "voter" : "follower";
  const number = (value) => element("td", { class: "number" }, count(value));
  const cells = [element("th", { scope: "row" }, name), element("td", {}, part)];
  if (!position.is_up) {
    cells.push(element("td", { class: "bad", colspan: 3 }, "does not answer"));
  } else {
    cells.push(number(position.applied), number(position.durable), number(position.lag));
  }
  return [element("tr", { class: position.is_up ? null : "silent" }, cells), position.stopped
    ? element("tr", {}, element("td", { class: "bad wide", colspan: 5 }, `${name} stopped: ${position.stopped}`))
    : []].flat();
}

function showLog(answer, isWanted = false) {
  const table = byId("log");
  if (answer.error !== null) {
    setText(byId("log-note"), answer.error);
    if (!answer.isOld) table.tBodies[0].replaceChildren();
    return;
  }
  if (!answer.isNew && !isWanted) return;
  const tail = answer.document;
  setText(byId("log-note"), noteOf(tail));
  const names = ["Instance", "Kind", "Machine", "What it says"];
  refill(table.tHead, element("tr", {}, names.map((name) => element("th", { scope: "col" }, name))));
  refill(table.tBodies[0], [...tail.lines].reverse().map((line) => element("tr", {},
    element("td", { title: `chosen at ballot ${line.ballot}` }, `${line.instance_id}.${line.index}`),
    element("td", {}, line.kind), element("td", {}, line.machine),
    element("td", { class: "says", title: line.session ? `session ${line.session}, number ${line.number}` : null },
      line.text))));
}

// Where the lines are from, and what is missing among the last instances.
function noteOf(tail) {
  if (!tail.learned_through) return "Nothing has been chosen yet";
  const first = Math.max(tail.learned_through - COUNT + 1, 1);
  const onDisk = tail.memory_floor > first
    ? `instances ${count(first)} to ${count(tail.memory_floor - 1)} are not in the memory of ${tail.member} any more; `
      + '"ray-paxos log show" reads its files on its node' : null;
  const parts = [tail.lines.length ? `The newest first, from the memory of ${tail.member}` : null,
    tail.left_out ? `${count(tail.left_out)} older lines are left out` : null, onDisk];
  return capitalized(parts.filter(Boolean).join("; "));
}

const leave = () => {
  history.pushState(null, "", location.pathname);
  showDetail();
};
byId("detail-close").addEventListener("click", leave);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !byId("detail").hidden) leave();
});
addEventListener("hashchange", showDetail);
