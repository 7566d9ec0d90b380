"""The check for determinism: what differs from run to run is found, and changes nothing."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from os import urandom
from typing import ClassVar

import pytest

from ray_paxos.errors import CommandError, QueryError
from ray_paxos.replicated import Replicated, command, query
from ray_paxos.replicated_handle import object_names
from tests.unit.played_inventory import Recording


@pytest.fixture
def local() -> Recording:
    return Recording()


class Checked(Replicated):
    checks_determinism = True
    served: ClassVar[list[str]] = []

    def __init__(self, seed: object = None) -> None:
        self.words = {str(number) for number in range(30)}
        self.log: list[object] = []
        self.by_name: dict[str, list[object]] = {"log": self.log}

    @command
    def run(self, how: str, keeps: bool) -> object:
        values: dict[str, Callable[[], object]] = {
            "time": time.time_ns,
            "now": datetime.now,
            "random": random.random,
            "uuid": uuid.uuid4,
            "urandom": lambda: urandom(8),
            "id": lambda: repr(object()) + str(id(self)),
            "set": lambda: list(self.words),
            "class": lambda: self.served.append(how),
            "good": lambda: (sorted(self.words), self.context.random.random()),
        }
        value = values[how]()
        if not keeps:
            return value
        self.log.append(value)
        return None

    @query
    def peek(self) -> int:
        return len(self.by_name["log"])

    @query
    def write(self) -> int:
        self.log.append(1)
        return len(self.log)


@pytest.mark.parametrize("how", ["time", "now", "random", "uuid", "urandom", "id", "set"])
def test_a_command_that_differs_from_run_to_run_is_found(local: Recording, how: str) -> None:
    checked = local.replicated(Checked, "checked")
    with pytest.raises(
        CommandError, match=r"Checked\.run is not deterministic: .* its result came"
    ):
        checked.run(how, keeps=False)
    with pytest.raises(CommandError, match=r"equal objects, self\.by_name, self\.log came out"):
        checked.run(how, keeps=True)
    assert checked.peek() == 0, "the object has not changed"


def test_state_beside_the_object_is_found(local: Recording) -> None:
    checked = local.replicated(Checked, "checked")
    with pytest.raises(CommandError, match=r"Checked\.served, kept outside of the object"):
        checked.run("class", keeps=False)


def test_a_good_command_passes_the_check_and_changes_the_object(local: Recording) -> None:
    checked = local.replicated(Checked, "checked")
    checked.run("good", keeps=True)
    assert checked.peek() == 1
    checked.run("good", keeps=True)
    assert checked.peek() == 2, "what was one object in two places still is"
    with pytest.raises(KeyError):
        checked.run("absent", keeps=True)


def test_a_query_that_writes_is_found(local: Recording) -> None:
    checked = local.replicated(Checked, "checked")
    with pytest.raises(
        QueryError, match=r"changes self\.by_name, self\.log; .* make it a @command"
    ):
        checked.write()
    assert checked.peek() == 0


class Born(Replicated):
    checks_determinism = True

    def __init__(self) -> None:
        self.at = time.time_ns()

    @command
    def run(self) -> None: ...


def test_a_constructor_is_checked_too(local: Recording) -> None:
    with pytest.raises(CommandError, match=r"Born\.__init__ is not deterministic: .* self\.at"):
        local.replicated(Born, "born")
    assert object_names(local) == []
