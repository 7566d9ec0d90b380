"""Schedules about leases and handovers: who may answer a read without asking anybody, and when.

Each one is played again in `test_lease_mutations.py` with its defence taken out, and must fail.
"""

from __future__ import annotations

from dataclasses import replace

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import Consistency, MasterTransferred, QueryFailed, QueryProblem
from ray_paxos.core.learner_messages import (
    Chosen,
    LearnReply,
)
from ray_paxos.core.lease import LeaseView, Notice
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Heartbeat,
    HeartbeatConfirmed,
    LeaseNotice,
    LeaseRelease,
    Promise,
    RevokeLease,
    TakeOver,
)
from ray_paxos.core.settings import MILLISECOND_NS, AcceptorSettings
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.scripted_client import ScriptedClient

LEASE_MS = 600
LEASED = replace(
    CALM,
    proposer=replace(CALM.proposer, lease_ns=LEASE_MS * MILLISECOND_NS),
    acceptor=AcceptorSettings(hearsay_ns=0),
)
PATIENT = replace(
    LEASED,
    proposer=replace(
        LEASED.proposer,
        lease_ns=2_000 * MILLISECOND_NS,
        election_timeout_ns=4_000 * MILLISECOND_NS,
    ),
)
"""A master that goes on for longer without a majority than it believes in a lease."""
HASTY = replace(
    PATIENT,
    proposer=replace(PATIENT.proposer, election_timeout_ns=300 * MILLISECOND_NS),
)
"""Elections are faster than leases end."""


def eager(play: Scenario, names: str) -> None:
    """These proposers hear of no master, so they stand the moment they are let."""
    play.lose(Heartbeat, to=" ".join(f"{name}.proposer" for name in names.split()))
    play.run(ms=2 * play.world.options.proposer.election_timeout_ns // MILLISECOND_NS)


def lead(play: Scenario, *lines: bytes, has_lease: bool = True) -> ScriptedClient:
    """A leads, believes in its lease, and has taken these lines."""
    play.stand("A")
    client = play.client()
    client.open("A")
    for line in lines:
        client.call("A", line)
    if has_lease:
        play.until(lambda: play.believes("A.learner"), what="A's learner knows of the lease")
    play.run(ms=200)
    return client


def refused(client: ScriptedClient, request_id: int, *problems: QueryProblem) -> None:
    """A read was refused, for one of these reasons."""
    answer = client.answer(request_id)
    assert isinstance(answer, QueryFailed), answer
    assert answer.problem in problems, answer


def test_lease_read_at_a_restarted_learner() -> None:
    """Schedule 5: a notice names what a read has to see, and so does the one after a restart.

    A line is acknowledged, and A's learner restarts without it; A's proposer still holds its lease,
    and tells the learner of it. Until the learner has the line again it must not answer.
    """
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    play.stall("A.learner")
    two = client.call("A", b"two")
    lost = play.lose(Chosen, LearnReply, to="A.learner")
    play.kill("A.learner")
    play.process("A.learner").faults.syncs_held = False
    play.start("A.learner")
    assert play.learner("A").applied_through < two.instance_id
    play.until(lambda: play.believes("A.learner"), what="A's learner is told of the lease again")
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.BEHIND)
    play.end(lost)
    play.until(lambda: play.learner("A").applied_through >= two.instance_id, what="it has the line")
    assert client.lines(client.read("A", Consistency.LEASE)) == [b"one", b"two"]


def test_notice_for_an_earlier_life_of_the_learner() -> None:
    """Schedule 5, again: a notice that was on its way is not for the life that begins meanwhile.

    It names less than what was acknowledged since, and which that life may not have.
    """
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    play.stall("A.learner")
    late = play.hold(LeaseNotice)
    play.until(lambda: late.count > 0, what="a notice is on its way")
    two = client.call("A", b"two")
    play.freeze("A")
    play.lose(Chosen, LearnReply, LeaseNotice, to="A.learner")
    play.kill("A.learner")
    play.process("A.learner").faults.syncs_held = False
    play.start("A.learner")
    assert play.learner("A").applied_through < two.instance_id
    late.held = late.held[:1]
    play.deliver(late)
    play.run(ms=2)
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)


def test_early_release() -> None:
    """Schedule 6: the acceptors are released only once the own learner has forgotten the lease.

    A is to hand over to B; what it tells its learner of that is delayed. Meanwhile A's learner goes
    on answering, so B must not lead.
    """
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    for beat in ("B", "C"):
        play.freeze(beat)
    delayed = play.hold(RevokeLease)
    released = play.watch(LeaseRelease, TakeOver)
    transfer = client.transfer("A", "B")
    play.until(lambda: delayed.count > 0, what="A's learner is to forget")
    play.run(ms=100)
    assert released.count == 0
    assert client.lines(client.read("A", Consistency.LEASE)) == [b"one"]
    play.deliver(delayed)
    assert isinstance(client.answer(transfer), MasterTransferred)
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)
    play.until(lambda: play.masters() == ["B"], ms=100, what="B leads without waiting")
    client.call("B", b"two")
    assert client.lines(client.read("B", Consistency.STALE)) == [b"one", b"two"]


