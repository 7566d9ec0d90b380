"""Schedules that broke other systems, or that the design closes, played step by step.

Each one is played again in `test_mutations.py` with its defence taken out, and must fail there.
Those that turn on files and folders are in `test_storage_schedules.py`.
"""

from __future__ import annotations

from ray_paxos.core.learner_messages import (
    Chosen,
    LearnReply,
)
from ray_paxos.core.messages import (
    Accept,
    Heartbeat,
    Nack,
    Prepare,
    Promise,
)
from ray_paxos.core.proposer import Phase
from ray_paxos.testing.scenario import Scenario


def test_learning_by_inference() -> None:
    """S1, the parent's (its members A, P, B, C, Q are A, B, C, D, E here); message loss only.

    B finds an old vote for u at 1 at A alone, proposes it again, and its master record at 2; of
    its accepts for 1 only A's arrives. E, whom neither A nor B hears, chooses w at 1. Then B's
    accept for 2 reaches A, at the very ballot of A's vote for u. A must not take u for chosen.
    """
    play = Scenario(5)
    # The old vote for u: B's first reign reaches A only, and ends.
    alone = play.lose(Accept, sender="B", to="B C D E")
    quorum = play.lose(Promise, sender="D E", to="B")
    play.try_to_stand("B")
    play.until(lambda: 1 in play.votes("A").votes, what="A votes for u")
    play.kill("B.proposer")
    play.start("B.proposer")
    later = play.hold(Accept, sender="B", to="A", instance=2)
    play.try_to_stand("B")
    old = play.votes("A").votes[1]
    play.until(lambda: play.votes("A").votes[1].ballot > old.ballot, what="A votes for u again")
    again = play.votes("A").votes[1]
    assert again.value == old.value
    assert later.count > 0
    play.freeze("B")
    # E chooses w with C and D.
    parted = play.cut("A B", "E")
    play.stand("E")
    assert play.learner("E").applied_through >= 1
    play.deliver(later)
    play.run(ms=50)
    assert 2 in play.votes("A").votes
    assert play.votes("A").votes[2].ballot == again.ballot
    assert play.learner("A").applied_through == 0
    play.end(alone, quorum, *parted)
    play.until(lambda: play.learner("A").applied_through >= 1, what="A is told")
    assert play.learner("A").host.master == play.learner("E").host.master


def test_two_votes_for_one_instance() -> None:
    """Of the votes in its majority a new master adopts the one at the highest ballot (P2c).

    A's accept for 1 reaches A alone, then E's reaches B alone. C is promised by A, B and itself.
    """
    play = Scenario(5)
    only_a = play.lose(Accept, sender="A", to="B C D E")
    play.try_to_stand("A")
    play.until(lambda: 1 in play.votes("A").votes, what="A votes for its own")
    play.freeze("A")
    parted = play.cut("A", "E")
    only_b = play.lose(Accept, sender="E", to="A C D E")
    play.try_to_stand("E")
    play.until(lambda: 1 in play.votes("B").votes, what="B votes for E's")
    play.freeze("E")
    lower, higher = play.votes("A").votes[1], play.votes("B").votes[1]
    assert lower.ballot < higher.ballot
    assert lower.value != higher.value
    play.end(only_a, only_b, *parted)
    parted = play.cut("C", "D E")
    play.stand("C")
    assert play.world.checker.ledgers[0].chosen[1].value == higher.value
    play.end(*parted)


def test_lowered_promise() -> None:
    """S2, the parent's (its members Q, X, P are A, B, C here); loss, and one restart of B.

    A's first values are chosen by A and B, and B is not told. C prepares at a higher ballot with B;
    its accepts are lost. B learns the values from A, at A's lower ballot, seals them, drops the
    votes and restarts. Its promise must still be C's: A's next accept is refused.
    """
    play = Scenario(3)
    parted = play.cut("A", "C")
    untold = play.lose(Chosen, Heartbeat, sender="A", to="B.learner")
    play.stand("A")
    client = play.client()
    client.open("A")
    first = play.votes("B").promise
    assert first is not None
    # A does not hear that it is deposed.
    unheard = play.lose(Heartbeat, sender="A", to="B.acceptor B.proposer")
    accepts = play.lose(Accept, sender="C")
    play.try_to_stand("C")
    play.until(lambda: accepts.count > 0, what="C is promised, and proposes")
    play.freeze("C")
    higher = play.votes("B").promise
    assert higher is not None
    assert higher > first
    play.end(untold)
    play.until(lambda: play.votes("B").floor > 2, what="B learns, seals and drops its votes")
    play.kill("B")
    play.start("B")
    assert play.votes("B").promise == higher
    asked = play.watch(Accept, sender="A", to="B.acceptor")
    refused = play.watch(Nack, sender="B", to="A")
    client.submit("A", b"q")
    play.until(lambda: asked.count > 0 and refused.count > 0, what="B refuses A's accept")
    play.freeze("A")
    play.end(accepts, unheard, *parted)
    play.stand("C")
    play.run(ms=200)
    assert play.lines("A") == play.lines("B") == play.lines("C")


