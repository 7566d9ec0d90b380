"""Decides how a cluster starts, from what lies in the data directories; pure.

The danger is amnesia: a voter that comes back without its votes and promises votes a second time.
A first boot and a lost disk look alike to anyone who sees one empty directory, so the decision is
taken from all of them together:

1. A genesis is made only if every node answered and none holds a folder of that cluster. One node
   that did not answer may hold the only copy of everything.
2. A member's folder is first *staged* (durable, but its roles do not open it) and then
   *activated*. No folder is activated before every folder of the genesis is staged, and no role
   is started before every staged folder that was found is activated. So as long as all folders
   that exist are staged, nobody has ever voted.
3. A missing folder is therefore made only while all other folders of the genesis were found and
   are still staged, and every node answered. After that a missing folder is a lost member: it is
   never made again here, but replaced by a membership change under a new replica_id.
   Of a cluster that was made from what an earlier one left (`begins_after` in its genesis) it is
   not made here at all: it would count for a majority without the state that the others go on
   from.
4. What is found is started as it is. The configuration file is for the genesis only.
5. A member that joined later has a folder that says so. Where there is one, the cluster has run:
   nothing of the genesis is made any more (rule 3), whoever else is found or not. Whether one that
   is only staged goes on to join is for those who add it (`core.wanted`): it is left as it is.

```
every node looked into
   │  nothing found, all answered ──────────────▶ StageAll ──┐
   │  some staged, the rest absent, all answered ▶ StageMissing ─┤   each step is followed by
   │  all staged ────────────────────────────────▶ Activate ──┤   another look, from the start
   │  some activated, some staged ───────────────▶ Activate ──┘
   │  activated (some lost, a majority here) ────▶ Start
   └  anything else ─────────────────────────────▶ Refuse, saying what is missing and where
```

Every step may be cut short anywhere and repeated: the next look sees what was done.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ray_paxos.core.genesis import Genesis, MemberSpec
from ray_paxos.core.quorum import majority


class FolderState(enum.Enum):
    """How far the bootstrap of one member's folder came."""

    STAGED = "staged"
    ACTIVATED = "activated"
    UNREADABLE = "unreadable"
    """Something lies there, but not an identity that can be read and trusted."""


