"""The objects machine: instances of users' classes, by name, and the methods that are called.

Rules:

1. An object is made by the first `Create` of its name. A later one with the same class name and
   version changes nothing; with another one it is refused.
2. A `Call` runs a method that is marked as a command. What it returns, or raises, is its result,
   written in the one form of `object_values`: the same bytes on all members, however the parts of
   the object came to be where they are. Calls name no version: one made for another version of the
   class runs what the object's class has by that name, or is refused where it has nothing.
3. What depends on this member, as `MemoryError` does, is no result, and is raised as it is;
   `object_calls` says where the line is.
4. An `Upgrade` gives the object another class at one place of the log, or does nothing at all. The
   old attributes are copied first, with the new classes in place of those of the same names.
5. Classes are loaded from the log, apart for each machine, and are part of the checkpoint; so is
   the object, pickled, with its classes by name. What is kept outside of it is lost there.
6. Where a class is checked for determinism, a command that is found to lack it is refused, and the
   state from before is kept (`object_checks`).

Measured (CPython 3.11, one core): a call of a method with two arguments 5 us, of which the method
itself is 0.1; with `atomic=True` 7 us more where the object is small, and 0.2 ms where it holds
1,000 numbers by text; checked, 55 us.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from ray_paxos.class_shipping import dumps, loads
from ray_paxos.errors import CommandError, QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext, StateMachine
from ray_paxos.machines.object_calls import (
    FAILURES,
    RefusedError,
    arguments_of,
    context_of,
    line_of,
    raised,
    run,
    sent,
)
from ray_paxos.machines.object_checks import (
    checked,
    differing_attributes,
    encoded_attributes,
    not_deterministic,
)
from ray_paxos.machines.object_messages import (
    UNREADABLE,
    Ask,
    Call,
    Create,
    Created,
    Describe,
    Description,
    Drop,
    Dropped,
    ListObjects,
    Names,
    Returned,
    Upgrade,
    Upgraded,
    decode_command,
    decode_query,
    encode,
)
from ray_paxos.machines.object_state import (
    Loaded,
    Object,
    SavedObject,
    attributes_of,
    decode_saved,
    pickled,
    with_attributes,
)
from ray_paxos.replicated import running

OBJECTS_MAX = 100_000
NAME_CHARACTERS_MAX = 500
PAGE_NAMES_MAX = 1_000
_CLASSES_FILE = "classes"
_OBJECTS_FILE = "objects"
_LENGTH_BYTES = 8


class ObjectsMachine(StateMachine):
    """Objects by name.

    Invariants: `_classes` has the classes of all objects and no others; a refused command, and an
    upgrade that raises, have changed nothing.
    """

    kind: ClassVar[str] = "objects"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """No objects."""
        self._objects: dict[str, Object] = {}
        self._classes: dict[bytes, Loaded] = {}

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Execute an `ObjectCommand`.

        Returns:
            An encoded `ObjectResult`.

        Raises:
            CommandError: The bytes are no command of this machine; there is no such object or
                method, or it is of another class; the class or the arguments cannot be loaded; or
                the command was found to be non-deterministic. Nothing has changed. Or the method
                returned what cannot be sent: then it is executed, and the text says so.
            MemoryError, RecursionError: Rule 3.
        """
        try:
            decoded = decode_command(command)
        except UNREADABLE:
            raise CommandError("not a command of the objects machine") from None
        match decoded:
            case Create():
                return self._create(decoded, context)
            case Call():
                return self._call(decoded, context)
            case Upgrade():
                return self._upgrade(decoded, context)
            case Drop():
                existed = self._objects.pop(decoded.name, None) is not None
                self._forget_classes()
                return encode(Dropped(existed))

    def query(self, request: bytes) -> bytes:
        """Answer an `ObjectQuery` with an `ObjectAnswer`.

        Raises:
            QueryError: It is none; there is no such object or method; or the query was found
                writing by a class that is checked.
        """
        try:
            decoded = decode_query(request)
        except UNREADABLE as error:
            raise QueryError(f"not a query of the objects machine: {error}") from error
        match decoded:
            case Ask():
                try:
                    return self._ask(decoded)
                except CommandError as error:
                    raise QueryError(str(error)) from error
            case Describe():
                held = self._objects.get(decoded.name)
                if held is None:
                    return encode(Description("", 0))
                methods = tuple((n, mark.kind) for n, (_, mark) in held.loaded.methods.items())
                description = Description(held.class_name, held.version, methods, held.commands)
                return encode(description)
            case ListObjects():
                names = sorted(self._objects)
                start = bisect_right(names, decoded.after) if decoded.after else 0
                end = start + max(1, min(decoded.count, PAGE_NAMES_MAX))
                return encode(Names(tuple(names[start:end]), end < len(names)))

    def digest(self) -> bytes:
        """Over each attribute of each object in its one form, but for the order of dictionaries.

        Of an attribute that has no such form (it holds a function, or contains itself, or is of
        over a million items) only its name counts; the number of commands counts in any case.
        """
        state = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name, held in sorted(self._objects.items()):
            head = (name, held.loaded.digest, held.class_name, held.version, held.commands)
            state.update(encode(head))
            for attribute, data in encoded_attributes(held, sorts_keys=True).items():
                state.update(encode((attribute, data)))
        return state.digest()

    def save(self, directory: Path) -> None:
        """Write classes and objects, one after the other, into two files."""
        with (directory / _CLASSES_FILE).open("wb") as file:
            for loaded in self._classes.values():
                _write(file, loaded.bundle)
        with (directory / _OBJECTS_FILE).open("wb") as file:
            for name, held in self._objects.items():
                saved = SavedObject(
                    name,
                    held.loaded.digest,
                    held.class_name,
                    held.version,
                    held.commands,
                    dumps(held.instance, held.loaded.types),
                )
                _write(file, encode(saved))

    def load(self, directory: Path) -> None:
        """Read them back, in a process that need not have seen any of the classes."""
        with (directory / _CLASSES_FILE).open("rb") as file:
            classes = {each.digest: each for each in map(Loaded, _read(file))}
        objects = {}
        with (directory / _OBJECTS_FILE).open("rb") as file:
            for saved in map(decode_saved, _read(file)):
                loaded = classes[saved.digest]
                instance = loads(saved.state, loaded.types)
                objects[saved.name] = Object(
                    loaded, saved.class_name, saved.version, instance, saved.commands
                )
        self._classes, self._objects = classes, objects

    # Commands.

    def _create(self, create: Create, context: ApplyContext) -> bytes:
        held = self._objects.get(create.name)
        if held is not None:
            found = (held.class_name, held.version)
            if found != (create.class_name, create.version):
                raise CommandError(
                    f"object {create.name!r} is a {found[0]} of version {found[1]}, not a "
                    f"{create.class_name} of version {create.version}: open it as what it is, "
                    "`upgrade` it to a higher version, or choose another name"
                )
            return encode(Created(is_new=False))
        if not 1 <= len(create.name) <= NAME_CHARACTERS_MAX:
            raise CommandError(f"a name has 1 to {NAME_CHARACTERS_MAX} characters")
        if len(self._objects) >= OBJECTS_MAX:
            raise CommandError(f"there are {OBJECTS_MAX:,} objects, which is the limit")
        loaded = self._load_class(create.bundle)
        made = []
        try:
            for _ in range(2 if loaded.cls.checks_determinism else 1):
                args, kwargs = arguments_of(create.arguments, loaded.types)
                with running(context_of(create.name, context)):
                    instance = loaded.cls(*args, **kwargs)
                made.append(Object(loaded, create.class_name, create.version, instance))
        except (*FAILURES, RefusedError):
            raise
        except Exception as error:
            return encode(raised(error, loaded.types))
        differing = differing_attributes(*map(encoded_attributes, (made[0], made[-1])))
        if differing:
            raise not_deterministic(f"{create.class_name}.__init__", differing)
        pickled(made[0])
        self._classes[loaded.digest] = loaded
        self._objects[create.name] = made[0]
        return encode(Created(is_new=True))

    def _call(self, call: Call, context: ApplyContext) -> bytes:
        held = self._held(call.name)
        method, is_atomic = _method(held, call, "command")
        loaded = held.loaded
        where = f"{held.class_name}.{call.method}"
        if loaded.cls.checks_determinism:
            result, instance = checked(held, call, context, method, is_atomic)
            held.instance = instance
        else:
            args, kwargs = arguments_of(call.arguments, loaded.types)
            before = pickled(held) if is_atomic else b""
            with running(context_of(call.name, context)):
                result = run(method, held.instance, args, kwargs, loaded.types)
            if is_atomic and not isinstance(result, Returned):
                held.instance = loads(before, loaded.types)
        held.commands += 1
        return sent(result, where, is_atomic)

    def _upgrade(self, upgrade: Upgrade, context: ApplyContext) -> bytes:
        held = self._held(upgrade.name)
        if held.version != upgrade.from_version:
            raise CommandError(
                f"object {upgrade.name!r} is of version {held.version}, not "
                f"{upgrade.from_version}: it has been upgraded; open it anew"
            )
        if upgrade.version <= held.version:
            raise CommandError(
                f"object {upgrade.name!r} is of version {held.version}; {upgrade.class_name} of "
                f"version {upgrade.version} is no upgrade: raise `version` in the class"
            )
        loaded = self._load_class(upgrade.bundle)
        try:
            # A copy, so that nothing has changed where this fails half-way.
            attributes = dumps(attributes_of(held.instance), held.loaded.types)
            state = loads(attributes, loaded.types)
            if upgrade.migrate:
                with running(context_of(upgrade.name, context)):
                    state = loads(upgrade.migrate, loaded.types)(state)
        except FAILURES:
            raise
        except Exception as error:
            return encode(raised(error, loaded.types))
        if isinstance(state, loaded.cls):
            instance = state
        elif isinstance(state, dict) and all(isinstance(name, str) for name in state):
            instance = with_attributes(loaded.cls, state)
        else:
            raise CommandError(
                f"migrate returned a {type(state).__qualname__}; allowed: a dictionary of "
                f"attributes, or a {upgrade.class_name}; nothing has changed"
            )
        upgraded = Object(loaded, upgrade.class_name, upgrade.version, instance, held.commands)
        pickled(upgraded)
        self._classes[loaded.digest] = loaded
        self._objects[upgrade.name] = upgraded
        self._forget_classes()
        return encode(Upgraded())

    def _ask(self, ask: Ask) -> bytes:
        held = self._held(ask.name)
        method, _ = _method(held, ask, "query")
        loaded = held.loaded
        args, kwargs = arguments_of(ask.arguments, loaded.types)
        instance, where = held.instance, f"{held.class_name}.{ask.method}"
        if not loaded.cls.checks_determinism:
            return sent(run(method, instance, args, kwargs, loaded.types), where, False)
        # On a copy: what it writes must not stay on this one member.
        copy = held.copied(pickled(held))
        before = encoded_attributes(copy)
        result = run(method, copy.instance, args, kwargs, loaded.types)
        changed = differing_attributes(before, encoded_attributes(copy))
        if changed:
            raise QueryError(
                f"{where} is a @query and changes {changed}; it would change on one member only: "
                "make it a @command"
            )
        return sent(result, where, False)

    # Helpers.

    def _held(self, name: str) -> Object:
        held = self._objects.get(name)
        if held is None:
            raise CommandError(f"there is no object {name!r}; it was never created, or dropped")
        return held

    def _load_class(self, bundle: bytes) -> Loaded:
        digest = hashlib.blake2b(bundle, digest_size=DIGEST_BYTES).digest()
        known = self._classes.get(digest)
        if known is not None:
            return known
        try:
            return Loaded(bundle)
        except FAILURES:
            raise
        except Exception as error:
            # A result: where a package is missing on one member only, its result differs, which is
            # found; where it is missing on all, nothing else of the group is concerned.
            raise CommandError(
                f"the class cannot be loaded on members: {line_of(error)}"
            ) from error

    def _forget_classes(self) -> None:
        used = {held.loaded.digest for held in self._objects.values()}
        self._classes = {digest: each for digest, each in self._classes.items() if digest in used}


def _method(held: Object, call: Call | Ask, kind: str) -> tuple[Callable[..., Any], bool]:
    found = held.loaded.methods.get(call.method)
    if found is None or found[1].kind != kind:
        what = f"a {found[1].kind}" if found else "absent"
        raise CommandError(
            f"{call.method} as a {kind}: it is {what} in {held.class_name} of version "
            f"{held.version}, which object {call.name!r} is; open it as that"
        )
    return found[0], found[1].is_atomic


# Files.


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(len(data).to_bytes(_LENGTH_BYTES, "big"))
    file.write(data)


def _read(file: BinaryIO) -> Iterator[bytes]:
    while head := file.read(_LENGTH_BYTES):
        yield file.read(int.from_bytes(head, "big"))
