"""`ray-paxos kv ...`: the keys of a space of a running cluster, and which spaces there are.

`get` writes a value to standard output byte for byte, so that it can go into a file; all else is
for people, and `--json` for programs.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ray_paxos.cli.help_text import CLUSTER_FAILED, epilog
from ray_paxos.cli.kv_text import (
    key_document,
    no_value,
    scan_lines,
    shown_key,
    space_line,
    tell_version,
    value_argument,
)
from ray_paxos.cli.running_cluster import address_option, connect_to, json_option
from ray_paxos.cli.shell import (
    HeldConnection,
    Shell,
    is_asked_by_a_person,
    only_cluster,
    run_script,
    run_terminal,
    standard_lines,
)
from ray_paxos.cli.statuses import Damage, statuses
from ray_paxos.cli.tables import show_rows

if TYPE_CHECKING:
    from ray_paxos.cluster import Cluster
    from ray_paxos.key_value import KeyValue

CONSISTENCIES = ("linearizable", "lease", "follower", "stale")
SHELL_OPTIONS = ("cluster", "space", "address")
FETCHED_AT_ONCE = 1_000

NO_VALUE = f"the key has no value; or {CLUSTER_FAILED}"

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


@click.group(
    invoke_without_command=True,
    epilog=epilog(
        "kv --cluster demo --space settings",
        "kv put demo settings color green",
        done="done; of a script: all of its lines",
        failed=f"{CLUSTER_FAILED}; of a script: its first line that failed ended so",
        wrong="wrong use; of a script: its first line that failed ended so",
    ),
)
@click.option(
    "--cluster",
    envvar="RAY_PAXOS_CLUSTER",
    metavar="NAME",
    help="Of the shell; else $RAY_PAXOS_CLUSTER, else the only one that runs.",
)
@click.option("--space", metavar="NAME", help="Of the shell; by default the cluster's only one.")
@address_option
@click.pass_context
def kv(context: click.Context, cluster: str | None, space: str | None, address: str | None) -> None:
    """Read and write keys of a space, which spreads them over groups of a running cluster.

    A VALUE is text, @FILE, or - for standard input; a negative number, say, goes behind --.

    Without a command it opens a shell for one space, with the same commands, less cluster and
    space: `put color green`, `help`, `exit`. It has one connection and one session. Where standard
    input is no terminal its lines are run without a prompt, also those behind one that failed, and
    the exit status is that of the first that failed.
    """
    if context.invoked_subcommand is not None:
        _refuse_shell_options(context)
        return
    with statuses():

        def connect() -> Cluster:
            return connect_to(cluster or only_cluster(address), address)

        held = HeldConnection(connect)
        if is_asked_by_a_person():
            run_terminal(Shell(kv.commands, held, space or held.only_space()))
            return
        lines = standard_lines()
        for first in lines:
            shell = Shell(kv.commands, held, space or held.only_space())
            context.exit(run_script(shell, itertools.chain((first,), lines)))


def _refuse_shell_options(context: click.Context) -> None:
    """What stands before a command and would be ignored is a slip."""
    for name in SHELL_OPTIONS:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name} before a command is the shell's; put it, or the name, behind the command"
            )


@kv.command(epilog=epilog("kv spaces demo", "kv spaces demo --json", failed=CLUSTER_FAILED))
@click.argument("cluster")
@json_option
@address_option
def spaces(cluster: str, as_json: bool, address: str | None) -> None:
    """List the spaces, and the groups that hold their keys."""
    with statuses():
        found = _connected(cluster, address).spaces.present()
        if as_json:
            document = [{"name": each.name, "groups": list(each.groups)} for each in found]
            click.echo(json.dumps(document, indent=1))
            return
        show_rows(
            ("space", "groups"),
            [(each.name, ", ".join(map(str, each.groups))) for each in found],
            [space_line(each.name, each.groups) for each in found],
        )


@kv.command(
    epilog=epilog(
        "kv create demo settings",
        "kv create demo settings --group 1 --group 2",
        failed=CLUSTER_FAILED,
    )
)
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
        made = _connected(cluster, address).kv(space, groups=groups or None)
        if as_json:
            click.echo(json.dumps({"name": made.name, "groups": list(made.groups)}))
        else:
            click.echo(space_line(made.name, made.groups))


@kv.command(epilog=epilog("kv drop demo settings", failed=CLUSTER_FAILED))
@click.argument("cluster")
@click.argument("space")
@json_option
@address_option
def drop(cluster: str, space: str, as_json: bool, address: str | None) -> None:
    """Drop a space for ever; its groups may be dropped then, and its keys go with them."""
    with statuses():
        _connected(cluster, address).spaces.drop(space)
        if (held := click.get_current_context().find_object(HeldConnection)) is not None:
            held.forget(space)
        if as_json:
            click.echo(json.dumps({"name": space, "dropped": True}))
        else:
            click.echo(f"space {space}: dropped")


@kv.command(
    epilog=epilog(
        "kv put demo settings color green",
        "kv put demo settings report @report.json",
        "kv put demo settings lease m1 --ttl-s 30",
        failed=CLUSTER_FAILED,
    )
)
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
        tell_version(key, opened.put(key, value, ttl_s=ttl_s, timeout_s=timeout_s).version, as_json)


@kv.command(epilog=epilog("kv renew demo settings lease 30", failed=NO_VALUE))
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
            raise Damage(no_value(key, outcome.version))
        tell_version(key, outcome.version, as_json)


@kv.command(
    epilog=epilog(
        "kv get demo settings color",
        "kv get demo settings color --consistency lease --json",
        failed=NO_VALUE,
    )
)
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
            raise Damage(no_value(key, found.version))
        if as_json:
            click.echo(json.dumps(key_document(key, found.value, found.version)))
            return
        output = sys.stdout.buffer
        output.write(found.value)
        if output.isatty() or click.get_current_context().find_object(HeldConnection) is not None:
            output.write(b"\n")
        output.flush()


@kv.command(epilog=epilog("kv delete demo settings color", failed=NO_VALUE))
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
            raise Damage(f"key {shown_key(key)} is not there")
        tell_version(key, opened.delete(key, timeout_s=timeout_s).version, as_json)


@kv.command(
    epilog=epilog(
        "kv cas demo settings color blue 1",
        failed=f"the version is another one; or {CLUSTER_FAILED}",
    )
)
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
                f"key {shown_key(key)} has version {outcome.version}, not {expected_version}; "
                "nothing was written"
            )
        tell_version(key, outcome.version, as_json)


@kv.command(
    epilog=epilog(
        "kv scan demo settings",
        "kv scan demo settings user/ --limit 10 --json",
        failed=CLUSTER_FAILED,
    )
)
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


def _opened(cluster: str, space: str, address: str | None) -> KeyValue:
    """A space that is there: none is made by a slip."""
    held = click.get_current_context().find_object(HeldConnection)
    if held is not None:
        return held.space(space)
    return connect_to(cluster, address).kv(space, creates=False)


def _connected(cluster: str, address: str | None) -> Cluster:
    """The cluster; in a shell by its connection."""
    held = click.get_current_context().find_object(HeldConnection)
    return connect_to(cluster, address) if held is None else held.cluster
