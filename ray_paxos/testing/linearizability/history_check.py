"""One history and one model to a verdict.

Objects of different keys have nothing in common, so a history can be ordered if and only if each
key's part of it can (locality, Herlihy and Wing, 1990; used for checking in "Faster
linearizability checking via P-compositionality", Horn and Kroening, 2015): every key is searched
alone, which is what makes long histories checkable at all.

Where it cannot be ordered, the shortest prefix that cannot be is looked for. In a prefix, an
operation whose response comes later is open: of unknown outcome. A prefix of what can be ordered
can be ordered, so the prefixes of one key fall into two halves, and the border is found by
bisection. It lies at an ok or failed response, and no lower than the first response that no
configuration of the whole history's search passes: that search knows more of every operation than
any prefix does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_paxos.testing.history import History, Operation, Outcome, Value
from ray_paxos.testing.linearizability.budget import Budget
from ray_paxos.testing.linearizability.model import Model
from ray_paxos.testing.linearizability.search import SearchResult, Verdict, search
from ray_paxos.testing.linearizability.stages import Step


@dataclass(frozen=True)
class BadPrefix:
    """The part of a history that cannot be ordered.

    Attributes:
        key: The object concerned.
        events: Length of the prefix; the last of these events is the one that does not fit.
        operations: The key's operations in it, as they are known by then.
        is_shortest: Whether no shorter prefix of the history is bad; else the search for a shorter
            one was cut off.
        states: Some states that were possible before its last event, or none.
    """

    key: Value
    events: int
    operations: tuple[Operation, ...]
    is_shortest: bool
    states: tuple[Hashable, ...]


@dataclass(frozen=True)
class CheckResult:
    """What came of a check.

    Attributes:
        verdict: Whether the history can be ordered.
        model: Name of the model.
        events: Of the history.
        operations: Of the history.
        keys: How many objects it is about.
        configurations: That the searches visited.
        undecided: Keys whose search gave up.
        reason: Why a search gave up, maybe one for a shorter prefix; empty where none did.
        bad_prefix: None unless the verdict is false.
    """

    verdict: Verdict
    model: str
    events: int
    operations: int
    keys: int
    configurations: int
    undecided: tuple[Value, ...] = ()
    reason: str = ""
    bad_prefix: BadPrefix | None = None


def check_history(history: History, model: Model[Any], budget: Budget) -> CheckResult:
    """Find out whether a history is linearizable.

    Args:
        history: Of any number of keys.
        model: What each key's object promises.
        budget: How long it may take, and how many configurations each key may need.

    Returns:
        True and false are certain. Unknown means that the budget was spent before either was
        found.

    Raises:
        UnsupportedOperationError: An operation is none of the model's, whatever its outcome.
    """
    by_key: dict[Value, list[Operation]] = defaultdict(list)
    operations = history.operations()
    for operation in operations:
        by_key[operation.key].append(operation)
    keys = [_Key(key, part, model, budget) for key, part in by_key.items()]
    # What the model does not know is refused before any time is spent.
    for key in keys:
        model.transitions(key.operations)
    bad_prefix, undecided = _check_keys(keys, len(history.events), budget)
    verdict = Verdict.UNKNOWN if undecided else Verdict.TRUE
    return CheckResult(
        verdict=verdict if bad_prefix is None else Verdict.FALSE,
        model=model.name,
        events=len(history.events),
        operations=len(operations),
        keys=len(keys),
        configurations=budget.configurations,
        undecided=tuple(undecided),
        reason=budget.reason,
        bad_prefix=bad_prefix,
    )


def _check_keys(
    keys: Sequence[_Key], events: int, budget: Budget
) -> tuple[BadPrefix | None, list[Value]]:
    """Search all keys; once one is bad, the others only for whether they are bad earlier.

    Returns:
        The shortest bad prefix found, and the keys whose search gave up.
    """
    bad: BadPrefix | None = None
    undecided = []
    # Small ones first: where there is a fault, it is found soonest there.
    for key in sorted(keys, key=lambda key: len(key.operations)):
        end = bad.events - 1 if bad is not None else events
        result = key.search(end) if budget.has_time() else None
        if result is None or result.verdict is Verdict.UNKNOWN:
            undecided.append(key.key)
        elif result.verdict is Verdict.FALSE:
            bad = key.shortest_bad_prefix(end, result)
    if bad is not None and undecided:
        bad = replace(bad, is_shortest=False)
    return bad, undecided


class _Key:
    """One key's part of a history."""

    def __init__(
        self, key: Value, operations: Sequence[Operation], model: Model[Any], budget: Budget
    ) -> None:
        self.key = key
        self.operations = operations
        self._model = model
        self._budget = budget

    def search(self, events: int) -> SearchResult:
        """Whether this key's part of the first so many events can be ordered."""
        operations = self.within(events)
        steps = [
            Step(
                transition,
                operation.invoked_at,
                operation.responded_at if operation.outcome is Outcome.OK else None,
            )
            for operation, transition in zip(
                operations, self._model.transitions(operations), strict=True
            )
            if operation.outcome is not Outcome.FAILED
        ]
        return search(self._model.initial, steps, self._budget)

    def within(self, events: int) -> tuple[Operation, ...]:
        """The operations invoked in the first so many events, as they are known by then."""
        return tuple(
            operation.within(events)
            for operation in self.operations
            if operation.invoked_at < events
        )

    def shortest_bad_prefix(self, events: int, result: SearchResult) -> BadPrefix:
        """Bisect for the shortest prefix that cannot be ordered.

        Args:
            events: A prefix of so many events is known to be bad.
            result: What its search found.
        """
        assert result.failed_at is not None
        lengths = sorted(
            operation.responded_at + 1
            for operation in self.operations
            if operation.responded_at is not None
            and operation.outcome is not Outcome.UNKNOWN
            and result.failed_at <= operation.responded_at < events
        )
        # The prefix number `high` is bad; those up to number `low` are not, as far as is known.
        low, high = -1, len(lengths) - 1
        is_shortest = True
        # It is nearly always the first, else one of the next.
        probe, stride = 0, 1
        while low + 1 < high:
            found = self.search(lengths[probe])
            if found.verdict is Verdict.FALSE:
                high, result = probe, found
            else:
                low, stride = probe, 2 * stride
                is_shortest = is_shortest and found.verdict is Verdict.TRUE
            probe = min(low + stride, (low + high) // 2)
        length = lengths[high]
        if result.failed_at != length - 1:
            # The search gave up before that response, on what it knew of it.
            result = self.search(length - 1)
        return BadPrefix(
            key=self.key,
            events=length,
            operations=self.within(length),
            is_shortest=is_shortest,
            states=result.states,
        )
