"""Schedules about who votes: members join, vote, vote no more and leave, while messages get lost.

Each one is played again in `test_membership_mutations.py` with its defence taken out, and must
fail. What one entry makes of a configuration is in `tests/unit/test_membership.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    Consistency,
    QueryProblem,
    Redirected,
    RefusalCode,
    Refused,
)
from ray_paxos.core.learner_messages import Chosen, LearnReply, LearnRequest, RaiseVoteFloor
from ray_paxos.core.member_roles import PartsKeeper
from ray_paxos.core.membership_messages import (
    ConfigurationFollowed,
    FollowConfiguration,
    MembershipChanged,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Heartbeat,
    LeaseNotice,
    LeaseRelease,
    Message,
    Nack,
    NackReason,
    OrderDone,
    Prepare,
    PreVote,
    Promise,
    RemoveGroup,
    TakeOver,
)
from ray_paxos.core.parts_messages import TakePart
from ray_paxos.core.proposer import Phase
from ray_paxos.core.settings import MILLISECOND_NS, AcceptorSettings
from ray_paxos.core.values import MembershipEntry, MembershipKind, membership_entry
from ray_paxos.storage.identity import checkpointer_folder, log_folder
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.scripted_client import ScriptedClient
from ray_paxos.testing.scripted_network import Rule
from tests.simulation.test_lease_schedules import LEASED, lead, refused

ADD, PROMOTE, DEMOTE, REMOVE = MembershipKind
ROLES = ("proposer", "acceptor", "learner", "checkpointer")
TO_ACCEPTORS = (PreVote, Prepare, Accept, Heartbeat)

FREE = replace(CALM, acceptor=AcceptorSettings(hearsay_ns=0))
"""Acceptors answer whoever stands, whether they hear of a master or not."""
JOINING = replace(FREE, joiners=1)
"""With a member D that is not of the genesis, and has no group yet."""


def begin(play: Scenario, master: str) -> ScriptedClient:
    """This member leads, one line is chosen, and all have sealed it."""
    play.stand(master)
    client = play.client()
    client.call(master, b"one")
    play.run(ms=200)
    return client


def change(
    play: Scenario, client: ScriptedClient, master: str, kind: MembershipKind, member: str
) -> int:
    """Have a master change who has the group, and lead on; returns the entry's instance.

    One that joins has the group then, and the master has heard of it.
    """
    expected = play.proposer(master).configuration.config_id
    config_id = client.change(master, kind, member, expected).config_id
    play.until(lambda: play.proposer(master).is_serving, what=f"{master} leads on")
    if kind is ADD:
        play.until(lambda: follows(play, member, config_id), what=f"{member} has the group")
    # So long an acceptor's answer may be waited for, and for one that was not there yet it is.
    play.run(ms=400)
    return config_id


def not_changed(
    client: ScriptedClient, master: str, kind: MembershipKind, member: str, expected: int
) -> str:
    """Why a master refuses a change."""
    answer = client.answer(client.order_change(master, kind, member, expected))
    assert isinstance(answer, Refused), answer
    assert answer.code is RefusalCode.NOT_CHANGED
    return answer.message


def follows(play: Scenario, member: str, config_id: int) -> bool:
    """Whether a member's log has come to a configuration."""
    is_here = play.has_group(f"{member}.learner")
    return is_here and play.learner(member).configuration.config_id == config_id


def votes_under(play: Scenario, member: str, config_id: int) -> bool:
    """Whether a member's acceptor answers under a configuration."""
    is_here = play.has_group(f"{member}.acceptor")
    return is_here and play.votes(member).configuration.config_id == config_id


def has_left(play: Scenario, member: str) -> bool:
    """Whether no role of a member has the group."""
    return not any(play.has_group(f"{member}.{role}") for role in ROLES)


def tombstones(play: Scenario, member: str) -> tuple[int, int]:
    """Up to which replica_id a member's acceptor, and its learner, take no order any more."""
    acceptor, keeper = play.process(f"{member}.acceptor").role, play.process(f"{member}.learner")
    assert isinstance(acceptor, Acceptor)
    assert isinstance(keeper.role, PartsKeeper)
    return acceptor.state.tombstones.get(0, 0), keeper.role.parts.tombstones.get(0, 0)


def messages(rule: Rule) -> list[Message]:
    """What a rule has matched."""
    return [envelope.message for envelope in rule.matched]


def nacks(rule: Rule) -> set[tuple[NackReason, int]]:
    """Why, and under which configuration, acceptors refused; a rule that matched nothing else."""
    assert all(isinstance(message, Nack) for message in messages(rule)), messages(rule)
    return {(m.reason, m.config_id) for m in messages(rule) if isinstance(m, Nack)}


def accepts(rule: Rule) -> list[Accept]:
    """Of what a rule has matched, what was proposed."""
    return [message for message in messages(rule) if isinstance(message, Accept)]


def proposed(rule: Rule) -> dict[Ballot, list[int]]:
    """In which instances something was proposed, by ballot, in that order."""
    instances: dict[Ballot, list[int]] = {}
    for accept in accepts(rule):
        at = instances.setdefault(accept.ballot, [])
        if accept.instance_id not in at:
            at.append(accept.instance_id)
    return instances


def chosen(play: Scenario, instance_id: int) -> bytes:
    """What is chosen, by the judge's own count."""
    return play.world.checker.ledgers[0].chosen[instance_id].value


