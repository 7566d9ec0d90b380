"""An actor that was looked up, and called over the same connection to Ray only.

A driver may leave Ray (`ray.shutdown`) and join again while its clients go on. Called without a
connection, Ray starts a cluster of its own that nobody has asked for (2.60); over another one than
it was found by, an actor's handle fails with a bare `Exception`. Here both are errors of Ray like
any other: without a connection there is no answer, and over another one the actor is to be looked
up again, since it may be the same cluster.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import ray
from ray.exceptions import ActorDiedError, RayError

from ray_paxos.actors.names import NAMESPACE


class NotConnectedError(RayError):
    """This process is not connected to Ray."""


class CallFailedError(RayError):
    """Ray failed in a way of which it does not say what became of the call."""


Connection: TypeAlias = tuple[str, str]
"""Ids of a node and of a job: another cluster has other nodes; in the same one a driver that comes
back is another job, while a worker keeps both for life."""


def own_connection() -> Connection:
    """What tells this process's connection to Ray from every other.

    Raises:
        NotConnectedError: There is none.
    """
    if not ray.is_initialized():
        raise NotConnectedError("this process is not connected to Ray")
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()


class FoundActor:
    """An actor by its handle."""

    def __init__(self, name: str) -> None:
        """Look the actor up; waits for the GCS.

        Raises:
            ValueError: No actor of that name lives.
            NotConnectedError: This process is not connected to Ray.
        """
        self._connection = own_connection()
        self._handle: Any = ray.get_actor(name, namespace=NAMESPACE)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call the actor; gives the reference of the answer.

        Raises:
            ActorDiedError: It was found by another connection: look it up again.
            CallFailedError: Ray could not make the call, or cannot say so.
            NotConnectedError: This process is not connected to Ray.
        """
        if own_connection() != self._connection:
            raise ActorDiedError
        try:
            return getattr(self._handle, method).remote(*arguments)
        except Exception as error:
            # Ray has a bare one of its own, where the connection was lost just now.
            if type(error) is Exception:
                raise CallFailedError(str(error)) from error
            raise
