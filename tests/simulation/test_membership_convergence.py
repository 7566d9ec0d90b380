"""Schedules after which all must come right: a master, a group where it is named, and a checkpoint.

What is lost in them is lost for a while only, and those that end for good are no majority. Each one
is played again below with its defence taken out, and must fail.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.learner_messages import Chosen, LearnerStatus, LearnReply
from ray_paxos.core.membership_messages import ConfigurationFollowed
from ray_paxos.core.messages import RemoveGroup
from ray_paxos.testing.scenario import Scenario
from tests.simulation import mutations_of_convergence as bugs
from tests.simulation.test_left_behind_schedules import (
    CUT_OFF,
    LONG_MS,
    TWO_JOIN,
    gone_on,
    take_over,
    write,
)
from tests.simulation.test_membership_schedules import (
    ADD,
    JOINING,
    PROMOTE,
    REMOVE,
    begin,
    change,
    follows,
    has_left,
    votes_under,
)
from tests.simulation.test_mutations import by_schedules, fail


def test_acceptor_whose_old_answer_comes_twice() -> None:
    """What D's acceptor was is told twice, what it is gets lost once: its learner asks again.

    Not for ever for what its acceptor refuses, and without ever knowing that it is in step.
    """
    play = Scenario(3, options=JOINING)
    of_group = begin(play, "A")
    change(play, of_group, "A", ADD, "D")
    change(play, of_group, "A", PROMOTE, "D")
    first = play.votes("D").replica_id
    lost = play.lose(RemoveGroup, to="D.acceptor")
    change(play, of_group, "A", REMOVE, "D")
    change(play, of_group, "A", ADD, "D")
    told_twice = play.watch(ConfigurationFollowed, sender="D.acceptor")
    promotion = change(play, of_group, "A", PROMOTE, "D")
    play.until(lambda: lost.count > 0, what="D's acceptor is to forget")
    old = next(
        e
        for e in told_twice.matched
        if e.message == ConfigurationFollowed(e.config_id, first, promotion)
    )
    unheard = play.lose(ConfigurationFollowed, sender="D.acceptor")
    play.end(lost)
    play.until(lambda: votes_under(play, "D", promotion), what="D votes again")
    play.run(ms=5)
    learner, acceptor = play.process("D.learner").address, play.process("D.acceptor").address
    play.transport.carry(acceptor, learner, old)
    play.run(ms=5)
    play.end(unheard)
    play.run(ms=1_000)
    refused = play.watch(RemoveGroup, to="D.acceptor")
    play.run(ms=5_000)
    assert refused.count == 0


def test_voter_that_was_away_while_all_that_it_knows_left_and_it_was_added_again() -> None:
    """D alone has the group, has added A again, and what A has missed is in D's checkpoint only.

    A has the group yet, by its earlier part, and hears of D, which it does not count among those
    that have it.
    """
    play, of_group, parted = gone_on(CUT_OFF, lines=12)
    play.run(ms=500)
    assert play.learner("D").log_floor > play.learner("A").learned_through + 1
    expected = play.proposer("D").configuration.config_id
    added = of_group.change("D", ADD, "A", expected).config_id
    play.run(ms=500)
    # They have left, and are gone for good.
    play.kill("B C")
    play.end(*parted)
    play.let_all_stand()
    play.until(lambda: follows(play, "A", added), LONG_MS, what="A has come to where it was added")
    play.run(ms=400)
    promotion = change(play, of_group, "D", PROMOTE, "A")
    play.until(lambda: votes_under(play, "A", promotion), what="A votes again")


def test_voter_that_does_not_know_that_it_votes() -> None:
    """Of C, D and E a majority is there, and must go on: D ended before it learned that it votes.

    D's acceptor says nothing, since it has not the group; and those that D knows are gone for good.
    """
    play = Scenario(3, options=TWO_JOIN)
    of_group = begin(play, "C")
    added = change(play, of_group, "C", ADD, "D")
    untold = play.lose(Chosen, LearnReply, to="D.learner")
    of_group.change("C", PROMOTE, "D", added)
    play.kill("D")
    play.end(untold)
    play.until(lambda: play.proposer("C").is_serving, what="C leads on")
    change(play, of_group, "C", ADD, "E")
    change(play, of_group, "C", PROMOTE, "E")
    change(play, of_group, "C", REMOVE, "A")
    change(play, of_group, "C", REMOVE, "B")
    play.until(lambda: has_left(play, "A") and has_left(play, "B"), what="A and B forget")
    play.kill("A B C")
    play.start("D")
    assert follows(play, "D", added)
    play.let_all_stand()
    play.until(lambda: play.masters() != [], LONG_MS, what="D and E go on")


def test_follower_that_was_away_while_all_that_it_knows_left() -> None:
    """D alone votes, has E as a follower, and hears of it: what E missed is in D's checkpoint."""
    play = Scenario(3, options=replace(CUT_OFF, joiners=2))
    of_group = begin(play, "C")
    change(play, of_group, "C", ADD, "E")
    parted = play.cut("E", "A B C D")
    write(of_group, "C", 12)
    change(play, of_group, "C", ADD, "D")
    change(play, of_group, "C", PROMOTE, "D")
    change(play, of_group, "C", REMOVE, "A")
    change(play, of_group, "C", REMOVE, "B")
    take_over(play, of_group, "C", "D")
    write(of_group, "D", 12)
    play.until(lambda: play.learner("D").log_floor > 10, what="D cuts off its log")
    assert play.learner("D").log_floor > play.learner("E").learned_through + 1
    play.kill("A B C")
    play.end(*parted)
    play.let_all_stand()
    latest = play.learner("D").configuration.config_id
    play.until(lambda: follows(play, "E", latest), LONG_MS, what="E has come to where D is")
    play.run(ms=400)
    promotion = change(play, of_group, "D", PROMOTE, "E")
    play.until(lambda: votes_under(play, "E", promotion), what="E votes")


