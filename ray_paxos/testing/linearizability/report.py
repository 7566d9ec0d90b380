"""What a person, and a program, is told of a check.

A person gets a bounded text: the verdict, and of a prefix that cannot be ordered the last
operations, each with the lines (or, where the history is from no file, the numbers of the events)
between which it happened. The document for programs holds all of that prefix.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator

from ray_paxos.testing.history import History, Operation, Outcome
from ray_paxos.testing.linearizability.history_check import BadPrefix, CheckResult
from ray_paxos.testing.linearizability.model import Unseen
from ray_paxos.testing.linearizability.search import Verdict

OPERATIONS_SHOWN = 20

_VALUE_LENGTH_MAX = 100
_LINEARIZABLE = {Verdict.TRUE: True, Verdict.FALSE: False, Verdict.UNKNOWN: None}


def report_lines(result: CheckResult, history: History) -> Iterator[str]:
    """For a person, line by line; the first is `linearizable: true`, `false` or `unknown`."""
    yield f"linearizable: {result.verdict.value}"
    if result.undecided:
        shown = ", ".join(map(_text, result.undecided[:5]))
        more = ", ..." if len(result.undecided) > 5 else ""
        keys = "key" if len(result.undecided) == 1 else "keys"
        yield f"not decided: {len(result.undecided)} {keys} ({shown}{more}), as {result.reason}"
    if result.bad_prefix is not None:
        yield from _bad_prefix_lines(result.bad_prefix, result.reason, history)


def _bad_prefix_lines(bad: BadPrefix, reason: str, history: History) -> Iterator[str]:
    shortest = (
        "and no shorter prefix is like that"
        if bad.is_shortest
        else f"and perhaps a shorter prefix is like that, too: {reason}"
    )
    total = len(history.events)
    yield f"the first {bad.events} of {total} events cannot be ordered, {shortest}"
    last = _last_operation(bad)
    where = f"{_unit(history)} {_place(history, bad.events - 1)}, process {last.process}"
    key = "" if last.key is None else f", key {_text(last.key)}"
    yield f"the last of them ({where}{key}): {_what(last)}"
    if bad.states:
        yield f"before it, the state may have been: {'; '.join(map(state_text, bad.states))}"
    shown = bad.operations[-OPERATIONS_SHOWN:]
    count = len(bad.operations)
    if len(shown) < count:
        yield f"the last {len(shown)} of the key's {count} operations in it (all: --json FILE):"
    else:
        yield f"the key's {count} operations in it:"
    rows = [("from", "to", "process", "")]
    rows += [
        (
            _place(history, operation.invoked_at),
            _place(history, operation.responded_at),
            str(operation.process),
            _what(operation),
        )
        for operation in shown
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        first, to, process = (row[column].rjust(widths[column]) for column in range(3))
        yield f"  {first} {to}  {process}  {row[3]}".rstrip()


def report_document(result: CheckResult, history: History) -> dict[str, object]:
    """For a program: everything, in what JSON has words for."""
    bad = result.bad_prefix
    return {
        "linearizable": _LINEARIZABLE[result.verdict],
        "model": result.model,
        "events": result.events,
        "operations": result.operations,
        "keys": result.keys,
        "configurations": result.configurations,
        "undecided_keys": list(result.undecided),
        "reason": result.reason,
        "prefix": None if bad is None else _bad_prefix_document(bad, history),
    }


def _bad_prefix_document(bad: BadPrefix, history: History) -> dict[str, object]:
    return {
        "events": bad.events,
        "line": _line(history, bad.events - 1),
        "is_shortest": bad.is_shortest,
        "key": bad.key,
        "states": [state_text(state) for state in bad.states],
        "last_operation": _last_operation(bad).operation_id,
        "operations": [_operation_document(operation, history) for operation in bad.operations],
    }


def _operation_document(operation: Operation, history: History) -> dict[str, object]:
    responded_at = operation.responded_at
    return {
        "id": operation.operation_id,
        "process": operation.process,
        "function": operation.function,
        "argument": operation.argument,
        "outcome": operation.outcome.value,
        "result": operation.result,
        "invoked_event": operation.invoked_at + 1,
        "invoked_line": _line(history, operation.invoked_at),
        "responded_event": None if responded_at is None else responded_at + 1,
        "responded_line": None if responded_at is None else _line(history, responded_at),
    }


def state_text(state: Hashable) -> str:
    """A model's state, for a person."""
    if isinstance(state, Unseen):
        return _text(state.example)
    fields = getattr(state, "_fields", None)
    if fields is None:
        return _text(state)
    return ", ".join(f"{name} {state_text(getattr(state, name))}" for name in fields)


def _last_operation(bad: BadPrefix) -> Operation:
    """The operation whose response is the prefix's last event."""
    return next(o for o in bad.operations if o.responded_at == bad.events - 1)


def _what(operation: Operation) -> str:
    """An operation without its place and process."""
    argument = "" if operation.argument is None else f" {_text(operation.argument)}"
    if operation.outcome is not Outcome.OK:
        outcome = operation.outcome.value
    else:
        # Jepsen's clients repeat the argument.
        is_telling = operation.result not in (None, operation.argument)
        outcome = _text(operation.result) if is_telling else "ok"
    return f"{operation.function}{argument} -> {outcome}"


def _text(value: object) -> str:
    """A value as JSON; of a long one, beginning and end."""
    text = json.dumps(value)
    if len(text) <= _VALUE_LENGTH_MAX:
        return text
    half = _VALUE_LENGTH_MAX // 2
    return f"{text[:half]} ...{len(text) - 2 * half} more... {text[-half:]}"


def _unit(history: History) -> str:
    return "line" if history.lines else "event"


def _place(history: History, position: int | None) -> str:
    """Line, or number, of an event; nothing for an event that there is not."""
    if position is None:
        return ""
    return str(_line(history, position) or position + 1)


def _line(history: History, position: int) -> int | None:
    return history.lines[position] if history.lines else None
