"""`ray-paxos log`: look into a member's folder, with no cluster running.

DIR is a member's folder, <data_dir>/<cluster>/<member>. Nothing in it is changed, but by `repair`
with `--yes`. A member that runs can be looked at, too; what is being written may then be missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from ray_paxos.cli.help_text import FOLDER_DAMAGED, epilog
from ray_paxos.cli.log_text import (
    document_of,
    instance_lines,
    plan_lines,
    repair_document,
    row_document,
    state_lines,
    summary_lines,
    verification_document,
    verification_lines,
)
from ray_paxos.cli.member import FORMATS, Member, find_disk, open_member
from ray_paxos.cli.running_cluster import json_option
from ray_paxos.cli.statuses import DAMAGED, statuses
from ray_paxos.core.genesis import group_spec
from ray_paxos.core.records import SealedInstance
from ray_paxos.errors import ConfigurationError, DamageError
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.findings import Fault
from ray_paxos.storage.identity import log_folder
from ray_paxos.storage.inspection import ChosenLogView, summarize
from ray_paxos.storage.log_export import FORMATS as EXPORT_FORMATS
from ray_paxos.storage.log_rows import rows_of
from ray_paxos.storage.output_files import writing_whole
from ray_paxos.storage.parts import held_groups
from ray_paxos.storage.repair import carry_out, plan_repair
from ray_paxos.storage.running import running_roles
from ray_paxos.storage.state_document import state_document
from ray_paxos.storage.state_rebuilding import rebuild_at
from ray_paxos.storage.verification import verify_member

FOLLOW_S = 1.0
_LIMIT = 20
_Folder = click.Path(path_type=Path)
_Instance = click.IntRange(min=1)


@click.group(
    epilog=epilog(
        "log show /data/demo/m1", "log verify /data/demo/m1 --json", failed=FOLDER_DAMAGED
    )
)
def log() -> None:
    """Look into a member's folder, with no cluster running.

    DIR is a member's folder: <data_dir>/<cluster>/<member>.
    """


@log.command(
    epilog=epilog(
        "log show /data/demo/m1",
        "log show /data/demo/m1 --group 1 --limit 5 --json",
        "log show /data/demo/m1 --group 1 --follow",
        failed=FOLDER_DAMAGED,
    )
)
@click.argument("folder", metavar="DIR", type=_Folder)
@click.option("--group", type=int, help="Only this group.")
@click.option("--from", "first", type=_Instance, help="First instance to be shown.")
@click.option("--to", "last", type=_Instance, help="Last instance to be shown.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=_LIMIT,
    show_default=True,
    help="At most so many instances of each group; by default its last ones.",
)
@click.option(
    "--follow",
    is_flag=True,
    help="Go on with new instances as segments appear; looks once a second.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON document; with --follow one a line."
)
def show(
    folder: Path,
    group: int | None,
    first: int | None,
    last: int | None,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what a member holds, and instances of its log."""
    with statuses():
        if follow and last is not None:
            raise ConfigurationError("--follow has no end: leave --to out")
        _check_order(first, last)
        member = open_member(folder)
        chosen = member.group(group) if group is not None or follow else None
        summary = summarize(
            member.disk,
            FORMATS,
            member.identity,
            running=member.running,
            groups=None if chosen is None else (chosen,),
        )
        if not as_json:
            _echo(summary_lines(summary))
        elif follow:
            click.echo(json.dumps(document_of(summary)))
        if follow:
            _follow(member, member.group(group), first, limit, as_json)
            return
        instances: list[dict[str, Any]] = []
        for number in held_groups(member.disk, member.identity) if chosen is None else (chosen,):
            try:
                view = member.log(number)
                # Asked for all groups, one without instances is nothing to complain of.
                if chosen is None and not view.last:
                    continue
                shown = _range(view, number, first, last, limit)
                if as_json:
                    instances += _documents(view, number, shown)
                else:
                    click.echo(f"\ngroup {number}, instances")
                    _echo(line for i in shown for line in instance_lines(i, view.kinds))
            except DamageError as error:
                summary.faults.append(Fault(log_folder(number), str(error)))
                click.echo(f"damaged: {error}", err=True)
        if as_json:
            click.echo(json.dumps({**document_of(summary), "instances": instances}, indent=1))
        if summary.faults:
            raise SystemExit(DAMAGED)


