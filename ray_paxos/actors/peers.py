"""How a feed reaches the actors of other processes."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias

import ray

from ray_paxos.actors.names import NAMESPACE


class Peer(Protocol):
    """How a feed reaches a peer."""

    def call(self, batch: bytes) -> Future[bytes]:
        """Hand a batch over; the future has the answer, or Ray's error."""


Introduction: TypeAlias = tuple[str, int] | None
"""Name and id of a caller that joined after the genesis: whoever is called knows how to reach it
from then on, also where nothing in its own log names it yet. None for one of the genesis."""


class ActorPeer:
    """A role actor, by its handle."""

    def __init__(self, handle: Any, introduction: Introduction) -> None:
        """Call `handle`.

        Args:
            handle: Of the actor.
            introduction: Of the own member; goes with every call, since the actor's process may
                have been started anew since the one before.
        """
        self._handle = handle
        self._introduction = () if introduction is None else (introduction,)

    def call(self, batch: bytes) -> Future[bytes]:
        """Call the actor's `deliver`."""
        future: Future[bytes] = self._handle.deliver.remote(batch, *self._introduction).future()
        return future


def find_actor(name: str, introduction: Introduction) -> Peer:
    """Look an actor up; takes a call to the GCS.

    Args:
        name: Its name.
        introduction: Of the own member.

    Raises:
        ValueError: No actor of that name lives.
    """
    return ActorPeer(ray.get_actor(name, namespace=NAMESPACE), introduction)
