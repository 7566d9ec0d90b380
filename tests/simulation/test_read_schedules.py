"""Schedules about reads of masters that are none any more, or not yet, and of followers.

Each one is played again in `test_lease_mutations.py` with its defence taken out, and must fail.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    Consistency,
    QueryProblem,
    QueryResult,
    QuorumReadAnswer,
    ReadIndexConfirmed,
)
from ray_paxos.core.genesis import Voter
from ray_paxos.core.learner_messages import (
    Chosen,
    LearnReply,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    Envelope,
    HeartbeatConfirmed,
    RoleName,
)
from ray_paxos.core.quorum_read import QuorumAnswers, Verdict
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


# By a quorum of acceptors.


@pytest.mark.parametrize("options", [LEASED, UNLEASED], ids=["leased", "unleased"])
def test_read_by_quorum(options: Options) -> None:
    """R8: one hop; and nothing that a majority has accepted is passed over, chosen or not.

    B and C have accepted a line, of which A does not hear. Once it does, the read shows it.
    """
    play = Scenario(options=options)
    client = lead(play, b"one", has_lease=options is LEASED)
    for acceptors in ("A B", "B C", "C A", "A B C"):
        assert client.read_by_quorum(acceptors, "A") == [b"one"]
    late = play.hold(Accepted, sender="B C")
    client.submit("A", b"two")
    play.until(lambda: late.count > 1, what="B and C have accepted")
    assert client.read_by_quorum("B C", "A") is Verdict.BEHIND
    play.deliver(late)
    play.until(lambda: play.lines("A") == [b"one", b"two"], what="A counts the votes")
    assert client.read_by_quorum("B C", "A") == [b"one", b"two"]


def test_read_by_quorum_at_another_learner() -> None:
    """Why its learner has to be that of the member at whose ballot it has learned last.

    A line is chosen, and A's own learner is the last to hear of it. B's learner could show it; the
    next read, by A's lease, does not know of it yet.
    """
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    play.hold(Chosen, to="A.learner")
    client.submit("A", b"two")
    play.until(lambda: play.lines("B") == [b"one", b"two"], what="B's learner has the line")
    by_quorum = client.read_by_quorum("B C", "B")
    assert client.lines(client.read("A", Consistency.LEASE)) == [b"one"]
    assert by_quorum is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("options", [LEASED, UNLEASED], ids=["leased", "unleased"])
def test_read_by_quorum_at_a_deposed_master(options: Options) -> None:
    """R8: beside a deposed master its learner is behind what a majority has accepted since.

    A's acceptor, which is cut off, too, is no majority, however often it answers.
    """
    play = Scenario(options=options)
    eager(play, "C")
    client = lead(play, b"one", has_lease=options is LEASED)
    parted = play.cut("A", "B C")
    play.stand("C")
    client.call("C", b"two")
    assert client.read_by_quorum("A", "A") is Verdict.INCOMPLETE
    assert client.read_by_quorum("A A A", "A") is Verdict.INCOMPLETE
    for acceptors in ("A B", "C A", "B C"):
        assert client.read_by_quorum(acceptors, "A") is Verdict.BEHIND
    assert client.read_by_quorum("A B", "C") == [b"one", b"two"]
    play.end(*parted)
    play.until(lambda: play.lines("A") == [b"one", b"two"], what="A has caught up")
    assert client.read_by_quorum("A B", "A") is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("is_restarted", [False, True], ids=["live", "restarted"])
def test_read_by_quorum_over_a_raised_floor(is_restarted: bool) -> None:
    """R8: acceptors tell of the votes that their floor has passed, in a later life, too."""
    play = Scenario(5, options=UNLEASED)
    eager(play, "C")
    client = lead(play, b"one", has_lease=False)
    parted = play.cut("A", "B C D E")
    play.stand("C")
    client.call("C", b"two")
    voters = "B C D"
    play.until(lambda: not any(play.votes(n).votes for n in voters.split()), what="votes are gone")
    if is_restarted:
        acceptors = " ".join(f"{name}.acceptor" for name in voters.split())
        play.kill(acceptors)
        play.start(acceptors)
    assert client.read_by_quorum(voters, "A") is Verdict.BEHIND
    play.end(*parted)


def test_read_by_quorum_over_configurations() -> None:
    """R5: a majority is one of one configuration, and the learner has to follow the same.

    Members do not change yet, so here only the judge of the answers is played. In the second
    configuration, made at 10, members 1, 2 and 4 vote; in the first one 1, 2 and 3 did.
    """
    ballot = Ballot(5, 1, 1)
    first = (Voter(1, 1), Voter(2, 2), Voter(3, 3))
    second = (Voter(1, 1), Voter(2, 2), Voter(4, 44))

    def verdict(config_id: int, *told: tuple[int, int, int, tuple[Voter, ...]]) -> Verdict:
        """Of a learner that has applied 12, and acceptors that have accepted 12."""
        quorum = QuorumAnswers(1)
        learner = Address(1, RoleName.LEARNER)
        result = QueryResult(1, 12, b"x", ballot)
        quorum.take(Envelope(b"", 0, learner, 1, 1, config_id, result))
        for member_id, replica_id, under, voters in told:
            acceptor = Address(member_id, RoleName.ACCEPTOR)
            answer = QuorumReadAnswer(2, 12, voters)
            quorum.take(Envelope(b"", 0, acceptor, replica_id, 1, under, answer))
        return quorum.verdict()

    assert verdict(10, (1, 1, 10, second), (4, 44, 10, second)) is Verdict.COUNTS
    # 3 and 1 were a majority once; of what 2 and 4 have chosen since they need not know.
    assert verdict(10, (1, 1, 10, second), (3, 3, 0, first)) is Verdict.INCONCLUSIVE
    assert verdict(10, (1, 1, 0, first), (3, 3, 0, first)) is Verdict.INCONCLUSIVE
    # Who does not vote, or voted as another replica, has other votes than the voter.
    assert verdict(10, (1, 1, 10, second), (3, 3, 10, second)) is Verdict.INCOMPLETE
    assert verdict(10, (1, 1, 10, second), (4, 4, 10, second)) is Verdict.INCOMPLETE


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
        assert client.read_by_quorum("A B", "A") == [b"one"]
        play.run(ms=1_000)
        assert play.learner("A").applied_through == before
        assert proposed.count == 0
