"""A lock by key: `acquire` and `release`, owned by the process that acquired it.

- `acquire` with the result true or null: it is the caller's now. A whole number says the same and
  is the grant's fencing token, which must be above all tokens given before. False: refused, as
  somebody, maybe the caller, owned it.
- `release` with the result true or null: it was the caller's and is free now. False: it was not
  the caller's, and nothing changed.

The lock does not expire. Where a lease may run out, record that as a `release` of unknown outcome
by the owner: it may then be free from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from ray_paxos.testing.history import Operation, Process
from ray_paxos.testing.linearizability.model import (
    REJECTED,
    Model,
    Rejected,
    Transition,
    is_ok,
)


class LockState(NamedTuple):
    """One lock.

    Attributes:
        owner: None while it is free.
        token: The highest fencing token that a client was told; None before the first.
    """

    owner: Process | None
    token: int | None


class Lock(Model[LockState]):
    """One lock."""

    name: ClassVar[str] = "lock"
    about: ClassVar[str] = "acquire, release"
    initial: LockState = LockState(None, None)

    def transitions(self, operations: Sequence[Operation]) -> list[Transition[LockState]]:
        """What each operation does; see `Model.transitions`."""
        return [self._transition(operation) for operation in operations]

    def _transition(self, operation: Operation) -> Transition[LockState]:
        result = operation.result if is_ok(operation) else None
        if operation.function == "acquire":
            if result is False:
                return _acquire_refused()
            if result is None or result is True or isinstance(result, int):
                token = result if isinstance(result, int) and result is not True else None
                return _acquire(operation.process, token)
            raise self.refuse(operation, f"result {result!r} is no bool and no token")
        if operation.function != "release":
            raise self.refuse_function(operation)
        if result is False:
            return _release_refused(operation.process)
        if result is None or result is True:
            return _release(operation.process)
        raise self.refuse(operation, f"result {result!r} is no bool")


def _acquire(process: Process, token: int | None) -> Transition[LockState]:
    def is_above(state: LockState) -> bool:
        return token is None or state.token is None or state.token < token

    def apply(state: LockState) -> LockState | Rejected:
        if state.owner is not None or not is_above(state):
            return REJECTED
        return LockState(process, token if token is not None else state.token)

    # Tokens never fall.
    return Transition(apply, ("acquire", process, token), within_reach=is_above)


def _acquire_refused() -> Transition[LockState]:
    def apply(state: LockState) -> LockState | Rejected:
        return state if state.owner is not None else REJECTED

    return Transition(apply, "acquire refused", changes=False)


def _release(process: Process) -> Transition[LockState]:
    def apply(state: LockState) -> LockState | Rejected:
        return LockState(None, state.token) if state.owner == process else REJECTED

    return Transition(apply, ("release", process))


def _release_refused(process: Process) -> Transition[LockState]:
    def apply(state: LockState) -> LockState | Rejected:
        return state if state.owner != process else REJECTED

    return Transition(apply, ("release refused", process), changes=False)
