"""What one kind of call of a client learns of who is silent, its other kinds know."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import ray_paxos
from ray_paxos import client as client_module
from ray_paxos.actors import reader, sender
from ray_paxos.actors.read_calls import ReadCalls, Started
from ray_paxos.core.client_calls import ClientSettings
from ray_paxos.core.client_messages import Consistency
from ray_paxos.core.messages import RoleName
from ray_paxos.core.patience import SEARCH_NS, Patience
from ray_paxos.core.query_calls import QuerySettings
from ray_paxos.core.read_problems import ReadProblem
from ray_paxos.errors import QueryError
from tests.unit.thread_bench import Clients, FakeRay, Group, Reference, clients_of

SHORT_S = 0.01
PAUSE_S = 60.0
"""Within the time of a read there is one try only."""

Asking = Callable[[ray_paxos.Client, int], None]


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    yield from clients_of(Group(), monkeypatch)


def read_alone(client: ray_paxos.Client, first: int) -> None:
    client._reader._master = first
    client.query(b"y", timeout_s=SHORT_S)


def read_in_a_batch(client: ray_paxos.Client, first: int) -> None:
    client._queries._batches._kinds[Consistency.LINEARIZABLE].member_id = first
    client.query_many([b"y"], timeout_s=SHORT_S)


@pytest.mark.parametrize("ask", [read_alone, read_in_a_batch])
def test_a_member_that_was_silent_to_a_read_gets_little_time_for_the_next_command(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, ask: Asking
) -> None:
    """Both would wait their full time for a master that is paused: 6 s instead of 3 and a bit."""
    waits_s: list[float] = []

    class NotingRay(FakeRay):
        @staticmethod
        def get(reference: Reference, timeout: float) -> bytes:
            waits_s.append(timeout)
            return FakeRay.get(reference, timeout)

    def silent(
        calls: ReadCalls, member: int, role: RoleName, batch: bytes, deadline: float
    ) -> Started:
        return ReadProblem(f"member {calls.names[member]} did not answer in time")

    monkeypatch.setattr(sender, "ray", NotingRay)
    monkeypatch.setattr(ReadCalls, "_start", silent)
    monkeypatch.setattr(reader, "PAUSE_S", PAUSE_S)
    pause_ns = int(PAUSE_S * 1e9)
    settings = QuerySettings(pause_ns=pause_ns, pause_max_ns=pause_ns)
    monkeypatch.setattr(client_module, "query_settings", lambda: settings)
    client = clients.open()
    client.propose(b"ab")
    with pytest.raises(QueryError):
        ask(client, client._sender.guessed_master)
    client.propose(b"ab")
    assert waits_s == [ClientSettings().call_timeout_ns / 1e9, 2 * SEARCH_NS / 1e9]


def test_waits_know_of_it_too(clients: Clients) -> None:
    client = clients.open()
    assert client._waits._waits._patience is client._patience


def test_whoever_one_kind_has_met_can_be_asked_by_another_that_has_not() -> None:
    """Two that meet somebody at once may undo each other; the next one meets them again."""
    patience = Patience((1, 2))
    assert patience.next_after(3) == 1
    patience.meet((3, 2))
    patience.meet((3,))
    assert patience.members == (1, 2, 3)
    assert patience.next_after(3) == 1
