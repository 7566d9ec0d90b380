"""`ray-paxos restore`: a new cluster from the archive of one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ray_paxos.cli.building import build_cluster, find_target, scratch_below, state_line
from ray_paxos.cli.member import FORMATS
from ray_paxos.cli.statuses import statuses
from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.archive_address import parse_address
from ray_paxos.storage.archive_files import ArchiveFiles
from ray_paxos.storage.restore_sources import ArchiveSource, ArchiveSurvey, survey_archive
from ray_paxos.storage.restore_state import RestoredState, StateRestorer
from ray_paxos.storage.restore_survey import find_archived_cluster

_UNKNOWN_MAX = 5


@click.command()
@click.option("--from", "address", required=True, metavar="URI", help="Of the archive.")
@click.option("--at", type=click.IntRange(min=1), help="As of this instance; else the newest.")
@click.option("--group", type=int, help="Only this group; else all of them.")
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
def restore(
    address: str,
    at: int | None,
    group: int | None,
    config: Path,
    member: str | None,
    genesis: Path | None,
    yes: bool,
) -> None:
    """Make a new cluster from the archive of one, as of an instance.

    The new cluster has an id of its own, and goes on after that instance. Whatever is missing or
    damaged in the archive is named before anything is made. Nothing in the archive is changed.
    """
    with statuses():
        if group == SYSTEM_GROUP:
            raise ConfigurationError("group 0 is the system's own: a new cluster has a new one")
        target = find_target(config, member, genesis)
        files, old = find_archived_cluster(parse_address(address))
        click.echo(f"archive of cluster {old.cluster} ({old.cluster_id})", err=True)
        survey = survey_archive(files, old, FORMATS.segments.suffix)
        groups = _chosen_groups(survey, group, at)
        for path in survey.unknown[:_UNKNOWN_MAX]:
            click.echo(f"not used: {files.where(path)} is nothing of an archive", err=True)
        with target.aside() as aside:
            build_cluster(
                target,
                aside,
                old,
                groups,
                partial(_restore_group, files, survey, aside),
                at=at,
                describe=_describe,
                is_confirmed=yes,
            )


def _chosen_groups(survey: ArchiveSurvey, wanted: int | None, at: int | None) -> list[int]:
    known = [s.group for s in survey.genesis.groups if s.group != SYSTEM_GROUP]
    if wanted is not None:
        if wanted not in known:
            listed = ", ".join(map(str, known))
            raise ConfigurationError(f"the archive has no group {wanted}; it has {listed}")
        return [wanted]
    if at is not None and len(known) > 1:
        raise ConfigurationError(
            f"--at {at} means another moment in each of the groups {', '.join(map(str, known))}: "
            "give --group, too"
        )
    listings = [listing for each in known for listing in survey.groups.get(each, ())]
    if not any(listing.segments or listing.checkpoints for listing in listings):
        raise ConfigurationError("the archive is empty: nothing was archived yet")
    return known


def _restore_group(
    files: ArchiveFiles, survey: ArchiveSurvey, aside: Path, group: int, at: int | None
) -> tuple[MachineHost, RestoredState]:
    source = ArchiveSource(
        files,
        survey.genesis,
        FORMATS,
        survey.groups.get(group, []),
        partial(scratch_below, aside),
    )
    restorer = StateRestorer(
        source,
        FORMATS.segments,
        MachineRegistry(),
        genesis=survey.genesis,
        group=group,
        progress=partial(click.echo, err=True),
    )
    return restorer.restore(at)


def _describe(group: int, state: RestoredState) -> list[str]:
    return [state_line(group, state), *(f"  not used: {problem}" for problem in state.damaged)]
