"""`ray-paxos unsafe-recover`: a new cluster from what a minority of an old one's members hold."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ray_paxos.cli.building import build_cluster, find_target, state_line
from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.member import FORMATS
from ray_paxos.cli.running_cluster import json_option
from ray_paxos.cli.statuses import statuses
from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.restore_plan import ranges_text
from ray_paxos.storage.restore_sources import FolderSource
from ray_paxos.storage.restore_state import RestoredState, StateRestorer, go_on_with_votes
from ray_paxos.storage.restore_survey import LeftMembers, find_left_members


@click.command(
    "unsafe-recover",
    epilog=epilog(
        "unsafe-recover /data/demo/m3 --config again.yaml",
        "unsafe-recover /data/demo/m3 /data/demo/m4 --config again.yaml --yes",
        failed="it cannot be made: something is missing or damaged, or you said no",
        wrong="wrong use, or what is to be made is there already; nothing was made",
    ),
)
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="Of the new cluster: its name, its members, data_dir.",
)
@click.option("--member", help="Build only this member here; other nodes build the others.")
@click.option(
    "--genesis",
    type=click.Path(path_type=Path),
    help="File that the nodes share: the first one writes it, the others read it.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def unsafe_recover(
    folders: tuple[Path, ...],
    config: Path,
    member: str | None,
    genesis: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Make a new cluster from the folders of members that are left, though they are too few.

    Only where the others are lost for good: what they alone held is lost, and what they alone
    decide may differ. The folders given, <data_dir>/<cluster>/<member>, are not changed.
    """
    with statuses():
        target = find_target(config, member, genesis)
        left = find_left_members(folders)
        groups = sorted(left.specs.keys() - {SYSTEM_GROUP})
        click.echo(
            f"cluster {left.genesis.cluster} ({left.genesis.cluster_id}): given are "
            f"{', '.join(left.members)}; missing are {', '.join(left.missing) or 'none'}",
            err=as_json,
        )
        for problem in left.problems:
            click.echo(f"  {problem}", err=as_json)
        with target.aside() as aside:
            build_cluster(
                target,
                aside,
                left.genesis,
                left.specs,
                groups,
                partial(_recover_group, left),
                at=None,
                describe=partial(_describe, left),
                is_confirmed=yes,
                as_json=as_json,
            )


def _recover_group(
    left: LeftMembers, group: int, at: int | None
) -> tuple[MachineHost, RestoredState]:
    """The newest state that the folders hold, together.

    On another node of the same recovery that is the same instance, or it is refused later.
    """
    restorer = StateRestorer(
        FolderSource(left.members, FORMATS, group),
        FORMATS.segments,
        MachineRegistry(),
        genesis=left.genesis,
        spec=left.specs[group],
        progress=partial(click.echo, err=True),
    )
    host, state = restorer.restore(None)
    # What is chosen and lost cannot be stepped over: votes after it would be applied to a state
    # that they were not meant for.
    if left.floors.get(group, 1) <= state.through + 1:
        state = go_on_with_votes(host, state, left.votes.get(group, {}))
    return host, state


def _describe(left: LeftMembers, group: int, state: RestoredState) -> list[str]:
    lines = [state_line(group, state)]
    lines += [f"  not used: {problem}" for problem in state.damaged]
    floor = left.floors.get(group, 1)
    if floor > state.through + 1:
        lost = ranges_text([(state.through + 1, floor - 1)])
        lines.append(f"  lost: instances {lost} were chosen, and no folder given holds them")
    if state.voted:
        lines.append(
            f"  the last {state.voted} values are what members given here voted for; which of them "
            "were chosen is unknown"
        )
    if state.filled:
        lines.append(
            f"  instances {ranges_text(state.filled)} are in no folder given: nothing stands there"
        )
    is_whole = not state.damaged and floor <= state.through + 1
    if is_whole and left.is_majority(group, state.configuration):
        lines.append("  the members given are a majority: all that was acknowledged is here")
    else:
        missing = ", ".join(left.missing_voters(group, state.configuration)) or "none"
        lines.append(
            f"  may be lost: whatever only the missing members ({missing}) hold after instance "
            f"{state.through - state.voted}; acknowledged commands can be among it"
        )
    return lines
