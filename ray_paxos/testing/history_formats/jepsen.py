"""Histories as Jepsen writes them: lines of its log, and operations as EDN maps.

```
INFO  jepsen.util - 3<TAB>:invoke<TAB>:cas<TAB>[3 0]
{:process 3, :type :invoke, :f :cas, :value [3 0]}
```

Rules:

1. A process is one client that asks one thing at a time. Its next `:ok`, `:fail` or `:info`
   answers what it asked last; if it asks again first, the outcome of what it had asked is unknown.
2. `:ok` took effect, `:fail` certainly did not, `:info` (a timeout, a crash) may at any time after
   its invocation, and what has no answer at the end, too.
3. Of an invocation, the value is the argument; of an `:ok`, it is the result.
4. A process with a name, such as `:nemesis`, is no client: what it did is left out. So is an
   `:info` of a client that has nothing open.
5. In a log, lines that are no operations are left out. In EDN, operations may stand one by one or
   in vectors and lists, over any lines, with a tag or none and with any further fields.
6. Which object an operation is about is its `:key`; none where there is only one. `append`, `put`
   and `get` without one take a value `[key value]` apart, Jepsen's form for many objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ray_paxos.testing.history import (
    History,
    HistoryBuilder,
    HistoryFormatError,
    Invocation,
    Outcome,
    Response,
    Value,
)
from ray_paxos.testing.history_formats.edn import (
    Edn,
    EdnError,
    EdnMap,
    EdnSet,
    Keyword,
    Symbol,
    read_forms,
)

_LOG_LINE = re.compile(
    r"(?:^|\s)(?P<process>\d+|:[^\s:]+)[ \t]+:(?P<type>invoke|ok|fail|info)[ \t]+"
    r":(?P<function>[^\s:]+)(?:[ \t]+(?P<value>.*))?$"
)
_OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAILED, "info": Outcome.UNKNOWN}
_KEYED_FUNCTIONS = ("append", "put", "get")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One operation entry, of either form.

    Attributes:
        line: In the file, from 1.
        process: Of a client.
        type: `invoke`, or a name of `_OUTCOMES`.
        function: What for.
        key: On which object.
        value: Argument or result.
    """

    line: int
    process: int
    type: str
    function: str
    key: Value
    value: Value


def is_jepsen_log(text: str) -> bool:
    """Whether a line of this text is an operation of a client, as Jepsen logs it."""
    for line in text.split("\n"):
        found = _LOG_LINE.search(line.rstrip())
        if found is not None and found["process"].isdecimal():
            return True
    return False


def is_edn(text: str) -> bool:
    """Whether this text looks like EDN data."""
    return text.lstrip(" \t\r\n,").startswith(("{", "[", "(", "#", ";"))


def parse_jepsen_log(text: str, name: str) -> History:
    """Read the operations out of a log.

    Args:
        text: All of it.
        name: The file's, for errors.

    Raises:
        HistoryFormatError: An operation cannot be read, or answers nothing.
    """
    return _history(_log_entries(text, name), name)


def parse_edn(text: str, name: str) -> History:
    """Read operations that are EDN maps.

    Args:
        text: All of it.
        name: The file's, for errors.

    Raises:
        HistoryFormatError: The text is no EDN, something in it is no operation, or an operation
            answers nothing.
    """
    return _history(_edn_entries(text, name), name)


def _log_entries(text: str, name: str) -> Iterator[_Entry]:
    for number, line in enumerate(text.split("\n"), 1):
        found = _LOG_LINE.search(line.rstrip())
        if found is None or not found["process"].isdecimal():
            continue
        kind, function, value = found["type"], found["function"], None
        try:
            # What comes with the other two says why, in any form.
            if kind in ("invoke", "ok"):
                value = _logged_value(found["value"])
            yield _entry(number, int(found["process"]), kind, function, None, value)
        except ValueError as error:
            raise HistoryFormatError(f"{name}, line {number}: {error}") from error


def _logged_value(text: str | None) -> Edn:
    """The first of what follows the function; nil where nothing does."""
    if text is None:
        return None
    return next((form for _, form in read_forms(text)), None)