def test_floor_from_segments() -> None:
    """Schedule 1: a vote floor outlives the segments that it was raised over.

    A and B choose and seal; A's votes go. A's segments are lost, and B is down. A tells the
    candidate C its floor, never "no vote": C can choose nothing below it, and waits for B.
    """
    play = Scenario(3)
    parted = play.cut("C", "A B")
    play.stand("A")
    client = play.client()
    for line in (b"one", b"two", b"three"):
        client.call("A", line)
    play.until(lambda: play.votes("A").floor > 5, what="A's vote floor rises")
    assert not play.votes("A").votes
    play.kill("A B")
    play.lose_segments("A")
    play.start("A")
    play.end(*parted)
    proposed = play.watch(Accept, sender="C")
    told = play.watch(Promise, sender="A", to="C")
    play.try_to_stand("C")
    play.run(ms=2_000)
    assert told.count > 0
    assert proposed.count == 0
    assert not play.proposer("C").is_serving
    play.start("B")
    play.until(lambda: play.proposer("C").is_serving, what="C serves once B is back")
    assert play.lines("C") == [b"one", b"two", b"three"]


def test_vote_over_a_hole() -> None:
    """Schedule 2: a vote must not go while there is a hole below it.

    A, B and C choose; B learns all but two instances. A and C die. B is the one in the new
    quorum who voted, so all that was chosen hangs on its votes.
    """
    play = Scenario(5)
    parted = play.cut("D E", "A B C")
    play.stand("A")
    client = play.client()
    client.call("A", b"one")
    play.run(ms=200)
    hole = client.submit("A", b"two")
    untold = [play.lose(Chosen, LearnReply, to="B.learner", instance=i) for i in (4, 5)]
    for line in (b"three", b"four", b"five"):
        client.submit("A", line)
    play.run(ms=300)
    assert client.results[hole].instance_id == 4
    assert client.results[hole + 3].instance_id >= 6
    assert play.learner("B").learned_through == 3
    play.run(ms=500)
    assert play.votes("B").floor <= 4
    assert set(range(4, client.results[hole + 3].instance_id + 1)) <= set(play.votes("B").votes)
    play.kill("A C")
    play.end(*parted, *untold)
    play.stand("D")
    assert play.lines("D") == [b"one", b"two", b"three", b"four", b"five"]


def test_repeated_prepare() -> None:
    """Schedule 9: the answer to a repeated prepare waits for the record of the first.

    B has promised in memory, the record is being synced; the second prepare makes no record. Its
    answer must wait all the same: when the power goes, B has promised nothing.
    """
    play = Scenario(3)
    play.cut("C", "A B")
    play.process("B.acceptor").faults.syncs_held = True
    prepares = play.watch(Prepare, sender="A", to="B")
    promises = play.watch(Promise, sender="B")
    play.try_to_stand("A")
    play.until(lambda: prepares.count >= 3, what="A prepares again")
    play.run(ms=5)
    assert play.votes("B").promise is not None
    assert promises.count == 0
    play.cut_power("B")
    play.process("B.acceptor").faults.syncs_held = False
    play.start("B")
    assert play.votes("B").promise is None


def test_known_to_nobody() -> None:
    """Schedule 17: chosen and acknowledged, and then known to no learner.

    The followers are not told what was chosen, the master's learner dies with its unsealed tail.
    The votes are all that is left, and the next master finds them.
    """
    play = Scenario(3)
    play.stand("A")
    client = play.client()
    client.call("A", b"one")
    play.run(ms=200)
    for process in ("A.learner", "B.learner", "C.learner"):
        play.process(process).faults.syncs_held = True
    play.lose(Chosen, LearnReply, Heartbeat, to="B.learner C.learner")
    two = client.call("A", b"two")
    play.cut_power("A")
    for process in ("A.learner", "B.learner", "C.learner"):
        play.process(process).faults.syncs_held = False
    play.start("A")
    assert play.learner("A").learned_through < two.instance_id
    assert play.learner("B").learned_through < two.instance_id
    for rule in play.transport.rules:
        rule.is_active = False
    play.stand("B")
    play.run(ms=200)
    assert play.lines("A") == play.lines("B") == play.lines("C") == [b"one", b"two"]


def test_two_sessions_in_one_instance() -> None:
    """Schedule 24: sessions opened in one instance are two, and number their commands apart."""
    play = Scenario(3)
    first, second = play.client(), play.client()
    # Both wait in the intake while A is elected, and go into one instance.
    play.try_to_stand("A")
    play.until(lambda: play.proposer("A").phase is not Phase.FOLLOWING, what="A stands")
    first.request_session("A")
    second.request_session("A")
    play.until(lambda: first.session is not None and second.session is not None, what="sessions")
    assert first.session is not None
    assert second.session is not None
    assert first.session.instance_id == second.session.instance_id
    assert first.session.index != second.session.index
    first.call("A", b"of the first")
    second.call("A", b"of the second")
    assert play.lines("A") == [b"of the first", b"of the second"]