@dataclass(frozen=True, slots=True)
class FolderFound:
    """One member's folder, as a node reports it.

    Attributes:
        member: Name of the folder, which has to be the member's.
        path: Where, for a person.
        place: Stands for this very directory: two nodes of one machine that share a data
            directory report the same folder at the same place.
        state: How far its bootstrap came.
        genesis: What its identity says it starts from; None where it cannot be read.
        member_id: As its identity says; 0 where it cannot be read.
        reason: Why it cannot be read; empty where it can.
        joined_as: The name in its identity, where that is of a member that joined later.
    """

    member: str
    path: str
    place: str
    state: FolderState
    genesis: Genesis | None
    member_id: int
    reason: str = ""
    joined_as: str = ""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What one live Ray node answered to the question what it holds.

    Attributes:
        node_id: Ray's id of the node.
        name: What a person calls it.
        answered: Whether it did.
        reason: Why it did not.
        folders: What it holds of the cluster asked for.
    """

    node_id: str
    name: str
    answered: bool
    reason: str = ""
    folders: tuple[FolderFound, ...] = ()


@dataclass(frozen=True, slots=True)
class StageAll:
    """Nothing exists anywhere: make a genesis, and stage every member of it."""


@dataclass(frozen=True, slots=True)
class StageMissing:
    """An interrupted first pass: stage these members of this genesis, too.

    Attributes:
        genesis: The one that the staged folders carry.
        members: Names of those without a folder, in the genesis' order.
        taken: node_id of every member that has one, by name.
    """

    genesis: Genesis
    members: tuple[str, ...]
    taken: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Activate:
    """Every folder of the genesis is (or was once) staged: activate these.

    Attributes:
        genesis: Theirs.
        places: node_id by name of the members to activate.
    """

    genesis: Genesis
    places: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Start:
    """Start the roles of these members.

    Attributes:
        genesis: Theirs.
        places: node_id by name of the members that are here.
        missing: Why, by name, of the members of the genesis that are not.
        joined: Those of the former that are not of the genesis.
    """

    genesis: Genesis
    places: Mapping[str, str]
    missing: Mapping[str, str]
    joined: tuple[MemberSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """No safe start is possible.

    Attributes:
        reason: What is missing or wrong, where, and what to do.
    """

    reason: str


Decision: TypeAlias = StageAll | StageMissing | Activate | Start | Refuse


def decide(
    cluster: str, reports: Sequence[NodeReport], *, running: Genesis | None = None
) -> Decision:
    """Decide the next step of a start.

    Args:
        cluster: The cluster's name.
        reports: One for every live node, answered or not.
        running: The genesis of role actors that live already; None where none does.

    Returns:
        The next step. After `StageAll`, `StageMissing` and `Activate` the nodes are to be looked
        into and this is to be called again.
    """
    silent = [report for report in reports if not report.answered]
    found = [(report, folder) for report in reports for folder in report.folders]
    readable = [(r, f) for r, f in found if f.state is not FolderState.UNREADABLE]
    unreadable = [(r, f) for r, f in found if f.state is FolderState.UNREADABLE]
    if not readable and running is None:
        return _decide_empty(cluster, reports, silent, unreadable)
    refusal = _mixed(cluster, readable, running)
    if refusal is not None:
        return refusal
    genesis = running if running is not None else readable[0][1].genesis
    assert genesis is not None, "a readable folder names its genesis"
    places: dict[str, str] = {}
    states: dict[str, FolderState] = {}
    joined: dict[str, MemberSpec] = {}
    seen: dict[str, tuple[str, str]] = {}
    for report, folder in readable:
        if folder.member in seen:
            place, where = seen[folder.member]
            if place != folder.place:
                return _two_directories(folder.member, where, _where(report, folder))
            continue
        seen[folder.member] = (folder.place, _where(report, folder))
        places[folder.member] = report.node_id
        states[folder.member] = folder.state
        if folder.joined_as:
            joined[folder.member] = MemberSpec(folder.joined_as, folder.member_id)
    for report, folder in unreadable:
        # Its identity can be read: a copy, which would not open, or the member's own damaged one.
        is_own = folder.genesis is not None and folder.genesis.hash() == genesis.hash()
        place, where = seen.get(folder.member, (folder.place, ""))
        if is_own and place != folder.place:
            return _two_directories(folder.member, where, _where(report, folder))
    found_of = _Found(genesis, places, states, tuple(joined.values()), running is not None)
    return _decide_found(found_of, silent, unreadable)


def _two_directories(member: str, one: str, other: str) -> Refuse:
    return Refuse(
        f"member {member} has two directories: {one} and {other}. Only one can be the true one: a "
        "copy that goes on from older votes can lose what was acknowledged. Take the copy away (if "
        "both are one shared file system, set data_dir to a local path)."
    )


def _decide_empty(
    cluster: str,
    reports: Sequence[NodeReport],
    silent: Sequence[NodeReport],
    unreadable: Sequence[tuple[NodeReport, FolderFound]],
) -> Decision:
    if unreadable:
        listed = "; ".join(f"{_where(r, f)}: {f.reason}" for r, f in unreadable)
        return Refuse(
            f"cluster {cluster} has directories that cannot be read: {listed}. Restore them, or, "
            "if nothing in them is needed, take them away."
        )
    if silent:
        return Refuse(
            f"no directory of cluster {cluster} was found, but {_silent(silent)}: it may hold one. "
            "A new cluster is made only when every node has answered."
        )
    if not reports:
        return Refuse("the Ray cluster has no live node")
    return StageAll()


def _mixed(
    cluster: str,
    readable: Sequence[tuple[NodeReport, FolderFound]],
    running: Genesis | None,
) -> Refuse | None:
    """The refusal where what was found does not belong together."""
    expected = running
    origin = "the running actors"
    for report, folder in readable:
        genesis = folder.genesis
        assert genesis is not None, "a readable folder names its genesis"
        if genesis.cluster != cluster:
            return Refuse(
                f"{_where(report, folder)} belongs to cluster {genesis.cluster}, not to {cluster}: "
                "a copied or renamed directory. Take it away, or use that name."
            )
        if expected is None:
            expected, origin = genesis, _where(report, folder)
        if genesis.hash() != expected.hash():
            return Refuse(
                f"two clusters have the name {cluster}: {origin} has id {expected.cluster_id}, "
                f"{_where(report, folder)} has id {genesis.cluster_id}. Take the directories of "
                "one of them away."
            )
        if not _is_own_folder(folder, genesis):
            return Refuse(
                f"{_where(report, folder)} is not the directory of member {folder.member}: its "
                f"identity says member id {folder.member_id}. Undo the renaming."
            )
    return None


def _is_own_folder(folder: FolderFound, genesis: Genesis) -> bool:
    """Whether the folder has the name of the member that its identity names."""
    named = {member.name: member.member_id for member in genesis.members}
    if folder.joined_as:
        return folder.member == folder.joined_as and folder.member not in named
    return named.get(folder.member) == folder.member_id


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found of one cluster.

    Attributes:
        genesis: Its.
        places: node_id by name of the members with a readable folder.
        states: Of these folders.
        joined: Those of the members that are not of the genesis.
        is_running: Whether role actors live.
    """

    genesis: Genesis
    places: Mapping[str, str]
    states: Mapping[str, FolderState]
    joined: tuple[MemberSpec, ...]
    is_running: bool

    @property
    def started(self) -> Start:
        """All members that take part are started; the others are missing, or not of the genesis."""
        joined = tuple(
            each for each in self.joined if self.states[each.name] is FolderState.ACTIVATED
        )
        names = [member.name for member in (*self.genesis.members, *joined)]
        places = {name: self.places[name] for name in names if name in self.places}
        return Start(self.genesis, places, {}, joined)


