"""Schedules about reads of masters that are none any more, or not yet, and of followers.

Each one is played again in `test_lease_mutations.py` with its defence taken out, and must fail.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.client_messages import (
    Consistency,
    QueryProblem,
    QueryResult,
    ReadIndexConfirmed,
)
from ray_paxos.core.messages import Accept, Chosen, HeartbeatConfirmed, LearnReply
from ray_paxos.core.settings import MILLISECOND_NS, AcceptorSettings
from ray_paxos.testing.options import Options
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.violation import Violation
from tests.simulation.test_lease_schedules import LEASE_MS, LEASED, eager, lead, refused

UNLEASED = replace(CALM, acceptor=AcceptorSettings(hearsay_ns=0))
STALENESS_MS = 250
"""More than three times the interval of heartbeats, which is what freshness takes to be told."""


def test_paused_master() -> None:
    """F7: a master that is stopped for longer than its lease answers nothing by it afterwards.

    Reads have come in meanwhile. Its learner looks at the clock when it takes them up, and the
    clock has run on.
    """
    play = Scenario(options=LEASED)
    eager(play, "B")
    client = lead(play, b"one")
    play.pause("A")
    by_lease = client.read("A", Consistency.LEASE)
    by_index = client.ask_index("A")
    play.stand("B")
    client.call("B", b"two")
    late = client.read("A", Consistency.LINEARIZABLE)
    play.resume("A")
    for read in (by_lease, late):
        refused(client, read, QueryProblem.NO_LEASE)
    refused(client, by_index, QueryProblem.NOT_MASTER)
    play.until(lambda: play.lines("A") == [b"one", b"two"], what="A has caught up")


def test_paused_learner() -> None:
    """F7: only the learner is stopped; its proposer cannot tell it of the end of its lease."""
    play = Scenario(options=LEASED)
    eager(play, "B")
    client = lead(play, b"one")
    play.pause("A.learner")
    read = client.read("A", Consistency.LEASE)
    play.cut("A", "B C")
    play.stand("B")
    client.call("B", b"two")
    play.resume("A.learner")
    refused(client, read, QueryProblem.NO_LEASE)


def test_clock_jumps_forward_at_the_holder() -> None:
    """F7: a clock that jumps ends the belief in a lease, of learner and proposer alike."""
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    play.cut("A", "B C")
    play.run(ms=10)
    assert client.lines(client.read("A", Consistency.LEASE)) == [b"one"]
    play.member("A").clock.jump(LEASE_MS * MILLISECOND_NS)
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)
    assert not play.believes("A.proposer")


def test_read_index_of_a_deposed_master() -> None:
    """R8: without a lease an index takes a round, which a deposed master gets from nobody."""
    play = Scenario(options=UNLEASED)
    eager(play, "C")
    client = lead(play, b"one", has_lease=False)
    parted = play.cut("A", "B C")
    play.stand("C")
    two = client.call("C", b"two")
    assert play.masters() == ["A", "C"]
    refused(client, client.ask_index("A"), QueryProblem.NOT_MASTER)
    index = client.answer(client.ask_index("C"))
    assert isinstance(index, ReadIndexConfirmed)
    assert index.index >= two.instance_id
    play.end(*parted)


def test_read_that_shares_a_round_already_sent() -> None:
    """R8: a read waits for a round that begins after it came; one on its way proves nothing.

    A round is on its way when C is elected: B has confirmed it, and the reply takes long. Then
    comes a read.
    """
    play = Scenario(options=UNLEASED)
    eager(play, "C")
    client = lead(play, b"one", has_lease=False)
    parted = play.cut("A", "C")
    late = play.hold(HeartbeatConfirmed, sender="B", to="A")
    early = client.ask_index("A")
    play.until(lambda: late.count > 0, what="B has confirmed")
    play.freeze("A")
    lost = play.cut("A", "B")
    play.stand("C")
    client.call("C", b"two")
    read = client.ask_index("A")
    play.run(ms=2)
    play.deliver(late)
    assert isinstance(client.answer(early), ReadIndexConfirmed)
    play.run(ms=20)
    assert read not in client.answers
    play.process("A.proposer").thaw_timers()
    refused(client, read, QueryProblem.NOT_MASTER)
    play.end(*parted, *lost)


def test_read_index_before_the_own_master_record() -> None:
    """R5: a new master that has adopted, and not chosen yet, knows less than was acknowledged.

    A line is acknowledged, and only votes are left of it. C adopts it; its accepts take long.
    Heartbeats are confirmed meanwhile, and so would be reads.
    """
    play = Scenario(options=UNLEASED)
    eager(play, "C")
    client = lead(play, b"one", has_lease=False)
    untold = play.lose(Chosen, LearnReply, to="B.learner C.learner")
    two = client.call("A", b"two")
    play.kill("A")
    accepts = play.hold(Accept, sender="C", to="B")
    play.try_to_stand("C")
    play.until(lambda: accepts.count > 0, what="C has adopted the line")
    play.run(ms=100)
    refused(client, client.ask_index("C"), QueryProblem.NOT_MASTER)
    play.end(untold)
    play.deliver(accepts)
    play.until(lambda: play.masters() == ["C"], what="C serves")
    index = client.answer(client.ask_index("C"))
    assert isinstance(index, ReadIndexConfirmed)
    assert index.index > two.instance_id


def test_follower_under_a_new_master() -> None:
    """A follower is as fresh as a master says that *serves*: before, it does not know what is.

    As above; B's learner, which misses the line, hears C's confirmed heartbeats.
    """
    play = Scenario(options=UNLEASED)
    eager(play, "C")
    client = lead(play, b"one", has_lease=False)
    untold = play.lose(Chosen, LearnReply, to="B.learner C.learner")
    client.call("A", b"two")
    play.kill("A")
    accepts = play.hold(Accept, sender="C", to="B")
    play.try_to_stand("C")
    play.until(lambda: accepts.count > 0, what="C has adopted the line")
    play.run(ms=5 * STALENESS_MS)
    read = client.read("B", Consistency.FOLLOWER, max_staleness_ms=STALENESS_MS)
    refused(client, read, QueryProblem.STALE)
    play.end(untold)
    play.deliver(accepts)
    play.until(lambda: play.masters() == ["C"], what="C serves")
    play.run(ms=200)
    read = client.read("B", Consistency.FOLLOWER, max_staleness_ms=STALENESS_MS)
    assert client.lines(read) == [b"one", b"two"]


def test_follower_of_a_deposed_master() -> None:
    """A follower beside a master that no quorum confirms knows that its state grows old.

    A and B are cut off from the others, who elect C. B's learner goes on hearing A's heartbeats.
    """
    play = Scenario(5, options=UNLEASED)
    eager(play, "C")
    client = lead(play, b"one", has_lease=False)
    read = client.read("B", Consistency.FOLLOWER, max_staleness_ms=STALENESS_MS)
    assert client.lines(read) == [b"one"]
    parted = play.cut("A B", "C D E")
    play.stand("C")
    two = client.call("C", b"two")
    play.run(ms=2 * STALENESS_MS)
    assert "A" in play.masters()
    read = client.read("B", Consistency.FOLLOWER, max_staleness_ms=STALENESS_MS)
    refused(client, read, QueryProblem.STALE)
    read = client.read("B", Consistency.FOLLOWER, at_least=two.instance_id)
    refused(client, read, QueryProblem.BEHIND)
    assert isinstance(client.answer(client.read("B", Consistency.STALE)), QueryResult)
    play.end(*parted)


@pytest.mark.parametrize("options", [LEASED, UNLEASED], ids=["leased", "unleased"])
def test_read_by_index(options: Options) -> None:
    """R8: two reads in turn never go back, also past what nobody was acknowledged.

    A line is chosen, and A's own learner is the last to hear of it. By the index a read waits for
    that learner, so what it shows is there for the next one.
    """
    play = Scenario(options=options)
    client = lead(play, b"one", has_lease=options is LEASED)
    late = play.hold(Chosen, to="A.learner")
    client.submit("A", b"two")
    play.until(lambda: play.lines("B") == [b"one", b"two"], what="B's learner has the line")
    play.world.scheduler.after(20 * MILLISECOND_NS, lambda: play.deliver(late))
    assert client.read_by_index("A", "A") == [b"one", b"two"]
    assert client.read_by_index("A", "B" if options is UNLEASED else "A") == [b"one", b"two"]


def test_read_by_index_at_another_learner() -> None:
    """Why, under leases, the index serves for the master's own learner only.

    As above: B's learner shows the line; the next read, by A's lease, does not know of it yet.
    """
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    play.hold(Chosen, to="A.learner")
    client.submit("A", b"two")
    play.until(lambda: play.lines("B") == [b"one", b"two"], what="B's learner has the line")
    assert client.read_by_index("A", "B") == [b"one", b"two"]
    with pytest.raises(Violation, match="LEASE read as of 3, called when 4 had been heard of"):
        client.answer(client.read("A", Consistency.LEASE))


def test_reads_add_nothing_to_the_log() -> None:
    """Reads of every kind, and the log is what it was."""
    for options in (LEASED, UNLEASED):
        play = Scenario(options=options)
        client = lead(play, b"one", has_lease=options is LEASED)
        before = play.learner("A").applied_through
        proposed = play.watch(Accept)
        for consistency in Consistency:
            client.answer(client.read("A", consistency))
        for _ in range(5):
            assert isinstance(client.answer(client.ask_index("A")), ReadIndexConfirmed)
        play.run(ms=1_000)
        assert play.learner("A").applied_through == before
        assert proposed.count == 0
