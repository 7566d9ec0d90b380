"""A second, dumb checker: tries every order, without memory, keys or models of the real one.

What an object does is written here again, as code that executes an operation and returns its
result, where the real models compare results with states.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from ray_paxos.testing.history import (
    Event,
    History,
    Invocation,
    Operation,
    Outcome,
    Process,
    Response,
    freeze,
)

# From the contents of all keys and an operation to its result and the contents afterwards.
Execute = Callable[[dict[Any, Any], Operation], tuple[Any, dict[Any, Any]]]


def execute_register(contents: dict[Any, Any], operation: Operation) -> tuple[Any, dict[Any, Any]]:
    value = contents.get(operation.key)
    argument: Any = operation.argument
    if operation.function == "read":
        return value, contents
    if operation.function == "write":
        return None, contents | {operation.key: argument}
    if value != argument[0]:
        return False, contents
    return None, contents | {operation.key: argument[1]}


def execute_append_kv(contents: dict[Any, Any], operation: Operation) -> tuple[Any, dict[Any, Any]]:
    value = contents.get(operation.key, "")
    if operation.function == "get":
        return value, contents
    if operation.function == "put":
        return None, contents | {operation.key: operation.argument}
    return None, contents | {operation.key: value + operation.argument}


def execute_kv(contents: dict[Any, Any], operation: Operation) -> tuple[Any, dict[Any, Any]]:
    version, found, value = contents.get(operation.key, (0, False, None))
    argument: Any = operation.argument
    if operation.function == "get":
        return ("read", found, version, value), contents
    if operation.function == "cas":
        argument, expected = argument
        if expected != version:
            return ("conflict", version), contents
    is_there = operation.function != "delete"
    entry = (version + 1, is_there, argument if is_there else None)
    return ("written", version + 1, found), contents | {operation.key: entry}


def execute_lock(contents: dict[Any, Any], operation: Operation) -> tuple[Any, dict[Any, Any]]:
    owner, token = contents.get(operation.key, (None, -1))
    if operation.function == "release":
        if owner != operation.process:
            return False, contents
        return True, contents | {operation.key: (None, token)}
    if owner is not None:
        return False, contents
    given = operation.result
    if isinstance(given, int) and not isinstance(given, bool):
        # Any token above all others will do.
        if given <= token:
            return "no such token", contents
        return given, contents | {operation.key: (operation.process, given)}
    return True, contents | {operation.key: (operation.process, token)}


EXECUTE: dict[str, Execute] = {
    "cas-register": execute_register,
    "append-kv": execute_append_kv,
    "kv": execute_kv,
    "lock": execute_lock,
}


def same_result(told: Any, result: Any) -> bool:
    """Whether a client can have been told this; null, and true of a write, only says it worked."""
    if told is None:
        is_written = isinstance(result, tuple) and result[0] == "written"
        return result is None or result is True or result == "" or is_written
    if told is True:
        return result is None or result is True
    return type(told) is type(result) and bool(told == result)


def is_orderable(history: History, model: str) -> bool:
    """Whether some order explains the history."""
    operations = [o for o in history.operations() if o.outcome is not Outcome.FAILED]
    return _can_go_on({}, operations, EXECUTE[model])


def _can_go_on(contents: dict[Any, Any], left: list[Operation], execute: Execute) -> bool:
    required = [o for o in left if o.outcome is Outcome.OK]
    if not required:
        return True
    first_response = min(o.responded_at for o in required if o.responded_at is not None)
    for operation in left:
        if operation.invoked_at > first_response:
            continue
        result, after = execute(contents, operation)
        if operation.outcome is Outcome.OK and not same_result(operation.result, result):
            continue
        if _can_go_on(after, [o for o in left if o is not operation], execute):
            return True
    return False


def shortest_bad_prefix(history: History, model: str) -> int | None:
    """Its length; None if the whole history can be ordered."""
    for events in range(1, len(history.events) + 1):
        if not is_orderable(History(history.events[:events]), model):
            return events
    return None


def random_history(model: str, draw: random.Random, *, operations: int) -> History:
    """A small history of that many operations: executed by a real object, then maybe falsified."""
    world = _World(model, draw)
    while world.left(operations):
        world.step(operations)
    return History(tuple(world.events))


class _World:
    """Clients that call, an object that executes, and answers that come late, wrong or never."""

    def __init__(self, model: str, draw: random.Random) -> None:
        self.model, self.draw = model, draw
        self.events: list[Event] = []
        self.keys: list[str | None] = [None] if draw.random() < 0.5 else ["a", "b"]
        self.processes = draw.randint(1, 5)
        self.lies = draw.choice([0, 0.1, 0.3, 0.5])
        self.lost = draw.choice([0, 0.2, 0.5])
        self.contents: dict[Any, Any] = {}
        self.token = 0
        # By process: what is called and not executed, and what is executed and not answered.
        self.called: dict[Process, Operation] = {}
        self.executed: dict[Process, tuple[Operation, Any]] = {}
        self.count = 0

    def left(self, operations: int) -> bool:
        return self.count < operations or bool(self.called or self.executed)

    def step(self, operations: int) -> None:
        process = self.draw.randrange(self.processes)
        if process in self.executed:
            self.answer(*self.executed.pop(process))
        elif process in self.called:
            self.execute(self.called.pop(process))
        elif self.count < operations:
            self.call(process)

    def call(self, process: int) -> None:
        function, argument = random_call(self.model, self.draw, self.count)
        key = self.draw.choice(self.keys)
        at = len(self.events)
        invocation = Invocation(self.count, process, function, key, freeze(argument), at)
        self.events.append(invocation)
        self.called[process] = Operation(
            self.count, process, function, key, freeze(argument), Outcome.UNKNOWN, None, at, None
        )
        self.count += 1

    def execute(self, operation: Operation) -> None:
        before = self.contents
        result, self.contents = EXECUTE[self.model](before, operation)
        if self.model == "lock" and result is True and operation.function == "acquire":
            self.token += self.draw.randint(0, 2)
            if self.draw.random() < 0.5:
                self.token += 1
                result = self.token
        if self.draw.random() < self.lost / 2:
            self.contents = before
            self.respond(operation, self.draw.choice([Outcome.FAILED, Outcome.UNKNOWN]), None)
        else:
            self.executed[operation.process] = (operation, result)

    def answer(self, operation: Operation, result: Any) -> None:
        if self.draw.random() < self.lost / 2:
            self.respond(operation, Outcome.UNKNOWN, None)
        elif self.draw.random() < self.lies:
            lie = random_lie(self.model, operation, result, self.draw)
            outcome = self.draw.choice([Outcome.OK, Outcome.OK, Outcome.FAILED])
            self.respond(operation, outcome, lie if outcome is Outcome.OK else None)
        else:
            self.respond(operation, Outcome.OK, result)

    def respond(self, operation: Operation, outcome: Outcome, result: Any) -> None:
        # Half of those that nobody answers have no response at all.
        if outcome is Outcome.UNKNOWN and self.draw.random() < 0.5:
            return
        at = len(self.events)
        self.events.append(Response(operation.operation_id, outcome, freeze(result), at))


def random_call(model: str, draw: random.Random, number: int) -> tuple[str, object]:
    """A function and its argument."""
    value = draw.choice([draw.randrange(3), number])
    if model == "cas-register":
        calls: list[tuple[str, object]] = [
            ("read", None),
            ("write", value),
            ("cas", [draw.choice([None, 0, 1, 2]), value]),
        ]
    elif model == "append-kv":
        text = draw.choice(["", "x", "y", "xy", f"{number}"])
        calls = [("get", None), ("put", text), ("append", text)]
    elif model == "kv":
        calls = [
            ("get", None),
            ("put", value),
            ("delete", None),
            ("cas", [value, draw.randrange(4)]),
        ]
    else:
        calls = [("acquire", None), ("release", None)]
    return draw.choice(calls)


def random_lie(model: str, operation: Operation, result: Any, draw: random.Random) -> object:
    """Another result than the true one, most times."""
    if model == "cas-register":
        if operation.function == "read":
            return draw.choice([None, 0, 1, 2])
        return None if operation.function == "write" else draw.choice([None, False])
    if model == "append-kv":
        return draw.choice(["", "x", "xy", "yx"]) if operation.function == "get" else None
    if model == "lock":
        if operation.function == "acquire":
            return draw.choice([True, False, draw.randint(0, 3)])
        return draw.choice([True, False])
    version = max(0, result[-2 if result[0] == "written" else -1] if len(result) < 4 else result[2])
    version = max(0, version + draw.choice([-1, 0, 1]))
    if operation.function == "get":
        return ["read", draw.random() < 0.7, version, draw.choice([None, 0, 1, 2])]
    if operation.function == "cas" and draw.random() < 0.5:
        return ["conflict", version]
    return draw.choice([None, ["written", version, draw.random() < 0.5]])
