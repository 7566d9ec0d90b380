"""Whether transactions over several keys are one step, and a watch leaves nothing out; pure.

A *bank* is some accounts, each a key; `Bank` is what is promised of all of them together:

- `open`: where none was ever written, each gets the same; or nothing happens.
- `transfer`: where two accounts have the versions that were read, something goes from one to the
  other; or nothing happens, and the answer is what the two are.
- `read`: what all of them are.

Of a watch:

1. Of each key versions come one after the other, from 1; after a gap that is said, any higher one.
2. What it tells of a version is what was written as that version.
3. In the end it has told the last version of each key, as a read finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from chaos_checks import some
from chaos_recipe_records import ChangeSeen, KeyWritten
from ray_paxos.testing.history import Operation
from ray_paxos.testing.linearizability.model import (
    REJECTED,
    Model,
    Rejected,
    Transition,
    is_ok,
)

ACCOUNTS = 4
FIRST_BALANCE = 100
Accounts: TypeAlias = tuple[tuple[int, int], ...]
"""Of each account its version and its balance; 0 and 0 before it is opened."""
CLOSED: Accounts = ((0, 0),) * ACCOUNTS
OPENED: Accounts = ((1, FIRST_BALANCE),) * ACCOUNTS


class Bank(Model[Accounts]):
    """One bank."""

    name: ClassVar[str] = "bank"
    about: ClassVar[str] = "open, transfer, read"
    initial: Accounts = CLOSED

    def transitions(self, operations: Sequence[Operation]) -> list[Transition[Accounts]]:
        """What each operation does; see `Model.transitions`."""
        return [self._transition(operation) for operation in operations]

    def _transition(self, operation: Operation) -> Transition[Accounts]:
        result: Any = operation.result if is_ok(operation) else None
        if operation.function == "read":
            return _reading(result)
        if operation.function == "open":
            return _opening(result)
        if operation.function != "transfer":
            raise self.refuse_function(operation)
        argument: Any = operation.argument
        if not isinstance(argument, tuple) or len(argument) != 6:
            raise self.refuse(operation, f"argument {argument!r} is no transfer")
        return _transferring(argument, result)


def _reading(result: Any) -> Transition[Accounts]:
    def apply(state: Accounts) -> Accounts | Rejected:
        return state if result is None or state == result else REJECTED

    return Transition(apply, ("read", result), changes=False)


def _opening(is_done: bool | None) -> Transition[Accounts]:
    def apply(state: Accounts) -> Accounts | Rejected:
        if state == CLOSED:
            return OPENED if is_done is not False else REJECTED
        return state if is_done is False else REJECTED

    return Transition(apply, ("open", is_done), changes=is_done is not False)


def _transferring(argument: tuple[int, ...], result: Any) -> Transition[Accounts]:
    """The answer: true where it was done; else what the two accounts are; None for unknown."""
    source, target, source_version, target_version, source_balance, target_balance = argument

    def apply(state: Accounts) -> Accounts | Rejected:
        found = (state[source], state[target])
        matches = (found[0][0], found[1][0]) == (source_version, target_version)
        if result is not None and result is not True:
            return state if not matches and found == result else REJECTED
        if not matches:
            return REJECTED
        changed = list(state)
        changed[source] = (source_version + 1, source_balance)
        changed[target] = (target_version + 1, target_balance)
        return tuple(changed)

    is_change = result is None or result is True
    return Transition(apply, ("transfer", argument, result), changes=is_change)


def check_totals(reads: Iterable[tuple[str, Accounts]]) -> list[str]:
    """Of whatever bank is open: nothing comes or goes in it.

    Args:
        reads: Name of a bank, and what a read found.
    """
    wrong = [
        f"{name}: {accounts}"
        for name, accounts in reads
        if accounts != CLOSED
        and sum(balance for _, balance in accounts) != ACCOUNTS * FIRST_BALANCE
    ]
    return some("banks with another total", wrong)


def check_watch(
    name: str,
    told: Sequence[ChangeSeen],
    written: Iterable[KeyWritten],
    found: Mapping[str, tuple[int, str | None]],
) -> list[str]:
    """The three rules, of one watch.

    Args:
        name: Of the watch.
        told: What it told, in order.
        written: What was acknowledged to those who wrote.
        found: Version and value of each key in the end, as it was read.
    """
    values = {(each.key, each.version): each.value for each in written}
    last: dict[str, ChangeSeen] = {}
    missing, wrong = [], []
    for change in told:
        before = last[change.key].version if change.key in last else 0
        is_next = change.version == before + 1
        if not is_next and not (change.is_after_gap and change.version > before):
            missing.append(f"{change.version} of {change.key}, after {before}")
        wanted = values.get((change.key, change.version), change.value)
        if wanted != change.value:
            wrong.append(f"{change.version} of {change.key}: {change.value!r}, not {wanted!r}")
        last[change.key] = change
    ends = [
        f"{key}: {(last[key].version, last[key].value) if key in last else None}, not {state}"
        for key, state in sorted(found.items())
        if state[0] and (key not in last or (last[key].version, last[key].value) != state)
    ]
    return [
        *some(f"{name}: versions left out, or told again", missing),
        *some(f"{name}: told otherwise than written", wrong),
        *some(f"{name}: not what is there in the end", ends),
    ]