@log.command(
    epilog=epilog(
        "log verify /data/demo/m1",
        "log verify /data/demo/m1 --json",
        done="all of it is whole",
        failed="damaged: the place of the first fault is named",
        wrong="DIR is no member's folder, or may not be read",
    )
)
@click.argument("folder", metavar="DIR", type=_Folder)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def verify(folder: Path, as_json: bool) -> None:
    """Check every byte of a member's folder, and what the files say about each other."""
    with statuses():
        disk = find_disk(folder)
        verification = verify_member(disk, FORMATS, running=running_roles(folder))
        if as_json:
            click.echo(json.dumps(verification_document(verification), indent=1))
        else:
            _echo(verification_lines(verification))
        if not verification.is_whole:
            raise SystemExit(DAMAGED)


@log.command(
    epilog=epilog(
        "log export /data/demo/m1 --group 1 --format parquet --output log.parquet",
        "log export /data/demo/m1 --group 1 --format csv --from 10 --to 20 --output part.csv",
        failed=FOLDER_DAMAGED,
    )
)
@click.argument("folder", metavar="DIR", type=_Folder)
@click.option("--group", type=int, required=True, help="Whose log.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(sorted(EXPORT_FORMATS)),
    required=True,
    help="In JSON lines and CSV, columns of bytes are base64.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="The file; appears once it is whole.",
)
@click.option("--from", "first", type=_Instance, help="First instance; by default the log's.")
@click.option("--to", "last", type=_Instance, help="Last instance; by default the log's.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@json_option
def export(
    folder: Path,
    group: int,
    format_name: str,
    output: Path,
    first: int | None,
    last: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a part of a group's log, one row a command, for other programs."""
    with statuses():
        member = open_member(folder)
        view = member.log(member.group(group))
        _check_range(view, group, first, last)
        first, last = first or view.first, last or view.last
        for bound in (first, last):
            if not view.first <= bound <= view.last:
                raise ConfigurationError(
                    f"instance {bound} is not in the log, which holds {view.first} to {view.last}"
                )
        with writing_whole(output, replaces=force, outside=folder) as file:
            rows = EXPORT_FORMATS[format_name](view.instances(first, last), file)
        if as_json:
            document = {"file": str(output), "rows": rows, "first": first, "last": last}
            click.echo(json.dumps(document, indent=1))
        else:
            click.echo(f"{output}: {rows:,} rows of instances {first} to {last}")


@log.command(
    epilog=epilog(
        "log state /data/demo/m1 --at 12000",
        "log state /data/demo/m1 --at 12000 --group 1 --output state.json",
        failed=FOLDER_DAMAGED + ", or results differ from the log's",
    )
)
@click.argument("folder", metavar="DIR", type=_Folder)
@click.option(
    "--at", "instance_id", type=_Instance, required=True, help="As of this instance, applied."
)
@click.option("--group", type=int, help="By default the first that is not the system's.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=_LIMIT,
    show_default=True,
    help="Show at most so many keys or lines of a machine; the documents have all.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, of all that there is.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write that document to a file, which appears once it is whole.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def state(
    folder: Path,
    instance_id: int,
    group: int | None,
    limit: int,
    as_json: bool,
    output: Path | None,
    force: bool,
) -> None:
    """Rebuild a group's state as of an instance, and compare its results with the log's."""
    with statuses():
        member = open_member(folder)
        number = member.group(group)
        rebuilt, start, problems = rebuild_at(
            member.log(number),
            member.checkpoints(number),
            MachineRegistry(),
            group_spec(member.identity.genesis, number).configuration,
            instance_id,
        )
        for problem in problems:
            click.echo(f"not used: {problem}", err=True)
        document = {"group": number, "checkpoint": start or None, **state_document(rebuilt)}
        if output is not None:
            with writing_whole(output, replaces=force, outside=folder) as file:
                file.write(json.dumps(document, indent=1).encode() + b"\n")
            click.echo(f"{output}: group {number} as of instance {instance_id}")
        elif as_json:
            click.echo(json.dumps(document, indent=1))
        else:
            _echo(state_lines(document, limit))


@log.command(
    epilog=epilog(
        "log repair /data/demo/m1",
        "log repair /data/demo/m1 --yes",
        done="nothing has to be repaired, or it was",
        failed="damaged, and nothing was changed",
    )
)
@click.argument("folder", metavar="DIR", type=_Folder)
@click.option("--yes", is_flag=True, help="Do it; without this it is only said.")
@json_option
def repair(folder: Path, yes: bool, as_json: bool) -> None:
    """Take damaged files out of the way, so that the member fetches again what they held.

    Nothing is deleted: what goes is kept in DIR/replaced/<n>/. The member must not run. Promises
    are never touched: a member whose journal or identity is damaged has to be replaced.
    """
    with statuses():
        disk = find_disk(folder)
        verification = verify_member(disk, FORMATS, running=running_roles(folder))
        plan = plan_repair(disk, FORMATS, verification)
        if not as_json:
            _echo(plan_lines(disk, verification, plan))
        kept = disk.where(carry_out(disk, plan)) if plan.moves and yes else None
        if as_json:
            click.echo(json.dumps(repair_document(plan, verification, kept), indent=1))
        elif kept is not None:
            click.echo(f"done; what was replaced is in {kept}")
        elif plan.moves:
            click.echo("nothing was changed; --yes does it")
        if kept is None and (plan.moves or not verification.is_whole):
            raise SystemExit(DAMAGED)


def _echo(lines: Iterator[str]) -> None:
    for line in lines:
        click.echo(line)


def _check_order(first: int | None, last: int | None) -> None:
    if first is not None and last is not None and first > last:
        raise ConfigurationError(f"--from {first} --to {last}: the range is empty")


def _check_range(view: ChosenLogView, group: int, first: int | None, last: int | None) -> None:
    _check_order(first, last)
    if not view.last:
        raise ConfigurationError(f"group {group} has no sealed instances")


def _range(
    view: ChosenLogView, group: int, first: int | None, last: int | None, limit: int
) -> Iterator[SealedInstance]:
    """The instances to be shown: the first ones from --from, else the last ones."""
    _check_range(view, group, first, last)
    end = min(last or view.last, view.last)
    if first is None:
        first = max(view.first, end - limit + 1)
    if first > view.last or end < view.first:
        raise ConfigurationError(f"group {group} holds instances {view.first} to {view.last}")
    return islice(view.instances(max(first, view.first), end), limit)


def _documents(
    view: ChosenLogView, group: int, instances: Iterator[SealedInstance]
) -> Iterator[dict[str, Any]]:
    for instance in instances:
        for row in rows_of((instance,)):
            yield {"group": group, **row_document(row, view.kinds)}


def _follow(member: Member, group: int, first: int | None, limit: int, as_json: bool) -> None:
    view = member.log(group)
    if first is None:
        first = max(1, view.last - limit + 1)
    try:
        # Nobody tells that a file has appeared; this is for a person who looks on.
        for instance in view.follow(first, lambda: time.sleep(FOLLOW_S)):
            if as_json:
                for document in _documents(view, group, iter((instance,))):
                    click.echo(json.dumps(document))
            else:
                _echo(instance_lines(instance, view.kinds))
    except KeyboardInterrupt:
        click.echo("", err=True)
