"""What the objects machine has of one object: its class as the log brought it, and the instance.

An object is copied, saved and brought back as its pickle, in which its classes go by name. So it
can be kept only where all of its attributes can be pickled.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from ray_paxos.class_shipping import dumps, load_bundle, loads
from ray_paxos.errors import CommandError
from ray_paxos.machines.base import DIGEST_BYTES
from ray_paxos.machines.object_calls import FAILURES
from ray_paxos.replicated import Replicated, methods_of


class Loaded:
    """One class, as the log brought it. Attributes: `bundle` is its pickle, `digest` of that."""

    __slots__ = ("bundle", "cls", "digest", "methods", "types")

    def __init__(self, bundle: bytes) -> None:
        """Load it; raises as `load_bundle`."""
        self.bundle = bundle
        self.digest = hashlib.blake2b(bundle, digest_size=DIGEST_BYTES).digest()
        self.cls, self.types = load_bundle(bundle)
        self.methods = methods_of(self.cls)


class Object:
    """One object.

    Attributes:
        loaded: Its class.
        class_name: As its creator has it: what is loaded has lost what it was nested in.
        version: Of the class.
        instance: Itself.
        commands: How many it has executed so far.
    """

    __slots__ = ("class_name", "commands", "instance", "loaded", "version")

    def __init__(
        self, loaded: Loaded, class_name: str, version: int, instance: Any, commands: int = 0
    ) -> None:
        """Attributes as given."""
        self.loaded = loaded
        self.class_name = class_name
        self.version = version
        self.instance = instance
        self.commands = commands

    def copied(self, state: bytes) -> Object:
        """One that is equal, out of what `pickled` gave."""
        instance = loads(state, self.loaded.types)
        return Object(self.loaded, self.class_name, self.version, instance, self.commands)


class SavedObject(msgspec.Struct, array_like=True):
    """What a checkpoint holds of an object beside its class; attributes as there."""

    name: str
    digest: bytes
    class_name: str
    version: int
    commands: int
    state: bytes


decode_saved = msgspec.msgpack.Decoder(SavedObject).decode


def attributes_of(instance: object) -> dict[str, Any]:
    """All attributes of an object, those in slots as well; sorted."""
    found = dict(getattr(instance, "__dict__", {}))
    for cls in type(instance).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(instance, slot):
                found[slot] = getattr(instance, slot)
    return {name: found[name] for name in sorted(found)}


def with_attributes(cls: type[Replicated], attributes: dict[str, Any]) -> Replicated:
    """An instance that has these attributes; its constructor does not run."""
    instance = cls.__new__(cls)
    own = vars(instance)
    for name, value in attributes.items():
        if hasattr(getattr(cls, name, None), "__set__"):
            object.__setattr__(instance, name, value)
        else:
            own[name] = value
    return instance


def pickled(held: Object) -> bytes:
    """A copy of an object, as bytes.

    Raises:
        CommandError: It cannot be copied, and so neither saved nor checked nor undone.
    """
    types = held.loaded.types
    try:
        return dumps(held.instance, types)
    except FAILURES:
        raise
    except Exception:
        wrong = []
        for name, value in attributes_of(held.instance).items():
            try:
                dumps(value, types)
            except Exception:
                wrong.append(f"self.{name} (a {type(value).__qualname__})")
        raise CommandError(
            f"a {held.class_name} cannot be kept on members: {', '.join(wrong)} "
            "cannot be pickled; keep data only in its attributes"
        ) from None
