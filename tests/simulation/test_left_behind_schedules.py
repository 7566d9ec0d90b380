"""Members that were away while a group went on elsewhere, and have to find out whom to ask.

In all of these A was away while D, of which it does not know, joined and others left.
"""

from __future__ import annotations

from dataclasses import replace

from ray_paxos.core.learner_messages import CatchUp, LearnReply
from ray_paxos.testing.options import Options
from ray_paxos.testing.scenario import Scenario
from ray_paxos.testing.scripted_client import ScriptedClient
from ray_paxos.testing.scripted_network import Rule
from tests.simulation.checkpoint_scenes import CHECKPOINTER, LEARNER
from tests.simulation.test_membership_schedules import (
    ADD,
    JOINING,
    PROMOTE,
    REMOVE,
    begin,
    change,
    has_left,
    votes_under,
)

LONG_MS = 60_000
TWO_JOIN = replace(JOINING, joiners=2)
# An answer holds a few lines only.
IN_PIECES = replace(JOINING, learner=replace(JOINING.learner, catch_up_bytes_max=300))
# Logs are cut off soon, so that what was missed is in checkpoints.
CUT_OFF = replace(JOINING, learner=LEARNER, checkpointer=CHECKPOINTER)


def take_over(play: Scenario, client: ScriptedClient, master: str, successor: str) -> None:
    """The lead goes to one member, and the one before leaves the group."""
    play.kill(f"{master}.proposer")
    play.stand(successor)
    play.start(f"{master}.proposer")
    change(play, client, successor, REMOVE, master)
    play.until(lambda: has_left(play, master), what=f"{master} forgets")


def gone_on(
    options: Options = JOINING, lines: int = 0, away_from: str = "B C D"
) -> tuple[Scenario, ScriptedClient, tuple[Rule, ...]]:
    """D alone has the group, B and C have left, and A may hear of it from here on."""
    play = Scenario(3, options=options)
    client = begin(play, "C")
    parted = play.cut("A", away_from)
    write(client, "C", lines)
    change(play, client, "C", ADD, "D")
    change(play, client, "C", PROMOTE, "D")
    change(play, client, "C", REMOVE, "A")
    change(play, client, "C", REMOVE, "B")
    take_over(play, client, "C", "D")
    play.until(lambda: has_left(play, "B"), what="B forgets")
    write(client, "D", lines)
    return play, client, parted


def half_gone_on(
    options: Options, lines: int
) -> tuple[Scenario, ScriptedClient, tuple[Rule, ...], int]:
    """A and D vote, B has left, C is dead for good; with the last change."""
    play = Scenario(3, options=options)
    client = begin(play, "C")
    parted = play.cut("A", "B C D")
    write(client, "C", lines)
    change(play, client, "C", ADD, "D")
    change(play, client, "C", PROMOTE, "D")
    removal = change(play, client, "C", REMOVE, "B")
    play.until(lambda: has_left(play, "B"), what="B forgets")
    write(client, "C", lines)
    play.run(ms=300)
    play.kill("B C")
    return play, client, parted, removal


def write(client: ScriptedClient, master: str, lines: int) -> None:
    for number in range(lines):
        client.call(master, b"line %d " % number + b"x" * 100)


def lose_answers_for_a_while(play: Scenario) -> None:
    """Of those that A gets of D, not the first ones."""
    answers = play.watch(LearnReply, sender="D", to="A.learner")
    play.until(lambda: answers.count >= 2, what="A learns of D")
    lost = play.lose(sender="D", to="A.learner")
    play.run(ms=1_000)
    play.end(lost)


def test_answers_of_the_one_that_has_the_group_are_lost() -> None:
    """It is asked again, though its first answer has said already how far it is."""
    play, _, parted = gone_on(IN_PIECES, lines=20)
    play.end(*parted)
    play.let_all_stand()
    lose_answers_for_a_while(play)
    play.until(lambda: has_left(play, "A"), LONG_MS, what="A hears of it, and forgets")


def test_answers_to_a_voter_are_lost() -> None:
    """A and D are the only voters, and nobody leads before A has learned of D that it is one."""
    play, _, parted, removal = half_gone_on(IN_PIECES, lines=20)
    play.end(*parted)
    play.try_to_stand("A")
    play.try_to_stand("D")
    lose_answers_for_a_while(play)
    play.until(lambda: play.masters() != [], LONG_MS, what="A and D go on")
    assert votes_under(play, "A", removal)


def test_the_last_of_a_chain_of_departures_is_away_at_first() -> None:
    """B and C name D, which has left, too, and names E."""
    play, client, parted = gone_on(TWO_JOIN)
    from_e = play.cut("A", "E")
    change(play, client, "D", ADD, "E")
    change(play, client, "D", PROMOTE, "E")
    take_over(play, client, "D", "E")
    play.kill("E")
    named = play.watch(CatchUp, sender="D.learner", to="A.learner")
    play.end(*parted, *from_e)
    play.let_all_stand()
    play.until(lambda: named.count > 0, LONG_MS, what="D names E")
    play.run(ms=2_000)
    play.start("E")
    play.try_to_stand("E")
    play.until(lambda: has_left(play, "A"), LONG_MS, what="A hears of it, and forgets")


def test_a_follower_has_taken_over_from_the_voter() -> None:
    """When B and C left, D voted and E followed; now E votes, and D has ended for good."""
    play = Scenario(3, options=TWO_JOIN)
    client = begin(play, "C")
    parted = play.cut("A", "B C D E")
    change(play, client, "C", ADD, "D")
    change(play, client, "C", PROMOTE, "D")
    change(play, client, "C", ADD, "E")
    change(play, client, "C", REMOVE, "A")
    change(play, client, "C", REMOVE, "B")
    take_over(play, client, "C", "D")
    change(play, client, "D", PROMOTE, "E")
    take_over(play, client, "D", "E")
    play.kill("D")
    play.end(*parted)
    for name in "ABCE":
        play.try_to_stand(name)
    play.until(lambda: has_left(play, "A"), LONG_MS, what="A hears of it, and forgets")


def test_only_a_checkpoint_has_what_was_missed() -> None:
    play, _, parted = gone_on(CUT_OFF, lines=12)
    play.run(ms=500)
    assert play.learner("D").log_floor > play.learner("A").learned_through + 1
    play.end(*parted)
    play.let_all_stand()
    play.until(lambda: has_left(play, "A"), LONG_MS, what="A hears of it, and forgets")


def test_only_a_checkpoint_has_what_a_voter_missed() -> None:
    play, _, parted, removal = half_gone_on(CUT_OFF, lines=12)
    play.run(ms=500)
    assert play.learner("D").log_floor > play.learner("A").learned_through + 1
    play.end(*parted)
    play.try_to_stand("A")
    play.try_to_stand("D")
    play.until(lambda: play.masters() != [], LONG_MS, what="A and D go on")
    assert votes_under(play, "A", removal)
