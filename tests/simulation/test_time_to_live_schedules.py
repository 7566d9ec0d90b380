"""Schedules about values that end by themselves: by the group's own time, whoever leads (R6).

The judge executes the log on its own, and compares every state and every answer with that.
"""

from __future__ import annotations

from ray_paxos.core.learner_messages import LearnerStatus
from ray_paxos.core.messages import Accept
from ray_paxos.machines import kv
from ray_paxos.testing.coverage import INSTALLED
from ray_paxos.testing.scenario import Scenario
from ray_paxos.testing.scripted_client import ScriptedClient
from ray_paxos.testing.workload import KV_MACHINE
from tests.simulation.checkpoint_scenes import KEEPING, end_in_step, is_in_step, seen

TTL_MS = 500


def led_by_a() -> tuple[Scenario, ScriptedClient]:
    """A leads, and has one line."""
    play = Scenario(3)
    play.stand("A")
    client = play.client()
    client.call("A", b"one")
    return play, client


def put_for(
    play: Scenario, client: ScriptedClient, master: str, key: str, ttl_ms: int = TTL_MS
) -> None:
    """A key has a value for so long, and all have applied that."""
    number = client.submit(master, kv.encode_put_for(key, b"held", ttl_ms), machine=KV_MACHINE)
    play.until(lambda: number in client.results, what="it is written")
    play.run(ms=5)


def read(play: Scenario, name: str, key: str) -> kv.Read:
    found = kv.decode_result(play.learner(name).host.query(KV_MACHINE, kv.encode_get(key)))
    assert isinstance(found, kv.Read)
    return found


def has(play: Scenario, names: str, key: str) -> bool:
    return all(read(play, name, key).found for name in names)


def test_a_value_ends_everywhere_though_nobody_writes_anything() -> None:
    play, client = led_by_a()
    put_for(play, client, "A", "leased")
    before = play.learner("A").learned_through
    play.run(ms=TTL_MS - 50)
    assert has(play, "ABC", "leased")
    assert play.learner("A").learned_through == before, "a group in which nothing is due is quiet"
    play.run(ms=100)
    assert [read(play, name, "leased") for name in "ABC"] == [kv.Read(False, 2, None)] * 3
    assert play.learner("A").learned_through == before + 1
    play.run(ms=3_000)
    assert play.learner("A").learned_through == before + 1


def test_it_lives_so_long_by_the_groups_own_time_whoever_leads() -> None:
    """The group is without a master for long. Whoever leads then gives what was left."""
    play, client = led_by_a()
    put_for(play, client, "A", "leased")
    play.run(ms=200)
    play.kill("A")
    play.run(ms=10_000)
    play.stand("B")
    play.until(lambda: play.proposer("B").is_serving)
    assert has(play, "BC", "leased")
    play.run(ms=TTL_MS + 100)
    assert not has(play, "B", "leased")
    assert not has(play, "C", "leased")
    play.start("A")
    play.until(lambda: read(play, "A", "leased") == kv.Read(False, 2, None))


def test_a_tick_that_is_lost_is_sent_again_and_a_deposed_master_ends_nothing() -> None:
    """A is cut off when the value is due: its tick comes to nobody. B's does."""
    play, client = led_by_a()
    put_for(play, client, "A", "leased")
    play.freeze("A")
    cut = play.cut("A", "B C")
    play.stand("B")
    other = play.client()
    other.call("B", b"two")
    play.run(ms=TTL_MS + 200)
    assert not has(play, "B", "leased")
    assert has(play, "A", "leased")
    play.end(*cut)
    play.until(lambda: read(play, "A", "leased") == read(play, "B", "leased"))
    assert play.lines("A") == [b"one", b"two"]


def test_a_learner_that_says_late_what_is_due_holds_up_one_tick() -> None:
    """What the master goes by comes from its own learner, whose word may be lost."""
    play, client = led_by_a()
    lost = play.lose(LearnerStatus, sender="A.learner", to="A.proposer")
    put_for(play, client, "A", "leased", 100)
    ticks = play.watch(Accept, sender="A", to="B.acceptor")
    play.run(ms=300)
    assert ticks.count == 0
    play.end(lost)
    play.until(lambda: not has(play, "A", "leased"))
    assert ticks.count == 1


def test_a_checkpoint_carries_what_ends_and_when() -> None:
    """C has nothing but a checkpoint, leads, and lets end what is left of the time."""
    play = Scenario(3, options=KEEPING)
    parted = play.cut("C", "A B")
    play.stand("A")
    client = play.client()
    client.call("A", b"line 0")
    put_for(play, client, "A", "leased", 2_000)
    written = play.learner("A").applied_through
    for number in range(1, 12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: all(play.learner(name).log_floor > written for name in "AB"), what="cut")
    play.end(*parted)
    play.until(lambda: is_in_step(play), what="C has the checkpoint")
    assert seen(play, INSTALLED) > 0
    assert has(play, "C", "leased")
    play.kill("A")
    play.stand("C")
    play.until(lambda: play.proposer("C").is_serving)
    assert has(play, "BC", "leased")
    play.run(ms=2_000)
    assert read(play, "C", "leased") == kv.Read(False, 2, None)
    play.start("A")
    end_in_step(play, 12)
