"""Builds the members of a new cluster from the state that an earlier one left.

```
<data_dir>/<cluster>.<random>/<member>/    while they are built: no start looks there
    checkpointer/group=<g>/<instance_id>/    the group's state, under the new genesis
    ...                                      staged as every member is (`folder`)
<data_dir>/<cluster>/<member>/             by a rename, at the end
```

The new cluster has its own id, its own members, and in its genesis, for each group, the instance
after which it begins: no acceptor of it ever votes at or below that, whatever else it has. It goes
on with the chains, the sessions, the log time and the master version of the old one, and with
ballots above the old ones. That nobody leads yet is the only thing that the state says anew.

Nothing of the old cluster is changed, and messages of either are refused by the other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.genesis import (
    GENESIS_FORMAT,
    SYSTEM_GROUP,
    Genesis,
    GroupSpec,
    MemberSpec,
    decode_genesis,
    first_voters,
)
from ray_paxos.errors import ConfigurationError, DamageError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checked_files import Fields, decode_fields, encode_fields
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoints import CheckpointPlace, load_checkpoint
from ray_paxos.storage.disk import LocalDisk, storage_errors
from ray_paxos.storage.folder import stage_member
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.member_files import FileFormats, checkpoint_place
from ray_paxos.storage.place import write_place
from ray_paxos.storage.restore_state import RestoredState

NEW_FORMAT = 1


@dataclass(frozen=True, slots=True)
class NewCluster:
    """What all members of a new cluster are made from, on whatever node.

    Attributes:
        genesis: Of the new cluster.
        chains: By group: (value chain, result chain) after the instance where it begins.
    """

    genesis: Genesis
    chains: Mapping[int, tuple[bytes, bytes]]

    def encoded(self) -> bytes:
        """The file that makes several nodes build members of one cluster."""
        fields: Fields = {
            "format": NEW_FORMAT,
            "cluster": self.genesis.cluster,
            "cluster_id": self.genesis.cluster_id,
            "genesis": self.genesis.encoded().hex(),
        }
        for group, (chain, result_chain) in sorted(self.chains.items()):
            fields[f"group={group}"] = f"{chain.hex()} {result_chain.hex()}"
        return encode_fields(fields)


def decode_new_cluster(data: bytes, where: str) -> NewCluster:
    """Read back what `NewCluster.encoded` wrote.

    Raises:
        DamageError: It is not that.
    """
    fields = decode_fields(data, where)
    try:
        genesis = decode_genesis(bytes.fromhex(str(fields["genesis"])))
        chains = {
            int(name.removeprefix("group=")): _two_chains(str(text))
            for name, text in fields.items()
            if name.startswith("group=")
        }
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamageError(f"{where}: not a new cluster's genesis ({error})") from error
    cluster = NewCluster(genesis, chains)
    if cluster.encoded() != data:
        raise DamageError(f"{where}: its parts contradict each other")
    return cluster


def _two_chains(text: str) -> tuple[bytes, bytes]:
    chain, _, result_chain = text.partition(" ")
    return bytes.fromhex(chain), bytes.fromhex(result_chain)


def new_cluster(
    name: str,
    members: Sequence[str],
    specs: Mapping[int, GroupSpec],
    restored: Mapping[int, RestoredState],
    random: Random,
) -> NewCluster:
    """Make the genesis of a new cluster.

    Args:
        name: Of the cluster.
        members: Their names.
        specs: What the groups of the old cluster began with, the system's among them.
        restored: The state of each group that it gets. The system's own group, which says what
            members there are, begins anew.
        random: For the ids.
    """
    made = tuple(MemberSpec(member, random.getrandbits(63) | 1) for member in members)
    voters = first_voters(made)
    machines = {group: spec.machines for group, spec in specs.items()}
    groups = [GroupSpec(SYSTEM_GROUP, voters, machines.get(SYSTEM_GROUP, ()))]
    groups += [
        GroupSpec(group, voters, machines.get(group, ()), state.through)
        for group, state in sorted(restored.items())
    ]
    cluster_id = f"{random.getrandbits(128):032x}"
    genesis = Genesis(GENESIS_FORMAT, name, cluster_id, made, tuple(groups))
    return NewCluster(genesis, {g: (s.chain, s.result_chain) for g, s in restored.items()})


class ClusterBuilder:
    """Builds members' folders aside, and puts them in place all at once.

    Attributes:
        cluster: What they are made from.
    """

    def __init__(
        self, data_dir: Path, aside: Path, cluster: NewCluster, members: Sequence[str]
    ) -> None:
        """Use `building`."""
        self.cluster = cluster
        self._aside = aside
        self._root = data_dir / cluster.genesis.cluster
        self._members = {
            spec.name: spec.member_id for spec in cluster.genesis.members if spec.name in members
        }

    def add_group(
        self, formats: FileFormats, group: int, host: MachineHost, restored: RestoredState
    ) -> None:
        """Save a group's state as a checkpoint of every member.

        Raises:
            DamageError: It is not the state from which the others are made.
            CheckpointError: A machine cannot be saved.
            StorageError: The disk refuses.
        """
        spec = next(spec for spec in self.cluster.genesis.groups if spec.group == group)
        found = (restored.through, restored.chain, restored.result_chain)
        if found != (spec.begins_after, *self.cluster.chains[group]):
            raise DamageError(
                f"group {group}: the state here, as of instance {restored.through}, is not that "
                f"from which the cluster's other members were made ({spec.begins_after})"
            )
        if not restored.through:
            return
        # Who led the old cluster is no member of this one; its version, which fences, stays.
        host.master = None
        cut = cut_of(restored, spec)
        for name, member_id in self._members.items():
            disk = LocalDisk(self._aside / name)
            identity = Identity(self.cluster.genesis, member_id)
            place = checkpoint_place(disk, formats, identity, group)
            with storage_errors(f"cannot make {disk.where(place.folder)}"):
                disk.make_folder(place.folder)
            CheckpointFolder.open(place).save(host, cut)

    def publish(self) -> list[Path]:
        """Stage the members, and give them their names.

        Returns:
            Their folders.

        Raises:
            ConfigurationError: One is there by now.
            StorageError: The disk refuses; some members may be in place.
        """
        for name, member_id in self._members.items():
            stage_member(LocalDisk(self._aside / name), self.cluster.genesis, member_id)
        check_absent(self._root, tuple(self._members))
        with storage_errors(f"cannot make {self._root}"):
            self._root.mkdir(exist_ok=True)
            for name, member_id in self._members.items():
                target = self._root / name
                os.rename(self._aside / name, target)
                disk = LocalDisk(target)
                disk.make_folder("")
                # That it was moved within its disk changes nothing but the path, for a person.
                write_place(disk, Identity(self.cluster.genesis, member_id).owner)
        return [self._root / name for name in self._members]


class ParkedStates:
    """The states of several groups, of which one at a time is in memory."""

    def __init__(
        self, root: Path, formats: FileFormats, old: Genesis, specs: Mapping[int, GroupSpec]
    ) -> None:
        """Keep them in a folder, which is there, as checkpoints of the cluster they come from."""
        self._disk = LocalDisk(root)
        self._formats = formats
        self._old = old
        self._specs = specs

    def park(self, group: int, host: MachineHost, restored: RestoredState) -> None:
        """Save a state; raises CheckpointError and StorageError."""
        if not restored.through:
            return
        place = self._place(group)
        with storage_errors(f"cannot make {self._disk.where(place.folder)}"):
            self._disk.make_folder(place.folder)
        CheckpointFolder.open(place).save(host, cut_of(restored, self._specs[group]))

    def take(self, group: int, restored: RestoredState, registry: MachineRegistry) -> MachineHost:
        """Load it; raises CheckpointError and StorageError."""
        if not restored.through:
            configuration = self._specs[group].configuration
            return MachineHost(registry, group=group, configuration=configuration)
        return load_checkpoint(self._place(group), restored.through, registry).host

    def _place(self, group: int) -> CheckpointPlace:
        folder = f"group={group}"
        return CheckpointPlace(self._disk, self._formats.tables, self._old.hash(), group, folder)


def cut_of(restored: RestoredState, spec: GroupSpec) -> Cut:
    """Where a restored state stands in its group's log."""
    return Cut(
        restored.through,
        restored.chain,
        restored.result_chain,
        restored.ballot,
        spec.configuration,
    )


def check_absent(root: Path, members: Sequence[str]) -> None:
    """Make sure that nothing is where members are to be made.

    Raises:
        ConfigurationError: Something is; names it.
    """
    for name in members:
        path = root / name
        if path.exists() or path.is_symlink():
            raise ConfigurationError(
                f"{path} exists: a member is made only where none is. Move it away, or give "
                "another cluster name or data_dir"
            )


@contextlib.contextmanager
def building_aside(data_dir: Path, cluster: str, token: str) -> Iterator[Path]:
    """A folder on the data directory's disk that goes again, with what is left in it.

    Raises:
        StorageError: The data directory cannot be made or written.
    """
    # A dot is in no cluster's name.
    aside = data_dir / f"{cluster}.{token}"
    with storage_errors(f"cannot make {aside}"):
        data_dir.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
