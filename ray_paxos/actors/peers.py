"""How a feed reaches the actors of other processes."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

import ray

from ray_paxos.actors.names import NAMESPACE


class Peer(Protocol):
    """How a feed reaches a peer."""

    def call(self, batch: bytes) -> Future[bytes]:
        """Hand a batch over; the future has the answer, or Ray's error."""


class ActorPeer:
    """A role actor, by its handle."""

    def __init__(self, handle: Any) -> None:
        """Call `handle`."""
        self._handle = handle

    def call(self, batch: bytes) -> Future[bytes]:
        """Call the actor's `deliver`."""
        future: Future[bytes] = self._handle.deliver.remote(batch).future()
        return future


def find_actor(name: str) -> Peer:
    """Look an actor up; takes a call to the GCS.

    Raises:
        ValueError: No actor of that name lives.
    """
    return ActorPeer(ray.get_actor(name, namespace=NAMESPACE))
