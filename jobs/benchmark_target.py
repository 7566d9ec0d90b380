"""From operations to calls of a client: what a load starts.

Calls of workloads that insert nothing are made ahead, some ten thousand of them, and started again
and again: the load then spends its time on the client, not on choosing keys. Where keys are
inserted every operation is made when it is started.

Reads of many at once go by `Client.query_async`; where the client has none, by a bounded pool of
threads, one for each read in flight.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from benchmark_load import Call
from benchmark_workload import Kind, Operation, Workload
from ray_paxos.errors import PaxosError
from ray_paxos.machines import kv

if TYPE_CHECKING:
    import random

    from ray_paxos import Client

MACHINE = "kv"
TIMEOUT_S = 60.0
MADE_AHEAD = 20_000
MADE_AHEAD_BYTES = 100_000_000
READERS_MAX = 128
LOADING = 500


class Target(Protocol):
    """What operations are done to."""

    def call(self, operation: Operation) -> Call:
        """What starts an operation."""

    def wait(self, operation: Operation) -> Callable[[], object]:
        """What does an operation and waits for its end."""


class ClientTarget:
    """One client of a cluster.

    Attributes:
        reads_by: `query_async`, or `threads`.
    """

    def __init__(
        self, client: Client, consistency: str, readers: ThreadPoolExecutor | None = None
    ) -> None:
        """Use a client.

        Args:
            client: Of the group.
            consistency: Of its reads.
            readers: Who reads, where the client cannot read without waiting.
        """
        self._client = client
        self._consistency = consistency
        self._readers = readers
        self._query_async: Any = getattr(client, "query_async", None)
        self.reads_by = "query_async" if self._query_async is not None else "threads"

    def call(self, operation: Operation) -> Call:
        """What starts an operation."""
        if operation.kind in (Kind.UPDATE, Kind.INSERT):
            return partial(self._propose_async, _put(operation))
        if operation.kind is Kind.READ_MODIFY_WRITE:
            return partial(self._read_then_write, _read(operation), _put(operation))
        return self._reading(_read(operation))

    def wait(self, operation: Operation) -> Callable[[], object]:
        """What does an operation and waits for its end."""
        client = self._client
        write = partial(client.propose, _put(operation), MACHINE, timeout_s=TIMEOUT_S)
        read = partial(
            client.query,
            _read(operation),
            MACHINE,
            consistency=self._consistency,
            timeout_s=TIMEOUT_S,
        )
        if operation.kind in (Kind.UPDATE, Kind.INSERT):
            return write
        if operation.kind is Kind.READ_MODIFY_WRITE:
            return lambda: (read(), write())
        return read

    def batch(self, operations: Sequence[Operation]) -> Call:
        """What starts writes in one piece."""
        commands = [_put(operation) for operation in operations]
        return partial(self._client.propose_many_async, commands, MACHINE, timeout_s=TIMEOUT_S)

    def load(self, operations: Iterator[Operation]) -> None:
        """Write these, and wait."""
        while batch := list(itertools.islice(operations, LOADING)):
            self._client.propose_many([_put(each) for each in batch], MACHINE)

    def _propose_async(self, command: bytes) -> Future[Any]:
        return self._client.propose_async(command, MACHINE, timeout_s=TIMEOUT_S)

    def _reading(self, request: bytes) -> Call:
        how: dict[str, Any] = {"consistency": self._consistency, "timeout_s": TIMEOUT_S}
        if self._query_async is not None:
            return partial(self._query_async, request, MACHINE, **how)
        assert self._readers is not None, "reads without query_async need threads"
        return partial(self._readers.submit, self._client.query, request, MACHINE, **how)

    def _read_then_write(self, request: bytes, command: bytes) -> Future[Any]:
        """One future for both; the write begins where the read ends."""
        whole: Future[Any] = Future()

        def settle(done: Future[Any]) -> None:
            error = done.exception()
            if error is not None:
                whole.set_exception(error)
            else:
                whole.set_result(None)

        def write(done: Future[Any]) -> None:
            if done.exception() is not None:
                settle(done)
                return
            try:
                self._propose_async(command).add_done_callback(settle)
            except PaxosError as error:
                whole.set_exception(error)

        self._reading(request)().add_done_callback(write)
        return whole


def _put(operation: Operation) -> bytes:
    return kv.encode_put(operation.key, operation.value)


def _read(operation: Operation) -> bytes:
    if operation.kind is Kind.SCAN:
        return kv.encode_dump("", operation.key, operation.length)
    return kv.encode_get(operation.key)


@dataclass(frozen=True)
class Calls:
    """What a load starts, without end.

    Attributes:
        many: Calls for loads that have several in flight.
        alone: Calls that wait, for one at a time.
        weight: Operations a call of `many` stands for.
    """

    many: Iterator[Call]
    alone: Iterator[Callable[[], object]]
    weight: int = 1


def make_calls(
    targets: Sequence[Target],
    workload: Workload,
    value_bytes: int,
    rng: random.Random,
) -> Calls:
    """Operations of a workload, to each target in turn."""
    operations = workload.operations(value_bytes, rng)
    turns = itertools.cycle(targets)
    if workload.inserts:
        return Calls(
            (next(turns).call(operation) for operation in operations),
            (next(turns).wait(operation) for operation in operations),
        )
    count = _made_ahead(value_bytes, len(targets))
    made = list(itertools.islice(operations, count))
    return Calls(
        itertools.cycle([next(turns).call(operation) for operation in made]),
        itertools.cycle([next(turns).wait(operation) for operation in made[:2_000]]),
    )


def make_batches(
    targets: Sequence[ClientTarget],
    workload: Workload,
    value_bytes: int,
    batch: int,
    rng: random.Random,
) -> Calls:
    """Batches of writes of a workload, to each target in turn."""
    operations = workload.operations(value_bytes, rng)
    turns = itertools.cycle(targets)
    count = max(8, len(targets), _made_ahead(value_bytes, 1) // batch)
    made = [next(turns).batch(list(itertools.islice(operations, batch))) for _ in range(count)]
    return Calls(itertools.cycle(made), itertools.cycle([_and_wait(call) for call in made]), batch)


def _and_wait(call: Call) -> Callable[[], object]:
    return lambda: call().result()


def _made_ahead(value_bytes: int, targets: int) -> int:
    count = min(MADE_AHEAD, max(200, MADE_AHEAD_BYTES // max(1, value_bytes)))
    # Each target gets as many.
    return max(1, count // targets) * targets