def test_replaced_voter_of_an_established_master() -> None:
    """S4, the parent's (its A, B, C, P are A, B, D, C here).

    C leads with the promises of A and itself; B never promised it anything. A is replaced by D. B
    stands, and is promised by D and itself; C's prepare to the new voters is late. Until it comes
    C may propose nothing, at its old ballot or another; and what B chose is what it finds then.
    """
    play = Scenario(3, options=JOINING)
    play.lose(*TO_ACCEPTORS, sender="C", to="B.acceptor B.proposer")
    client = begin(play, "C")
    change(play, client, "C", ADD, "D")
    promotion = change(play, client, "C", PROMOTE, "D")
    established = play.votes("C").promise
    late = play.hold(Prepare, sender="C")
    removal = client.change("C", REMOVE, "A", promotion).config_id
    by_c = play.watch(Accept, sender="C")
    play.until(lambda: late.count > 0, what="C asks the new voters")
    play.freeze("C")
    play.until(lambda: all(votes_under(play, name, removal) for name in "BD"), what="both follow")
    assert play.votes("B").promise is None
    parted = play.cut("B", "C")
    play.stand("B")
    client.call("B", b"of B")
    play.freeze("B")
    of_b, prepare = play.votes("D").promise, messages(late)[0]
    assert of_b is not None
    assert established is not None
    assert isinstance(prepare, Prepare)
    assert of_b.member_id == 2
    # C's is the higher one, as in the parent, and another than the one that it led at.
    assert prepare.ballot > of_b > established
    assert by_c.count == 0
    promised = play.watch(Promise, to="C")
    play.deliver(late)
    play.until(lambda: play.proposer("C").is_serving, what="C leads the new voters")
    play.try_to_stand("C")
    assert {each.sender.member_id for each in promised.matched} == {3, 4}
    client.call("C", b"of C")
    play.end(*parted)
    play.until(lambda: play.lines("B") == play.lines("D") == [b"one", b"of B", b"of C"])
    assert play.lines("C") == play.lines("B")


def test_counting_under_the_wrong_configuration() -> None:
    """Schedule 3: a prepare under a configuration that is over is refused, and proposes nothing.

    D is made a voter, then B is removed, by votes of B, C and D; B is not told. C and D choose
    "two". A's stale prepare, for which A and B would be a majority, comes to B only now. A learns
    from B that D votes, not that B does not; A and B are no majority of four, and C and D refuse.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "C")
    parted = play.cut("A", "C D")
    late = play.hold(Prepare, sender="A", to="B.acceptor")
    untaught = play.lose(LearnReply, Chosen, sender="B", to="A.learner")
    play.try_to_stand("A")
    play.until(lambda: late.count > 0, what="A stands, and prepares")
    play.freeze("A")
    change(play, client, "C", ADD, "D")
    promotion = change(play, client, "C", PROMOTE, "D")
    assert votes_under(play, "B", promotion)
    untold = play.lose(Chosen, LearnReply, Heartbeat, to="B.learner")
    removal = change(play, client, "C", REMOVE, "B")
    assert removal in play.votes("B").votes
    assert follows(play, "B", promotion)
    voted = play.watch(Accepted, to="C")
    two = client.call("C", b"two").instance_id
    assert {each.sender.member_id for each in voted.matched} == {3, 4}
    parted_too = play.cut("B", "C D")
    by_a = play.watch(Accept, sender="A")
    answered = play.watch(Nack, Promise, sender="B.acceptor", to="A")
    play.deliver(late)
    play.run(ms=10)
    assert nacks(answered) == {(NackReason.CONFIGURATION_OLD, promotion)}
    assert play.proposer("A").phase is not Phase.LEADING
    play.end(untaught)
    play.until(lambda: follows(play, "A", promotion), what="A learns who votes from B")
    prepared = play.watch(PreVote, Prepare, sender="A")
    play.try_to_stand("A")
    play.run(ms=3_000)
    assert {each.config_id for each in prepared.matched} == {promotion}
    assert not play.proposer("A").is_serving
    assert by_a.count == 0
    play.end(untold, *parted, *parted_too)
    play.until(lambda: follows(play, "A", removal), what="A learns of the removal")
    play.until(lambda: play.lines("A") == [b"one", b"two"], what="A has caught up")
    assert play.learner("A").applied_through >= two


def test_removed_voter_that_is_asked() -> None:
    """Schedule 4: who is removed goes on answering while its vote may be needed.

    C removes B by the votes of B and C; A misses that. C is gone, and A, who knows nothing of it,
    prepares at A and B. B tells its vote, and A finishes the removal. Once C is back and a majority
    has the entry durably B forgets; a prepare that was late makes nothing of it.
    """
    play = Scenario(3, options=FREE)
    client = begin(play, "C")
    untold = play.lose(Accept, Prepare, Chosen, LearnReply, to="A")
    removal = client.change("C", REMOVE, "B", 0).config_id
    play.until(lambda: follows(play, "B", removal), what="B learns that it is removed")
    play.run(ms=1_000)
    assert votes_under(play, "B", 0)
    assert play.learner("B").durable_through >= removal
    play.freeze("C")
    parted = play.cut("C", "A B")
    play.end(untold)
    untaught = play.lose(LearnReply, sender="B")
    late = play.hold(Prepare, sender="A", to="B.acceptor")
    told = play.watch(Promise, sender="B", to="A")
    by_a = play.watch(Accept, sender="A")
    play.try_to_stand("A")
    play.until(lambda: late.count > 0, what="A prepares")
    assert late.matched[0].config_id == 0
    # The next one, sent again at the same ballot, arrives.
    play.end(late)
    play.until(lambda: follows(play, "A", removal), what="A has found the removal, and finished it")
    (promise,) = messages(told)
    assert isinstance(promise, Promise)
    found = {vote.instance_id: membership_entry(vote.value) for vote in promise.votes}
    assert found[removal] == MembershipEntry(REMOVE, 2, 0)
    ((at, instances),) = proposed(by_a).items()
    assert at == promise.ballot
    assert max(instances) == removal
    assert play.masters() == []
    play.end(untaught, *parted)
    play.until(lambda: play.masters() == ["A"], what="A leads A and C")
    play.until(lambda: has_left(play, "B"), what="B forgets")
    answered = play.watch(sender="B.acceptor")
    play.deliver(late)
    play.run(ms=50)
    assert answered.count == 0
    assert has_left(play, "B")
    client.call("A", b"two")
    play.until(lambda: play.lines("C") == [b"one", b"two"], what="C has caught up")


def test_removed_voter_whose_votes_are_needed() -> None:
    """Schedule 4, where the vote of the removed one is the last that makes a majority.

    Of A, B, C and D, C removes B, by the votes of B, C and D. Only C and B learn that, and C dies
    for good. For A and D the four still vote: they need a third, and B is all there is.
    """
    play = Scenario(4, options=FREE)
    client = begin(play, "C")
    play.lose(Accept, Chosen, sender="C", to="A")
    play.lose(Chosen, sender="C", to="D")
    untaught = play.lose(LearnReply, to="A D")
    removal = client.change("C", REMOVE, "B", 0).config_id
    play.until(lambda: follows(play, "B", removal), what="B learns that it is removed")
    play.run(ms=1_000)
    assert play.learner("A").learned_through < removal
    assert play.learner("D").learned_through < removal
    play.kill("C")
    play.end(untaught)
    play.lose(LearnReply, Chosen, sender="B")
    told = play.watch(Promise, sender="B", to="D")
    by_d = play.watch(Accept, sender="D")
    play.stand("D")
    assert told.matched[0].config_id == 0
    (first, second) = proposed(by_d).values()
    assert max(first) == removal < min(second)
    client.call("D", b"two")
    play.until(lambda: has_left(play, "B"), what="B forgets, since A and D have the entry")
    assert play.lines("A") == play.lines("D") == [b"one", b"two"]


def test_configuration_that_outlives_its_entry() -> None:
    """Schedule 18: no acceptor counts under a configuration whose entry a loss of power can take.

    C is dead for good. D is made a voter by the votes of A and B, and all learners learn that; none
    has sealed it when the power goes everywhere. The votes are left, and those who gave them
    answer under the configuration that they gave them under.
    """
    play = Scenario(3, options=replace(FREE, followers=1))
    client = begin(play, "A")
    play.kill("C")
    play.stall("A.learner B.learner D.learner")
    client.order_change("A", PROMOTE, "D", 0)
    play.run(ms=500)
    promotion = play.learner("A").configuration.config_id
    assert promotion > 0
    for name in "ABD":
        assert follows(play, name, promotion)
        assert play.learner(name).durable_through < promotion
    assert play.votes("A").configuration.config_id == 0
    assert play.votes("B").configuration.config_id == 0
    assert not play.has_group("D.acceptor")
    play.cut_power("A B D")
    play.quicken("A.learner B.learner D.learner")
    play.start("A B D")
    assert all(follows(play, name, 0) for name in "ABD")
    assert promotion in play.votes("A").votes
    play.stand("B")
    assert all(votes_under(play, name, promotion) for name in "ABD")
    client.call("B", b"two")
    play.until(lambda: play.lines("A") == play.lines("D") == [b"one", b"two"])


def test_taught_not_applied() -> None:
    """Schedule 19: who hears of a configuration stands under it only once its log has come to it.

    "eight" is chosen by B and C, D is made a voter, B is removed and forgets. A's stale prepare
    comes to C, which names the configuration; its log, and C's, are late. A and D, of whom neither
    has a vote of "eight", must not decide there; and D refuses to be asked about what is there.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "C")
    late = play.hold(Prepare, sender="A", to="C.acceptor")
    play.lose(Prepare, sender="A", to="B.acceptor")
    unheard = play.lose(Accept, Heartbeat, sender="C", to="A.acceptor A.proposer")
    play.try_to_stand("A")
    play.until(lambda: late.count > 0, what="A stands, and prepares")
    play.freeze("A")
    parted = play.cut("A", "B C D")
    eight = client.call("C", b"eight").instance_id
    change(play, client, "C", ADD, "D")
    change(play, client, "C", PROMOTE, "D")
    removal = change(play, client, "C", REMOVE, "B")
    play.until(lambda: has_left(play, "B"), what="B forgets")
    assert eight not in play.votes("D").votes
    taught = play.hold(Chosen, LearnReply, to="A.learner")
    play.end(*parted)
    answered = play.watch(Nack, Promise, sender="C.acceptor", to="A")
    asked = play.watch(LearnRequest, sender="A", to="C")
    stood = play.watch(PreVote, Prepare, sender="A")
    play.deliver(late)
    play.run(ms=10)
    assert nacks(answered) == {(NackReason.CONFIGURATION_OLD, removal)}
    assert asked.count > 0
    play.try_to_stand("A")
    play.run(ms=3_000)
    assert taught.count > 0
    assert play.proposer("A").configuration.config_id == 0
    assert {each.config_id for each in stood.matched} == {0}
    # What D would have said, had A stood under the new one all the same.
    refusals = play.watch(Nack, Promise, sender="D", to="A")
    prepare = Prepare(Ballot(99, 1, 1), eight)
    proposer = play.process("A.proposer").address
    play.inject(proposer, "D.acceptor", prepare, replica_id=1, config_id=removal)
    play.run(ms=10)
    assert nacks(refusals) == {(NackReason.BEFORE_CONFIGURATION, removal)}
    play.kill("C")
    play.deliver(taught)
    play.end(unheard)
    play.until(lambda: play.masters() == ["A"], what="A leads A and D")
    assert play.lines("A") == [b"one", b"eight"]
    client.call("A", b"nine")
    play.until(lambda: play.lines("D") == [b"one", b"eight", b"nine"], what="D has it, too")


