"""`ray-paxos kv ...`: the keys of a space of a running cluster, and which spaces there are.

`get` writes a value to standard output byte for byte, so that it can go into a file; all else is
for people, and `--json` for programs.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from ray_paxos.cli.running_cluster import address_option, connect_to, json_option
from ray_paxos.cli.statuses import Damage, statuses
from ray_paxos.machines.describing import describe_text

if TYPE_CHECKING:
    from ray_paxos.key_value import KeyValue
    from ray_paxos.machines.kv import KeyEntry

CONSISTENCIES = ("linearizable", "lease", "follower", "stale")
STANDARD_INPUT = "-"
FILE_MARK = "@"
FETCHED_AT_ONCE = 1_000

timeout_option = click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long to try.",
)
consistency_option = click.option(
    "--consistency",
    type=click.Choice(CONSISTENCIES),
    default="linearizable",
    show_default=True,
    help="How fresh the answer is to be.",
)


def value_argument(command: Callable[..., None]) -> Callable[..., None]:
    """The value that is written, as bytes."""
    return click.argument("value", callback=lambda context, parameter, text: read_value(text))(
        command
    )


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


@click.group()
def kv() -> None:
    """Read and write keys of a space, which spreads them over groups of a running cluster.

    A VALUE is text, @FILE, or - for standard input; a negative number, say, goes behind --.
    """


@kv.command()
@click.argument("cluster")
@json_option
@address_option
def spaces(cluster: str, as_json: bool, address: str | None) -> None:
    """List the spaces, and the groups that hold their keys."""
    with statuses():
        found = connect_to(cluster, address).spaces.present()
        if as_json:
            document = [{"name": each.name, "groups": list(each.groups)} for each in found]
            click.echo(json.dumps(document, indent=1))
            return
        for each in found:
            click.echo(_space_line(each.name, each.groups))


@kv.command()
@click.argument("cluster")
@click.argument("space")
@click.option(
    "--group",
    "groups",
    type=int,
    multiple=True,
    help="One that holds its keys; by default all with a machine kv. May be repeated.",
)
@json_option
@address_option
def create(
    cluster: str, space: str, groups: tuple[int, ...], as_json: bool, address: str | None
) -> None:
    """Make a space, where there is none of that name; its groups never change."""
    with statuses():
        made = connect_to(cluster, address).kv(space, groups=groups or None)
        if as_json:
            click.echo(json.dumps({"name": made.name, "groups": list(made.groups)}))
        else:
            click.echo(_space_line(made.name, made.groups))


@kv.command()
@click.argument("cluster")
@click.argument("space")
@address_option
def drop(cluster: str, space: str, address: str | None) -> None:
    """Drop a space for ever; its groups may be dropped then, and its keys go with them."""
    with statuses():
        connect_to(cluster, address).spaces.drop(space)
        click.echo(f"space {space}: dropped")


@kv.command()
@click.argument("cluster")
@click.argument("space")
@click.argument("key")
@value_argument
@click.option(
    "--ttl-s",
    type=click.FloatRange(min=0, min_open=True),
    help="After how long it ends by itself, if nobody renews it.",
)
@timeout_option
@json_option
@address_option
def put(
    cluster: str,
    space: str,
    key: str,
    value: bytes,
    ttl_s: float | None,
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Give a key a value."""
    with statuses():
        opened = _opened(cluster, space, address)
        _tell(key, opened.put(key, value, ttl_s=ttl_s, timeout_s=timeout_s).version, as_json)


