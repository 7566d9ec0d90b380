"""Users' values: arguments, results and exceptions, in the one form in which they travel.

The form is our own, for these reasons:

1. Results are compared between members byte for byte, and `pickle` does not give equal objects
   equal bytes. It writes a second mention of the *same* object as a reference, so that a list of
   one text twice differs from a list of two equal texts; and which of the two a member holds
   depends on whether its state was built by commands, or loaded from a checkpoint, or whether a
   text was interned. It also writes sets in the order of hashes, which differ between processes.
2. So a value is written as a tree: what is mentioned twice is written twice, sets are sorted by the
   encoded form of their items, attributes by name, and there is one form of not-a-number. Equal
   values of equal classes have equal bytes, whatever their identities. Dictionaries and lists keep
   their order: it is part of what they say, and depends on the log alone unless somebody iterated
   over a set.
3. Objects are taken apart the way `copy` and `pickle` do it, by `__reduce_ex__`. A class or a
   function is named: by its qualified name alone where it was shipped with the object's class, and
   else by module and name, to be imported. So two drivers that define one class mean the same one.
4. What contains itself, is nested too deeply or is no data (a file, a lock, a generator) is
   refused, on all members alike: the limits are counted, not felt by the interpreter's stack.

To read a value runs the constructors that it names, as unpickling does: who can write to the group
can have code run on its members. Measured (CPython 3.11, one core): to write and to read `("bolt",
3)` 0.8 us and 0.4, a dataclass of three fields 7 us and 3, a list of 1,000 numbers 85 us and 63.
"""

from __future__ import annotations

import copyreg
import importlib
import re
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

import msgspec

from ray_paxos.machines.object_messages import encode

DEPTH_MAX = 100
ITEMS_MAX = 1_000_000
"""Of one value, all parts counted: so that one of few objects that mention each other ends."""
MAIN: Final = "@"
"""The object's own class among the shipped ones: it keeps that name when the class is replaced."""
_decode_tree: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode

# Scalars stand for themselves; everything else is an array that starts with one of:
_LIST, _TUPLE, _DICT, _SET, _FROZEN_SET, _INTEGER, _TEXT, _NAN, _ENUM, _OBJECT = range(10)
_NAMED, _PICKLED, _BYTE_ARRAY, _SUBSET = range(10, 14)
_REDUCE_PROTOCOL = 4
_TOO_DEEP = f"nested over {DEPTH_MAX} deep"
_INTEGER_MIN, _INTEGER_MAX = -(1 << 63), (1 << 64) - 1
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)
_ADDRESS = re.compile(r"(\bat )0x[0-9a-fA-F]+")


class NotDataError(TypeError):
    """A value cannot be sent; says what in it, and where."""


class Types:
    """The classes and functions that were shipped with an object's class, by name.

    Attributes:
        by_name: By qualified name; the class itself by `MAIN` as well, which comes first.
        names: The first name of each, by identity.
    """

    def __init__(
        self,
        by_name: Mapping[str, Any],
        is_local: Callable[[str], bool] | None = None,
        pickled: Callable[[Any], bytes] | None = None,
        unpickled: Callable[[bytes], Any] | None = None,
    ) -> None:
        """Name things.

        Args:
            by_name: See there.
            is_local: Which modules members need not have; None where one is a member.
            pickled: For functions that have no name there; None where they cannot be sent.
            unpickled: Its counterpart.
        """
        self.by_name = by_name
        self.names: dict[int, str] = {}
        for name, thing in by_name.items():
            self.names.setdefault(id(thing), name)
        self.is_local = is_local
        self.pickled = pickled
        self.unpickled = unpickled

    def name_of(self, thing: Any) -> str:
        """What `thing_of` finds it by, on members too.

        Raises:
            NotDataError: It was not shipped, and cannot be imported everywhere.
        """
        known = self.names.get(id(thing))
        if known is not None:
            return f":{known}"
        owner = getattr(thing, "__self__", None)
        if isinstance(owner, type):
            return f"{self.name_of(owner)}.{thing.__name__}"
        qualified = getattr(thing, "__qualname__", type(thing).__qualname__)
        return self.imported_name(thing, qualified)

    def imported_name(self, thing: Any, qualified: str) -> str:
        """As `name_of`, of what was not shipped.

        Raises:
            NotDataError: As `name_of`.
        """
        module = getattr(thing, "__module__", None) or "builtins"
        if self.is_local is not None and self.is_local(module):
            raise NotDataError(
                f"{qualified} of the module {module}, which members do not have and which was not "
                "shipped with the object's class: name it in an annotation or a method of the "
                "class, or in its `shipped_types`"
            )
        name = f"{module}:{qualified}"
        try:
            found = self.thing_of(name)
        except (ImportError, AttributeError, ValueError, KeyError):
            found = None
        if found is not thing:
            raise NotDataError(f"{qualified} of {module}, which cannot be imported")
        return name

    def thing_of(self, name: str) -> Any:
        """The class or function of that name.

        Raises:
            LookupError, ImportError, AttributeError: There is none.
        """
        module, _, path = name.partition(":")
        if module:
            thing: Any = sys.modules.get(module) or importlib.import_module(module)
            rest = path
        else:
            # Qualified names have dots of their own: the longest one that was shipped.
            known, rest = path, ""
            while known not in self.by_name:
                known, dot, last = known.rpartition(".")
                if not dot:
                    raise LookupError(f"{path} was not shipped with the object's class")
                rest = f"{last}.{rest}" if rest else last
            thing = self.by_name[known]
        for part in rest.split(".") if rest else ():
            thing = getattr(thing, part)
        return thing


