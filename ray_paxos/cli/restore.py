"""`ray-paxos restore`: a new cluster from the archive of one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

import click

from ray_paxos.cli.building import build_cluster, find_target, scratch_below, state_line
from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.member import FORMATS
from ray_paxos.cli.running_cluster import json_option
from ray_paxos.cli.statuses import statuses
from ray_paxos.core.genesis import SYSTEM_GROUP, GroupSpec
from ray_paxos.core.wanted import GroupState, WantedGroup, decode_wanted
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.machines.system import SYSTEM_MACHINE
from ray_paxos.storage.archive_address import parse_address
from ray_paxos.storage.archive_files import ArchiveFiles
from ray_paxos.storage.restore_sources import ArchiveSource, ArchiveSurvey, survey_archive
from ray_paxos.storage.restore_state import RestoredState, StateRestorer
from ray_paxos.storage.restore_survey import find_archived_cluster

_UNKNOWN_MAX = 5


@click.command(
    epilog=epilog(
        "restore --from /backup/demo --config again.yaml",
        "restore --from s3://bucket/demo --group 1 --at 12000 --config again.yaml --yes",
        failed="it cannot be made: something is missing or damaged, or you said no",
        wrong="wrong use, or what is to be made is there already; nothing was made",
    )
)
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
@json_option
def restore(
    address: str,
    at: int | None,
    group: int | None,
    config: Path,
    member: str | None,
    genesis: Path | None,
    yes: bool,
    as_json: bool,
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
        for path in survey.unknown[:_UNKNOWN_MAX]:
            click.echo(f"not used: {files.where(path)} is nothing of an archive", err=True)
        with target.aside() as aside:
            specs, dropped = _group_specs(files, survey, aside, as_json)
            groups = _chosen_groups(survey, specs.keys() - dropped, specs, group, at)
            build_cluster(
                target,
                aside,
                old,
                specs,
                groups,
                partial(_restore_group, files, survey, aside, specs),
                at=at,
                describe=_describe,
                is_confirmed=yes,
                as_json=as_json,
            )


def _group_specs(
    files: ArchiveFiles, survey: ArchiveSurvey, aside: Path, as_json: bool
) -> tuple[dict[int, GroupSpec], set[int]]:
    """What all groups began with, and those of them that were dropped.

    The genesis says it, and of later groups group 0, as far as it is in the archive. A group that
    was archived before group 0 told of it is taken for one whose members never changed.
    """
    specs = {spec.group: spec for spec in survey.genesis.groups}
    dropped: set[int] = set()
    if any(listing.segments or listing.checkpoints for listing in survey.groups.get(0, ())):
        host, _ = _restore_group(files, survey, aside, specs, SYSTEM_GROUP, None)
        for group, wanted in _wanted_groups(host).items():
            specs.setdefault(group, wanted.spec)
            if wanted.state in (GroupState.DROPPING, GroupState.GONE):
                dropped.add(group)
    for group in survey.groups:
        specs.setdefault(group, GroupSpec(group, (), ()))
    for group in sorted(dropped):
        line = f"not restored: group {group} was dropped; --group {group} does it all the same"
        click.echo(line, err=as_json)
    return specs, dropped


def _wanted_groups(host: MachineHost) -> Mapping[int, WantedGroup]:
    if SYSTEM_MACHINE not in [spec.name for spec in host.mounted]:
        return {}
    return decode_wanted(host.query(SYSTEM_MACHINE, b"")).groups


def _chosen_groups(
    survey: ArchiveSurvey,
    standing: Iterable[int],
    specs: Collection[int],
    wanted: int | None,
    at: int | None,
) -> list[int]:
    known = sorted(set(standing) - {SYSTEM_GROUP})
    if wanted is not None:
        if wanted not in specs:
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
    files: ArchiveFiles,
    survey: ArchiveSurvey,
    aside: Path,
    specs: Mapping[int, GroupSpec],
    group: int,
    at: int | None,
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
        spec=specs[group],
        progress=partial(click.echo, err=True),
    )
    return restorer.restore(at)


def _describe(group: int, state: RestoredState) -> list[str]:
    return [state_line(group, state), *(f"  not used: {problem}" for problem in state.damaged)]
