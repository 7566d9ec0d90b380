"""What is wrong with a machine is found, and the message says how to mend it."""

from __future__ import annotations

import datetime
import os
import random
import time
import uuid
from typing import ClassVar

import pytest

from ray_paxos.errors import (
    CommandError,
    MachineStoppedError,
    OutcomeUnknownError,
)
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.kv import encode_get, encode_put
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.testing.in_process import InProcessCluster
from ray_paxos.testing.in_process_check import FaultyMachineError
from tests.unit.in_process_machines import WORDS, Plain, found, played


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    cluster = played(Plain, b"a", b"b")
    cluster.check()
    cluster.check()
    cluster = InProcessCluster({"kv": KeyValueMachine})
    cluster.client().propose(encode_put("k", b"v"))
    cluster.client().query(encode_get("k"))
    cluster.check()


# Determinism.


class TellsTime(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return b"%d" % time.time_ns()


class KeepsTime(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.held = time.monotonic()
        return None


class TellsDay(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return b"%d" % (time.time() // 86_400)


class KeepsDay(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.held = int(time.time() // 86_400)
        return None


class KeepsNow(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.held = datetime.datetime.now().isoformat()
        return None


class Draws(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return b"%d" % random.randrange(1 << 60)


class KeepsUuid(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.held = str(uuid.uuid4())
        return None


class GoesThroughSet(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return " ".join(set(command.decode().split())).encode()


class KeepsOrderOfSet(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.held = list(set(command.decode().split()))
        return None


class Hashes(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.held = hash(command) % 97
        return None


class TellsProcess(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return b"%d" % os.getpid()


class CountsInClass(Plain):
    count: ClassVar[int] = 0

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        type(self).count += 1
        return b"%d" % self.count


class FailsElsewhere(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        if os.getpid() != HERE:
            raise ValueError("not here")
        return None


class RefusesAtRandom(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        raise CommandError(str(random.random()))


HERE = os.getpid()


@pytest.mark.parametrize(
    "machine",
    [
        TellsTime,
        KeepsTime,
        TellsDay,
        KeepsDay,
        KeepsNow,
        Draws,
        KeepsUuid,
        GoesThroughSet,
        KeepsOrderOfSet,
        Hashes,
        TellsProcess,
        CountsInClass,
        FailsElsewhere,
        RefusesAtRandom,
    ],
)
def test_what_is_not_deterministic_is_found(machine: type[StateMachine]) -> None:
    text = ""
    cluster = InProcessCluster({"m": machine})
    try:
        cluster.client().propose(WORDS)
    except CommandError:
        assert machine is RefusesAtRandom
    text = found(cluster)
    assert "not deterministic" in text
    assert "sorted(...) around each set" in text
    assert "context.log_time_ns in place of a clock" in text
    assert repr(WORDS)[:20] in text, "the command is shown"


@pytest.mark.parametrize(
    ("machine", "how"),
    [
        (TellsTime, "came to another result than the first one at instance"),
        (KeepsTime, "executed twice, instance"),
        (GoesThroughSet, "executed in another process (other order of sets"),
        (KeepsOrderOfSet, "executed in another process (other order of sets"),
        (FailsElsewhere, "it failed at instance"),
    ],
)
def test_it_is_said_where_the_difference_is(machine: type[StateMachine], how: str) -> None:
    assert how in found(played(machine))


def test_what_a_test_changes_in_a_class_shows_when_the_log_is_executed_anew() -> None:
    class Modal(Plain):
        mode: ClassVar[bytes] = b"one"

        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            return self.mode

    cluster = played(Modal)
    cluster.advance(1)
    Modal.mode = b"other"
    with pytest.raises(FaultyMachineError, match="executed anew in this process, instance"):
        cluster.check(in_other_processes=False)


def test_the_first_command_that_differs_is_shown() -> None:
    class Late(Plain):
        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            self.held = sorted({command.decode()} | {"x"}) if command != b"odd" else time.time()
            return None

    text = found(played(Late, b"a", b"b", b"odd"))
    assert "b'odd' for machine 'm'" in text
    assert "b'a'" not in text


def test_without_other_processes_the_order_of_sets_does_not_show() -> None:
    cluster = played(KeepsOrderOfSet)
    cluster.check(in_other_processes=False)


def test_seeded_randomness_and_log_time_are_fine() -> None:
    class Careful(Plain):
        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            draw = random.Random(f"{context.instance_id}/{context.index}")
            words = sorted(set(command.decode().split()))
            self.held = (words[draw.randrange(len(words))], context.log_time_ns)
            return repr(self.held).encode()

    played(Careful).check()


def test_a_machine_that_fails_is_told_with_its_cause() -> None:
    class Fails(Plain):
        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            raise KeyError("no such key")

    cluster = InProcessCluster({"m": Fails})
    client = cluster.client()
    with pytest.raises(OutcomeUnknownError, match="no such key"):
        client.propose(b"a")
    with pytest.raises(MachineStoppedError, match="no such key"):
        cluster.client().propose(b"b")
    text = found(cluster)
    assert text.startswith("failed on member A, member B, member C: ")
    assert "KeyError: 'no such key'" in text


def test_a_machine_that_fails_on_some_members_is_not_deterministic() -> None:
    class FailsOnce(Plain):
        failures: ClassVar[list[int]] = []

        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            if not self.failures:
                self.failures.append(1)
                raise ValueError("the first time")
            return None

    text = found(played(FailsOnce))
    assert "the first time" in text
    assert "sorted(...)" in text


# Queries that write.


class CountsQueries(Plain):
    def query(self, request: bytes) -> bytes:
        if request == b"write":
            self.held = (self.held or b"") + b"!"
        return b""


class WritesOnce(Plain):
    """Its query writes only as long as nothing is held: at the end that does not show any more."""

    def query(self, request: bytes) -> bytes:
        if self.held is None:
            self.extra = 1
        return b""


def test_a_query_that_writes_is_named() -> None:
    cluster = played(CountsQueries)
    client = cluster.client()
    client.query_many([b"fine", b"write", b"fine, too"])
    text = found(cluster)
    assert "`query` of machine 'm' has changed the state, asked b'write'" in text
    assert "Let it return an answer and change nothing" in text


def test_a_query_that_wrote_is_found_by_the_member_that_it_changed() -> None:
    cluster = InProcessCluster({"m": WritesOnce})
    client = cluster.client()
    client.query(b"")
    client.propose(b"a")
    text = found(cluster)
    assert f"machine 'm' has another state on member {cluster.master}" in text
    assert "A `query` must change nothing" in text


def test_a_wait_that_writes_is_found_too() -> None:
    cluster = played(CountsQueries)
    cluster.client().wait_for(b"write")
    assert "asked b'write'" in found(cluster)


def test_of_very_many_queries_the_latest_are_asked_again() -> None:
    cluster = played(CountsQueries)
    client = cluster.client()
    client.query_many([b"%d" % n for n in range(2_000)])
    assert len(cluster._world.queries) == cluster._world.QUERIES_MAX
    client.query(b"write")
    assert "asked b'write'" in found(cluster)
