"""What `restore` and `unsafe-recover` share: building a new cluster, asking, and saying so."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from ray_paxos.cli.member import FORMATS
from ray_paxos.config import ClusterConfiguration, load_configuration
from ray_paxos.core.genesis import Genesis, GroupSpec
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.data_dir import resolve_data_dir
from ray_paxos.storage.output_files import writing_whole
from ray_paxos.storage.restore_build import (
    ClusterBuilder,
    NewCluster,
    ParkedStates,
    building_aside,
    check_absent,
    decode_new_cluster,
    new_cluster,
)
from ray_paxos.storage.restore_state import RestoredState

RestoreGroup = Callable[[int, int | None], tuple[MachineHost, RestoredState]]
"""Builds one group's state, as of an instance or the newest."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be built, and where.

    Attributes:
        configuration: Of the new cluster.
        data_dir: On this node.
        members: Which of its members are built here.
        genesis_file: Shared by several nodes; None where all members are built here.
        shared: What that file says; None where it is not there yet.
    """

    configuration: ClusterConfiguration
    data_dir: Path
    members: tuple[str, ...]
    genesis_file: Path | None = None
    shared: NewCluster | None = None

    @property
    def root(self) -> Path:
        """The cluster's folder."""
        return self.data_dir / self.configuration.cluster

    @contextlib.contextmanager
    def aside(self) -> Iterator[Path]:
        """A folder beside it, that goes again."""
        with building_aside(
            self.data_dir, self.configuration.cluster, secrets.token_hex(4)
        ) as folder:
            yield folder


@dataclass(slots=True)
class Findings:
    """What was found before anything is made.

    Attributes:
        states: By group: what its state was built from.
        lines: What a person has to know, before he is asked.
    """

    states: dict[int, RestoredState] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def find_target(config: Path, member: str | None, genesis_file: Path | None) -> Target:
    """Check what is to be built.

    Raises:
        ConfigurationError: The configuration is wrong, or what is to be made is there already.
        DamageError: The genesis file is damaged.
    """
    configuration = load_configuration(config)
    names = tuple(each.name for each in configuration.members)
    if (member is None) != (genesis_file is None):
        raise ConfigurationError(
            "--member and --genesis go together: each node builds its member, and all of them "
            "from one genesis file, which the first one writes"
        )
    if member is not None and member not in names:
        raise ConfigurationError(f"{config} has no member {member}; it has {', '.join(names)}")
    shared = None
    if genesis_file is not None and genesis_file.exists():
        shared = decode_new_cluster(genesis_file.read_bytes(), str(genesis_file))
        found = (shared.genesis.cluster, tuple(spec.name for spec in shared.genesis.members))
        if found != (configuration.cluster, names):
            raise ConfigurationError(
                f"{genesis_file} is of cluster {found[0]} with {', '.join(found[1])}; {config} "
                f"has {configuration.cluster} with {', '.join(names)}"
            )
    data_dir = resolve_data_dir(configuration.data_dir, os.environ)
    members = names if member is None else (member,)
    target = Target(configuration, data_dir, members, genesis_file, shared)
    check_absent(target.root, members)
    if member is None and target.root.is_dir() and any(target.root.iterdir()):
        raise ConfigurationError(f"{target.root} exists and is not empty; move it away")
    return target


def build_cluster(
    target: Target,
    aside: Path,
    old: Genesis,
    specs: Mapping[int, GroupSpec],
    groups: Sequence[int],
    restore: RestoreGroup,
    *,
    at: int | None,
    describe: Callable[[int, RestoredState], list[str]],
    is_confirmed: bool,
    as_json: bool = False,
) -> None:
    """Build all groups' states, say what was found, ask, and make the members.

    Args:
        target: What is to be made.
        aside: A folder to build in.
        old: Of the cluster that the groups come from.
        specs: What its groups began with, the system's among them.
        groups: Those to be restored.
        restore: Builds a group's state as of an instance.
        at: That instance; None for the newest.
        describe: Says what became of a group.
        is_confirmed: Whether not to ask.
        as_json: Whether standard output gets one JSON document, and a person reads standard error.

    Raises:
        click.Abort: The answer was no.
        PaxosError: Something is missing or damaged; nothing was made.
    """
    registry = MachineRegistry()
    (aside / "states").mkdir()
    parked = ParkedStates(aside / "states", FORMATS, old, specs)
    states: dict[int, RestoredState] = {}
    for group in groups:
        wanted = at
        if target.shared is not None:
            wanted = _shared_instance(target.shared, group)
        host, states[group] = restore(group, wanted)
        parked.park(group, host, states[group])
        del host
    cluster = target.shared or new_cluster(
        target.configuration.cluster,
        tuple(member.name for member in target.configuration.members),
        specs,
        states,
        # Seeded by the system: nobody may guess ids, and no two clusters may share them.
        random.SystemRandom(),
    )
    tell = partial(click.echo, err=as_json)
    for line in itertools.chain(*(describe(group, states[group]) for group in groups)):
        tell(line)
    tell(
        f"new cluster {cluster.genesis.cluster} ({cluster.genesis.cluster_id}): "
        f"{', '.join(str(target.root / name) for name in target.members)}"
    )
    absent = sorted({g.group for g in target.configuration.groups} - set(groups))
    if absent:
        listed = ", ".join(map(str, absent))
        tell(f"groups {listed} of the configuration are not made: nothing of them is here")
    if not is_confirmed:
        click.confirm("make it?", abort=True, err=as_json)
    builder = ClusterBuilder(target.data_dir, aside, cluster, target.members)
    for group in groups:
        builder.add_group(
            FORMATS, group, parked.take(group, states[group], registry), states[group]
        )
    if target.genesis_file is not None and target.shared is None:
        with writing_whole(target.genesis_file, replaces=False) as file:
            file.write(cluster.encoded())
        tell(f"{target.genesis_file}: for the other nodes")
    made = builder.publish()
    for path in made:
        tell(f"made {path}")
    if as_json:
        document = {
            "cluster": cluster.genesis.cluster,
            "cluster_id": cluster.genesis.cluster_id,
            "made": [str(path) for path in made],
            "groups": [
                {"group": group, "instance_id": states[group].through, "checkpoint": base}
                for group, base in ((group, states[group].base) for group in groups)
            ],
        }
        click.echo(json.dumps(document, indent=1))
    tell("start it with this configuration: ray_paxos.start(...) finds the members")


def _shared_instance(shared: NewCluster, group: int) -> int:
    for spec in shared.genesis.groups:
        if spec.group == group and group in shared.chains:
            return spec.begins_after
    raise ConfigurationError(f"the genesis file has no group {group}")


@contextlib.contextmanager
def scratch_below(aside: Path) -> Iterator[Path]:
    """A new folder that goes again."""
    with tempfile.TemporaryDirectory(dir=aside) as name:
        yield Path(name)


def state_line(group: int, state: RestoredState) -> str:
    """One group's state, for a person."""
    base = f"from checkpoint {state.base}" if state.base else "from the first instance"
    if not state.through:
        return f"group {group}: nothing is there; it begins anew"
    text = f"group {group}: as of instance {state.through}, {base}"
    if state.unconfirmed:
        text += f"; of {state.unconfirmed} instances the results could not be compared"
    return text
