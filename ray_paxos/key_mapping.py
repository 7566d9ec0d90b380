"""A space of keys as a dictionary: what `dict` does, on all nodes, and it stays.

```python
flags = cluster.kv("flags").mapping()      # values of any kind that pickles
flags["new-parser"] = {"share": 0.1}
flags.setdefault("old-parser", True)       # one step: of two who do so one sets it
flags.pop("old-parser", None)              # one step, too: one gets it, the other the default
with_text = kv.mapping(encode=str.encode, decode=bytes.decode)
```

Each operation on one key is one command, or one linearizable read, of its group: nothing comes in
between (`setdefault`, `pop` and `del` are transactions of the machine). Whatever goes through many
keys (`len`, iteration, `items`, `clear`, `update`, comparisons) does so page by page or key by key,
and sees what others write meanwhile. To read a value, change it and write it back is two steps, as
`flags["n"] += 1` is: use `KeyValue.cas` where two may do so.

Pickled values are made with cloudpickle, so that functions and classes of a driver's main program
work; whoever can write to the space can have code run by whoever reads it, as in Ray itself.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.kv import Delete, Get, HasValue, Put, Read, TxnDone

if TYPE_CHECKING:
    from ray_paxos.key_value import KeyValue

V = TypeVar("V")
T = TypeVar("T")


class _Absent:
    """Where None may be what somebody means."""


_ABSENT: Final = _Absent()


def pickled(value: object) -> bytes:
    """A value as bytes.

    Raises:
        ConfigurationError: It cannot be pickled.
    """
    import cloudpickle  # slow to import

    try:
        return bytes(cloudpickle.dumps(value))
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"value: found {type(value).__qualname__}, which cannot be pickled ({error}); "
            "allowed: what can, or give `encode` and `decode`"
        ) from error


class KeyMapping(MutableMapping[str, V], Generic[V]):
    """Made by `KeyValue.mapping`; raises what a `KeyValue` raises, and `KeyError`."""

    def __init__(
        self, space: KeyValue, encode: Callable[[V], bytes], decode: Callable[[bytes], V]
    ) -> None:
        """Send nothing yet.

        Args:
            space: Whose keys.
            encode: Makes bytes of a value.
            decode: Makes a value of them.
        """
        self._space = space
        self._encode = encode
        self._decode = decode

    def __repr__(self) -> str:
        return f"KeyMapping({self._space.name!r})"

    # One key.

    def __getitem__(self, key: str) -> V:
        found = self._space.get(key)
        if found is None:
            raise KeyError(key)
        return self._decode(found.value)

    def __setitem__(self, key: str, value: V) -> None:
        self._space.put(key, self._encode(value))

    def __delitem__(self, key: str) -> None:
        if self._space.txn([HasValue(key, None)], [], [Delete(key)]).held:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._space.get(key) is not None

    @overload
    def pop(self, key: str, /) -> V: ...
    @overload
    def pop(self, key: str, /, default: V) -> V: ...
    @overload
    def pop(self, key: str, /, default: T) -> V | T: ...
    def pop(self, key: str, /, default: Any = _ABSENT) -> Any:
        """Take a value out; of several who do so one gets it.

        Args:
            key: Which.
            default: What to give where it has none.

        Raises:
            KeyError: It has none, and there is no default.
        """
        found = self._take(key)
        if not isinstance(found, _Absent):
            return found
        if default is _ABSENT:
            raise KeyError(key)
        return default

    def _take(self, key: str) -> V | _Absent:
        done = self._space.txn([HasValue(key, None)], [], [Get(key), Delete(key)])
        return _ABSENT if done.held else self._value_of(done)

    def _value_of(self, done: TxnDone) -> V:
        """What the get that a txn begins with has found: a value, by its conditions."""
        found = done.results[0]
        assert isinstance(found, Read) and found.value is not None, "it has a value"
        return self._decode(found.value)

    def setdefault(self, key: str, default: V = None) -> V:  # type: ignore[assignment]
        """Give a key a value where it has none; of several who do so one does.

        Returns:
            Its value after that.
        """
        done = self._space.txn([HasValue(key, None)], [Put(key, self._encode(default))], [Get(key)])
        return default if done.held else self._value_of(done)

    def popitem(self) -> tuple[str, V]:
        """Take some key and its value out; of several who do so each gets another.

        Raises:
            KeyError: There is none.
        """
        for key in self:
            value = self._take(key)
            if not isinstance(value, _Absent):
                return key, value
        raise KeyError("no key has a value")

    # All keys.

    def __iter__(self) -> Iterator[str]:
        return (entry.key for entry in self._space.scan())

    def __len__(self) -> int:
        return sum(1 for _ in self._space.scan())

    def items(self) -> ItemsView[str, V]:
        """Keys and values that were there: read once, page by page, and held here."""
        return self._snapshot().items()

    def values(self) -> ValuesView[V]:
        """Values that were there; as `items`."""
        return self._snapshot().values()

    def keys(self) -> KeysView[str]:
        """Keys that were there, in the order of their code points; as `items`."""
        return dict.fromkeys(entry.key for entry in self._space.scan()).keys()

    def clear(self) -> None:
        """Delete all keys that there are; what is written meanwhile may stay."""
        for key in self:
            self._space.delete(key)

    def _snapshot(self) -> dict[str, V]:
        return {entry.key: self._decode(entry.value) for entry in self._space.scan()}