def test_late_accept_of_an_old_configuration() -> None:
    """Schedule 20: what was proposed under a configuration that is over gets no vote.

    A has proposed lines in many instances, and of its accepts only those to C are on their way. B
    leads, by A and B, makes D a voter and chooses other lines there. C follows, and has promised
    nobody anything, when A's accepts come. (Ours never propose above a membership entry at its
    ballot, so it takes two masters.)
    """
    play = Scenario(3, options=JOINING)
    late = play.hold(Accept, sender="A", to="C.acceptor")
    play.lose(*TO_ACCEPTORS, to="C.acceptor")
    client = begin(play, "A")
    lost = play.lose(Accept, sender="A")
    for number in range(8):
        client.submit("A", b"%d" % number)
    play.run(ms=5)
    play.freeze("A")
    play.end(lost)
    play.stand("B")
    other = play.client()
    change(play, other, "B", ADD, "D")
    promotion = change(play, other, "B", PROMOTE, "D")
    last = 0
    for number in range(4):
        last = other.call("B", b"of B %d" % number).instance_id
    assert votes_under(play, "C", promotion)
    assert play.votes("C").promise is None
    answered = play.watch(Nack, Accepted, sender="C.acceptor", to="A")
    is_above = [accept.instance_id > promotion for accept in accepts(late)]
    late.held = [held for held, above in zip(late.held, is_above, strict=True) if above]
    stale = [accept for accept in accepts(late) if accept.instance_id > promotion]
    play.deliver(late)
    play.run(ms=10)
    assert len(stale) >= 2
    assert answered.count == len(stale)
    assert nacks(answered) == {(NackReason.CONFIGURATION_OLD, promotion)}
    assert not play.votes("C").votes
    assert max(accept.instance_id for accept in stale) <= last
    assert all(chosen(play, accept.instance_id) != accept.value for accept in stale)


