"""The decisions of a start: every combination of folders and silent nodes, and crashes between."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ray_paxos.core.bootstrap import (
    Activate,
    Decision,
    FolderFound,
    FolderState,
    NodeReport,
    Refuse,
    StageAll,
    StageMissing,
    Start,
    decide,
)
from ray_paxos.core.genesis import Genesis, GroupSpec, MemberSpec, Voter

NAMES = ("a", "b", "c")


def make_genesis(cluster: str = "demo", cluster_id: str = "1" * 32, members: int = 3) -> Genesis:
    specs = tuple(MemberSpec(name, 10 + n) for n, name in enumerate(NAMES[:members]))
    voters = tuple(Voter(spec.member_id, n) for n, spec in enumerate(specs, start=1))
    groups = (GroupSpec(0, voters, ()), GroupSpec(1, voters, ()))
    return Genesis(1, cluster, cluster_id, specs, groups)


GENESIS = make_genesis()


def folder(
    member: str,
    state: FolderState,
    *,
    genesis: Genesis | None = GENESIS,
    place: str = "",
    member_id: int | None = None,
) -> FolderFound:
    if member_id is None:
        member_id = 10 + NAMES.index(member)
    reason = "torn" if state is FolderState.UNREADABLE else ""
    return FolderFound(
        member, f"/data/{member}", place or f"disk-{member}", state, genesis, member_id, reason
    )


def node(name: str, *folders: FolderFound, answered: bool = True) -> NodeReport:
    reason = "" if answered else "no answer within 30 s"
    return NodeReport(f"id-{name}", name, answered, reason, folders if answered else ())


STATES = (None, FolderState.STAGED, FolderState.ACTIVATED, FolderState.UNREADABLE)


def all_situations() -> Iterator[tuple[dict[str, FolderState | None], bool]]:
    for states in itertools.product(STATES, repeat=3):
        for all_answer in (True, False):
            yield dict(zip(NAMES, states, strict=True)), all_answer


def reports_of(states: dict[str, FolderState | None], all_answer: bool) -> list[NodeReport]:
    reports = [
        node(f"n-{name}", *([folder(name, state)] if state is not None else []))
        for name, state in states.items()
    ]
    if not all_answer:
        reports.append(node("n-silent", answered=False))
    return reports


def test_every_situation_keeps_the_rules() -> None:
    count = 0
    for states, all_answer in all_situations():
        decision = decide("demo", reports_of(states, all_answer))
        check_rules(states, all_answer, decision)
        count += 1
    assert count == 128


def check_rules(
    states: dict[str, FolderState | None], all_answer: bool, decision: Decision
) -> None:
    what = f"{states}, all answered: {all_answer}: {decision}"
    found = {name: state for name, state in states.items() if state is not None}
    staged = {name for name, state in found.items() if state is FolderState.STAGED}
    activated = {name for name, state in found.items() if state is FolderState.ACTIVATED}
    match decision:
        case StageAll():
            # A genesis is made only where nothing is, by the word of every node.
            assert not found, what
            assert all_answer, what
        case StageMissing(members=members, taken=taken):
            # A folder is made only while everybody else is still staged: nobody has voted.
            assert set(members) | staged == set(NAMES), what
            assert not set(members) & set(found), what
            assert staged == set(taken) == set(found), what
            assert all_answer, what
        case Activate(places=places):
            assert places, what
            assert set(places) <= staged, what
            # The first one is activated only once all are staged.
            assert activated or staged == set(NAMES), what
        case Start(places=places, missing=missing):
            # Nobody starts while a folder that was found still waits for activation.
            assert not staged, what
            assert set(places) == activated, what
            assert set(missing) == set(NAMES) - activated, what
            assert len(activated) >= 2, what
        case Refuse(reason=reason):
            assert reason, what


def test_what_is_decided_in_each_plain_situation() -> None:
    staged, active = FolderState.STAGED, FolderState.ACTIVATED
    assert isinstance(decide("demo", [node("x"), node("y")]), StageAll)
    missing = decide("demo", [node("x", folder("a", staged)), node("y", folder("c", staged))])
    assert isinstance(missing, StageMissing)
    assert missing.members == ("b",)
    assert missing.taken == {"a": "id-x", "c": "id-y"}
    all_staged = [node("x", *(folder(name, staged) for name in NAMES))]
    assert decide("demo", all_staged) == Activate(GENESIS, dict.fromkeys(NAMES, "id-x"))
    halfway = [node("x", folder("a", active), folder("b", staged), folder("c", staged))]
    assert decide("demo", halfway) == Activate(GENESIS, {"b": "id-x", "c": "id-x"})
    running = [node("x", *(folder(name, active) for name in NAMES))]
    assert decide("demo", running) == Start(GENESIS, dict.fromkeys(NAMES, "id-x"), {})


def test_a_lost_member_is_not_made_again() -> None:
    """Schedule 13: after a total outage with B's disk wiped, nobody makes a fresh B."""
    active = FolderState.ACTIVATED
    reports = [node("x", folder("a", active)), node("y"), node("z", folder("c", active))]
    decision = decide("demo", reports)
    assert isinstance(decision, Start)
    assert decision.places == {"a": "id-x", "c": "id-z"}
    assert decision.missing == {"b": "its directory is on no live node"}


