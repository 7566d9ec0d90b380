"""Machines for tests of in-process clusters, and what is found of those that derive from them."""

from __future__ import annotations

from typing import Any

import pytest

from ray_paxos.errors import CommandError, NotYetError
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.testing.in_process import InProcessCluster
from ray_paxos.testing.in_process_check import FaultyMachineError
from ray_paxos.testing.in_process_client import InProcessClient

WORDS = b"one two three four five six seven"


class Plain(StateMachine):
    """Does nothing wrong; others derive from it."""

    kind = "plain"

    def __init__(self) -> None:
        self.held: Any = None

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.held = command
        return None

    def query(self, request: bytes) -> bytes:
        return request


def played(machine: type[StateMachine], *commands: bytes) -> InProcessCluster:
    cluster = InProcessCluster({"m": machine})
    client = cluster.client()
    for command in commands or (WORDS,):
        client.propose(command)
    return cluster


def found(cluster: InProcessCluster) -> str:
    with pytest.raises(FaultyMachineError) as caught:
        cluster.check()
    assert isinstance(caught.value, AssertionError)
    return str(caught.value)


class Notes(StateMachine):
    """Keeps what it is told; what begins with `?` is refused."""

    kind = "notes"

    def __init__(self) -> None:
        self.notes: list[bytes] = []

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        if command.startswith(b"?"):
            raise CommandError("questions are refused")
        self.notes.append(command)
        context.notify(command.decode())
        return b"%d" % len(self.notes)

    def query(self, request: bytes) -> bytes:
        if request == b"all":
            return b" ".join(self.notes)
        if request not in self.notes:
            raise NotYetError(request.decode())
        return b"%d" % self.notes.index(request)


def all_notes(client: InProcessClient) -> list[bytes]:
    return client.query(b"all").split()