def test_notice_of_an_old_configuration() -> None:
    """Schedule 22: a majority of what is five by now need not meet the two that granted of three.

    A, with leases of each configuration, makes D and E voters. All notices of that are late: they
    come when A's learner follows the last one, and A has been promised nothing under it yet.
    """
    play = Scenario(3, options=replace(LEASED, joiners=2))
    late = play.hold(LeaseNotice)
    client = lead(play, b"one", has_lease=False)
    counted = [0]
    for kind, member in ((ADD, "D"), (PROMOTE, "D"), (ADD, "E")):
        counted.append(change(play, client, "A", kind, member))
    assert {each.config_id for each in late.matched} == set(counted)
    unpromised = play.hold(Prepare, sender="A")
    promotion = client.change("A", PROMOTE, "E", counted[-1]).config_id
    latest = messages(late)[-1]
    assert isinstance(latest, LeaseNotice)
    assert latest.until_ns > play.member("A").clock.read(play.world.now_ns)
    assert follows(play, "A", promotion)
    play.deliver(late)
    play.run(ms=2)
    assert not play.believes("A.learner")
    refused(client, client.read("A", Consistency.LEASE), QueryProblem.NO_LEASE)
    play.deliver(unpromised)
    play.until(lambda: play.masters() == ["A"] and play.believes("A.learner"), what="A leads on")
    assert client.lines(client.read("A", Consistency.LEASE)) == [b"one"]