@kv.command()
@click.argument("cluster")
@click.argument("space")
@click.argument("key")
@click.argument("ttl_s", type=click.FloatRange(min=0, min_open=True))
@timeout_option
@json_option
@address_option
def renew(
    cluster: str,
    space: str,
    key: str,
    ttl_s: float,
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Let a key's value end TTL_S seconds from now; status 1 where it has none."""
    from ray_paxos.machines.kv import Conflict

    with statuses():
        outcome = _opened(cluster, space, address).renew(key, ttl_s, timeout_s=timeout_s)
        if isinstance(outcome, Conflict):
            raise Damage(_no_value(key, outcome.version))
        _tell(key, outcome.version, as_json)


@kv.command()
@click.argument("cluster")
@click.argument("space")
@click.argument("key")
@consistency_option
@timeout_option
@json_option
@address_option
def get(
    cluster: str,
    space: str,
    key: str,
    consistency: str,
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Write a key's value to standard output, as it is; status 1 where it has none."""
    with statuses():
        opened = _opened(cluster, space, address)
        found = opened.read(key, consistency=consistency, timeout_s=timeout_s)
        if found.value is None:
            raise Damage(_no_value(key, found.version))
        if as_json:
            click.echo(json.dumps(_document(key, found.value, found.version)))
            return
        output = sys.stdout.buffer
        output.write(found.value)
        if output.isatty():
            output.write(b"\n")


@kv.command()
@click.argument("cluster")
@click.argument("space")
@click.argument("key")
@timeout_option
@json_option
@address_option
def delete(
    cluster: str, space: str, key: str, timeout_s: float, as_json: bool, address: str | None
) -> None:
    """Take a key's value away; status 1 where it had none."""
    with statuses():
        opened = _opened(cluster, space, address)
        # Deleting is a write, also of a key that never was: do not leave a trace of a slip.
        if opened.get(key, timeout_s=timeout_s) is None:
            raise Damage(f"key {_shown(key)} is not there")
        _tell(key, opened.delete(key, timeout_s=timeout_s).version, as_json)


@kv.command()
@click.argument("cluster")
@click.argument("space")
@click.argument("key")
@value_argument
@click.argument("expected_version", type=click.IntRange(min=0))
@timeout_option
@json_option
@address_option
def cas(
    cluster: str,
    space: str,
    key: str,
    value: bytes,
    expected_version: int,
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Give a key a value if its version is EXPECTED_VERSION (0: never written); else status 1."""
    from ray_paxos.machines.kv import Conflict

    with statuses():
        opened = _opened(cluster, space, address)
        outcome = opened.cas(key, value, expected_version, timeout_s=timeout_s)
        if isinstance(outcome, Conflict):
            raise Damage(
                f"key {_shown(key)} has version {outcome.version}, not {expected_version}; "
                "nothing was written"
            )
        _tell(key, outcome.version, as_json)


@kv.command()
@click.argument("cluster")
@click.argument("space")
@click.argument("prefix", default="")
@click.option("--after", metavar="KEY", help="Only keys behind this one.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many keys.")
@consistency_option
@timeout_option
@json_option
@address_option
def scan(
    cluster: str,
    space: str,
    prefix: str,
    after: str | None,
    limit: int | None,
    consistency: str,
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """List the keys that begin with PREFIX, of all groups, in order."""
    with statuses():
        entries = _opened(cluster, space, address).scan(
            prefix,
            after=after,
            page_keys=min(limit or FETCHED_AT_ONCE, FETCHED_AT_ONCE),
            consistency=consistency,
            timeout_s=timeout_s,
        )
        for line in scan_lines(itertools.islice(entries, limit), as_json=as_json):
            click.echo(line)


def scan_lines(entries: Iterator[KeyEntry], *, as_json: bool) -> Iterator[str]:
    """Entries in lines; as JSON one document, which is never held whole."""
    if not as_json:
        for entry in entries:
            yield f"{_shown(entry.key)}  version {entry.version}  {describe_text(entry.value)}"
        return
    opening = "["
    for entry in entries:
        yield opening + json.dumps(_document(entry.key, entry.value, entry.version))
        opening = ","
    yield "]" if opening == "," else "[]"


def _opened(cluster: str, space: str, address: str | None) -> KeyValue:
    """A space that is there: none is made by a slip."""
    return connect_to(cluster, address).kv(space, creates=False)


def _document(key: str, value: bytes, version: int) -> dict[str, Any]:
    """A key as JSON takes it; a value that is no text is in base64."""
    try:
        return {"key": key, "version": version, "value": value.decode()}
    except UnicodeDecodeError:
        encoded = base64.b64encode(value).decode()
        return {"key": key, "version": version, "value_base64": encoded}


def _no_value(key: str, version: int) -> str:
    why = f"has no value any more, at version {version}" if version else "is not there"
    return f"key {_shown(key)} {why}"


def _shown(key: str) -> str:
    """A key on one line, which does not move the cursor of the one who reads it."""
    return key if key.isprintable() else key.encode("unicode_escape").decode()


def _tell(key: str, version: int, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"key": key, "version": version}))
    else:
        click.echo(f"key {_shown(key)}: version {version}")


def _space_line(name: str, groups: tuple[int, ...]) -> str:
    return f"{name}  groups {', '.join(map(str, groups))}"