def encode_value(
    value: Any, types: Types, *, hides_addresses: bool = False, sorts_keys: bool = False
) -> bytes:
    """Write a value in its one form (see the module's text).

    Args:
        value: Anything that is data.
        types: What was shipped.
        hides_addresses: Write `at 0x...` in texts for the address of an object.
        sorts_keys: Write dictionaries as if they had been filled in a certain order.

    Returns:
        The same bytes for equal values in every process.

    Raises:
        NotDataError: It cannot be sent.
    """
    return encode(_Writer(types, hides_addresses, sorts_keys).lower(value, DEPTH_MAX))


def decode_value(data: bytes, types: Types) -> Any:
    """Read what `encode_value` wrote.

    Raises:
        Exception: Whatever a constructor raises that it names, or what it names is not there.
    """
    try:
        tree = _decode_tree(data)
    except RecursionError:
        # Much deeper than what is refused below: the same on all members, whatever their stacks.
        raise ValueError(_TOO_DEEP) from None
    return _raise(tree, types, DEPTH_MAX)


def without_addresses(text: str) -> str:
    """A text in which no object's address stands."""
    return _ADDRESS.sub(r"\g<1>0x...", text)


class _Writer:
    """Makes a tree of what msgpack can write out of one value."""

    def __init__(self, types: Types, hides_addresses: bool, sorts_keys: bool) -> None:
        self._types = types
        self._hides_addresses = hides_addresses
        self._sorts_keys = sorts_keys
        self._room = ITEMS_MAX

    def lower(self, value: Any, depth: int) -> Any:
        # Exact types first: an object of a subclass holds more than its base shows.
        kind = type(value)
        if kind is str:
            return self._text(value)
        if kind is int:
            if _INTEGER_MIN <= value <= _INTEGER_MAX:
                return value
            return [_INTEGER, f"{value:x}"]
        if value is None or kind is bool or kind is bytes:
            return value
        if kind is float:
            return value if value == value else [_NAN]
        if not depth:
            raise NotDataError(f"something nested over {DEPTH_MAX} deep, or that contains itself")
        depth -= 1
        if kind is list or kind is tuple:
            return [_LIST if kind is list else _TUPLE, *self._all(value, depth)]
        if kind is dict:
            pairs = [self._all(item, depth) for item in value.items()]
            if self._sorts_keys:
                pairs.sort(key=encode)
            return [_DICT, *(part for pair in pairs for part in pair)]
        if kind is set or kind is frozenset:
            return [_SET if kind is set else _FROZEN_SET, *self._sorted(value, depth)]
        return self._object(value, kind, depth)

    def _all(self, values: Iterable[Any], depth: int) -> list[Any]:
        lowered = [self.lower(value, depth) for value in values]
        self._room -= len(lowered)
        if self._room < 0:
            raise NotDataError(f"over {ITEMS_MAX:,} items")
        return lowered

    def _sorted(self, values: Iterable[Any], depth: int) -> list[Any]:
        return sorted(self._all(values, depth), key=encode)

    def _text(self, text: str) -> Any:
        if self._hides_addresses:
            text = without_addresses(text)
        try:
            text.encode()
        except UnicodeEncodeError:
            return [_TEXT, text.encode("utf-8", "surrogatepass")]
        return text

    def _object(self, value: Any, kind: type, depth: int) -> Any:
        if kind is bytearray:
            return [_BYTE_ARRAY, bytes(value)]
        if isinstance(value, Enum):
            return [_ENUM, self._types.name_of(kind), self.lower(value.value, depth)]
        if isinstance(value, type):
            return [_NAMED, self._types.name_of(value)]
        if isinstance(value, _FUNCTIONS):
            return self._function(value)
        if isinstance(value, set | frozenset):
            # Taken apart as others are, it would show its items in the order of hashes.
            state = self._state(getattr(value, "__dict__", None), depth)
            return [_SUBSET, self._types.name_of(kind), state, *self._sorted(value, depth)]
        try:
            reducer = copyreg.dispatch_table.get(kind)
            reduced = reducer(value) if reducer else value.__reduce_ex__(_REDUCE_PROTOCOL)
        except RecursionError:
            raise
        except Exception:
            # Whatever a class raises that cannot be taken apart; its own text may hold anything.
            raise NotDataError(f"a {kind.__qualname__}") from None
        if isinstance(reduced, str):
            return [_NAMED, self._types.imported_name(value, reduced)]
        make, arguments, state, items, pairs, *others = (*reduced, None, None, None)[:6]
        if any(other is not None for other in others):
            raise NotDataError(f"a {kind.__qualname__}, which is made in a way of its own")
        try:
            return [
                _OBJECT,
                self._types.name_of(make),
                self._all(arguments, depth),
                self._state(state, depth),
                self._all(items or (), depth),
                [self._all(pair, depth) for pair in pairs or ()],
            ]
        except NotDataError as error:
            raise NotDataError(f"{error}, in a {kind.__qualname__}") from None

    def _state(self, state: Any, depth: int) -> Any:
        # The order in which attributes were first set says nothing.
        if type(state) is dict and all(type(name) is str for name in state):
            state = {name: state[name] for name in sorted(state)}
        return self.lower(state, depth)

    def _function(self, function: Any) -> Any:
        try:
            return [_NAMED, self._types.name_of(function)]
        except NotDataError:
            if self._types.pickled is None or isinstance(function, MethodType):
                raise
            return [_PICKLED, self._types.pickled(function)]


