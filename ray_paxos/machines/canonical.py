"""One byte string for equal states, whatever the process that asks.

`pickle` gives equal states different bytes (it follows object identity, interning and the hash
order of sets), so a digest over it would tell members apart that agree. This form is made for
digests only: it is written, hashed and compared, never read back.

Every item is framed by its type and length, so two different states never give the same bytes.
Dictionaries and sets are sorted by the encoded form of what they hold: the order in which they
were filled does not show. Objects of other classes are taken apart the way `copy` and `pickle`
do it, by `__reduce_ex__`, so that nothing of them is left out unseen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Set
from types import BuiltinFunctionType, FunctionType, MethodType

_REDUCE_PROTOCOL = 2


def canonical_bytes(state: object) -> bytes:
    """Encode a state for a digest.

    Args:
        state: None, bool, int, float, str, bytes, lists, tuples, dictionaries and sets of them to
            any depth, and whatever objects `copy.deepcopy` could copy, which count by their class
            and content.

    Returns:
        The same bytes for equal states in every process.

    Raises:
        TypeError: The state holds something that is not data (an open file, a lock, a function).
        RecursionError: The state contains itself, or is nested too deeply.
    """
    # Exact types first: a bool is an int and must not look like one, and an object of a subclass
    # may hold more than its base shows.
    kind = type(state)
    if state is None:
        return _framed(b"N", b"")
    if isinstance(state, int) and kind in (bool, int):
        # Hexadecimal: decimal digits are limited in number, and slow.
        return _framed(b"B" if kind is bool else b"I", f"{state:x}".encode())
    if isinstance(state, float) and kind is float:
        return _framed(b"F", struct.pack(">d", state))
    if isinstance(state, str) and kind is str:
        return _framed(b"S", state.encode("utf-8", "surrogatepass"))
    if isinstance(state, bytes) and kind is bytes:
        return _framed(b"Y", state)
    if isinstance(state, list | tuple) and kind in (list, tuple):
        return _framed(b"L" if kind is list else b"P", _joined(state))
    if isinstance(state, Mapping) and kind is dict:
        return _framed(b"D", _sorted(_joined(item) for item in state.items()))
    if isinstance(state, Set) and isinstance(state, set | frozenset):
        # Subclasses too: taking them apart would show their items in hash order.
        return _framed(b"T", _name(kind) + _sorted(map(canonical_bytes, state)))
    if isinstance(state, type):
        return _framed(b"C", _name(state))
    return _framed(b"O", _object_bytes(state))


def _object_bytes(state: object) -> bytes:
    if isinstance(state, FunctionType | BuiltinFunctionType | MethodType):
        raise _not_data(state)
    try:
        reduced = state.__reduce_ex__(_REDUCE_PROTOCOL)
    except TypeError as error:
        raise _not_data(state) from error
    if isinstance(reduced, str):
        return _name(type(state)) + canonical_bytes(reduced)
    make, *parts = reduced
    items = [list(part) if _is_iterator(part) else part for part in parts]
    return _name(make) + _joined(items)


def _is_iterator(part: object) -> bool:
    return hasattr(part, "__next__")


def _not_data(state: object) -> TypeError:
    return TypeError(
        f"a state that holds a {type(state).__qualname__} has no default digest: keep data only "
        "in the machine's attributes, or override StateMachine.digest"
    )


def _name(thing: object) -> bytes:
    module = getattr(thing, "__module__", "")
    name = getattr(thing, "__qualname__", "")
    return canonical_bytes(f"{module}.{name}")


def _joined(items: Iterable[object]) -> bytes:
    return b"".join(map(canonical_bytes, items))


def _sorted(items: Iterable[bytes]) -> bytes:
    return b"".join(sorted(items))


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(8, "big") + body
