"""One text for one state: what two roles that would do the same from here on have in common.

The walk has to see that two paths led to the same state. So a role is written down as bytes that
depend on nothing but what it holds: no address in memory, no hash order. Sets and dictionaries are
written in the order of their elements' own texts, since by house rule no role lets that
order decide anything; `OrderedDict`, lists and deques keep theirs. A driver's write numbers are
counted from its last durable write, for only their distance matters; and the answers that wait for
a sync are a set, as the network is into which they go. What a role keeps only to tell of it is not
written at all: when a request came in, and which votes made a value chosen.

Of the text only a hash is kept (16 bytes of BLAKE2b). That is Holzmann's "hash compaction", with so
many bits that two of a million states share one with a probability of 10^-26.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from types import MethodType

import msgspec

from ray_paxos.core.candidacy import Candidacy
from ray_paxos.core.driver import Driver, Write
from ray_paxos.core.intake import Request
from ray_paxos.core.pipeline import OpenInstance

DIGEST_BYTES = 16
TOLD_ONLY: dict[type, frozenset[str]] = {
    Request: frozenset(("arrived_ns", "trace")),
    Candidacy: frozenset(("_prepared_ns",)),
}
"""Fields that decide nothing, by the class that has them."""


class Canon:
    """Writes states down.

    Frozen values are written once: they are the bulk of every state, and the same in most.
    """

    def __init__(self) -> None:
        """Start with nothing written."""
        self._frozen: dict[object, bytes] = {}
        self._writers: dict[type, Callable[[object], bytes]] = {
            type(None): lambda value: b"N",
            bool: lambda value: b"T" if value else b"F",
            int: _write_int,
            str: _write_text,
            MethodType: _write_method,
            type: lambda value: b"c" + _write_text(str(value)),
            bytes: _write_bytes,
            tuple: self._write_sequence,
            list: self._write_sequence,
            deque: self._write_sequence,
            set: self._write_set,
            frozenset: self._write_set,
            dict: self._write_mapping,
            OrderedDict: self._write_ordered,
            Driver: self._write_driver,
            OpenInstance: self._write_instance,
        }

    def digest(self, value: object) -> bytes:
        """The hash of a value's text."""
        return hashlib.blake2b(self.text(value), digest_size=DIGEST_BYTES).digest()

    def text(self, value: object) -> bytes:
        """A value's text."""
        kind = type(value)
        writer = self._writers.get(kind)
        if writer is None:
            writer = self._writers[kind] = self._writer_for(kind)
        return writer(value)

    def _writer_for(self, kind: type) -> Callable[[object], bytes]:
        if issubclass(kind, msgspec.Struct):
            assert kind.__struct_config__.frozen, f"{kind} may change"
            fields = kind.__struct_fields__
            return lambda value: self._write_frozen(value, fields)
        if issubclass(kind, enum.Enum):
            return lambda value: b"e" + _write_text(str(value))
        if issubclass(kind, random.Random):
            # Of the model's own kind, which holds nothing.
            return lambda value: b"R"
        if dataclasses.is_dataclass(kind):
            parameters = kind.__dataclass_params__  # type: ignore[attr-defined]
            told_only = TOLD_ONLY.get(kind, frozenset())
            declared = (field.name for field in dataclasses.fields(kind))
            names = tuple(name for name in declared if name not in told_only)
            if parameters.frozen:
                return lambda value: self._write_frozen(value, names)
            return lambda value: self._write_fields(value, names)
        slots = tuple(n for base in kind.__mro__ for n in getattr(base, "__slots__", ()))
        if slots:
            return lambda value: self._write_fields(value, slots)
        told_only = TOLD_ONLY.get(kind, frozenset())
        return lambda value: self._write_fields(value, tuple(sorted({*vars(value)} - told_only)))

    # Scalars and containers.

    def _write_sequence(self, value: object) -> bytes:
        assert isinstance(value, tuple | list | deque)
        return b"(" + b"".join(map(self.text, value)) + b")"

    def _write_set(self, value: object) -> bytes:
        assert isinstance(value, set | frozenset)
        return b"{" + b"".join(sorted(map(self.text, value))) + b"}"

    def _write_mapping(self, value: object) -> bytes:
        assert isinstance(value, dict)
        text = self.text
        return b"[" + b"".join(sorted(text(k) + b":" + text(v) for k, v in value.items())) + b"]"

    def _write_ordered(self, value: object) -> bytes:
        assert isinstance(value, OrderedDict)
        text = self.text
        return b"<" + b"".join(text(k) + b":" + text(v) for k, v in value.items()) + b">"

    # Objects.

    def _write_instance(self, value: object) -> bytes:
        """While it is open its votes count; once it is chosen only its requests wait."""
        assert isinstance(value, OpenInstance)
        if value.chosen_ns:
            return b"O" + self.text(value.requests)
        voted = frozenset(value.votes)
        return b"o" + self.text(
            (value.instance_id, value.value, value.requests, value.sent_ns, voted)
        )

    def _write_frozen(self, value: object, names: tuple[str, ...]) -> bytes:
        try:
            known = self._frozen.get(value)
        except TypeError:
            # It is frozen, but something in it is not.
            return self._write_fields(value, names)
        if known is None:
            known = self._frozen[value] = self._write_fields(value, names)
        return known

    def _write_fields(self, value: object, names: tuple[str, ...]) -> bytes:
        text = self.text
        parts = [text(getattr(value, name)) for name in names]
        return b"o" + type(value).__name__.encode() + b"(" + b"".join(parts) + b")"

    def _write_driver(self, value: object) -> bytes:
        assert isinstance(value, Driver)
        held = vars(value)
        durable = held["_durable"]
        unsynced: deque[Write] = held["_unsynced"]
        relative = {
            "unsynced": [(write.number - durable, write.records) for write in unsynced],
            "waiting": {(number - durable, sent) for number, sent in held["_waiting"]},
            "written": held["_written"] - durable,
        }
        rest = {n: v for n, v in held.items() if n.strip("_") not in (*relative, "durable")}
        return b"d" + self.text(relative) + self.text(rest)


def _write_int(value: object) -> bytes:
    assert isinstance(value, int)
    return b"i%d;" % value


def _write_text(value: object) -> bytes:
    assert isinstance(value, str)
    encoded = value.encode()
    return b"t%d;%b" % (len(encoded), encoded)


def _write_method(value: object) -> bytes:
    """A method that one part of a role was given of another: that object is written elsewhere."""
    assert isinstance(value, MethodType)
    return b"m" + _write_text(value.__func__.__qualname__)


def _write_bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return b"b%d;%b" % (len(value), value)