def test_release_is_waited_out() -> None:
    """A learner that does not answer delays a handover until the lease is over, and no longer."""
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    play.lose(RevokeLease)
    transfer = client.transfer("A", "B")
    play.run(ms=LEASE_MS // 2)
    assert play.masters() == ["A"]
    assert isinstance(client.answer(transfer), MasterTransferred)
    assert not play.believes("A.learner")
    play.until(lambda: play.masters() == ["B"], ms=100, what="B leads")


def test_delayed_release() -> None:
    """Schedule 6, its end: a release of b1 that arrives in the same member's later reign is void.

    A hands over to B and B to A again; A's first release to B and C was delayed. It arrives, and A
    is cut off; C stands. A's learner still believes, so nobody may promise C anything.
    """
    play = Scenario(options=LEASED)
    eager(play, "C")
    client = lead(play, b"one")
    late = play.hold(LeaseRelease, sender="A", to="B C")
    client.transfer("A", "B")
    play.until(lambda: play.masters() == ["B"], what="B leads")
    play.run(ms=100)
    client.transfer("B", "A")
    play.until(lambda: play.masters() == ["A"], what="A leads again")
    play.until(lambda: play.believes("A.learner"), what="A's learner knows of the lease")
    play.deliver(late)
    play.run(ms=5)
    parted = play.cut("A", "B C")
    play.freeze("B")
    promised = play.watch(Promise, sender="B", to="C")
    play.process("C.proposer").thaw_timers()
    play.until(lambda: promised.count > 0, what="B promises C something")
    assert not play.believes("A.learner")
    assert not play.believes("A.proposer")
    play.until(lambda: play.masters()[-1:] == ["C"], what="C leads")
    client.call("C", b"two")
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)
    play.end(*parted)


def test_lease_counted_from_a_late_reply() -> None:
    """Schedule 7: a lease runs from when the round began whose reply came, not from the last one.

    Of a majority only B confirms, and its reply takes long. Later rounds get lost on their way.
    """
    play = Scenario(options=PATIENT)
    play.cut("C", "A B")
    lead(play, b"one")
    reply = play.hold(HeartbeatConfirmed, sender="B")
    play.until(lambda: reply.count > 0, what="a reply is on its way")
    lost = play.lose(Heartbeat, to="B.acceptor")
    asked_ns = play.world.now_ns
    play.run(ms=1_800)
    reply.held = reply.held[:1]
    play.deliver(reply)
    play.run(ms=5)
    until_ns = play.proposer("A").lease_until_ns
    assert until_ns <= asked_ns + 2_000 * MILLISECOND_NS
    play.run(ms=250)
    assert not play.believes("A.proposer")
    assert not play.believes("A.learner")
    play.end(lost)


def test_lease_counted_from_a_late_vote() -> None:
    """Schedule 7, by a vote: it confirms the round that its accept named, and none begun since."""
    play = Scenario(options=PATIENT)
    play.cut("C", "A B")
    client = lead(play, b"one")
    vote = play.hold(Accepted, sender="B")
    client.submit("A", b"two")
    play.until(lambda: vote.count > 0, what="a vote is on its way")
    lost = play.lose(Heartbeat, Accept, to="B.acceptor")
    asked_ns = play.world.now_ns
    play.run(ms=1_800)
    vote.held = vote.held[:1]
    play.deliver(vote)
    play.run(ms=5)
    assert play.proposer("A").lease_until_ns <= asked_ns + 2_000 * MILLISECOND_NS
    play.run(ms=250)
    assert not play.believes("A.proposer")
    assert not play.believes("A.learner")
    play.end(lost)


def test_lease_shortened_by_a_restart() -> None:
    """Schedule 8: an acceptor that restarts waits for the longest lease that it ever granted.

    B has granted A two seconds; then A asks for less (its configuration was changed), and B
    restarts. A's learner believes in the two seconds, so B must promise C nothing before.
    """
    play = Scenario(options=PATIENT)
    eager(play, "B C")
    lead(play, b"one")
    parted = play.cut("A", "B C")
    sender = play.process("A.proposer").address
    ballot = play.votes("A").promise
    assert ballot is not None
    point = play.learner("B").status().point
    shorter = Heartbeat(ballot, 1, True, 0, 0, point, 0, 100)
    play.inject(sender, "B.acceptor", shorter, replica_id=1)
    play.inject(sender, "C.acceptor", shorter, replica_id=1)
    play.run(ms=5)
    play.kill("B.acceptor C.acceptor")
    play.start("B.acceptor C.acceptor")
    play.process("B.proposer").thaw_timers()
    play.process("C.proposer").thaw_timers()
    play.run(ms=1_000)
    assert play.believes("A.learner")
    assert play.masters() == ["A"]
    play.until(lambda: "A" not in play.masters() and play.masters() != [], what="another leads")
    play.end(*parted)


