"""When a learner's answer is linearizable by what a majority of acceptors has accepted (R8)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    QueryFailed,
    QueryProblem,
    QueryResult,
    QuorumReadAnswer,
    RefusalCode,
    Refused,
)
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.messages import Message
from ray_paxos.core.quorum_read import QuorumAnswers, Verdict
from tests.unit.core_helpers import (
    CONFIGURATION,
    LATER_CONFIGURATION,
    REPLICAS,
    acceptor_of,
    ballot,
    envelope,
    learner_of,
)

ME = 2
OWN, ANOTHERS = ballot(5, ME), ballot(6, 1)


class Played:
    """A read at the learner of member 2."""

    def __init__(self) -> None:
        self.answers = QuorumAnswers(ME)

    def accepted(
        self,
        through: int,
        *members: int,
        configuration: Configuration = CONFIGURATION,
        replica_id: int | None = None,
    ) -> Played:
        answer = QuorumReadAnswer(1, through, configuration.voters)
        for member_id in members:
            self.answers.take(
                envelope(
                    acceptor_of(member_id),
                    answer,
                    replica_id=replica_id,
                    config_id=configuration.config_id,
                )
            )
        return self

    def applied(self, through: int, learned: Ballot | None = OWN, *, config_id: int = 0) -> Played:
        return self.learner(QueryResult(1, through, b"x", learned), config_id=config_id)

    def learner(self, message: Message, *, member_id: int = ME, config_id: int = 0) -> Played:
        self.answers.take(envelope(learner_of(member_id), message, config_id=config_id))
        return self

    @property
    def verdict(self) -> Verdict:
        return self.answers.verdict()


def test_nothing_is_concluded_from_too_few() -> None:
    assert Played().verdict is Verdict.INCOMPLETE
    assert Played().applied(9).verdict is Verdict.INCOMPLETE
    assert Played().applied(9).accepted(9, 1).verdict is Verdict.INCOMPLETE
    assert Played().accepted(9, 1, 3).verdict is Verdict.INCOMPLETE


def test_whichever_answer_comes_last_completes_them() -> None:
    assert Played().accepted(9, 1, 3).applied(9).verdict is Verdict.COUNTS
    assert Played().applied(9).accepted(9, 1, 3).verdict is Verdict.COUNTS
    assert Played().accepted(9, 1).applied(9).accepted(9, 2).verdict is Verdict.COUNTS


def test_the_highest_that_any_of_the_majority_accepted_has_to_be_applied() -> None:
    for last, verdict in ((8, Verdict.BEHIND), (9, Verdict.COUNTS), (10, Verdict.COUNTS)):
        played = Played().accepted(9, 1).accepted(3, 3).applied(last)
        assert played.answers.index == 9
        assert played.verdict is verdict


def test_more_answers_than_a_majority_change_nothing() -> None:
    # A majority tells of all that was chosen before; what was accepted since need not be shown.
    played = Played().accepted(9, 1, 3).accepted(12, 2).applied(9)
    assert played.answers.index == 9
    assert played.verdict is Verdict.COUNTS


def test_a_learner_that_was_behind_is_asked_again() -> None:
    played = Played().accepted(9, 1, 3).applied(8)
    assert played.answers.ask_again() == 9
    assert played.verdict is Verdict.INCOMPLETE, "the answer that was behind is forgotten"
    assert played.applied(9).verdict is Verdict.COUNTS
    assert played.answers.answer == QueryResult(1, 9, b"x", OWN)


def test_no_voter_counts_twice() -> None:
    assert Played().applied(9).accepted(9, 1, 1, 1).verdict is Verdict.INCOMPLETE


def test_only_a_voter_under_its_own_identity_counts() -> None:
    played = Played().applied(9).accepted(9, 1)
    assert played.accepted(9, 4).verdict is Verdict.INCOMPLETE, "member 4 does not vote"
    assert played.accepted(9, 3, replica_id=12).verdict is Verdict.INCOMPLETE
    assert played.accepted(9, 3, replica_id=0).verdict is Verdict.INCOMPLETE
    assert played.accepted(9, 3).verdict is Verdict.COUNTS


def test_a_majority_is_of_one_configuration() -> None:
    played = Played().applied(12).accepted(12, 1)
    played.accepted(12, 2, configuration=LATER_CONFIGURATION)
    assert played.verdict is Verdict.INCONCLUSIVE
    assert played.accepted(12, 3).verdict is Verdict.INCONCLUSIVE, "and stays so"
    whole = Configuration(0, tuple(Voter(m, REPLICAS[m]) for m in range(1, 6)))
    played = Played().applied(12).accepted(12, 1, 2, configuration=whole)
    assert played.verdict is Verdict.INCOMPLETE, "two of five"
    assert played.accepted(12, 3, configuration=whole).verdict is Verdict.COUNTS


def test_the_learner_follows_the_configuration_of_the_majority() -> None:
    later = LATER_CONFIGURATION
    assert Played().accepted(12, 1, 3).applied(12, config_id=10).verdict is Verdict.INCONCLUSIVE
    played = Played().accepted(12, 1, 4, configuration=later)
    assert played.applied(12, config_id=10).verdict is Verdict.COUNTS
    assert played.applied(12, config_id=0).verdict is Verdict.INCONCLUSIVE


def test_the_learner_is_that_of_the_last_master_it_knows() -> None:
    assert Played().accepted(9, 1, 3).applied(9, ANOTHERS).verdict is Verdict.INCONCLUSIVE
    assert Played().accepted(9, 1, 3).applied(9, None).verdict is Verdict.INCONCLUSIVE
    assert Played().accepted(9, 1, 3).applied(8, ANOTHERS).verdict is Verdict.INCONCLUSIVE


def test_what_is_no_answer_ends_it() -> None:
    for failed in (
        QueryFailed(1, 9, "no machine", QueryProblem.REFUSED),
        QueryFailed(1, 9, "stopped", QueryProblem.STOPPED),
        Refused(1, RefusalCode.UNKNOWN_GROUP, "no such group", 0),
    ):
        assert Played().accepted(9, 1, 3).learner(failed).verdict is Verdict.INCONCLUSIVE


def test_the_answer_of_another_learner_is_none() -> None:
    another = QueryResult(1, 9, b"x", OWN)
    played = Played().accepted(9, 1, 3).learner(another, member_id=1)
    assert played.verdict is Verdict.INCONCLUSIVE


@given(
    st.lists(st.integers(0, 20), min_size=3, max_size=3),
    st.permutations([1, 2, 3]),
    st.integers(0, 20),
)
def test_whatever_a_majority_accepted_before_is_covered(
    through: list[int], order: list[int], applied: int
) -> None:
    """Two of three have accepted an instance, so it is at or below the index of any other two."""
    chosen = sorted(through)[1]
    played = Played().applied(applied)
    for member_id in order:
        played.accepted(through[member_id - 1], member_id)
    assert played.answers.index is not None
    assert played.answers.index >= chosen
    assert (played.verdict is Verdict.COUNTS) == (applied >= played.answers.index)