def test_without_a_majority_nothing_starts_and_all_missing_are_named() -> None:
    reports = [node("x", folder("a", FolderState.ACTIVATED)), node("y", answered=False)]
    decision = decide("demo", reports)
    assert isinstance(decision, Refuse)
    assert "b: its directory was not found, and node y (no answer within 30 s)" in decision.reason
    assert "c:" in decision.reason
    assert "never made anew" in decision.reason


def test_one_silent_node_forbids_a_genesis() -> None:
    decision = decide("demo", [node("x"), node("y", answered=False)])
    assert isinstance(decision, Refuse)
    assert "node y" in decision.reason


def test_no_node_forbids_a_genesis() -> None:
    assert isinstance(decide("demo", []), Refuse)


def test_an_interrupted_first_start_waits_for_every_node() -> None:
    reports = [node("x", folder("a", FolderState.STAGED)), node("y", answered=False)]
    decision = decide("demo", reports)
    assert isinstance(decision, Refuse)
    assert "b, c" in decision.reason
    assert "node y" in decision.reason


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (folder("b", FolderState.ACTIVATED, genesis=make_genesis("other")), "cluster other"),
        (
            folder("b", FolderState.ACTIVATED, genesis=make_genesis(cluster_id="2" * 32)),
            "2" * 32,
        ),
        (folder("b", FolderState.ACTIVATED, member_id=10), "member id 10"),
        (folder("a", FolderState.ACTIVATED, place="copy"), "two directories"),
    ],
    ids=["another cluster's", "another genesis", "renamed", "copied"],
)
def test_what_does_not_belong_together_is_refused(wrong: FolderFound, part: str) -> None:
    decision = decide("demo", [node("x", folder("a", FolderState.ACTIVATED)), node("y", wrong)])
    assert isinstance(decision, Refuse)
    assert part in decision.reason
    assert "on node y" in decision.reason


def test_two_nodes_that_share_a_directory_hold_it_once() -> None:
    active = FolderState.ACTIVATED
    shared = tuple(folder(name, active) for name in NAMES)
    decision = decide("demo", [node("x", *shared), node("y", *shared)])
    assert decision == Start(GENESIS, dict.fromkeys(NAMES, "id-x"), {})


def test_an_unreadable_folder_is_a_lost_member_once_others_are_active() -> None:
    active = FolderState.ACTIVATED
    broken = folder("b", FolderState.UNREADABLE, genesis=None, member_id=0)
    reports = [node("x", folder("a", active), broken, folder("c", active))]
    decision = decide("demo", reports)
    assert isinstance(decision, Start)
    assert decision.missing == {"b": "/data/b on node x: torn"}
    alone = decide("demo", [node("x", broken)])
    assert isinstance(alone, Refuse)
    assert "/data/b on node x: torn" in alone.reason