def _raise(tree: Any, types: Types, depth: int) -> Any:
    """The value that a tree was made of."""
    if type(tree) is not list:
        return tree
    if not depth:
        raise ValueError(_TOO_DEEP)
    depth -= 1
    kind = tree[0]
    if kind == _LIST:
        return [_raise(part, types, depth) for part in tree[1:]]
    if kind == _TUPLE:
        return tuple([_raise(part, types, depth) for part in tree[1:]])
    if kind == _DICT:
        parts = iter([_raise(part, types, depth) for part in tree[1:]])
        return dict(zip(parts, parts, strict=True))
    if kind in (_SET, _FROZEN_SET):
        items = [_raise(part, types, depth) for part in tree[1:]]
        return set(items) if kind == _SET else frozenset(items)
    if kind == _OBJECT:
        return _made(tree, types, depth)
    if kind == _ENUM:
        return types.thing_of(tree[1])(_raise(tree[2], types, depth))
    if kind == _SUBSET:
        subset = types.thing_of(tree[1])([_raise(part, types, depth) for part in tree[3:]])
        return with_state(subset, _raise(tree[2], types, depth))
    return _raised_atom(kind, tree, types)


def _raised_atom(kind: int, tree: list[Any], types: Types) -> Any:
    if kind == _INTEGER:
        return int(tree[1], 16)
    if kind == _TEXT:
        return tree[1].decode("utf-8", "surrogatepass")
    if kind == _NAN:
        return struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\0")[0]
    if kind == _BYTE_ARRAY:
        return bytearray(tree[1])
    if kind == _PICKLED and types.unpickled is not None:
        return types.unpickled(tree[1])
    if kind == _NAMED:
        return types.thing_of(tree[1])
    raise ValueError(f"{kind} begins no value")


def _made(tree: list[Any], types: Types, depth: int) -> Any:
    _, make, arguments, state, items, pairs = tree
    made = types.thing_of(make)(*[_raise(part, types, depth) for part in arguments])
    made = with_state(made, _raise(state, types, depth))
    for item in items:
        made.append(_raise(item, types, depth))
    for key, value in pairs:
        made[_raise(key, types, depth)] = _raise(value, types, depth)
    return made


def with_state(made: Any, state: Any) -> Any:
    """Give an object what `__reduce_ex__` said is its state, as `pickle` does."""
    if state is None:
        return made
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return made
    slots: Mapping[str, Any] | None = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        vars(made).update(state)
    for name, value in (slots or {}).items():
        # Not `setattr` of the class, which a frozen dataclass refuses.
        object.__setattr__(made, name, value)
    return made