def _edn_entries(text: str, name: str) -> Iterator[_Entry]:
    try:
        for line, form in read_forms(text):
            for found in _maps(form, f"{name}, line {line}"):
                entry = _edn_entry(found, f"{name}, line {found.line}")
                if entry is not None:
                    yield entry
    except EdnError as error:
        raise HistoryFormatError(f"{name}, line {error.line}: {error}") from error


def _maps(form: Edn, where: str) -> Iterator[EdnMap]:
    """The maps of a top-level value, out of the sequences that hold them."""
    waiting = [form]
    while waiting:
        item = waiting.pop()
        if isinstance(item, EdnMap):
            yield item
        elif isinstance(item, tuple):
            waiting.extend(reversed(item))
        else:
            raise HistoryFormatError(f"{where}: {item!r} is no operation")


def _edn_entry(found: EdnMap, where: str) -> _Entry | None:
    """The entry of a map; None for that of a process that is no client."""
    fields = {key.name: value for key, value in found.pairs if isinstance(key, Keyword)}
    process, kind, function = fields.get("process"), fields.get("type"), fields.get("f")
    if isinstance(process, Keyword):
        return None
    try:
        if isinstance(process, bool) or not isinstance(process, int):
            raise ValueError(f":process {process!r} is no client's number")
        if not isinstance(kind, Keyword) or kind.name not in ("invoke", *_OUTCOMES):
            raise ValueError(":type is none of :invoke, :ok, :fail and :info")
        if not isinstance(function, Keyword):
            raise ValueError(":f names no function")
        value = fields.get("value") if kind.name in ("invoke", "ok") else None
        return _entry(found.line, process, kind.name, function.name, fields.get("key"), value)
    except ValueError as error:
        raise HistoryFormatError(f"{where}: {error}") from error


def _entry(line: int, process: int, kind: str, function: str, key: Edn, value: Edn) -> _Entry:
    """Make an entry, whose key may be in its value.

    Raises:
        ValueError: Key or value is nothing that a history holds.
    """
    if key is None and function in _KEYED_FUNCTIONS and isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(f"{function} of {value!r}, which is no [key value]")
        key, value = value
    return _Entry(line, process, kind, function, _value(key), _value(value))


def _value(form: Edn) -> Value:
    """What a history holds of an EDN value: names as text, with their colon.

    Raises:
        ValueError: It is, or holds, a map or a set.
    """
    if isinstance(form, tuple):
        return tuple(map(_value, form))
    if isinstance(form, Keyword):
        return f":{form.name}"
    if isinstance(form, Symbol):
        return form.name
    if isinstance(form, (EdnMap, EdnSet)):
        raise ValueError("a map or a set where a value is needed")
    return form


def _history(entries: Iterator[_Entry], name: str) -> History:
    """Match answers with what they answer."""
    builder = HistoryBuilder()
    lines: list[int] = []
    open_entries: dict[int, tuple[int, _Entry]] = {}
    for entry in entries:
        # There is no shared clock in these files: the order of the lines is the time.
        position = len(lines)
        if entry.type == "invoke":
            open_entries[entry.process] = (position, entry)
            builder.add(
                Invocation(
                    position, entry.process, entry.function, entry.key, entry.value, position
                )
            )
        else:
            asked = open_entries.pop(entry.process, None)
            if asked is None and entry.type == "info":
                continue
            operation_id = _answered(asked, entry, f"{name}, line {entry.line}")
            outcome = _OUTCOMES[entry.type]
            result = entry.value if outcome is Outcome.OK else None
            builder.add(Response(operation_id, outcome, result, position))
        lines.append(entry.line)
    if not lines:
        raise HistoryFormatError(f"{name}: it holds no operation of a client")
    return builder.history(lines)


def _answered(asked: tuple[int, _Entry] | None, answer: _Entry, where: str) -> int:
    """The id of what an entry answers."""
    what = f"process {answer.process}: {answer.type} of {answer.function}"
    if asked is None:
        raise HistoryFormatError(f"{where}: {what}, but nothing was asked")
    operation_id, entry = asked
    if answer.function != entry.function:
        raise HistoryFormatError(f"{where}: {what}, but asked was {entry.function}")
    if answer.key is not None and answer.key != entry.key:
        raise HistoryFormatError(
            f"{where}: {what} with key {answer.key!r}, but asked was {entry.key!r}"
        )
    return operation_id
