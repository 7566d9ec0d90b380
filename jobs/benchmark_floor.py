"""The floor: bare Ray actors that make the same chain of calls, and do nothing else.

A lone command cannot be faster than the calls and the disk writes on its way:

* separate: client -> proposer -> its own and one other acceptor, which append the record and make
  it durable (`fdatasync`) -> the proposer's learner -> back;
* fused: client -> member, which appends and makes durable while one other member does -> back;
* read: client -> actor -> back.

All actors are sync, with one record as the argument of every call. One call at a time; the kinds
take turns, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

CALLS = 300
TURNS = 10
WARM_UP = 50
RECORD_BYTES = 100


class Appender:
    """Appends records to a file and makes each durable; as an actor, an acceptor."""

    def __init__(self, path: str) -> None:
        """Begin an empty file."""
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def append(self, record: bytes) -> int:
        """Durable when it returns."""
        os.write(self._file, record)
        os.fdatasync(self._file)
        return len(record)


class BareLearner:
    """Takes a record and answers."""

    def apply(self, record: bytes) -> bytes:
        """As the result of a command."""
        return record[:8]


class BareProposer:
    """Has a record made durable by two acceptors, then applied."""

    def __init__(self, acceptors: Sequence[Any], learner: Any) -> None:
        """Know both acceptors and the learner."""
        self._acceptors = acceptors
        self._learner = learner

    def submit(self, record: bytes) -> bytes:
        """One command."""
        ray.get([acceptor.append.remote(record) for acceptor in self._acceptors])
        result: bytes = ray.get(self._learner.apply.remote(record))
        return result


class BareMember:
    """Makes a record durable here and at one other member."""

    def __init__(self, path: str, other: Any) -> None:
        """Own a file, and know the other member."""
        self._appender = Appender(path)
        self._other = other

    def submit(self, record: bytes) -> bytes:
        """One command."""
        there = self._other.append.remote(record)
        self._appender.append(record)
        ray.get(there)
        return record[:8]


def bare_actor(kind: type[Any], *arguments: Any) -> Any:
    """An actor of a class that does not know Ray."""
    remote: Any = ray.remote
    return remote(num_cpus=0, enable_task_events=False)(kind).remote(*arguments)


def measure_floor(
    folder: Path | None = None, *, record_bytes: int = RECORD_BYTES, calls: int = CALLS
) -> dict[str, float]:
    """Measure all chains on the Ray cluster that this process is connected to.

    Args:
        folder: Where records go; by default a temporary one.
        record_bytes: The argument of every call.
        calls: Of each chain.

    Returns:
        The median of each chain, in milliseconds: `separate`, `fused` and `read`.
    """
    with tempfile.TemporaryDirectory(prefix="ray_paxos-floor-", dir=folder) as files:
        own, other, remote = (
            bare_actor(Appender, f"{files}/{name}") for name in ("own", "other", "remote")
        )
        learner = bare_actor(BareLearner)
        proposer = bare_actor(BareProposer, (own, other), learner)
        member = bare_actor(BareMember, f"{files}/member", remote)
        actors = (own, other, remote, learner, proposer, member)
        record = os.urandom(record_bytes)
        try:
            return _take_turns(
                {
                    "separate": lambda: ray.get(proposer.submit.remote(record)),
                    "fused": lambda: ray.get(member.submit.remote(record)),
                    "read": lambda: ray.get(learner.apply.remote(record)),
                },
                calls,
            )
        finally:
            for actor in actors:
                ray.kill(actor)


def _take_turns(chains: dict[str, Callable[[], object]], calls: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in chains}
    for chain in chains.values():
        for _ in range(min(WARM_UP, calls)):
            chain()
    for _ in range(TURNS):
        for name, chain in chains.items():
            for _ in range(max(1, calls // TURNS)):
                began = time.perf_counter()
                chain()
                taken[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(each) for name, each in taken.items()}
