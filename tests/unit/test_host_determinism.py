"""The same log gives the same results and the same digests, in any process (R6)."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.results import encode_results
from ray_paxos.core.values import (
    EMPTY_CHAIN,
    CommandBatch,
    Entry,
    MachineMount,
    MasterRecord,
    SessionId,
    SessionOpen,
    Value,
    extend_chain,
)
from ray_paxos.machines import kv
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import BUILT_IN, MachineRegistry

ROOT = Path(__file__).parents[2]


class Tags(StateMachine):
    """Holds sets and dictionaries of text, which hash differently from process to process."""

    kind = "tags"

    def __init__(self) -> None:
        self.tags: set[str] = set()
        self.by_length: dict[int, set[str]] = {}

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        tag = command.decode(errors="replace")
        self.tags.add(tag)
        self.by_length.setdefault(len(tag), set()).add(tag)
        return b"%d" % len(self.tags)

    def query(self, request: bytes) -> bytes:
        return b""


def random_value(random: Random, instance_id: int, sessions: list[SessionId]) -> Value:
    entries: list[Entry] = []
    for index in range(random.randint(0, 3)):
        kind = random.random()
        if kind < 0.1:
            entries.append(SessionOpen(f"s{instance_id}"))
            sessions.append(SessionId(instance_id, index))
        elif kind < 0.15:
            entries.append(MachineMount(random.choice("xyz"), random.choice(["kv", "?"]), 1))
        elif kind < 0.2:
            entries.append(MasterRecord(Ballot(instance_id, random.randint(1, 3), 1)))
        else:
            first = random.randint(1, 40)
            keys = [f"key-{random.randint(1, 9)}" for _ in range(random.randint(0, 6))]
            commands = [
                random.choice(
                    [
                        kv.encode_put(key, key.encode()),
                        kv.encode_delete(key),
                        kv.encode_cas(key, b"v", random.randint(0, 3)),
                        kv.encode_get(key),
                        b"garbage",
                    ]
                )
                for key in keys
            ]
            machine = random.choice(["settings", "tags", "lines", "x", "nowhere"])
            session = random.choice(sessions)
            batch = CommandBatch(session, random.randint(0, 12), first, machine, tuple(commands))
            entries.append(batch)
            break
    return Value(random.randint(0, 10) + instance_id, tuple(entries))


def replay(seed: int) -> str:
    """Apply a random log and tell everything a member would compare."""
    random = Random(seed)
    host = MachineHost(MachineRegistry((*BUILT_IN, Tags)), group=1)
    mounts = [("settings", "kv"), ("tags", "tags"), ("lines", "log")]
    first: list[Entry] = [MachineMount(name, kind, 1) for name, kind in mounts]
    host.apply(1, Value(0, (*first, SessionOpen("one"), SessionOpen("two"))))
    sessions = [SessionId(1, 3), SessionId(1, 4), SessionId(9, 9)]
    result_chain = EMPTY_CHAIN
    for instance_id in range(2, 300):
        results = host.apply(instance_id, random_value(random, instance_id, sessions))
        result_chain = extend_chain(result_chain, encode_results(results))
    return f"{host.digest().hex()} {host.machine_digest().hex()} {result_chain.hex()}"


def test_other_logs_differ() -> None:
    assert len({replay(seed) for seed in range(5)}) == 5


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_digests_do_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    program = (
        "from tests.unit.test_host_determinism import replay\n"
        "print(replay(7))\nprint(list({'a', 'b', 'c', 'd', 'e', 'f'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[0] == replay(7)


def split_log(commands: list[bytes], cuts: list[int]) -> MachineHost:
    host = MachineHost(MachineRegistry(), group=1)
    host.apply(1, Value(0, (MachineMount("kv", "kv", 1), SessionOpen(""))))
    session = SessionId(1, 1)
    bounds = [0, *sorted(cuts), len(commands)]
    instance_id = 2
    for start, end in pairwise(bounds):
        batch = CommandBatch(session, 1, start + 1, "kv", tuple(commands[start:end]))
        host.apply(instance_id, Value(0, (batch,)))
        instance_id += 1
    return host


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 29), max_size=29))
def test_however_commands_are_batched_the_machines_are_the_same(cuts: list[int]) -> None:
    random = Random(1)
    commands = []
    for _ in range(30):
        key = random.choice("abcd")
        commands.append(
            random.choice(
                [kv.encode_put(key, b"v"), kv.encode_delete(key), kv.encode_cas(key, b"c", 2)]
            )
        )
    whole = split_log(commands, [])
    parts = split_log(commands, cuts)
    assert parts.machine_digest() == whole.machine_digest()
    # The sessions agree as well, but for the places at which their commands were applied.
    results = [
        [result for run in state.kept for result in run.results]
        for host in (whole, parts)
        for state in host._sessions.export()
    ]
    assert results[0] == results[1]
