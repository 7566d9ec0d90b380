"""Queries that wait, in schedules that seeds seldom come upon."""

from __future__ import annotations

from ray_paxos.core.client_messages import Query, QueryResult
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.machines.kv import decode_changed, encode_changes, encode_put, encode_record
from ray_paxos.machines.kv_machine import NO_OFFSET
from ray_paxos.testing.scenario import Scenario
from ray_paxos.testing.scripted_client import ScriptedClient
from tests.simulation.checkpoint_scenes import KEEPING, is_in_step

WAITING = Address(7_000, RoleName.CLIENT)


def call_kv(play: Scenario, client: ScriptedClient, command: bytes) -> int:
    """Have a command applied; the instance."""
    number = client.submit("A", command, machine="kv")
    play.until(lambda: number in client.results, what="an answer")
    return client.results[number].instance_id


def test_what_was_waited_for_comes_with_a_checkpoint():
    """C holds a watch, and misses the change: it installs what came later, and says so."""
    play = Scenario(3, options=KEEPING)
    play.stand("A")
    client = play.client()
    client.open("A")
    recorded = call_kv(play, client, encode_record())
    play.until(lambda: is_in_step(play), what="all are in step")
    answers: list[Envelope] = []
    play.cluster.receivers[WAITING.member_id] = answers.append
    request = encode_changes("key/", recorded, NO_OFFSET)
    query = Query(1, "kv", request, recorded, wait_ms=60_000)
    envelope = Envelope(play.world.genesis.hash(), 0, WAITING, 0, 0, 0, query)
    play.transport.send(WAITING, Address(3, RoleName.LEARNER), envelope)
    play.run(ms=20)
    parted = play.cut("C", "A B")
    written = call_kv(play, client, encode_put("key/1", b"one"))
    for number in range(12):
        client.call("A", b"line %d" % number)
        play.run(ms=30)
    play.until(lambda: all(play.learner(n).log_floor > written + 1 for n in "AB"), what="cut off")
    assert not answers
    play.end(*parted)
    play.until(lambda: is_in_step(play), what="C is in step")
    play.run(ms=20)
    assert len(answers) == 1
    answer = answers[0].message
    assert isinstance(answer, QueryResult)
    assert decode_changed(answer.result).is_compacted