def test_released_ballot_that_lives_on() -> None:
    """Schedule 21: who has released a ballot never again does anything at it.

    A hands over to C, whose proposer is dead by then, and the release is delayed. A leads again,
    at another ballot. The old release arrives, and A is cut off: B and C must keep their word.
    """
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    late = play.hold(LeaseRelease, sender="A", to="B C")
    first = play.votes("B").promise
    play.kill("C.proposer")
    assert isinstance(client.answer(client.transfer("A", "C")), MasterTransferred)
    play.until(lambda: play.masters() == ["A"] and play.believes("A.learner"), what="A leads again")
    again = play.votes("B").promise
    assert first is not None
    assert again is not None
    assert again > first
    play.start("C.proposer")
    eager(play, "C")
    play.deliver(late)
    play.run(ms=5)
    parted = play.cut("A", "B C")
    promised = play.watch(Promise, sender="B", to="C")
    play.process("C.proposer").thaw_timers()
    play.until(lambda: promised.count > 0, what="B promises C something")
    assert not play.believes("A.learner")
    play.until(lambda: play.masters()[-1:] == ["C"], what="C leads")
    client.call("C", b"two")
    play.end(*parted)
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)


def test_notice_after_its_revocation() -> None:
    """Schedule 22: a notice that comes after the revocation of its ballot is void."""
    play = Scenario(options=LEASED)
    client = lead(play, b"one")
    late = play.hold(LeaseNotice)
    play.until(lambda: late.count > 0, what="a notice is on its way")
    assert isinstance(client.answer(client.transfer("A", "B")), MasterTransferred)
    play.until(lambda: play.masters() == ["B"], what="B leads")
    client.call("B", b"two")
    play.deliver(late)
    play.run(ms=2)
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)


def test_notice_of_an_earlier_life_of_the_proposer() -> None:
    """Schedule 22: a proposer's new life voids what the one before told its learner.

    A's proposer is restarted with leases turned off, so it has told nobody of a lease; it hands
    over at once. What its earlier life told A's learner would outlive that.
    """
    play = Scenario(options=HASTY)
    client = lead(play, b"one")
    unleased = replace(HASTY.proposer, lease_ns=0)
    play.world.options = replace(play.world.options, proposer=unleased)
    play.kill("A.proposer")
    play.start("A.proposer")
    delayed = play.hold(RevokeLease)
    play.lose(LeaseNotice)
    play.stand("A")
    client.transfer("A", "B")
    play.until(lambda: play.masters() == ["B"], what="B leads")
    client.call("B", b"two")
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)
    play.deliver(delayed)


def test_late_notice_of_an_earlier_life_of_the_proposer() -> None:
    """As above, and the notice comes only after the learner has heard of the new life."""
    play = Scenario(options=HASTY)
    client = lead(play, b"one")
    late = play.hold(LeaseNotice)
    play.until(lambda: late.count > 0, what="a notice is on its way")
    unleased = replace(HASTY.proposer, lease_ns=0)
    play.world.options = replace(play.world.options, proposer=unleased)
    play.kill("A.proposer")
    play.start("A.proposer")
    delayed = play.hold(RevokeLease)
    play.stand("A")
    client.transfer("A", "B")
    play.until(lambda: play.masters() == ["B"], what="B leads")
    client.call("B", b"two")
    play.deliver(late)
    play.run(ms=2)
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)
    play.deliver(delayed)


def test_notice_of_an_old_configuration() -> None:
    """Schedule 22: applying a membership entry voids the notices of older configurations.

    Members do not change yet, so here only what a learner believes is played.
    """
    view = LeaseView(1)
    ballot = Ballot(5, 1, 1)
    view.heard(1)
    view.noticed(Notice(ballot, 10, 1_000, 12), 1, 1)
    assert view.read_point(500, 10, ballot) == 12
    # Two additions on: a quorum of the newest configuration need not meet one of the oldest.
    assert view.read_point(500, 14, ballot) is None
    assert view.read_point(1_000, 10, ballot) is None
    assert view.read_point(500, 10, Ballot(6, 2, 1)) is None


def test_grant_below_the_promise() -> None:
    """Schedule 23: who has promised a higher ballot confirms no round and grants no lease.

    A and B chose; A's lease runs out while nobody hears it. B promises C, whose accepts to B are
    delayed. Then A's heartbeats reach B again: A and B would be a majority.
    """
    play = Scenario(options=LEASED)
    eager(play, "C")
    client = lead(play, b"one")
    parted = play.cut("A", "C")
    unheard = play.cut("A", "B")
    play.freeze("A")
    play.until(lambda: not play.believes("A.learner"), what="A's lease is over")
    accepts = play.hold(Accept, Heartbeat, sender="C", to="B.acceptor")
    play.try_to_stand("C")
    play.until(lambda: accepts.count > 0, what="B has promised C")
    play.end(*unheard)
    play.process("A.proposer").thaw_timers()
    play.run(ms=10)
    play.deliver(accepts)
    play.until(lambda: play.masters() == ["C"], what="C leads")
    client.call("C", b"two")
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)
    play.end(*parted)
    play.until(lambda: play.lines("A") == [b"one", b"two"], what="A has caught up")