def test_delayed_orders() -> None:
    """Schedule 25: no order that comes after the end of what it ordered brings it back.

    The order that gives D the group, and the one that makes its acceptor vote, are late; what is
    sent again works. D votes, is removed and forgets, and its journal goes on in a new file.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    part = play.hold(TakePart, to="D.learner")
    addition = client.change("A", ADD, "D", 0).config_id
    play.until(lambda: part.count > 0, what="D is ordered to take its part")
    play.end(part)
    play.until(lambda: follows(play, "D", addition), what="the order was sent again")
    play.run(ms=100)
    vote = play.hold(FollowConfiguration, to="D.acceptor")
    promotion = change(play, client, "A", PROMOTE, "D")
    play.until(lambda: vote.count > 0, what="D's acceptor is to vote")
    play.end(vote)
    play.until(lambda: votes_under(play, "D", promotion), what="it was told again")
    replica_id = play.votes("D").replica_id
    voted = play.watch(Accepted, sender="D")
    client.call("A", b"two")
    assert voted.count > 0
    change(play, client, "A", REMOVE, "D")
    play.until(lambda: has_left(play, "D"), what="D forgets")
    # The first start copies what is live to a new file, the second one reads that file alone.
    for _ in range(2):
        play.kill("D")
        play.start("D")
    said = play.watch(Promise, Accepted, Nack, sender="D")
    answered = play.watch(OrderDone, sender="D.learner")
    play.deliver(part)
    play.deliver(vote)
    play.run(ms=200)
    (done,) = messages(answered)
    assert isinstance(done, OrderDone)
    assert done.refused
    assert has_left(play, "D")
    assert tombstones(play, "D")[0] >= replica_id
    assert tombstones(play, "D")[1] >= replica_id
    client.call("A", b"three")
    assert said.count == 0


def test_adopted_entry() -> None:
    """R5: whoever finds a membership entry finishes it, and proposes nothing above at that ballot.

    C proposed lines that only its own acceptor took. A leads, by A and B, proposes in their place
    that D votes, which B alone takes, and dies. B finds A's entry, and C's lines above it: those
    are for the four to decide.
    """
    play = Scenario(3, options=replace(FREE, followers=1))
    client = begin(play, "C")
    alone = play.lose(Accept, sender="C", to="A B")
    for number in range(5):
        client.submit("C", b"%d" % number)
    play.run(ms=5)
    play.freeze("C")
    parted = play.lose(*TO_ACCEPTORS, sender="A", to="C.acceptor C.proposer")
    play.stand("A")
    play.run(ms=100)
    only_b = play.lose(Accept, sender="A", to="A.acceptor")
    client.order_change("A", PROMOTE, "D", 0)
    play.run(ms=20)
    entry = max(play.votes("B").votes)
    assert membership_entry(play.votes("B").votes[entry].value) == MembershipEntry(PROMOTE, 4, 0)
    assert entry not in play.votes("A").votes
    above = {i: vote.value for i, vote in play.votes("C").votes.items() if i > entry}
    assert above
    play.kill("A")
    play.end(alone, parted, only_b)
    by_b = play.watch(Accept, sender="B")
    play.stand("B")
    (first, second) = proposed(by_b)
    assert max(proposed(by_b)[first]) == entry
    assert min(proposed(by_b)[second]) == entry + 1
    under = {e.message.ballot: e.config_id for e in by_b.matched if isinstance(e.message, Accept)}
    assert under == {first: 0, second: entry}
    # What C's acceptor has above is found again, by the ballot that may decide there.
    assert {i: chosen(play, i) for i in above} == above
    client.call("B", b"two", number=100)
    play.until(lambda: play.lines("B") == play.lines("C") == play.lines("D"))


def test_requests_during_a_change() -> None:
    """They wait for it: nothing is proposed above a membership entry at its ballot (R5)."""
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    by_a = play.watch(Accept, sender="A", to="A.acceptor")
    unanswered = play.hold(Accepted, to="A.proposer")
    before = client.submit("A", b"before")
    play.run(ms=1)
    request = client.order_change("A", ADD, "D", 0)
    play.run(ms=1)
    after = client.submit("A", b"after")
    play.run(ms=20)
    assert len(by_a.matched) == 1
    play.deliver(unanswered)
    answer = client.answer(request)
    assert isinstance(answer, MembershipChanged)
    play.until(lambda: after in client.results, what="what waited is answered, too")
    entry = answer.configuration.config_id
    assert entry == client.results[before].instance_id + 1
    (first, second) = proposed(by_a).values()
    assert first == [entry - 1, entry]
    assert min(second) == entry + 1
    assert client.results[after].instance_id in second


@pytest.mark.parametrize("kind", [REMOVE, DEMOTE])
def test_master_that_is_to_vote_no_more(kind: MembershipKind) -> None:
    """It hands over first: the entry that ends its vote is never proposed by itself."""
    play = Scenario(3, options=LEASED)
    client = lead(play, b"one")
    play.let_all_stand()
    by_a = play.watch(Accept, sender="A")
    handed_over = play.watch(LeaseRelease, TakeOver, sender="A")
    request = client.order_change("A", kind, "A", 0)
    assert isinstance(client.answer(request), Redirected)
    play.until(lambda: play.masters() == ["B"], ms=300, what="B leads, without waiting")
    assert [type(m) for m in messages(handed_over)] == [*[LeaseRelease] * 3, TakeOver]
    change(play, client, "B", kind, "A")
    assert by_a.count == 0
    play.until(lambda: not play.has_group("A.acceptor"), what="A votes no more")
    client.call("B", b"two")
    if kind is DEMOTE:
        play.until(lambda: play.lines("A") == [b"one", b"two"], what="A goes on as a follower")
    else:
        play.until(lambda: has_left(play, "A"), what="A forgets")
    play.run(ms=2_000)
    assert play.masters() == ["B"]


@pytest.mark.parametrize("kind", [REMOVE, DEMOTE])
def test_last_voter(kind: MembershipKind) -> None:
    """It stays: a group without a voter would choose nothing any more."""
    play = Scenario(2, options=replace(FREE, followers=1))
    client = begin(play, "A")
    config_id = change(play, client, "A", REMOVE, "B")
    assert "the last voter" in not_changed(client, "A", kind, "A", config_id)
    client.call("A", b"two")
    assert follows(play, "A", config_id)
    assert play.votes("A").configuration.config_id == config_id
    play.until(lambda: play.lines("C") == [b"one", b"two"], what="the follower has it")


def test_two_changes_of_one_configuration() -> None:
    """Of two who go by the same configuration one succeeds; the other is told of the new one."""
    play = Scenario(4, options=FREE)
    client = begin(play, "A")
    play.hold(Accepted, to="A.proposer")
    waits = client.order_change("A", REMOVE, "C", 0)
    play.run(ms=10)
    assert "on its way" in not_changed(client, "A", REMOVE, "D", 0)
    play.deliver(play.transport.rules[-1])
    assert isinstance(client.answer(waits), MembershipChanged)
    play.until(lambda: play.masters() == ["A"], what="A leads on")
    play.run(ms=200)
    assert "the configuration to be changed" in not_changed(client, "A", REMOVE, "D", 0)
    play.run(ms=200)
    assert play.learner("A").configuration.voter(4) is not None


@pytest.mark.parametrize("power_goes", [False, True])
def test_voter_that_was_away_when_it_was_removed(power_goes: bool) -> None:
    """It stands when it comes back, is told that it is late, learns that it has left, and stops."""
    play = Scenario(3, options=FREE)
    client = begin(play, "A")
    replica_id = play.votes("C").replica_id
    play.kill("C")
    removal = change(play, client, "A", REMOVE, "C")
    client.call("A", b"two")
    play.run(ms=200)
    play.start("C")
    assert follows(play, "C", 0)
    stood = play.watch(PreVote, Prepare, sender="C", to="A")
    answered = play.watch(Nack, Promise, to="C.proposer", sender="A")
    disk = play.member("C").disk
    assert disk.exists(log_folder(0))
    play.try_to_stand("C")
    play.until(lambda: has_left(play, "C"), what="C has learned that, and has forgotten")
    assert stood.count > 0
    assert (NackReason.CONFIGURATION_OLD, removal) in nacks(answered)
    play.run(ms=100)
    if power_goes:
        play.cut_power("C")
        play.start("C")
    for folder in (log_folder(0), checkpointer_folder(0)):
        assert not disk.exists(folder)
    assert has_left(play, "C")
    assert tombstones(play, "C")[0] >= replica_id
    assert tombstones(play, "C")[1] >= replica_id
    said = play.watch(sender="C", to="A B")
    play.run(ms=3_000)
    assert said.count == 0
    assert play.masters() == ["A"]


def test_member_that_is_added_again() -> None:
    """It votes as a new replica: what the earlier one promised, voted and was told is another's.

    The order that ended the first one's vote is late, and comes when the second one votes.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    change(play, client, "A", ADD, "D")
    change(play, client, "A", PROMOTE, "D")
    first = play.votes("D").replica_id
    late = play.hold(RemoveGroup, to="D.acceptor")
    change(play, client, "A", REMOVE, "D")
    play.until(lambda: late.count > 0, what="D's acceptor is to forget")
    play.end(late)
    play.until(lambda: has_left(play, "D"), what="D forgets")
    client.call("A", b"two")
    change(play, client, "A", ADD, "D")
    assert not play.has_group("D.acceptor")
    promotion = change(play, client, "A", PROMOTE, "D")
    play.until(lambda: votes_under(play, "D", promotion), what="D votes again")
    second = play.votes("D")
    assert second.replica_id > first
    assert second.floor > promotion
    answered = play.watch(OrderDone, sender="D.acceptor")
    play.deliver(late)
    play.run(ms=10)
    assert answered.count > 0
    assert all(isinstance(m, OrderDone) and m.refused for m in messages(answered))
    assert votes_under(play, "D", promotion)
    # A majority of the four needs it.
    play.kill("C")
    voted = play.watch(Accepted, sender="D")
    client.call("A", b"three")
    assert {each.replica_id for each in voted.matched} == {second.replica_id}
    assert play.lines("D") == [b"one", b"two", b"three"]


