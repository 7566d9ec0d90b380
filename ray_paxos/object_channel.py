"""The way from a handle of a replicated object to the group that has it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, cast

from ray_paxos.actors.outcomes import Result
from ray_paxos.group_clients import GroupClients, shared_clients
from ray_paxos.machines.objects import ObjectsMachine
from ray_paxos.replicated import Replicated
from ray_paxos.replicated_handle import Handle

MACHINE = ObjectsMachine.kind


class GroupChannel:
    """Objects of one group; see `replicated_handle.ObjectChannel`. For several threads."""

    def __init__(self, group: int, clients: GroupClients) -> None:
        """Send nothing yet.

        Args:
            group: Which group.
            clients: Of the cluster's groups.
        """
        self._group = group
        self._clients = clients

    def propose(self, command: bytes) -> bytes | None:
        """Through the group's log."""
        return self._clients.at(self._group).propose(command, MACHINE).value

    def query(self, request: bytes) -> bytes:
        """Of the state that has every command that anybody was acknowledged before."""
        return self._clients.at(self._group).query(request, MACHINE)

    def propose_async(self, command: bytes) -> Future[bytes | None]:
        """As `propose`; in the order of the calls."""
        proposed = self._clients.at(self._group).propose_async(command, MACHINE)
        values: Future[bytes | None] = Future()

        def settle(done: Future[Result]) -> None:
            if not values.set_running_or_notify_cancel():
                return
            error = done.exception()
            if error is not None:
                values.set_exception(error)
            else:
                values.set_result(done.result().value)

        proposed.add_done_callback(settle)
        return values

    def query_async(self, request: bytes) -> Future[bytes]:
        """As `query`."""
        return self._clients.at(self._group).query_async(request, MACHINE)

    def reduced(self, cls: type[Replicated], name: str) -> tuple[object, ...]:
        """How a handle pickles."""
        return (_arrived, (self._clients.spec, self._group, cls, name))


def _arrived(spec: bytes, group: int, cls: type[Replicated], name: str) -> Any:
    return cast(Any, Handle(GroupChannel(group, shared_clients(spec)), cls, name))
