"""Seeded bugs of what must come right again once nothing is lost any more; see `mutations`."""

from __future__ import annotations

from ray_paxos.core import checkpoint
from ray_paxos.core.candidacy import Candidacy
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.reign import Reign
from ray_paxos.core.voting_part import VotingPart


def forget_who_joined_in_a_checkpoint(patch):
    """A manifest does not say which members are not of the genesis."""
    to_json = checkpoint._to_json

    def to_json_without(manifest):
        return {name: each for name, each in to_json(manifest).items() if name != "joined"}

    patch.setattr(checkpoint, "_to_json", to_json_without)


def tell_nothing_to_the_silent(patch):
    """Who stands says nothing to the learners of those whose acceptors say nothing."""
    patch.setattr(Candidacy, "_tell_silent", lambda self, effects: None)


def leave_it_to_those_that_they_know(patch):
    """A master does not say that it has the group to those that are behind its configuration."""
    patch.setattr(Reign, "_tell_late", lambda self, effects: None)


def order_again_what_was_refused(patch):
    """What an acceptor refuses to forget it is told to forget again, and nothing else."""
    on_order_done = VotingPart.on_order_done

    def on_order_done_only(self, sender, message, configuration):
        if not message.refused:
            on_order_done(self, sender, message, configuration)

    patch.setattr(VotingPart, "on_order_done", on_order_done_only)


def ask_once_in_a_reign(patch):
    """A proposer asks its own learner for the configuration once, whatever gets lost."""
    on_heartbeat = Proposer._on_heartbeat

    def on_heartbeat_of_any(self, heartbeat, config_id, now_ns, effects):
        on_heartbeat(self, heartbeat, 0, now_ns, effects)

    patch.setattr(Proposer, "_on_heartbeat", on_heartbeat_of_any)
