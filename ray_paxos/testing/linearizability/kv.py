"""Values by key with versions, as the kv machine documents them: `put`, `get`, `delete`, `cas`.

A key's version is the number of writes it has seen: 0 at first, one more with every put, every
delete (of an absent key, too) and every cas that succeeds. A deleted key has no value.

| function | argument | result |
|---|---|---|
| put | the value | `["written", version, replaced]` |
| delete | | `["written", version, replaced]` |
| get | | `["read", found, version, value]` |
| cas | `[value, expected_version]` | `["written", version, replaced]` or `["conflict", version]` |

`version` is the key's version after the operation; `replaced` says whether there was a value
before. The result of a put, a delete or a cas may be null: it took effect, and nobody saw how (a
cas: it wrote).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from ray_paxos.testing.history import Operation, Outcome, Value
from ray_paxos.testing.linearizability.model import (
    REJECTED,
    Model,
    Rejected,
    Transition,
    Unseen,
    is_ok,
)


class KvState(NamedTuple):
    """One key.

    Attributes:
        version: Number of writes so far.
        found: Whether there is a value.
        value: None where there is none.
    """

    version: int
    found: bool
    value: Value | Unseen


ABSENT = KvState(0, False, None)


class Kv(Model[KvState]):
    """One key."""

    name: ClassVar[str] = "kv"
    about: ClassVar[str] = "put, get, delete, cas"
    initial: KvState = ABSENT

    def transitions(self, operations: Sequence[Operation]) -> list[Transition[KvState]]:
        """What each operation does; see `Model.transitions`."""
        calls = [self._call(operation) for operation in operations]
        values = _Values(operations, calls)
        return [
            call.transition() if isinstance(call, (_Get, _Conflict)) else values.write(call)
            for call in calls
        ]

    def _call(self, operation: Operation) -> _Get | _Conflict | _Write:
        """Take an operation apart."""
        argument = operation.argument
        if operation.function == "get":
            return _Get(self._read(operation) if is_ok(operation) else None)
        if operation.function == "put":
            return _Write(True, argument, *self._written(operation))
        if operation.function == "delete":
            return _Write(False, None, *self._written(operation))
        if operation.function != "cas":
            raise self.refuse_function(operation)
        if not isinstance(argument, tuple) or len(argument) != 2:
            raise self.refuse(operation, f"argument {argument!r} is not [value, expected_version]")
        value, expected = argument[0], self._version(operation, argument[1])
        match operation.result:
            case ("conflict", version) if is_ok(operation):
                return _Conflict(self._version(operation, version), expected)
        return _Write(True, value, *self._written(operation), expected=expected)

    def _read(self, operation: Operation) -> KvState:
        match operation.result:
            case ("read", bool(found), version, value):
                return KvState(self._version(operation, version), found, value)
        raise self._refuse_result(operation, '["read", found, version, value]')

    def _written(self, operation: Operation) -> tuple[int | None, bool | None]:
        """Version and `replaced` that a write was told; None for what it was not."""
        if not is_ok(operation) or operation.result is None:
            return None, None
        match operation.result:
            case ("written", version, bool(replaced)):
                return self._version(operation, version), replaced
        raise self._refuse_result(operation, '["written", version, replaced]')

    def _version(self, operation: Operation, version: Value) -> int:
        if isinstance(version, bool) or not isinstance(version, int) or version < 0:
            raise self.refuse(operation, f"{version!r} is no version: 0 or more")
        return version

    def _refuse_result(self, operation: Operation, wanted: str) -> Exception:
        return self.refuse(operation, f"result {operation.result!r} is not {wanted}")


@dataclass(frozen=True)
class _Get:
    """A get, with what it saw; None if nobody knows."""

    seen: KvState | None

    def transition(self) -> Transition[KvState]:
        """What it does."""
        if self.seen is None:
            return Transition(lambda state: state, self, changes=False)
        return Transition(self._apply, self, changes=False, within_reach=self._within_reach)

    def _apply(self, state: KvState) -> KvState | Rejected:
        return state if state == self.seen else REJECTED

    def _within_reach(self, state: KvState) -> bool:
        """Versions only rise."""
        assert self.seen is not None
        return state.version < self.seen.version or state == self.seen


@dataclass(frozen=True)
class _Conflict:
    """A cas that changed nothing, as the version was this one and not the expected one."""

    version: int
    expected: int

    def transition(self) -> Transition[KvState]:
        """What it does."""
        return Transition(self._apply, self, changes=False, within_reach=self._within_reach)

    def _apply(self, state: KvState) -> KvState | Rejected:
        return state if state.version == self.version != self.expected else REJECTED

    def _within_reach(self, state: KvState) -> bool:
        """Versions only rise."""
        return state.version <= self.version


@dataclass(frozen=True)
class _Write:
    """A put, a delete, or a cas that succeeds.

    Attributes:
        found: Whether it leaves a value.
        value: Which; None where it leaves none.
        version: The key's version after it, as far as is known.
        replaced: Whether there was a value before, as far as is known.
        expected: The version it needs; None for any.
    """

    found: bool
    value: Value | Unseen
    version: int | None
    replaced: bool | None
    expected: int | None = None

    def transition(self) -> Transition[KvState]:
        """What it does."""
        return Transition(self._apply, self, within_reach=self._within_reach)

    def _apply(self, state: KvState) -> KvState | Rejected:
        version = state.version + 1
        if (
            (self.expected is not None and self.expected != state.version)
            or (self.version is not None and self.version != version)
            or (self.replaced is not None and self.replaced != state.found)
        ):
            return REJECTED
        return KvState(version, self.found, self.value)

    def _within_reach(self, state: KvState) -> bool:
        """Versions only rise."""
        return (self.version is None or state.version < self.version) and (
            self.expected is None or state.version <= self.expected
        )


class _Values:
    """What the gets of one key tell of its writes.

    A value that no get saw is any such value. A value that one write only can have written was
    written at the version at which gets saw it; if they saw it at several, no order explains them.
    """

    def __init__(
        self, operations: Sequence[Operation], calls: Sequence[_Get | _Conflict | _Write]
    ) -> None:
        self._versions: dict[Value | Unseen, set[int]] = defaultdict(set)
        self._writers: Counter[Value | Unseen] = Counter()
        for operation, call in zip(operations, calls, strict=True):
            if isinstance(call, _Get) and call.seen is not None and call.seen.found:
                self._versions[call.seen.value].add(call.seen.version)
            elif isinstance(call, _Write) and operation.outcome is not Outcome.FAILED:
                self._writers[call.value] += 1

    def write(self, write: _Write) -> Transition[KvState]:
        """What a write does, with all that is known of it."""
        if not write.found:
            return write.transition()
        versions = self._versions.get(write.value)
        if versions is None:
            return replace(write, value=Unseen(write.value)).transition()
        if write.version is None and self._writers[write.value] == 1:
            return replace(write, version=min(versions)).transition()
        return write.transition()
