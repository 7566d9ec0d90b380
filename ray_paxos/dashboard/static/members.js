// The cluster's map: nodes, with their members on them.

import { bytes, count, element, milliseconds, ranges, rate, refill, since, sortedNames } from "./dom.js";
import { findGroups } from "./groups.js";

const LINKS_MAX = 12;
const ROLES = ["proposer", "acceptor", "learner", "checkpointer"];

export function showMembers(parent, view) {
  const nodes = new Map();
  const byName = new Map(view.members.map((member) => [member.name, member]));
  for (const name of sortedNames(byName.keys())) {
    const member = byName.get(name);
    const node = member.node_id || member.node_address || "";
    if (!nodes.has(node)) nodes.set(node, []);
    nodes.get(node).push(member);
  }
  refill(parent, [...nodes.entries()].map(([node, members]) => nodeOf(node, members, view.at_ms)));
}

function nodeOf(node, members, nowMs) {
  const address = members[0].node_address;
  const isDown = members.every((member) => !member.is_up);
  const name = address || (node ? `node ${node.slice(0, 8)}` : "node unknown");
  return element("section", { class: isDown ? "node down" : "node", "aria-label": `node ${name}` },
    element("h3", { title: node || null }, address ? `node ${address}` : name),
    element("div", { class: "cards" }, members.map((member) => cardOf(member, nowMs))));
}

function cardOf(member, nowMs) {
  const state = member.is_up ? "up" : "down";
  const facts = element("dl");
  const add = (name, ...value) => facts.append(element("dt", {}, name), element("dd", {}, ...value));
  const groups = (part, find) => groupsOf(member[part], `${member.name}-${part}`, `${find}:${member.name}`);
  add("master of", ...groups("leads", "master"));
  add(member.is_up ? "votes in" : "voted in", ...groups("votes_in", "voter"));
  if (member.follows.length) add("follows", ...groups("follows", "follower"));
  if (member.is_up) {
    add("commands/s", rate(member.commands_per_s));
    add("lag", member.lag === null ? "–" : `${count(member.lag)} instance${member.lag === 1 ? "" : "s"}`);
    add("fsync p99", `${milliseconds(member.fsync_p99_ms)} ms`);
  }
  add("disk", member.disk_bytes === null ? "–"
    : `${bytes(member.disk_bytes)}, ${bytes(member.disk_free_bytes)} free`);
  return element("article", { class: `card ${state}`, "data-member": member.name },
    element("h4", {}, element("span", { class: "dot", "aria-hidden": "true" }), member.name,
      element("span", { class: "state" }, state)),
    member.is_up ? null : element("p", { class: "since" },
      member.down_since_ms === null ? "down" : `down ${since(member.down_since_ms, nowMs)}`),
    rolesOf(member), facts,
    member.alarms.length
      ? element("ul", { class: "alarms" }, member.alarms.map((alarm) => element("li", {}, alarm)))
      : null);
}

// Which of its roles do not serve, and why; nothing where all do, or none answers: an alarm says that.
function rolesOf(member) {
  const names = Object.keys(member.roles).sort((a, b) => ROLES.indexOf(a) - ROLES.indexOf(b));
  const ill = names.filter((name) => member.roles[name].phase !== "serving");
  if (!ill.length || names.every((name) => member.roles[name].phase === "gone")) return null;
  const texts = new Map();
  for (const name of ill) {
    const { phase, reason } = member.roles[name];
    const text = reason ? `${phase}: ${reason}` : phase;
    texts.set(text, [...(texts.get(text) ?? []), name]);
  }
  return element("ul", { class: "roles" }, [...texts].map(([text, roles]) =>
    element("li", {}, `${roles.join(", ")}: ${text}`)));
}

// Groups as links, or as one that finds them below where they are many.
function groupsOf(groups, id, words) {
  if (!groups.length) return ["no group"];
  if (groups.length > LINKS_MAX) {
    const texts = ranges(groups).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
    return [element("button", { type: "button", class: "link", id, title: texts.join(", "),
      onclick: () => findGroups(words) }, `${count(groups.length)} groups`)];
  }
  return groups.flatMap((group, i) => [i ? ", " : "",
    element("a", { href: `#group=${group}`, id: `${id}-${group}` }, `${group}`)]);
}
