"""One client of each group, opened when it is first needed, and closed together."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.spec import make_spec
from ray_paxos.client import Client
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ClientClosedError
from ray_paxos.group_clients import GroupClients, arrived_clients


class ClientPlayed:
    """Says how long it was given to close."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.closed: list[float] = []
        self._takes_s = takes_s

    def close(self, *, timeout_s: float) -> None:
        self.closed.append(timeout_s)
        time.sleep(min(self._takes_s, timeout_s))


class Opened:
    """All that were opened, by group, in order."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.clients: list[tuple[int, ClientPlayed]] = []
        self._takes_s = takes_s

    def __call__(self, group: int) -> Client:
        client = ClientPlayed(self._takes_s)
        self.clients.append((group, client))
        return cast(Client, client)


def test_each_group_has_one_that_is_opened_when_it_is_needed() -> None:
    opened = Opened()
    clients = GroupClients(opened, lambda: b"spec")
    assert opened.clients == []
    first = clients.at(3)
    assert clients.at(1) is not first
    assert clients.at(3) is first
    assert [group for group, _ in opened.clients] == [3, 1]
    assert clients.spec == b"spec"


def test_threads_that_need_one_at_once_get_the_same() -> None:
    barrier = threading.Barrier(4)
    opening = threading.Event()
    opened = Opened()

    def open_slowly(group: int) -> Client:
        # Whoever did not wait for the lock would come by here, too.
        opening.wait(0.2)
        return opened(group)

    clients = GroupClients(open_slowly, lambda: b"")
    found: list[Client] = []

    def ask() -> None:
        barrier.wait()
        found.append(clients.at(1))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened.clients) == 1
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_all_are_closed_within_one_time_and_none_is_opened_any_more() -> None:
    opened = Opened(takes_s=10.0)
    clients = GroupClients(opened, lambda: b"")
    for group in (1, 2, 3):
        clients.at(group)
    clients.close(timeout_s=0.2)
    times = [client.closed for _, client in opened.clients]
    assert times[0][0] > 0.1
    assert times[1:] == [[0.0], [0.0]]
    with pytest.raises(ClientClosedError):
        clients.at(4)
    # Those that are there say themselves that they are closed.
    assert cast(Any, clients.at(1)).closed
    assert len(opened.clients) == 3


def test_in_another_process_they_are_made_of_the_spec() -> None:
    configuration = parse_configuration("cluster: demo\nmembers: 3\n")
    spec = make_spec(make_genesis(configuration), configuration).encoded()
    clients = arrived_clients(spec)
    assert clients.spec == spec
    client = clients.at(1)
    assert isinstance(client, Client)
    clients.close(timeout_s=0.0)