def test_member_that_is_added_again_before_it_has_forgotten() -> None:
    """The earlier replica is dropped first: under the new configuration it answers nothing."""
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    change(play, client, "A", ADD, "D")
    change(play, client, "A", PROMOTE, "D")
    first = play.votes("D").replica_id
    lost = play.lose(RemoveGroup, to="D.acceptor")
    change(play, client, "A", REMOVE, "D")
    change(play, client, "A", ADD, "D")
    said = play.watch(Promise, Accepted, sender="D.acceptor")
    promotion = change(play, client, "A", PROMOTE, "D")
    play.run(ms=500)
    assert lost.count > 0
    # Nor does a life of its learner begin that knows nothing of the earlier one.
    play.kill("D.learner")
    play.start("D.learner")
    play.run(ms=500)
    assert play.votes("D").replica_id == first
    assert said.count == 0
    play.end(lost)
    play.until(lambda: votes_under(play, "D", promotion), what="D votes again")
    assert play.votes("D").replica_id > first
    assert play.votes("D").floor > promotion
    play.kill("C")
    client.call("A", b"two")
    assert {each.replica_id for each in said.matched} == {play.votes("D").replica_id}


def test_member_that_is_given_a_group_misses_nothing() -> None:
    """Its checkpointer has not come yet when its learner opens what there is."""
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    change(play, client, "A", ADD, "D")
    assert play.learner("D").alarms == ()


@pytest.mark.parametrize("is_learned", [False, True])
def test_member_that_is_added_again_while_it_is_about_to_leave(is_learned: bool) -> None:
    """It is no voter before its log says, durably, that it was added.

    What answers until then is an earlier part, which leaves by the entry that removed it, or does
    so when it begins another life at that. Were D a voter by then, nobody would give it the group
    any more: only those that follow are ordered to take it.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    change(play, client, "A", ADD, "D")
    change(play, client, "A", PROMOTE, "D")
    late = play.hold(RemoveGroup, to="D.acceptor")
    removal = change(play, client, "A", REMOVE, "D")
    play.until(lambda: late.count > 0, what="D's acceptor is to forget")
    # Its learner answers, and is told nothing more; or what it is told is never durable.
    if is_learned:
        play.stall("D.learner")
    else:
        lost = play.lose(Chosen, LearnReply, to="D.learner")
    added = client.change("A", ADD, "D", removal).config_id
    play.until(lambda: play.proposer("A").is_serving, what="A leads on")
    play.run(ms=400)
    assert follows(play, "D", added if is_learned else removal)
    refused = not_changed(client, "A", PROMOTE, "D", added)
    assert "has not come to where it was added" in refused
    if is_learned:
        play.kill("D.learner")
        play.quicken("D.learner")
        lost = play.lose(Chosen, LearnReply, to="D.learner")
        play.start("D.learner")
    play.end(late)
    play.deliver(late)
    play.until(lambda: has_left(play, "D"), what="D forgets")
    play.end(lost)
    play.until(lambda: follows(play, "D", added), what="D has the group again")
    play.run(ms=400)
    promotion = change(play, client, "A", PROMOTE, "D")
    play.until(lambda: votes_under(play, "D", promotion), what="D votes again")


@pytest.mark.parametrize("kind", [PROMOTE, REMOVE])
def test_change_that_a_dead_master_had_chosen(kind: MembershipKind) -> None:
    """Who asked is told nothing, and asks the next one: the same entry changes nothing more."""
    play = Scenario(4, options=replace(FREE, followers=1))
    client = begin(play, "A")
    play.lose(MembershipChanged)
    member = "E" if kind is PROMOTE else "D"
    request = client.order_change("A", kind, member, 0)
    play.until(lambda: not follows(play, "B", 0), what="B learns of it")
    play.kill("A")
    play.stand("B")
    assert request not in client.answers
    config_id = play.learner("B").configuration.config_id
    assert not_changed(client, "B", kind, member, 0)
    play.run(ms=100)
    assert follows(play, "B", config_id)


def parted_from_all_but_one_that_joined() -> tuple[Scenario, int]:
    """A was away while D took B's place, and only A and D are left; with the last change."""
    play = Scenario(3, options=JOINING)
    client = begin(play, "C")
    parted = play.cut("A", "B C D")
    change(play, client, "C", ADD, "D")
    change(play, client, "C", PROMOTE, "D")
    removal = change(play, client, "C", REMOVE, "B")
    play.until(lambda: has_left(play, "B"), what="B forgets")
    play.kill("B C")
    play.end(*parted)
    return play, removal


