"""Seeded bugs of reads by a quorum of acceptors; see `mutations`."""

from __future__ import annotations

from ray_paxos.core import query_batches
from ray_paxos.core.acceptor_state import GroupVotes
from ray_paxos.core.genesis import Voter
from ray_paxos.core.query_batches import QueryBatches
from ray_paxos.core.query_calls import Way
from ray_paxos.core.quorum_read import QuorumAnswers, Verdict


def count_an_acceptor_twice(patch):
    """A second answer of one acceptor counts as another's."""
    voter_of = QuorumAnswers._voter

    def another_voter(self, envelope, configuration):
        voter = voter_of(self, envelope, configuration)
        while voter is not None and voter in self._accepted_through:
            voter = Voter(voter.member_id, voter.replica_id + 1_000)
        return voter

    patch.setattr(QuorumAnswers, "_voter", another_voter)


def take_the_first_acceptor_for_all(patch):
    """One acceptor is enough."""
    take = QuorumAnswers.take

    def take_at_once(self, envelope):
        take(self, envelope)
        if self.index is None and self._accepted_through:
            self.index = max(self._accepted_through.values())

    patch.setattr(QuorumAnswers, "take", take_at_once)


def count_whoever_answers(patch):
    """An acceptor counts whether or not it votes, and as whichever replica."""

    def any_voter(self, envelope, configuration):
        return Voter(envelope.sender.member_id, envelope.replica_id)

    patch.setattr(QuorumAnswers, "_voter", any_voter)


def count_across_configurations(patch):
    """A majority may be made of answers under several configurations."""
    on_accepted_through = QuorumAnswers._on_accepted_through

    def on_accepted_through_any(self, envelope, answer):
        first, self._configuration = self._configuration, None
        on_accepted_through(self, envelope, answer)
        self._configuration = first or self._configuration

    patch.setattr(QuorumAnswers, "_on_accepted_through", on_accepted_through_any)


def answer_before_the_index_is_applied(patch):
    """The learner's answer counts, however far it is."""
    verdict = QuorumAnswers.verdict

    def verdict_at_once(self):
        found = verdict(self)
        return Verdict.COUNTS if found is Verdict.BEHIND else found

    patch.setattr(QuorumAnswers, "verdict", verdict_at_once)


def follow_another_configuration(patch):
    """The learner may follow another configuration than the acceptors."""
    patch.setattr(QuorumAnswers, "_is_under_one_configuration", lambda self: True)


def show_another_reign(patch):
    """The learner may have learned from another member than its own."""
    patch.setattr(QuorumAnswers, "_is_of_own_reign", lambda self, learned: True)


def tell_only_the_votes_that_are_left(patch):
    """An acceptor does not tell of votes that its floor has passed."""
    patch.setattr(GroupVotes, "accepted_through", property(lambda self: max(self.votes, default=0)))


def share_a_round_already_sent(patch):
    """Reads that were asked after a batch's round was sent are asked at its index, too."""
    ask_learner = QueryBatches._ask_learner

    def ask_of_all(self, batch, consistency, at_least, now_ns):
        kind = self._kinds[batch.terms.consistency]
        queue = kind.waiting.get(batch.terms)
        if batch.way is Way.AT_INDEX and queue:
            with self._shrinking(kind, batch.terms, queue):
                taken, _ = queue.number(1)
            for reads in taken:
                self._count(reads, 1, kind)
            batch.reads = query_batches._joined([batch.reads, *taken])
        return ask_learner(self, batch, consistency, at_least, now_ns)

    patch.setattr(QueryBatches, "_ask_learner", ask_of_all)
