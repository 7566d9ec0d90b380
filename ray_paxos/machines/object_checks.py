"""The check for determinism: whether a command does the same each time that it runs.

1. Whether a class is checked is said by the class, and so by the log: on all members alike.
2. A command runs on two copies of its object, of which one holds its sets in another order, as they
   may be on another member. Its result, the object's attributes in their one form, and what is kept
   in shipped classes are compared.
3. A member that finds a difference refuses the command, and keeps the state from before.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from typing import Any

from ray_paxos.class_shipping import loads
from ray_paxos.errors import CommandError
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.object_calls import arguments_of, context_of, run
from ray_paxos.machines.object_messages import Call, Raised, Returned, encode
from ray_paxos.machines.object_state import Object, attributes_of, pickled
from ray_paxos.machines.object_values import NotDataError, Types, encode_value
from ray_paxos.replicated import running

_PARTS_MAX = 10_000_000


def encoded_attributes(held: Object, *, sorts_keys: bool = False) -> dict[str, bytes | None]:
    """Each attribute in its one form; None where it has none."""
    found: dict[str, bytes | None] = {}
    for name, value in attributes_of(held.instance).items():
        try:
            found[name] = encode_value(value, held.loaded.types, sorts_keys=sorts_keys)
        except NotDataError:
            found[name] = None
    return found


def differing_attributes(one: dict[str, bytes | None], other: dict[str, bytes | None]) -> str:
    """Names of the attributes that differ, as text; empty for none."""
    names = sorted(one.keys() | other.keys())
    return ", ".join(f"self.{name}" for name in names if one.get(name) != other.get(name))


def checked(
    held: Object,
    call: Call,
    context: ApplyContext,
    method: Callable[..., Any],
    is_atomic: bool,
) -> tuple[Returned | Raised | NotDataError, Any]:
    """Run a command on two copies.

    Returns:
        Its result, and the object after it.

    Raises:
        CommandError: They differ.
    """
    types = held.loaded.types
    before = pickled(held)
    outcomes: list[tuple[bytes, dict[str, bytes | None]]] = []
    copies = []
    class_before = _class_state(types)
    for is_second in (False, True):
        copy = held.copied(before)
        if is_second:
            _reorder_sets(copy.instance, types)
        args, kwargs = arguments_of(call.arguments, types)
        with running(context_of(call.name, context)):
            result = run(method, copy.instance, args, kwargs, types)
        if is_atomic and not isinstance(result, Returned):
            copy.instance = loads(before, types)
        text = str(result).encode() if isinstance(result, NotDataError) else encode(result)
        outcomes.append((text, encoded_attributes(copy)))
        copies.append((result, copy.instance))
    (one_result, one_state), (other_result, other_state) = outcomes
    differing = [differing_attributes(one_state, other_state)] if one_state != other_state else []
    if one_result != other_result:
        differing.insert(0, "its result")
    class_changes = differing_attributes(class_before, _class_state(types)).replace("self.", "")
    if class_changes:
        differing.append(f"{class_changes}, kept outside of the object,")
    if differing:
        where = f"{held.class_name}.{call.method}"
        raise not_deterministic(where, " and ".join(differing))
    return copies[0]


def not_deterministic(where: str, differing: str) -> CommandError:
    """The error that says what in a method differed."""
    return CommandError(
        f"{where} is not deterministic: run twice on equal objects, {differing} came out "
        "differently. Use self.context for time, randomness and ids, sort sets before going "
        "through them, and keep state in self only; the object has not changed"
    )


def _class_state(types: Types) -> dict[str, bytes | None]:
    """What is kept in shipped classes, where it can change."""
    found: dict[str, bytes | None] = {}
    for cls in types.by_name.values():
        for name, value in list(vars(cls).items()) if isinstance(cls, type) else ():
            if isinstance(value, int | str | list | dict | set) and not name.startswith("__"):
                try:
                    found[f"{cls.__qualname__}.{name}"] = encode_value(value, types)
                except NotDataError:
                    continue
    return found


def _reorder_sets(instance: object, types: Types) -> None:
    """Let all sets in an object give their items in another order, as in another process."""
    shipped = tuple(each for each in types.by_name.values() if isinstance(each, type))
    parts = (*shipped, list, tuple, dict, set, frozenset, deque)
    seen: set[int] = set()
    waiting = [instance]
    while waiting and len(seen) < _PARTS_MAX:
        each = waiting.pop()
        if id(each) in seen or not isinstance(each, parts):
            continue
        seen.add(id(each))
        waiting += gc.get_referents(each)
        if isinstance(each, set):
            items = list(each)
            each.clear()
            # In a bigger table, filled from the other end; what is taken out leaves it as big.
            spacers = [object() for _ in range(8 * len(items) + 64)]
            each.update(spacers)
            each.update(reversed(items))
            each.difference_update(spacers)
