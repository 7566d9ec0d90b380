"""Misuse of an in-process cluster, and classes that cannot work, are told at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import (
    ClientClosedError,
    CommandTooLargeError,
    ConfigurationError,
    OutcomeUnknownError,
    QueryError,
)
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.testing.in_process import InProcessCluster
from ray_paxos.testing.in_process_client import InProcessClient
from tests.unit.in_process_machines import Plain, found


@pytest.fixture
def cluster() -> InProcessCluster:
    return InProcessCluster({"plain": Plain})


@pytest.fixture
def client(cluster: InProcessCluster) -> InProcessClient:
    return cluster.client()


# Misuse of the cluster itself.


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda c: c.client().propose("text"), r"a command: found str; allowed: bytes; encode it"),
        (lambda c: c.client().query(1), "request: found int; allowed: bytes"),
        (lambda c: c.client().propose_many(b"abc"), "commands: found bytes; allowed: a sequence"),
        (lambda c: c.client().query(b"", consistency="best"), "allowed: linearizable, lease"),
        (lambda c: c.client().query(b"", max_staleness_ms=5), "goes with consistency follower"),
        (lambda c: c.client().query(b"", at_least=-1), "at_least: found -1; allowed: 0 or more"),
        (lambda c: c.client().propose(b"", timeout_s=-1), "timeout_s: found -1; allowed: seconds"),
        (lambda c: c.client().outcome("7"), "number: found '7'"),
        (lambda c: c.client().outcome(7), "7"),
        (lambda c: c.crash("D"), "member: found 'D'; allowed: A, B, C"),
        (lambda c: c.crash("A", after_s=-1), "after_s: found -1"),
        (lambda c: c.restart("x"), "member: found 'x'"),
        (lambda c: c.partition("AB", "BC"), "B is on two sides"),
        (lambda c: c.advance(-1), "seconds: found -1"),
        (lambda c: c.machine("other"), "found 'other'; allowed: plain"),
        (lambda c: InProcessCluster({}), "machines: found {}; allowed: classes by name"),
        (lambda c: InProcessCluster({"n": cast(Any, Plain())}), "allowed: its class, .*: Plain"),
        (lambda c: InProcessCluster({"n": cast(Any, int)}), "derives from ray_paxos.StateMachine"),
        (lambda c: InProcessCluster({"": Plain}), "found the name ''"),
        (lambda c: InProcessCluster({"n": Plain}, members=0), "members: found 0; allowed: 1 to 26"),
    ],
)
def test_what_means_nothing_is_said(cluster: InProcessCluster, call: Any, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        call(cluster)


def test_a_long_command_is_refused(client: InProcessClient) -> None:
    with pytest.raises(CommandTooLargeError, match="1000001 bytes; allowed: 1000000"):
        client.propose(bytes(1_000_001))


def test_nothing_waits_in_a_callback(client: InProcessClient) -> None:
    caught: list[BaseException] = []

    def on_done(done: Future[Result]) -> None:
        try:
            client.propose(b"b")
        except ConfigurationError as error:
            caught.append(error)

    future = client.propose_async(b"a")
    future.add_done_callback(on_done)
    assert future.result().value is None
    assert "in a callback of a future" in str(caught[0])


def test_it_belongs_to_one_thread(client: InProcessClient) -> None:
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(client.propose, b"a").exception()
    assert isinstance(error, ConfigurationError)
    assert "belongs to the thread that made it" in str(error)


def test_a_closed_client_sends_nothing(cluster: InProcessCluster) -> None:
    with cluster.client("short-lived") as client:
        open_command = client.propose_async(b"a")
    assert open_command.result().value is None
    client.close()
    for call in (client.propose, client.query, client.wait_for):
        with pytest.raises(ClientClosedError):
            call(b"a")


def test_closing_does_not_wait_for_ever(cluster: InProcessCluster) -> None:
    for member in cluster.members:
        cluster.crash(member)
    client = cluster.client()
    command, read = client.propose_async(b"a"), client.query_async(b"all")
    waiting = client.wait_for_async(b"go")
    client.close(timeout_s=2)
    for future in (command, read, waiting):
        with pytest.raises((ClientClosedError, OutcomeUnknownError)):
            future.result()


# Classes that cannot be mounted.


class Nameless(StateMachine):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return None

    def query(self, request: bytes) -> bytes:
        return b""


class AsyncApply(Plain):
    async def apply(self, command: bytes, context: ApplyContext) -> bytes | None:  # type: ignore[override]
        return None


class AsyncQuery(Plain):
    async def query(self, request: bytes) -> bytes:  # type: ignore[override]
        return b""


class Yields(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> Iterator[bytes]:  # type: ignore[override]
        yield b""


class AsyncYields(Plain):
    async def on_due(self, context: ApplyContext) -> Any:
        yield b""


class DueOnly(Plain):
    @property
    def due_ns(self) -> int | None:
        return 1


class NoQuery(StateMachine):
    kind = "no-query"

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return None


class OddKind(Plain):
    kind = 7  # type: ignore[assignment]


class NeedsArguments(Plain):
    def __init__(self, size: int) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("machine", "what"),
    [
        (Nameless, r'Nameless has no `kind`; give it one: kind = "nameless"'),
        (OddKind, "OddKind has no `kind`"),
        (AsyncApply, "AsyncApply: `apply` is an `async def`; make it a plain `def`"),
        (AsyncQuery, "AsyncQuery: `query` is an `async def`; make it a plain `def`"),
        (Yields, "Yields: `apply` is a generator; make it a plain `def`"),
        (AsyncYields, "AsyncYields: `on_due` is an `async def`"),
        (DueOnly, r"DueOnly has `due_ns` and no `on_due`; define on_due\(self, context\)"),
        (NoQuery, "NoQuery has no `query`; define what is missing"),
        (NeedsArguments, "a machine cannot be made: .*missing 1 required positional argument"),
    ],
)
def test_a_class_that_cannot_work_is_not_mounted(machine: Any, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        InProcessCluster({"m": machine})


# What methods return.


async def _soon() -> bytes:
    return b""


class ReturnsCoroutine(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> Any:
        return _soon()

    def query(self, request: bytes) -> Any:
        return _soon()


class ReturnsText(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> Any:
        return "text"

    def query(self, request: bytes) -> Any:
        return "text"


class ReturnsBuffer(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> Any:
        return bytearray(b"buffer")

    def query(self, request: bytes) -> Any:
        return bytearray(b"buffer")


@pytest.mark.parametrize(
    ("machine", "kind", "hint"),
    [
        (ReturnsCoroutine, "coroutine", "make it a plain function: nobody awaits what it returns"),
        (ReturnsText, "str", r"encode it, as by .encode\(\)"),
        (ReturnsBuffer, "bytearray", r"copy it, as by bytes\(...\)"),
    ],
)
def test_a_result_that_is_not_bytes(machine: Any, kind: str, hint: str) -> None:
    cluster = InProcessCluster({"m": machine})
    with pytest.raises(QueryError, match=f"answered a query with {kind}, not bytes; {hint}"):
        cluster.client().query(b"")
    with pytest.raises(OutcomeUnknownError, match=f"returned {kind}, not bytes or None; {hint}"):
        cluster.client().propose(b"")
    assert f"apply returned {kind}, not bytes or None; {hint[:12]}" in found(cluster)
