"""One client of each group, opened when it is first needed, and closed together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ray_paxos.client import CLOSE_TIMEOUT_S, Client
from ray_paxos.errors import ClientClosedError

LABEL = "spaces"
"""What a person calls these clients: keys of spaces go through them."""


class GroupClients:
    """Of one cluster. May be used by several threads; to be closed."""

    def __init__(self, open_client: Callable[[int], Client], spec: Callable[[], bytes]) -> None:
        """Open none yet.

        Args:
            open_client: Opens one, by the number of its group.
            spec: The cluster's, encoded, as far as its members are known now.
        """
        self._open_client = open_client
        self._spec = spec
        self._opening = threading.Lock()
        self._clients: dict[int, Client] = {}
        self._is_closed = False

    @property
    def spec(self) -> bytes:
        """What others like these are made of in another process, by `arrived_clients`."""
        return self._spec()

    def at(self, group: int) -> Client:
        """The client of a group.

        Raises:
            ClientClosedError: They were closed.
        """
        # The look-up alone needs no lock, and nearly always finds it.
        client = self._clients.get(group)
        if client is not None:
            return client
        with self._opening:
            if self._is_closed:
                raise ClientClosedError("the cluster was stopped here, or its clients were closed")
            client = self._clients.get(group)
            if client is None:
                client = self._clients[group] = self._open_client(group)
            return client

    def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End all of them; none is opened any more.

        Args:
            timeout_s: How long to wait, for all together, for commands without an outcome.
        """
        deadline = time.monotonic() + timeout_s
        with self._opening:
            self._is_closed = True
        for client in self._clients.values():
            client.close(timeout_s=max(deadline - time.monotonic(), 0.0))


def arrived_clients(spec: bytes) -> GroupClients:
    """Such as have the same `spec`, in this process."""
    return GroupClients(lambda group: Client(spec, group, LABEL), lambda: spec)


_sharing = threading.Lock()
_shared: dict[bytes, GroupClients] = {}


def shared_clients(spec: bytes) -> GroupClients:
    """As `arrived_clients`, the same for all who ask in this process; never closed."""
    with _sharing:
        clients = _shared.get(spec)
        if clients is None:
            clients = _shared[spec] = arrived_clients(spec)
        return clients
