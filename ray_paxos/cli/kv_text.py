"""What `ray-paxos kv` reads and prints: values as they are given, keys and versions as shown."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from ray_paxos.cli.shell import HeldConnection
from ray_paxos.machines.describing import describe_text

if TYPE_CHECKING:
    from ray_paxos.machines.kv import KeyEntry

STANDARD_INPUT = "-"
FILE_MARK = "@"


def value_argument(command: Callable[..., None]) -> Callable[..., None]:
    """The value that is written, as bytes."""

    def read(context: click.Context, parameter: click.Parameter, text: str) -> bytes:
        if text == STANDARD_INPUT and context.find_object(HeldConnection) is not None:
            raise click.BadParameter("standard input is the shell's own; use @FILE")
        return read_value(text)

    return click.argument("value", callback=read)(command)


def read_value(text: str) -> bytes:
    """A value as it is given on the command line: `@FILE`, `-` for standard input, or text.

    Raises:
        click.BadParameter: The file cannot be read.
    """
    if text == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    if not text.startswith(FILE_MARK):
        # What the shell handed over, byte for byte, also where it is no UTF-8.
        return text.encode(errors="surrogateescape")
    try:
        with open(text[len(FILE_MARK) :], "rb") as file:
            return file.read()
    except OSError as error:
        raise click.BadParameter(f"{error.filename}: {error.strerror}") from error


def scan_lines(entries: Iterator[KeyEntry], *, as_json: bool) -> Iterator[str]:
    """Entries in lines; as JSON one document, which is never held whole."""
    if not as_json:
        for entry in entries:
            yield f"{shown_key(entry.key)}  version {entry.version}  {describe_text(entry.value)}"
        return
    opening = "["
    for entry in entries:
        yield opening + json.dumps(key_document(entry.key, entry.value, entry.version))
        opening = ","
    yield "]" if opening == "," else "[]"


def key_document(key: str, value: bytes, version: int) -> dict[str, Any]:
    """A key as JSON takes it; a value that is no text is in base64."""
    try:
        return {"key": key, "version": version, "value": value.decode()}
    except UnicodeDecodeError:
        encoded = base64.b64encode(value).decode()
        return {"key": key, "version": version, "value_base64": encoded}


def no_value(key: str, version: int) -> str:
    """Why a key has none, for a person."""
    why = f"has no value any more, at version {version}" if version else "is not there"
    return f"key {shown_key(key)} {why}"


def shown_key(key: str) -> str:
    """A key on one line, which does not move the cursor of the one who reads it."""
    return key if key.isprintable() else key.encode("unicode_escape").decode()


def tell_version(key: str, version: int, as_json: bool) -> None:
    """Print what a write made of a key."""
    if as_json:
        click.echo(json.dumps({"key": key, "version": version}))
    else:
        click.echo(f"key {shown_key(key)}: version {version}")


def space_line(name: str, groups: tuple[int, ...]) -> str:
    """A space, for a person."""
    return f"{name}  groups {', '.join(map(str, groups))}"