def test_a_running_cluster_gets_back_only_what_is_found() -> None:
    active = FolderState.ACTIVATED
    decision = decide("demo", [node("x", folder("a", active))], running=GENESIS)
    assert isinstance(decision, Start)
    assert set(decision.places) == {"a"}
    assert set(decision.missing) == {"b", "c"}
    foreign = make_genesis(cluster_id="3" * 32)
    refused = decide("demo", [node("x", folder("a", active, genesis=foreign))], running=GENESIS)
    assert isinstance(refused, Refuse)
    nothing = decide("demo", [node("x"), node("y", answered=False)], running=GENESIS)
    assert isinstance(nothing, Start)
    assert not nothing.places


class Disks:
    """Three nodes whose folders bootstrap works on, and which may crash at every step."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.folders: dict[str, dict[str, FolderFound]] = {f"id-n{n}": {} for n in range(3)}
        self.made: set[str] = set()
        self.started: list[frozenset[str]] = []
        self.activated_ever: set[str] = set()

    def look(self) -> list[NodeReport]:
        return [
            NodeReport(node_id, node_id, True, "", tuple(folders.values()))
            for node_id, folders in self.folders.items()
        ]

    def step(self) -> Decision:
        """One look and one decision, carried out up to a random point."""
        decision = decide("demo", self.look())
        match decision:
            case StageAll():
                genesis = make_genesis(cluster_id=f"{self.random.getrandbits(64):032x}")
                self.stage(genesis, NAMES)
            case StageMissing(genesis=genesis, members=members):
                self.stage(genesis, members)
            case Activate(places=places):
                for name in self.some(tuple(places)):
                    found = self.folders[places[name]][name]
                    state = FolderState.ACTIVATED
                    self.folders[places[name]][name] = replace(found, state=state)
                    self.activated_ever.add(name)
            case Start(places=places):
                self.started.append(frozenset(places))
            case Refuse(reason=reason):
                raise AssertionError(reason)
        return decision

    def stage(self, genesis: Genesis, members: tuple[str, ...]) -> None:
        for name in self.some(members):
            assert name not in self.activated_ever, "a member that may have voted is made again"
            self.made.add(genesis.cluster_id)
            node_id = f"id-n{NAMES.index(name)}"
            self.folders[node_id][name] = folder(name, FolderState.STAGED, genesis=genesis)

    def some(self, names: tuple[str, ...]) -> list[str]:
        """The nodes work side by side: any subset may be done when everything is killed."""
        shuffled = self.random.sample(names, len(names))
        return shuffled[: self.random.randrange(len(names) + 1)]


def test_a_start_that_is_killed_anywhere_comes_to_one_genesis() -> None:
    """Schedule 26: killed after bootstrapping two of three members."""
    for seed in range(300):
        disks = Disks(random.Random(seed))
        for _ in range(200):
            if isinstance(disks.step(), Start):
                break
        assert disks.started == [frozenset(NAMES)], f"seed {seed}"
        found = {
            f.genesis.hash() for fs in disks.folders.values() for f in fs.values() if f.genesis
        }
        assert len(found) == 1, f"seed {seed}"


def test_a_disk_that_is_lost_during_a_start_is_never_filled_again_after_it() -> None:
    for seed in range(300):
        source = random.Random(seed)
        disks = Disks(source)
        for _ in range(source.randrange(8)):
            disks.step()
        lost = source.choice(NAMES)
        was_started = bool(disks.started)
        disks.folders[f"id-n{NAMES.index(lost)}"].clear()
        others = [f for fs in disks.folders.values() for f in fs.values()]
        if not was_started and others and all(f.state is FolderState.STAGED for f in others):
            # Nobody has ever voted, so the lost one may be made again.
            disks.activated_ever.discard(lost)
        for _ in range(200):
            if isinstance(disks.step(), Start):
                break
        if was_started:
            assert lost not in disks.started[-1], f"seed {seed}"
