"""Schedules about who leads: stalled disks, cuts in one direction, partial cuts, isolation.

In each one a master is there again, stays, and is not disturbed by those who cannot lead. Each one
fails in `test_lease_mutations.py` once its defence is out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from ray_paxos.core.client_messages import MasterTransferred, Submitted
from ray_paxos.core.messages import HeartbeatConfirmed, Prepare, PreVote, PreVoteGranted
from ray_paxos.core.settings import MILLISECOND_NS, AcceptorSettings
from ray_paxos.errors import FolderHeldError
from ray_paxos.testing.opening import open_process
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.scripted_client import member_id_of
from ray_paxos.testing.scripted_network import Rule
from tests.simulation.test_lease_schedules import LEASED, eager, lead

ELECTED_MS = 6_000
"""Within this a master is there again: a lease, two election time-outs and a few attempts."""
SETTLED_MS = 10_000

LEASES = pytest.mark.parametrize("lease_ms", [0, 600], ids=["unleased", "leased"])


def scenario(members: int, lease_ms: int) -> Scenario:
    """Elections as by default, in the proportions that the configuration has."""
    proposer = replace(CALM.proposer, lease_ns=lease_ms * MILLISECOND_NS)
    proposer = replace(proposer, disk_stall_ns=800 * MILLISECOND_NS)
    return Scenario(members, options=replace(CALM, proposer=proposer, acceptor=AcceptorSettings()))


def begin(play: Scenario) -> None:
    """A leads, and everybody keeps deadlines."""
    lead(play, b"one", has_lease=play.world.options.proposer.lease_ns > 0)
    play.let_all_stand()
    play.run(ms=200)


def keep_links(play: Scenario, links: Iterable[str]) -> list[Rule]:
    """Cut all links between members but these, such as `AB`."""
    kept = {frozenset(link) for link in links}
    names = [chr(ord("A") + i) for i in range(play.world.options.members)]
    rules: list[Rule] = []
    for a in names:
        for b in names:
            if a < b and frozenset(a + b) not in kept:
                rules += play.cut(a, b)
    return rules


def settles(play: Scenario, *names: str) -> None:
    """One of these members leads before long, takes commands, and stays; nobody else tries to."""
    play.until(
        lambda: len(play.masters()) == 1 and play.masters()[0] in names,
        ms=ELECTED_MS,
        what=f"one of {names} leads",
    )
    master = play.masters()[0]
    client = play.client()
    client.call(master, b"line of " + master.encode())
    prepares = play.watch(Prepare)
    play.run(ms=SETTLED_MS)
    assert play.masters() == [master]
    assert prepares.count == 0
    client.call(master, b"another")


@LEASES
def test_stalled_disk_at_the_master(lease_ms: int) -> None:
    """F6: a master whose disk stalls makes room for another one.

    Its acceptor answers nothing while a write waits, not by a thread that does not touch the disk
    either: so it confirms no round and keeps no lease alive.
    """
    play = scenario(3, lease_ms)
    begin(play)
    play.stall("A.acceptor")
    client = play.client()
    client.request_session("A")
    play.run(ms=20)
    confirmed = play.watch(HeartbeatConfirmed, sender="A.acceptor")
    play.until(lambda: play.masters() in (["B"], ["C"]), ms=ELECTED_MS, what="another leads")
    assert confirmed.count == 0
    play.quicken("A.acceptor")
    settles(play, "B", "C")


@LEASES
def test_dropped_master(lease_ms: int) -> None:
    """A master that is to go hands over at once, to whoever is there, and leaves the lead to it."""
    play = scenario(3, lease_ms)
    begin(play)
    play.kill("B")
    play.run(ms=1_500)
    client = play.client()
    transfer = client.transfer("A")
    play.until(lambda: play.masters() == ["C"], ms=200, what="C leads without waiting")
    assert client.answer(transfer) == MasterTransferred(transfer, member_id_of("C"))
    settles(play, "C")


@LEASES
def test_dropped_once(lease_ms: int) -> None:
    """An order to drop the master is slow, and given again: it ends one reign, not two.

    A is suspended with the order in its queue; whoever ordered asks again, of A and of the master
    after it. An order that comes to A late, when it leads anew, ends nothing either.
    """
    play = scenario(3, lease_ms)
    begin(play)
    version = play.proposer("A").master_record[1]
    client = play.client()
    play.pause("A.proposer")
    client.transfer("A", version=version)
    play.run(ms=300)
    again = client.transfer("A", version=version)
    play.resume("A.proposer")
    play.until(lambda: play.masters() in (["B"], ["C"]), ms=1_000, what="another leads")
    assert client.answer(again)
    (second,) = play.masters()
    third = client.transfer(second, version=version)
    assert client.answer(third) == MasterTransferred(third, member_id_of(second))
    play.run(ms=SETTLED_MS)
    assert play.masters() == [second]
    assert isinstance(client.answer(client.transfer(second, "A")), MasterTransferred)
    play.until(lambda: play.masters() == ["A"], ms=1_000, what="A leads again")
    late = client.transfer("A", version=version)
    assert client.answer(late) == MasterTransferred(late, member_id_of("A"))
    settles(play, "A")


@LEASES
@pytest.mark.parametrize("hears", [False, True], ids=["deaf", "mute"])
def test_one_way_cut_of_the_master(lease_ms: int, hears: bool) -> None:
    """F10: a master that others hear, or that hears others, and not both ways, is replaced.

    A deaf one still sends heartbeats, which say that no quorum confirmed; they keep nobody from
    standing, and its acceptors' grants end once it has stepped down.
    """
    play = scenario(3, lease_ms)
    begin(play)
    rule = play.lose(sender="A", to="B C") if hears else play.lose(sender="B C", to="A")
    play.until(lambda: play.masters() in (["B"], ["C"]), ms=ELECTED_MS, what="another leads")
    settles(play, "B", "C")
    play.end(rule)
    play.run(ms=500)
    settles(play, "B", "C")


@LEASES
@pytest.mark.parametrize(
    ("members", "links"),
    [(3, ("CA", "CB")), (5, ("CA", "CB", "CD", "CE"))],
    ids=["three", "five"],
)
def test_quorum_loss(lease_ms: int, members: int, links: tuple[str, ...]) -> None:
    """F11: the master A has lost its quorum but not C, the only one that is connected to a quorum.

    With five, A must step down though nothing is wrong with it, and C must lead though it hears A
    (OmniPaxos, section 2). With three, A and C are a quorum, and A stays.
    """
    play = scenario(members, lease_ms)
    begin(play)
    rules = keep_links(play, links)
    if members == 5:
        play.until(lambda: play.masters() == ["C"], ms=ELECTED_MS, what="C leads")
    settles(play, "A" if members == 3 else "C")
    play.end(*rules)
    settles(play, "A" if members == 3 else "C")


@LEASES
@pytest.mark.parametrize(
    ("members", "links"),
    [(3, ("CB",)), (5, ("CB", "CD", "CE"))],
    ids=["three", "five"],
)
def test_constrained_election(lease_ms: int, members: int, links: tuple[str, ...]) -> None:
    """F11: the master is gone, and only C can be elected, whose log is behind.

    No pre-vote compares logs: C is elected, and learns what it misses.
    """
    play = scenario(members, lease_ms)
    begin(play)
    client = play.client()
    client.open("A")
    behind = play.cut("C", "A B" if members == 3 else "A B D E")
    play.run(ms=300)
    for line in (b"two", b"three"):
        client.call("A", line)
    play.end(*behind)
    rules = keep_links(play, links)
    assert play.lines("C") == [b"one"]
    settles(play, *"BC" if members == 3 else "C")
    assert play.lines("C")[:3] == [b"one", b"two", b"three"]
    play.end(*rules)
    play.run(ms=500)
    assert play.lines("A") == play.lines("C")


@LEASES
@pytest.mark.parametrize(
    ("members", "links"),
    [(3, ("AC", "CB")), (5, ("AB", "BC", "CD", "DE"))],
    ids=["three", "five"],
)
def test_chain(lease_ms: int, members: int, links: tuple[str, ...]) -> None:
    """F11: members in a chain. Those that hear a master refuse those that do not.

    With three, A keeps its quorum, and B, which does not hear it, never unseats it. With five, A
    has lost its quorum: one in the middle leads, and the others on the chain leave it alone.
    """
    play = scenario(members, lease_ms)
    begin(play)
    rules = keep_links(play, links)
    settles(play, *("A" if members == 3 else "BCD"))
    play.end(*rules)
    settles(play, *("A" if members == 3 else "BCD"))


@LEASES
def test_isolated_follower(lease_ms: int) -> None:
    """F12: a member comes back from isolation: it has raised no ballot, and unseats nobody."""
    play = scenario(3, lease_ms)
    begin(play)
    ballot = play.votes("A").promise
    prepares = play.watch(Prepare)
    asked = play.watch(PreVote, sender="C")
    parted = play.cut("C", "A B")
    play.run(ms=8_000)
    play.end(*parted)
    play.run(ms=3_000)
    assert prepares.count == 0
    assert asked.count > 0
    assert play.masters() == ["A"]
    assert play.votes("A").promise == play.votes("B").promise == ballot


def test_repeated_pre_vote() -> None:
    """F8, F12: the pre-vote of one voter, repeated, is one: a lone member does not prepare."""
    play = scenario(3, 0)
    begin(play)
    prepares = play.watch(Prepare)
    play.cut("C", "A B")
    held = play.hold(PreVoteGranted, sender="C.acceptor")
    play.until(lambda: held.count > 0, what="C's own acceptor grants")
    sender, to, envelope = held.held[0]
    play.deliver(held)
    for _ in range(3):
        play.run(ms=5)
        play.transport.carry(sender, to, envelope)
    play.run(ms=20)
    assert prepares.count == 0


@LEASES
def test_clients_of_the_minority(lease_ms: int) -> None:
    """F12: a master alone with its clients acknowledges nothing, and does not serve for ever.

    What it was sent there is applied once, if at all, after the cut has healed.
    """
    play = scenario(3, lease_ms)
    begin(play)
    client = play.client()
    client.open("A")
    parted = play.cut("A", "B C")
    answers = play.watch(Submitted, sender="A")
    number = client.submit("A", b"lonely")
    play.until(lambda: play.masters() in (["B"], ["C"]), ms=ELECTED_MS, what="another leads")
    assert answers.count == 0
    master = play.masters()[0]
    client.submit(master, b"lonely", number=number)
    play.until(lambda: number in client.results, what="it is applied")
    play.end(*parted)
    settles(play, master)
    assert play.lines("A").count(b"lonely") == 1


def test_two_lives_of_an_acceptor() -> None:
    """F17: the word of an acceptor's earlier life binds the next one, and two never live at once.

    B has granted A a lease, and its reply is still on its way when B's acceptor restarts. C, which
    A's heartbeats do not reach, stands. B's new life remembers nothing of the grant: it promises
    nobody anything for that long.
    """
    play = Scenario(options=LEASED)
    parted = play.cut("A", "C")
    eager(play, "C")
    lead(play, b"one")
    address = play.process("B.acceptor").address
    with pytest.raises(FolderHeldError):
        open_process(play.world, address, play.member("B").disk.process(), lambda members: None, 0)
    replies = play.hold(HeartbeatConfirmed, sender="B")
    play.until(lambda: replies.count > 0, what="B has granted again")
    play.kill("B.acceptor")
    play.start("B.acceptor")
    play.deliver(replies)
    play.run(ms=5)
    assert play.believes("A.learner")
    unheard = play.cut("A", "B")
    play.try_to_stand("C")
    play.until(lambda: "C" in play.masters(), what="C leads")
    assert not play.believes("A.learner")
    play.end(*parted, *unheard)


def test_two_lives_of_a_proposer() -> None:
    """F17: what an earlier life of a proposer said counts for nobody any more.

    A's proposer restarts in the middle of a reign; its earlier life's messages come after.
    """
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    late = play.hold(sender="A.proposer", to="B C")
    client.submit("A", b"two")
    play.run(ms=120)
    play.kill("A.proposer")
    play.start("A.proposer")
    play.end(late)
    play.stand("A")
    client.call("A", b"three")
    play.deliver(late)
    play.run(ms=1_000)
    assert play.masters() == ["A"]
    assert play.lines("B") == play.lines("A")