def test_voter_that_knows_none_of_those_that_are_left() -> None:
    """A majority is there, and must go on: A, which was away, and D, which A does not know.

    D stands, A's acceptor says that it has not come to that configuration (R5: "with an older one
    it learns first and then answers"), and must come to it.
    """
    play, removal = parted_from_all_but_one_that_joined()
    answered = play.watch(Nack, sender="A.acceptor", to="D")
    play.try_to_stand("A")
    play.try_to_stand("D")
    play.until(lambda: answered.count > 0, what="D asks A")
    assert nacks(answered) == {(NackReason.CONFIGURATION_NEW, 0)}
    assert votes_under(play, "D", removal)
    play.until(lambda: play.masters() != [], what="A and D go on")
    assert votes_under(play, "A", removal)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_member_that_was_away_while_all_that_it_knows_left(is_restarted: bool) -> None:
    """D, which A does not know, has the group alone, and does not count A among its members.

    A names C as the master for ever, to whoever asks it, and C is there: it has left, and says who
    has the group instead, also after a restart.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "C")
    parted = play.cut("A", "B C D")
    change(play, client, "C", ADD, "D")
    change(play, client, "C", PROMOTE, "D")
    change(play, client, "C", REMOVE, "A")
    change(play, client, "C", REMOVE, "B")
    play.kill("C.proposer")
    play.stand("D")
    play.start("C.proposer")
    change(play, client, "D", REMOVE, "C")
    play.until(lambda: has_left(play, "B") and has_left(play, "C"), what="B and C forget")
    if is_restarted:
        play.kill("B C")
        play.start("B C")
    play.end(*parted)
    play.let_all_stand()
    play.until(lambda: has_left(play, "A"), what="A hears of it, and forgets")


def test_voter_whose_log_is_lost() -> None:
    """Its votes stay, whatever its log goes through while it is learned anew.

    C votes as its second replica when its segments are lost (as damage does, which others mend).
    Its log stops at an entry by which it voted as the first one.
    """
    small = replace(JOINING.learner, catch_up_bytes_max=200)
    play = Scenario(3, options=replace(JOINING, learner=small))
    client = begin(play, "A")
    change(play, client, "A", ADD, "D")
    for number in range(10):
        client.call("A", b"%d" % number * 50)
    demotion = change(play, client, "A", DEMOTE, "C")
    promotion = change(play, client, "A", PROMOTE, "C")
    second = play.votes("C").replica_id
    play.kill("C.learner C.checkpointer")
    play.lose_segments("C")
    untaught = play.hold(LearnReply, to="C.learner", instance=demotion)
    play.start("C.learner C.checkpointer")
    play.until(lambda: untaught.count > 0, what="C learns what was before")
    play.run(ms=1_000)
    play.deliver(untaught)
    play.until(lambda: follows(play, "C", promotion), what="C has learned the rest")
    play.run(ms=1_000)
    assert tombstones(play, "C")[0] < second
    assert votes_under(play, "C", promotion)


@pytest.mark.parametrize("is_later", [False, True])
def test_entry_that_only_a_damaged_log_had(is_later: bool) -> None:
    """R11: what one log alone has learned is in the votes yet, and is found there.

    A tells nobody of an entry, seals it, and its acceptor follows; then damage takes its log. B has
    voted only, C is dead for good. Nobody has the entry to teach it, and without A's acceptor,
    which is further than all proposers, there is no majority. They stand under the genesis, or
    under a later configuration.
    """
    play = Scenario(3, options=replace(JOINING, followers=1))
    client = begin(play, "A")
    if is_later:
        change(play, client, "A", ADD, "E")
    before = play.proposer("A").configuration.config_id
    assert is_later == (before > 0)
    untold = play.lose(Chosen, LearnReply, to="B.learner C.learner D.learner E.learner")
    removal = client.change("A", REMOVE, "D", before).config_id
    play.until(lambda: votes_under(play, "A", removal), what="A's acceptor follows")
    assert votes_under(play, "B", before)
    assert removal in play.votes("B").votes
    play.kill("A C")
    play.lose_segments("A")
    play.end(untold)
    play.start("A")
    assert follows(play, "A", 0)
    play.let_all_stand()
    play.until(lambda: play.masters() != [], what="A or B finds the entry, and leads on")
    (master,) = play.masters()
    client.call(master, b"two")
    play.until(lambda: all(votes_under(play, name, removal) for name in "AB"), what="both follow")
    play.until(lambda: play.lines("A") == play.lines("B") == [b"one", b"two"], what="both have it")


def test_entries_that_are_in_votes_alone() -> None:
    """Two configurations after another, and no log has even the first of them any more.

    Whoever stands finds the first entry, and stands again under it before it finds the second.
    """
    play = Scenario(3, options=replace(JOINING, followers=1))
    play.lose(RaiseVoteFloor)
    client = begin(play, "A")
    addition = change(play, client, "A", ADD, "E")
    client.call("A", b"two")
    removal = change(play, client, "A", REMOVE, "D")
    client.call("A", b"three")
    play.until(lambda: all(votes_under(play, name, removal) for name in "AB"), what="both follow")
    play.kill("A B C D E")
    for name in "AB":
        play.lose_segments(name)
    play.start("A B")
    assert all(follows(play, name, 0) for name in "AB")
    prepared = play.watch(Prepare, to="A.acceptor")
    play.let_all_stand()
    play.until(lambda: play.masters() != [], what="A or B finds all, and leads on")
    under = [envelope.config_id for envelope in prepared.matched]
    assert under == sorted(under)
    assert set(under) == {0, addition, removal}
    (master,) = play.masters()
    client.call(master, b"four")
    lines = [b"one", b"two", b"three", b"four"]
    play.until(lambda: play.lines("A") == play.lines("B") == lines, what="both have all")


def test_late_answer_of_an_acceptor() -> None:
    """What an acceptor was before says nothing of what it is, and holds up nothing.

    C was demoted and promoted; the answer that it still votes as the first replica comes when its
    acceptor is about to be told of the next configuration.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    late = play.hold(ConfigurationFollowed, sender="C.acceptor")
    change(play, client, "A", DEMOTE, "C")
    assert late.count > 0
    play.end(late)
    promotion = change(play, client, "A", PROMOTE, "C")
    play.until(lambda: votes_under(play, "C", promotion), what="C votes again")
    lost = play.lose(FollowConfiguration, to="C.acceptor")
    addition = change(play, client, "A", ADD, "D")
    removed = play.watch(RemoveGroup, to="C.acceptor")
    play.deliver(late)
    play.run(ms=10)
    assert removed.count == 0
    play.end(lost)
    play.until(lambda: votes_under(play, "C", addition), what="C's acceptor follows")


@pytest.mark.parametrize("kind", [ADD, PROMOTE])
def test_learner_that_dies_before_it_has_sealed_the_entry(kind: MembershipKind) -> None:
    """A value stays with the master until its own learner has it durably; an entry, too.

    A, which alone votes, is told by its learner that the entry is learned, and stands anew. Before
    the entry is sealed the learner dies. The votes are there, under the old configuration.
    """
    play = Scenario(1, options=replace(FREE, followers=1, joiners=1))
    client = begin(play, "A")
    play.lose(Chosen, to="B.learner")
    play.stall("A.learner")
    client.order_change("A", kind, "C" if kind is ADD else "B", 0)
    play.until(lambda: not follows(play, "A", 0), what="A's learner has the entry")
    entry = play.learner("A").configuration.config_id
    play.run(ms=20)
    play.kill("A.learner")
    play.quicken("A.learner")
    play.start("A.learner")
    assert play.learner("A").learned_through < entry
    assert entry in play.votes("A").votes
    play.until(lambda: play.masters() == ["A"], what="A finds the entry, and leads on")