def _decide_found(
    found: _Found,
    silent: Sequence[NodeReport],
    unreadable: Sequence[tuple[NodeReport, FolderFound]],
) -> Decision:
    genesis, places, states = found.genesis, found.places, found.states
    is_running = found.is_running
    names = tuple(member.name for member in genesis.members)
    absent = tuple(name for name in names if name not in places)
    staged = tuple(name for name in names if states.get(name) is FolderState.STAGED)
    activated = [name for name in names if states.get(name) is FolderState.ACTIVATED]
    broken = {folder.member: f"{_where(r, folder)}: {folder.reason}" for r, folder in unreadable}
    if not activated and not found.joined and not is_running:
        # Nobody has voted yet, as far as every other folder tells (rule 2).
        if absent and (silent or broken):
            what = [_silent(silent)] if silent else []
            what += [f"{where} cannot be read" for where in broken.values()]
            return Refuse(
                f"the first start of cluster {genesis.cluster} was interrupted: no directory of "
                f"{', '.join(absent)} was found, and {'; '.join(what)}. It goes on when every node "
                "answers."
            )
        if absent and any(spec.begins_after for spec in genesis.groups):
            return Refuse(
                f"cluster {genesis.cluster} was made from what an earlier one left, and no "
                f"directory of {', '.join(absent)} was found. One without that state is never "
                "made here: make it on its node, with --member and the same --genesis, by the "
                "command that made the others; where that was cut short, take away what it made "
                "and run it again."
            )
        if absent:
            return StageMissing(genesis, absent, dict(places))
        return Activate(genesis, dict(places))
    if staged:
        return Activate(genesis, {name: places[name] for name in staged})
    missing = {name: broken.get(name) or _lost(silent) for name in absent}
    if not is_running and not found.joined and not _any_majority(genesis, places):
        listed = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        return Refuse(
            f"cluster {genesis.cluster} has no majority of its members here ({listed}). Bring back "
            "the nodes or disks that hold them; they are never made anew, since they would have "
            "forgotten their votes."
        )
    return replace(found.started, missing=missing)


def _any_majority(genesis: Genesis, places: Mapping[str, str]) -> bool:
    """Whether any group has a majority of its first voters among those found."""
    here = {member.member_id for member in genesis.members if member.name in places}
    return any(
        sum(voter.member_id in here for voter in group.voters) >= majority(len(group.voters))
        for group in genesis.groups
    )


def _lost(silent: Sequence[NodeReport]) -> str:
    if silent:
        return f"its directory was not found, and {_silent(silent)}"
    return "its directory is on no live node"


def _silent(silent: Sequence[NodeReport]) -> str:
    listed = ", ".join(f"{report.name} ({report.reason or 'no answer'})" for report in silent)
    return f"node {listed} did not answer" if len(silent) == 1 else f"nodes {listed} did not answer"


def _where(report: NodeReport, folder: FolderFound) -> str:
    return f"{folder.path} on node {report.name}"
