"""Group 0 and the groups of a space in this process, for tests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

from ray_paxos.client import Client
from ray_paxos.core.wanted import Wanted
from ray_paxos.core.wanted_changes import Begin, Change, changed_wanted
from ray_paxos.errors import RequestError
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv_machine import KeyValueMachine
from tests.unit.wanted_changes import BEGIN, group


class GroupPlayed:
    """A client of a group that is one machine."""

    def __init__(self) -> None:
        self.machine = KeyValueMachine()
        self.queries: list[dict[str, Any]] = []
        self.timeouts: list[float] = []
        self.failure: Exception | None = None
        self.number = 0
        self.log_time_ns = 0

    def propose(self, command: bytes, machine: str, *, timeout_s: float) -> Any:
        assert machine == "kv"
        self.timeouts.append(timeout_s)
        self.number += 1
        context = ApplyContext(self.number, 0, self.log_time_ns)
        due_ns = self.machine.due_ns
        if due_ns is not None and due_ns <= self.log_time_ns:
            self.machine.on_due(context)
        value = self.machine.apply(command, context)
        return type("Applied", (), {"value": value})

    def query(self, request: bytes, machine: str, **options: Any) -> bytes:
        assert machine == "kv"
        self.queries.append({"request": request, **options})
        if self.failure is not None:
            raise self.failure
        return self.machine.query(request)

    def query_async(self, request: bytes, machine: str, **options: Any) -> Future[bytes]:
        future: Future[bytes] = Future()
        try:
            future.set_result(self.query(request, machine, **options))
        except RequestError as error:
            future.set_exception(error)
        return future


class GroupsPlayed(GroupClients):
    """All groups of a cluster."""

    def __init__(self) -> None:
        super().__init__(lambda group: cast(Client, self.groups[group]), lambda: b"")
        self.groups = {number: GroupPlayed() for number in range(20)}
        self.closed = 0

    def close(self, *, timeout_s: float = 0.0) -> None:
        self.closed += 1

    @property
    def asked(self) -> int:
        return sum(len(each.queries) for each in self.groups.values())


class SystemPlayed:
    """Group 0; whoever reads it may be followed by another driver's changes."""

    def __init__(self, *groups: int) -> None:
        begin = Begin(BEGIN.members, tuple(group(number) for number in (0, *groups)))
        self.state = changed_wanted(Wanted(), begin)
        self.reads = 0
        self.changes: list[Change] = []
        self.after_read: Callable[[], None] = lambda: None
        self.failure: Exception | None = None

    def wanted(self) -> Wanted:
        self.reads += 1
        found = self.state
        self.after_read()
        return found

    def change(self, change: Change) -> int:
        self.changes.append(change)
        self.state = changed_wanted(self.state, change)
        if self.failure is not None:
            raise self.failure
        return self.state.version

    def also(self, *changes: Change) -> None:
        """Another driver's."""
        for change in changes:
            self.state = changed_wanted(self.state, change)

    def then(self, *changes: Change) -> None:
        """Another driver's, after the next read."""

        def once() -> None:
            self.after_read = lambda: None
            self.also(*changes)

        self.after_read = once
