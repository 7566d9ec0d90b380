r"""Our own form of a history: one JSON object a line, each one event, after a header.

```
{"format": "ray_paxos.history", "version": 1}
{"event": "invoke", "id": 0, "process": "client-1", "time_ns": 5, "function": "put", "key": "a",
 "argument": "x"}                                     (one line)
{"event": "ok", "id": 0, "time_ns": 9, "result": ["written", 1, false]}
{"event": "failed", "id": 1, "time_ns": 12}
{"event": "unknown", "id": 2, "time_ns": 15}
```

Rules:

1. Lines are in the order of real time. `id` is a whole number, unique among the file's
   invocations. `key`, `argument` and `result` may be left out: null. Other fields are ignored.
2. A value is null, true, false, a number, text, or a list of these.
3. An operation without a response has an unknown outcome.
4. A last line without its line end is what a writer that was killed leaves behind. If it cannot
   be read it is left out: a lost response makes an outcome unknown, and a lost invocation was
   never sent, as it is written first.
5. Another `version` is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray_paxos.testing.history import (
    Event,
    History,
    HistoryBuilder,
    HistoryFormatError,
    Invocation,
    Outcome,
    Response,
    freeze,
)

FORMAT_NAME = "ray_paxos.history"
FORMAT_VERSION = 1

_OBJECT = re.compile(r'\s*\{\s*"')
_INVOKE = "invoke"
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def format_header() -> str:
    """The first line of a file, with its line end."""
    return json.dumps({"format": FORMAT_NAME, "version": FORMAT_VERSION}) + "\n"


def format_event(event: Event) -> str:
    """The line of one event, with its line end."""
    return json.dumps(event_fields(event)) + "\n"


def event_fields(event: Event) -> dict[str, object]:
    """What the line of one event holds."""
    if isinstance(event, Invocation):
        return {
            "event": _INVOKE,
            "id": event.operation_id,
            "process": event.process,
            "time_ns": event.time_ns,
            "function": event.function,
            "key": event.key,
            "argument": event.argument,
        }
    fields: dict[str, object] = {
        "event": event.outcome.value,
        "id": event.operation_id,
        "time_ns": event.time_ns,
    }
    if event.outcome is Outcome.OK:
        fields["result"] = event.result
    return fields


def write_history(path: Path, history: History) -> None:
    """Write a file of our own form; one that is there is replaced.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write(format_header())
        file.writelines(map(format_event, history.events))


def is_jsonl(text: str) -> bool:
    """Whether a file's text looks like lines of JSON, whoever wrote them."""
    return _OBJECT.match(text) is not None


def parse_jsonl(text: str, name: str) -> History:
    """Read a file of our own form.

    Args:
        text: All of it.
        name: The file's, for errors.

    Raises:
        HistoryFormatError: It breaks one of the rules above.
    """
    lines = text.split("\n")
    # What follows the last line end; empty where the file is whole.
    torn_line = len(lines)
    builder = HistoryBuilder()
    numbers = []
    header_seen = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        fields = _parse_object(line)
        if fields is None:
            if number == torn_line and header_seen:
                break
            raise HistoryFormatError(f"{where}: not a JSON object: {line[:80]!r}")
        if not header_seen:
            _check_header(fields, where)
            header_seen = True
            continue
        try:
            builder.add(_event(fields))
        except (TypeError, ValueError) as error:
            raise HistoryFormatError(f"{where}: {error}") from error
        numbers.append(number)
    if not header_seen:
        raise HistoryFormatError(f"{name}: it is empty")
    return builder.history(numbers)


def _parse_object(line: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _check_header(fields: Mapping[str, Any], where: str) -> None:
    wanted = format_header().strip()
    if fields.get("format") != FORMAT_NAME:
        raise HistoryFormatError(f"{where}: the first line must be the header {wanted}")
    version = fields.get("version")
    if version != FORMAT_VERSION:
        raise HistoryFormatError(
            f"{where}: version {version!r}; this release reads version {FORMAT_VERSION}"
        )


def _event(fields: Mapping[str, Any]) -> Event:
    """One event.

    Raises:
        TypeError: A value is no value of a history.
        ValueError: A field is missing or wrong.
    """
    kind = fields.get("event")
    operation_id = _whole_number(fields, "id")
    time_ns = _whole_number(fields, "time_ns")
    if kind == _INVOKE:
        process, function = fields.get("process"), fields.get("function")
        if isinstance(process, bool) or not isinstance(process, (int, str)):
            raise ValueError(f"process {process!r}: text or a whole number is needed")
        if not isinstance(function, str):
            raise ValueError(f"function {function!r}: text is needed")
        key, argument = freeze(fields.get("key")), freeze(fields.get("argument"))
        return Invocation(operation_id, process, function, key, argument, time_ns)
    outcome = _OUTCOMES.get(kind) if isinstance(kind, str) else None
    if outcome is None:
        known = ", ".join([_INVOKE, *_OUTCOMES])
        raise ValueError(f"event {kind!r} is none of {known}")
    result = freeze(fields.get("result")) if outcome is Outcome.OK else None
    return Response(operation_id, outcome, result, time_ns)


def _whole_number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} {value!r}: a whole number is needed")
    return value
