"""One run of a method of a user's class on a member, and what becomes of it.

1. What the method returns, or raises, is its result, written in the one form of `object_values`. An
   exception goes without its traceback; its text has no address of an object in it.
2. `MemoryError` and `RecursionError`, and what is no `Exception`, are failures of this member: they
   depend on its memory and its stack. Every other exception depends on the log, as far as the
   class keeps its promises (`replicated.py` says which), and is a result.
3. Arguments that cannot be read, and a result that cannot be sent, are not what the method itself
   raises: the command is refused, and the error says whether anything was executed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ray_paxos.errors import CommandError
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.object_messages import TEXT_CHARACTERS_MAX, Raised, Returned, encode
from ray_paxos.machines.object_values import (
    ITEMS_MAX,
    NotDataError,
    Types,
    decode_value,
    encode_value,
    without_addresses,
)
from ray_paxos.replicated import CommandContext

FAILURES = (MemoryError, RecursionError)
"""Of a member, and so no results."""


class RefusedError(CommandError):
    """Raised by the machine, and not by a user's class."""


def context_of(name: str, context: ApplyContext) -> CommandContext:
    """What a command on the object of that name has as its context."""
    return CommandContext(name, context.instance_id, context.index, context.log_time_ns)


def arguments_of(data: bytes, types: Types) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read a call's arguments: those by position, and those by name.

    Raises:
        CommandError: They cannot be read.
    """
    try:
        args, kwargs = decode_value(data, types)
        return args, kwargs
    except FAILURES:
        raise
    except Exception as error:
        text = f"the arguments cannot be read on members: {line_of(error)}"
        raise RefusedError(text) from error


def run(
    method: Callable[..., Any], instance: Any, args: Any, kwargs: Any, types: Types
) -> Returned | Raised | NotDataError:
    """What it returned, or raised, or why that cannot be sent."""
    try:
        value = method(instance, *args, **kwargs)
    except FAILURES:
        raise
    except Exception as error:
        return raised(error, types)
    try:
        return Returned(encode_value(value, types))
    except NotDataError as error:
        return error


def sent(result: Returned | Raised | NotDataError, where: str, is_atomic: bool) -> bytes:
    """The encoded result of a run.

    Raises:
        CommandError: It cannot be sent; says whether the method's changes stay.
    """
    if isinstance(result, NotDataError):
        done = "was undone" if is_atomic else "was executed"
        raise CommandError(f"{where} {done}; what it returned cannot be sent: it holds {result}")
    return encode(result)


def raised(error: Exception, types: Types) -> Raised:
    """An exception as a result: without its traceback, and without addresses of objects.

    Where it holds a set, its text would show that in the order of hashes, and is left out.
    """
    try:
        text = "(it holds a set)" if _holds_set((error.args, vars(error))) else str(error)
    except FAILURES:
        raise
    except Exception:
        text = "(it cannot print itself)"
    text = without_addresses(text)[:TEXT_CHARACTERS_MAX].encode("utf-8", "replace").decode()
    try:
        data = encode_value(error, types, hides_addresses=True)
    except NotDataError:
        data = b""
    return Raised(type(error).__qualname__, text, data)


def _holds_set(whole: object) -> bool:
    waiting, seen = [whole], set[int]()
    while waiting and len(seen) < ITEMS_MAX:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type):
            continue
        seen.add(id(each))
        if isinstance(each, set | frozenset):
            return True
        if isinstance(each, list | tuple | deque):
            waiting += each
        elif isinstance(each, dict):
            waiting += [*each, *each.values()]
        elif not isinstance(each, str | int | float | bytes):
            waiting.append(getattr(each, "__dict__", None))
    return False


def line_of(error: Exception) -> str:
    """An exception's class and text, as in a result."""
    shown = raised(error, Types({}))
    return f"{shown.type_name}: {shown.text}"
