"""Schedules that turn on what is on the disk after kills, losses of power, flips and wipes.

As `test_schedules.py`: each one fails in `test_mutations.py` once its defence is out.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace

import pytest

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.bootstrap import (
    Activate,
    FolderFound,
    FolderState,
    NodeReport,
    Refuse,
    StageMissing,
    Start,
    decide,
)
from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, Voter
from ray_paxos.core.learner_messages import LearnRequest
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    CreateGroup,
    Message,
    OrderDone,
    Prepare,
    Promise,
    RemoveGroup,
    RoleName,
)
from ray_paxos.core.sealing import INSTANCE_OVERHEAD_BYTES
from ray_paxos.storage.folder import activate_member, stage_member
from ray_paxos.testing.disk import CrashedError, SimulatedDisk
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.scripted_network import Rule
from ray_paxos.testing.world import make_genesis

SEAL_OPERATIONS = 5
"""Create, write, sync, rename, sync of the folder."""

CONTROLLER = Address(900, RoleName.CLIENT)


def test_page_cache() -> None:
    """Schedule 10: what the next life reads from the page cache is made durable before it speaks.

    B votes, and is killed before its fdatasync. The next life finds the vote, and answers for it;
    the value is chosen and acknowledged. Then the power goes at A and B.
    """
    play = Scenario(3)
    parted = play.cut("C", "A B")
    play.stand("A")
    client = play.client()
    client.open("A")
    play.process("B.acceptor").faults.syncs_held = True
    number = client.submit("A", b"kept")
    play.until(lambda: 3 in play.votes("B").votes, what="B votes")
    assert play.world.checker.acceptors[2].has_unsynced
    play.kill("B.acceptor")
    play.process("B.acceptor").faults.syncs_held = False
    play.start("B.acceptor")
    assert 3 in play.votes("B").votes
    play.until(lambda: number in client.results, what="the line is acknowledged")
    play.cut_power("A B")
    play.start("B")
    play.end(*parted)
    play.stand("B")
    assert play.lines("B") == [b"kept"]


@pytest.mark.parametrize("operation", range(SEAL_OPERATIONS + 1))
def test_unsynced_folder(operation: int) -> None:
    """Schedule 10 for segments: killed at any operation of a seal, started, then without power.

    What the learner reports durable after the start must be there after the loss of power, though
    its folder may have been in the page cache only.
    """
    play = Scenario(3)
    play.stand("A")
    client = play.client()
    client.call("A", b"sealed")
    play.process("B.learner").faults.crash_in = operation
    play.run(ms=200)
    assert play.process("B.learner").is_up == (operation >= SEAL_OPERATIONS)
    play.start("B.learner")
    found = play.learner("B").durable_through
    play.cut_power("B")
    play.start("B")
    assert play.learner("B").durable_through >= found
    play.until(lambda: play.lines("B") == [b"sealed"], what="B has the line")


def test_full_disk_of_a_follower() -> None:
    """R10: what a learner cannot seal does not pile up without bound, and nothing of it is lost.

    C's disk is full for long. Its learner takes in what its limit allows, then rests; the others go
    on, and seal. Once there is room C seals, and catches up with the rest.
    """
    limit = 10_000
    learner = replace(CALM.learner, unsealed_bytes_max=limit)
    play = Scenario(3, options=replace(CALM, learner=learner))
    play.stand("A")
    client = play.client()
    client.call("A", b"before")
    disk = play.member("C").disk
    disk.set_capacity(sum(map(len, disk.files().values())))
    lines = [b"%d" % number * 20 for number in range(60)]
    for line in lines:
        client.call("A", line)
    play.run(ms=500)
    behind = play.learner("C")
    unsealed = behind.learned_through - behind.durable_through
    assert 3 < unsealed <= limit // INSTANCE_OVERHEAD_BYTES + 1
    assert play.learner("B").durable_through >= 60
    asked = play.watch(LearnRequest, sender="C.learner")
    play.run(ms=2_000)
    assert asked.count == 0
    disk.set_capacity(None)
    play.until(lambda: play.lines("C") == [b"before", *lines], what="C has caught up")


@pytest.mark.parametrize("offset_from_end", [0, 1, 7, 20, 50, 100])
def test_flipped_bit(offset_from_end: int) -> None:
    """Schedule 11: a flip in the last durable frame is damage, not a torn tail.

    B's last record is its promise and vote for A. A bit of it flips while B is down. B must not
    open as if it had never voted; A and C go on without it.
    """
    play = Scenario(3)
    play.stand("A")
    client = play.client()
    client.call("A", b"before")
    disk = play.member("B").disk
    play.kill("B")
    folder = "acceptor/journal"
    path = f"{folder}/{disk.list(folder)[-1]}"
    data = disk.read(path).rstrip(b"\0")
    disk.flip_bit(path, 8 * (len(data) - 1 - offset_from_end) + 3)
    play.start("B")
    play.run(ms=500)
    assert not play.process("B.acceptor").is_serving
    client.call("A", b"after")
    assert play.lines("A") == [b"before", b"after"]


def _is_seen(rule: Rule) -> bool:
    return rule.count > 0


def test_interleaved_incarnations() -> None:
    """Schedule 12: no two lives of a proposer share a ballot, however roles are restarted."""
    play = Scenario(3)
    play.lose(Promise, sender="B C")
    for restarted in ("A.acceptor", "A.learner", "A.checkpointer") * 2:
        play.kill("A.proposer")
        play.start("A.proposer")
        prepared = play.watch(Prepare, sender="A")
        play.try_to_stand("A")
        play.until(functools.partial(_is_seen, prepared), what="A prepares")
        play.kill(restarted)
        play.start(restarted)
        play.kill("A.proposer")
        play.start("A.proposer")
        play.try_to_stand("A")
        play.run(ms=800)


def test_first_boot_and_amnesia() -> None:
    """Schedule 13: a member whose disk is gone is not made afresh, whatever a start finds.

    A and B chose a line, and all lose power. B's disk is wiped, A's node does not come back. B's
    and C's nodes answer. A start that made a fresh B would let B and C elect without the line.
    """
    play = Scenario(3)
    parted = play.cut("C", "A B")
    play.stand("A")
    play.client().call("A", b"chosen")
    play.cut_power("A B C")
    play.end(*parted)
    disk = play.member("B").disk
    for name in disk.list(""):
        disk.remove(name)
    genesis = play.world.genesis
    found = FolderFound("C", "/data/C", "disk-c", FolderState.ACTIVATED, genesis, 3)
    reports = [
        NodeReport("id-a", "node-a", False, "no answer"),
        NodeReport("id-b", "node-b", True),
        NodeReport("id-c", "node-c", True, folders=(found,)),
    ]
    decision = decide(genesis.cluster, reports)
    if isinstance(decision, StageMissing):
        stage_member(disk, genesis, 2)
        activate_member(disk)
        play.start("B C")
        play.stand("B")
    assert isinstance(decision, Refuse)
    # With A's node back there is a majority, and still no fresh B.
    other = replace(found, member="A", place="disk-a", member_id=1)
    reports[0] = NodeReport("id-a", "node-a", True, folders=(other,))
    again = decide(genesis.cluster, reports)
    assert isinstance(again, Start)
    assert list(again.missing) == ["B"]
    play.start("A C")
    play.stand("C")
    assert play.lines("C") == [b"chosen"]


def test_delayed_order() -> None:
    """Schedule 25: an order that comes after the end of what it ordered makes nothing.

    The order that makes (group 7, replica 2) at B is delayed, its re-send works. B votes, is
    removed, and its journal goes on in a new file. Then the delayed order arrives.
    """
    play = Scenario(3)
    answers: list[Message] = []
    play.cluster.receivers[CONTROLLER.member_id] = lambda e: answers.append(e.message)
    voters = (Voter(1, 1), Voter(2, 2), Voter(3, 3))
    order = CreateGroup(2, Configuration(GENESIS_CONFIG_ID, voters), 1)
    proposer = Address(1, RoleName.PROPOSER)
    ballot = Ballot(1, 1, 1)
    voted = play.watch(Accepted, sender="B")
    play.inject(CONTROLLER, "B.acceptor", order, group=7)
    play.run(ms=5)
    play.inject(proposer, "B.acceptor", Accept(ballot, 1, b"v"), group=7, replica_id=1)
    play.run(ms=5)
    assert voted.count == 1
    play.inject(CONTROLLER, "B.acceptor", RemoveGroup(2), group=7)
    play.run(ms=5)
    # The first start copies what is live to a new file, the second one reads that file alone.
    for _ in range(2):
        play.kill("B.acceptor")
        play.start("B.acceptor")
    assert answers == [OrderDone(2, ""), OrderDone(2, "")]
    play.inject(CONTROLLER, "B.acceptor", order, group=7)
    play.run(ms=5)
    refusal = answers[-1]
    assert isinstance(refusal, OrderDone)
    assert refusal.refused
    # Nor does a message make the group.
    promised = play.watch(Promise, sender="B")
    play.inject(proposer, "B.acceptor", Prepare(ballot, 1), group=7, replica_id=1)
    play.run(ms=5)
    assert promised.count == 0
    acceptor = play.process("B.acceptor").role
    assert isinstance(acceptor, Acceptor)
    assert 7 not in acceptor.state.groups
    assert acceptor.state.tombstones[7] == 2


@pytest.mark.parametrize("power_goes", [False, True])
@pytest.mark.parametrize("operation", range(16))
def test_killed_between_naming_and_first_record(operation: int, power_goes: bool) -> None:
    """Schedule 26: killed at any operation of beginning a journal file, it opens all the same.

    B's acceptor is killed once while it opens (which begins a file), and once while it goes on in
    a new file in the middle of work, both `operation` operations in.
    """
    play = Scenario(3, options=replace(CALM, journal_bytes=6_000))
    play.stand("A")
    client = play.client()
    client.call("A", b"one")
    process = play.process("B.acceptor")
    for kill_first in (True, False):
        if kill_first:
            process.kill()
        process.faults.crash_in = operation
        play.start("B.acceptor")
        for number in range(4):
            client.call("A", b"%d" % number * 400)
        if process.is_up:
            process.faults.crash_in = None
        if power_goes:
            play.cut_power("B")
        play.start("B")
        play.run(ms=100)
        assert process.is_serving, "what a crash leaves is no damage"
    client.call("A", b"two")
    play.run(ms=500)
    assert play.lines("B") == play.lines("A")


@pytest.mark.parametrize("operation", range(0, 60, 3))
def test_killed_after_staging_two_of_three(operation: int) -> None:
    """Schedule 26: a bootstrap that ends after two of three members, or within one, goes on.

    Until all are staged no one has voted, so the third may be made; afterwards it may not.
    """
    genesis = make_genesis(3, 1)
    disks = {name: SimulatedDisk() for name in "ABC"}
    stage_member(disks["A"], genesis, 1)
    disks["B"].crash_at(operation)
    with contextlib.suppress(CrashedError):
        stage_member(disks["B"], genesis, 2)
    disks["B"].kill()
    disks["B"].crash_at(None)

    def reports(states: dict[str, FolderState]) -> list[NodeReport]:
        folders = {
            name: (FolderFound(name, name, name, state, genesis, "ABC".index(name) + 1),)
            for name, state in states.items()
        }
        return [NodeReport(name, name, True, folders=folders.get(name, ())) for name in "ABC"]

    staged = {"A": FolderState.STAGED}
    decision = decide(genesis.cluster, reports(staged))
    assert isinstance(decision, StageMissing)
    assert decision.members == ("B", "C")
    stage_member(disks["B"], genesis, 2)
    staged["B"] = FolderState.STAGED
    decision = decide(genesis.cluster, reports(staged))
    assert isinstance(decision, StageMissing)
    assert decision.members == ("C",)
    staged["C"] = FolderState.STAGED
    assert isinstance(decide(genesis.cluster, reports(staged)), Activate)
    # Two of three activated, and the third one's disk is gone: it has perhaps voted.
    activated = dict.fromkeys("AB", FolderState.ACTIVATED)
    decision = decide(genesis.cluster, reports(activated))
    assert isinstance(decision, Start)
    assert list(decision.missing) == ["C"]
