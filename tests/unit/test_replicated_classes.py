"""Which classes cannot be replicated, and when that is said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ray_paxos.errors import ConfigurationError
from ray_paxos.replicated import Replicated, command, query
from ray_paxos.replicated_handle import object_names
from tests.unit.played_inventory import Inventory, Recording


@pytest.fixture
def local() -> Recording:
    return Recording()


async def _coroutine(self: Any) -> None: ...


def _generator(self: Any) -> Iterator[int]:
    yield 1


async def _both(self: Any) -> Any:
    yield 1


def _private(self: Any) -> None: ...


def upgrade(self: Any) -> None: ...


@pytest.mark.parametrize("decorator", [command, query, command(atomic=True)])
@pytest.mark.parametrize(
    ("function", "why"),
    [
        (_coroutine, "coroutine function"),
        (_both, "coroutine function"),
        (_generator, "it is a generator"),
        (_private, "starts with an underscore"),
        (upgrade, "a handle has that name"),
        (staticmethod(_private), "it is a staticmethod"),
        (property(_private), "it is a property"),
        (len, "it is a builtin_function_or_method"),
    ],
)
def test_what_cannot_run_on_members_is_refused(decorator: Any, function: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        decorator(function)


def test_a_class_is_refused_as_it_is_made() -> None:
    def marked(self: Any) -> None: ...

    command(marked)
    for kind in (staticmethod, classmethod, property):
        with pytest.raises(ConfigurationError, match=f"@command on .*: it is a {kind.__name__}"):
            type("Wrong", (Replicated,), {"run": kind(marked)})
    with pytest.raises(ConfigurationError, match="only public names"):
        type("Wrong", (Replicated,), {"_run": marked})
    for name in ("context", "drop", "upgrade", "describe"):
        with pytest.raises(ConfigurationError, match="a handle has that name"):
            type("Wrong", (Replicated,), {name: lambda self: None})


def test_a_class_is_refused_as_it_is_opened(local: Recording) -> None:
    lock = threading.Lock()

    class Holding(Replicated):
        kept = threading.Lock()

        @command
        def run(self) -> None: ...

    class Closing(Replicated):
        @command
        def run(self) -> None:
            lock.acquire()

    class Versioned(Replicated):
        version = 0

        @command
        def run(self) -> None: ...

    class Idle(Replicated):
        def run(self) -> None: ...

    wrong: list[tuple[Any, str]] = [
        (Holding, r"Holding\.kept holds a lock"),
        (Closing, r"Closing\.run holds `lock`, a lock"),
        (Versioned, "version: found 0"),
        (Idle, "no method with @command or @query"),
        (int, "allowed: a class of ray_paxos.Replicated"),
        (3, "found 3"),
    ]
    for cls, why in wrong:
        with pytest.raises(ConfigurationError, match=why):
            local.replicated(cls, "x")
    with pytest.raises(ConfigurationError, match="name: found ''"):
        local.replicated(Inventory, "")
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        local.replicated(Inventory, "x", nothing=1)  # type: ignore[call-arg]
    assert local.proposed == []
    assert object_names(local) == []