def test_removed_voter_whose_successors_are_replaced() -> None:
    """It forgets in the end: whoever votes by then has what it waits for.

    B has learned of its removal, and is cut off before it hears that A and C have sealed that.
    Meanwhile C goes on as another replica, so that of those whom B waits for one is no more.
    """
    play = Scenario(3, options=FREE)
    client = begin(play, "A")
    removal = client.change("A", REMOVE, "B", 0).config_id
    play.until(lambda: follows(play, "B", removal), what="B learns that it is removed")
    parted = play.cut("B", "A C")
    play.until(lambda: play.masters() == ["A"], what="A leads on")
    play.run(ms=200)
    change(play, client, "A", DEMOTE, "C")
    change(play, client, "A", PROMOTE, "C")
    assert votes_under(play, "B", 0)
    play.end(*parted)
    play.let_all_stand()
    play.until(lambda: has_left(play, "B"), what="B has forgotten")


def run_few(play: Scenario, ms: int, steps: int) -> None:
    """As `Scenario.run`, for a little virtual time in which not much may happen."""
    scheduler = play.world.scheduler
    end_ns, steps_max = scheduler.now_ns + ms * MILLISECOND_NS, scheduler.steps + steps
    while scheduler.next_ns is not None and scheduler.next_ns <= end_ns:
        scheduler.step()
        assert scheduler.steps < steps_max, "something spins"


@pytest.mark.parametrize("kind", [REMOVE, DEMOTE])
def test_voter_that_left_while_its_vote_floor_was_raised(kind: MembershipKind) -> None:
    """What it asked of its acceptor is not answered any more, and nothing spins for that."""
    play = Scenario(3, options=FREE)
    client = begin(play, "A")
    lost = play.lose(RaiseVoteFloor, to="C.acceptor")
    play.lose(RemoveGroup, to="C.acceptor")
    client.call("A", b"two")
    play.until(lambda: lost.count > 0, what="C is to raise its floor")
    # Before it asks again.
    client.change("A", kind, "C", 0)
    play.end(lost)
    run_few(play, ms=1_000, steps=20_000)


def test_stalled_disk_while_the_acceptor_is_told_of_a_configuration() -> None:
    """Before the next entry is durable there is nothing to ask, and nothing spins for that."""
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    lost = play.lose(FollowConfiguration, to="C.acceptor")
    first = client.change("A", ADD, "D", 0).config_id
    play.until(lambda: lost.count > 0, what="C's acceptor is to follow")
    play.stall("C.learner")
    play.until(lambda: play.proposer("A").is_serving, what="A leads on")
    client.change("A", REMOVE, "D", first)
    run_few(play, ms=1_000, steps=20_000)


def test_follower_that_was_away_when_it_was_removed() -> None:
    """It, too, must learn that it has left, though it never stands and nobody sends it anything."""
    play = Scenario(3, options=replace(FREE, followers=1))
    client = begin(play, "A")
    play.kill("D")
    change(play, client, "A", REMOVE, "D")
    play.start("D")
    play.let_all_stand()
    play.until(lambda: has_left(play, "D"), what="D has forgotten")


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("operation", range(0, 14, 2))
def test_killed_while_a_part_comes_or_goes(operation: int, leaves: bool) -> None:
    """A learner is killed in any operation on its disk, then the power goes: it goes on with that.

    D is given the group, or loses it. In the end it has it, has left it with all its files, and
    has it again, as a later replica.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "A")
    process, disk = play.process("D.learner"), play.member("D").disk
    if not leaves:
        process.faults.crash_in = operation
    addition = client.change("A", ADD, "D", 0).config_id
    play.run(ms=500)
    assert process.is_up == leaves
    restart_without_power(play, "D")
    play.until(lambda: follows(play, "D", addition), what="D has the group")
    play.run(ms=400)
    change(play, client, "A", PROMOTE, "D")
    if leaves:
        process.faults.crash_in = operation
    removal = client.change("A", REMOVE, "D", play.learner("A").configuration.config_id).config_id
    play.run(ms=700)
    assert process.is_up != leaves
    restart_without_power(play, "D")
    play.until(lambda: has_left(play, "D"), what="D forgets")
    play.run(ms=100)
    assert not disk.exists(log_folder(0))
    assert not disk.exists(checkpointer_folder(0))
    assert follows(play, "A", removal)
    change(play, client, "A", ADD, "D")
    promotion = change(play, client, "A", PROMOTE, "D")
    assert votes_under(play, "D", promotion)
    assert play.lines("D") == [b"one"]


def restart_without_power(play: Scenario, name: str) -> None:
    """A member loses power, and starts again; its proposer keeps its deadlines."""
    play.cut_power(name)
    play.start(name)
    play.try_to_stand(name)


# What is not so yet.


def test_entry_that_only_a_dead_learner_has() -> None:
    """All votes are there, and three acceptors, and two whole members: they must go on.

    C makes D a follower by the votes of all, tells nobody, and seals; its acceptor follows, and its
    learner dies. A and B can learn the entry from nobody, and are a majority that can find it.
    """
    play = Scenario(3, options=JOINING)
    client = begin(play, "C")
    untold = play.lose(Chosen, LearnReply, to="A.learner B.learner")
    addition = client.change("C", ADD, "D", 0).config_id
    play.until(lambda: votes_under(play, "C", addition), what="C's acceptor follows")
    play.kill("C.learner D")
    play.end(untold)
    assert all(addition in play.votes(name).votes for name in "ABC")
    assert votes_under(play, "A", 0)
    assert votes_under(play, "B", 0)
    play.let_all_stand()
    play.until(lambda: play.masters() != [], what="A or B finds the entry, and leads on")


@pytest.mark.parametrize("kind", [LearnRequest, LearnReply])
def test_voter_that_knows_none_of_those_that_are_left_after_a_loss(kind: type) -> None:
    """As above; and the first question that A asks D, or its answer, gets lost."""
    play, removal = parted_from_all_but_one_that_joined()
    lost = play.lose(kind, sender="A.learner D.learner")
    play.try_to_stand("A")
    play.try_to_stand("D")
    play.until(lambda: lost.count > 0, what="A has asked D")
    play.end(lost)
    play.until(lambda: play.masters() != [], what="A and D go on")
    assert votes_under(play, "A", removal)