def test_checkpoint_of_a_group_with_a_member_that_joined() -> None:
    """Its manifest holds the names of those that joined: else none is ever made again."""
    play = Scenario(3, options=CUT_OFF)
    of_group = begin(play, "A")
    added = change(play, of_group, "A", ADD, "D")
    write(of_group, "A", 12)
    play.until(lambda: all(play.learner(n).log_floor > added for n in "ABCD"), what="logs are cut")
    play.kill("D")
    play.start("D")
    assert play.learner("D").configuration == play.learner("A").configuration


def test_voter_whose_proposer_was_told_in_vain() -> None:
    """What a learner tells once of a configuration gets lost: the proposer asks for it.

    Until then it takes D for a follower, and does not take over what it is handed.
    """
    play = Scenario(3, options=JOINING)
    of_group = begin(play, "A")
    change(play, of_group, "A", ADD, "D")
    lost = play.lose(LearnerStatus, sender="D.learner", to="D.proposer")
    promotion = change(play, of_group, "A", PROMOTE, "D")
    play.end(lost)
    play.run(ms=1_000)
    assert play.proposer("D").configuration.config_id == promotion
    of_group.transfer("A", "D")
    play.until(lambda: play.masters() == ["D"], ms=500, what="D takes over")


FOUND_BY_SCHEDULES = [
    (
        bugs.forget_who_joined_in_a_checkpoint,
        test_checkpoint_of_a_group_with_a_member_that_joined,
    ),
    (bugs.tell_nothing_to_the_silent, test_voter_that_does_not_know_that_it_votes),
    (
        bugs.leave_it_to_those_that_they_know,
        test_voter_that_was_away_while_all_that_it_knows_left_and_it_was_added_again,
    ),
    (
        bugs.leave_it_to_those_that_they_know,
        test_follower_that_was_away_while_all_that_it_knows_left,
    ),
    (bugs.order_again_what_was_refused, test_acceptor_whose_old_answer_comes_twice),
    (bugs.ask_once_in_a_reign, test_voter_whose_proposer_was_told_in_vain),
]


@pytest.mark.parametrize(("mutation", "schedule"), by_schedules(FOUND_BY_SCHEDULES))
def test_found_by_schedules(mutation, schedule, monkeypatch):
    fail(mutation, schedule, monkeypatch)
