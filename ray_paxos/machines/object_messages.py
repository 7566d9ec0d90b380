"""What is said about replicated objects: commands, queries, results and answers.

Commands, results, queries and answers are msgpack arrays that start with their name. Arguments,
results and exceptions are users' values: here they are bytes, and `object_values` says what form
those have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

TEXT_CHARACTERS_MAX = 1_000
"""Of an exception's text."""


class Create(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="create"
):
    """Command: let there be an object; changes nothing where there is one of that class.

    Attributes:
        name: Of the object.
        class_name: Qualified name of its class.
        version: Of the class.
        bundle: The class, as `class_shipping` pickled it.
        arguments: Of the constructor: an encoded pair of a tuple and a dictionary.
    """

    name: str
    class_name: str
    version: int
    bundle: bytes
    arguments: bytes


class Call(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="call"):
    """Command: run a method; attributes as of `Create`."""

    name: str
    method: str
    arguments: bytes


class Upgrade(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="upgrade"
):
    """Command: let the object be of another class from here on.

    Attributes:
        name: Of the object.
        from_version: The version that it has to have.
        class_name: As of `Create`.
        version: Of the new class; above the other.
        bundle: The new class.
        migrate: A pickled function from the old attributes to the new ones, or to an instance;
            empty for the same attributes.
    """

    name: str
    from_version: int
    class_name: str
    version: int
    bundle: bytes
    migrate: bytes


class Drop(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="drop"):
    """Command: let there be no such object."""

    name: str


class Ask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ask"):
    """Query: run a method that only reads; attributes as of `Create`."""

    name: str
    method: str
    arguments: bytes


class Describe(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="describe"
):
    """Query: what an object is."""

    name: str


class ListObjects(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="list"
):
    """Query: the next names behind one, in ascending order."""

    after: str
    count: int


class Created(msgspec.Struct, frozen=True, array_like=True, tag="created"):
    """Result: the object is there; whether it is new."""

    is_new: bool


class Upgraded(msgspec.Struct, frozen=True, array_like=True, tag="upgraded"):
    """Result: the object is of the new class."""


class Dropped(msgspec.Struct, frozen=True, array_like=True, tag="dropped"):
    """Result: there is no such object; whether there was one."""

    existed: bool


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="returned"):
    """Result, and answer: an encoded value."""

    value: bytes


class Raised(msgspec.Struct, frozen=True, array_like=True, tag="raised"):
    """Result, and answer: what the user's code raised.

    Attributes:
        type_name: Qualified name of its class.
        text: Of it, without addresses.
        error: Itself, encoded; empty where that cannot be done.
    """

    type_name: str
    text: str
    error: bytes


class Description(msgspec.Struct, frozen=True, array_like=True, tag="description"):
    """Answer to a `Describe`.

    Attributes:
        class_name: Empty where there is no such object.
        version: Of the class.
        methods: Names, and whether each is a "command" or a "query"; sorted.
        commands: How many were executed so far, the constructor not counted.
    """

    class_name: str
    version: int
    methods: tuple[tuple[str, str], ...] = ()
    commands: int = 0


class Names(msgspec.Struct, frozen=True, array_like=True, tag="names"):
    """Answer to a `ListObjects`: names, and whether there are more behind them."""

    names: tuple[str, ...]
    has_more: bool


ObjectCommand: TypeAlias = Create | Call | Upgrade | Drop
ObjectQuery: TypeAlias = Ask | Describe | ListObjects
ObjectResult: TypeAlias = Created | Upgraded | Dropped | Returned | Raised
ObjectAnswer: TypeAlias = Returned | Raised | Description | Names

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
encode = msgspec.msgpack.Encoder().encode
decode_command: Callable[[bytes], ObjectCommand] = msgspec.msgpack.Decoder(ObjectCommand).decode
decode_query: Callable[[bytes], ObjectQuery] = msgspec.msgpack.Decoder(ObjectQuery).decode
decode_result: Callable[[bytes], ObjectResult] = msgspec.msgpack.Decoder(ObjectResult).decode
decode_answer: Callable[[bytes], ObjectAnswer] = msgspec.msgpack.Decoder(ObjectAnswer).decode
