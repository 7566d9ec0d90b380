"""A register with compare-and-set: `read`, `write` of a value, `cas` of `[expected, new]`.

It holds null at first. An ok `cas` compared equal and wrote, unless its result is false: then it
compared unequal and changed nothing. A *failed* `cas` says nothing of the register: Jepsen's
clients fail one, too, that never reached it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

from ray_paxos.testing.history import Operation, Value
from ray_paxos.testing.linearizability.model import (
    REJECTED,
    Model,
    Rejected,
    Transition,
    Unseen,
    is_ok,
)

RegisterState: TypeAlias = "Value | Unseen"


class CasRegister(Model[RegisterState]):
    """The register; its state is its value."""

    name: ClassVar[str] = "cas-register"
    about: ClassVar[str] = "read, write, cas"
    initial: RegisterState = None

    def transitions(self, operations: Sequence[Operation]) -> list[Transition[RegisterState]]:
        """What each operation does; see `Model.transitions`."""
        seen = set()
        for operation in operations:
            if operation.function == "cas":
                seen.add(self._pair(operation)[0])
            elif operation.function == "read" and is_ok(operation):
                seen.add(operation.result)
        return [self._transition(operation, seen) for operation in operations]

    def _transition(self, operation: Operation, seen: set[Value]) -> Transition[RegisterState]:
        if operation.function == "read":
            return _read(operation)
        if operation.function == "write":
            new = operation.argument
            return _write(new if new in seen else Unseen(new))
        if operation.function != "cas":
            raise self.refuse_function(operation)
        expected, new = self._pair(operation)
        if is_ok(operation) and operation.result is False:
            return _cas_unequal(expected)
        return _cas(expected, new if new in seen else Unseen(new))

    def _pair(self, operation: Operation) -> tuple[Value, Value]:
        argument = operation.argument
        if not isinstance(argument, tuple) or len(argument) != 2:
            raise self.refuse(operation, f"argument {argument!r} is not [expected, new]")
        return argument[0], argument[1]


def _read(operation: Operation) -> Transition[RegisterState]:
    known, seen = is_ok(operation), operation.result

    def apply(value: RegisterState) -> RegisterState | Rejected:
        return value if not known or value == seen else REJECTED

    return Transition(apply, ("read", known, seen), changes=False)


def _write(new: RegisterState) -> Transition[RegisterState]:
    return Transition(lambda _: new, ("write", new), resets=True)


def _cas(expected: Value, new: RegisterState) -> Transition[RegisterState]:
    def apply(value: RegisterState) -> RegisterState | Rejected:
        return new if value == expected else REJECTED

    return Transition(apply, ("cas", expected, new), changes=expected != new)


def _cas_unequal(expected: Value) -> Transition[RegisterState]:
    def apply(value: RegisterState) -> RegisterState | Rejected:
        return REJECTED if value == expected else value

    return Transition(apply, ("cas unequal", expected), changes=False)
