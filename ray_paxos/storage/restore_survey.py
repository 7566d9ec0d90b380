"""Finds a cluster's archive below an address, and the folders that a recovery is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ray_paxos.core.genesis import Configuration, Genesis, GroupSpec, Voter
from ray_paxos.core.messages import Vote
from ray_paxos.errors import ConfigurationError, StorageError
from ray_paxos.storage.archive_address import ArchiveAddress
from ray_paxos.storage.archive_files import ArchiveFiles
from ray_paxos.storage.archive_layout import GENESIS, read_archived_genesis
from ray_paxos.storage.archive_opening import open_archive
from ray_paxos.storage.disk import LocalDisk, storage_errors
from ray_paxos.storage.identity import ROLE_FOLDERS, Identity, read_identity
from ray_paxos.storage.journal_reading import read_journal
from ray_paxos.storage.parts import PARTS, read_parts
from ray_paxos.storage.running import running_roles


def find_archived_cluster(address: ArchiveAddress) -> tuple[ArchiveFiles, Genesis]:
    """The one cluster of which there is an archive at an address.

    Args:
        address: Of an archive, as clusters are configured with; or, where it holds several, of
            one's folder in it: `<archive>/<cluster>` or `<archive>/<cluster>/<cluster_id>`.

    Returns:
        The archive, and the cluster's genesis.

    Raises:
        ConfigurationError: There is none, or more than one.
        DamageError: What says whose archive it is is damaged.
        StorageError: The archive is away or refuses.
    """
    files = open_archive(address)
    files.check()
    here = _folders_of(files, "", 2)
    found = here
    if len(here) == 1:
        # The address is that of a folder inside the archive where the genesis is nearer.
        parts = here[0].split("/") if here[0] else []
        inside = 2 - len(parts)
        above = address.root.split("/")
        if inside:
            files = open_archive(replace(address, root="/".join(above[:-inside])))
            found = ["/".join((*above[-inside:], *parts))]
    if not found:
        raise ConfigurationError(f"{files.where('')} holds no cluster's archive")
    if len(found) > 1:
        listed = ", ".join(files.where(folder) for folder in found)
        raise ConfigurationError(f"{files.where('')} holds several: give one of {listed}")
    return files, read_archived_genesis(files, found[0])


def _folders_of(files: ArchiveFiles, folder: str, depth: int) -> list[str]:
    """Folders that have a genesis, at most so deep."""
    names = files.list(folder)
    if names.get(GENESIS) is not None:
        return [folder]
    found = []
    if depth:
        for name, size in sorted(names.items()):
            if size is None:
                found += _folders_of(files, f"{folder}/{name}".lstrip("/"), depth - 1)
    return found


@dataclass(slots=True)
class LeftMembers:
    """The members of a cluster whose folders are left.

    Attributes:
        genesis: Of the cluster.
        members: Folder and identity, by name.
        missing: Names of the members whose folders were not given.
        specs: What the groups began with: those of the genesis, and later ones that any of these
            members has.
        replicas: By group, (member_id, replica_id) of those of them that have it.
        names: Of all members that any of them has met, by id.
        problems: Why votes cannot be used, for a person.
        votes: By group: those of the highest ballots, by instance.
        floors: By group: everything below it was chosen.
    """

    genesis: Genesis
    members: dict[str, tuple[LocalDisk, Identity]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    specs: dict[int, GroupSpec] = field(default_factory=dict)
    replicas: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    votes: dict[int, dict[int, Vote]] = field(default_factory=dict)
    floors: dict[int, int] = field(default_factory=dict)

    def is_majority(self, group: int, configuration: Configuration) -> bool:
        """Whether all that was ever chosen in a group is in the folders given.

        Args:
            group: Its number.
            configuration: In force after all that is in them, votes included. There can be no later
                one that a majority of its voters has not voted for.
        """
        count = sum(self._is_here(group, voter) for voter in configuration.voters)
        return count >= configuration.majority and not self.problems

    def missing_voters(self, group: int, configuration: Configuration) -> tuple[str, ...]:
        """Names of the voters whose votes are not in the folders given."""
        missing = [each for each in configuration.voters if not self._is_here(group, each)]
        return tuple(self.names.get(each.member_id, str(each.member_id)) for each in missing)

    def _is_here(self, group: int, voter: Voter) -> bool:
        return (voter.member_id, voter.replica_id) in self.replicas.get(group, set())


def find_left_members(roots: Sequence[Path]) -> LeftMembers:
    """Look into the folders of members that do not run; changes nothing.

    Raises:
        ConfigurationError: They are not those of different members of one cluster, or one runs.
        StorageError: One cannot be read.
    """
    left: LeftMembers | None = None
    for root in roots:
        if not root.is_dir():
            raise ConfigurationError(f"{root} is no folder")
        disk = LocalDisk(root)
        identity = read_identity(disk)
        genesis = identity.genesis
        if left is None:
            left = LeftMembers(genesis, specs={spec.group: spec for spec in genesis.groups})
            left.names = {member.member_id: member.name for member in genesis.members}
        elif genesis.hash() != left.genesis.hash():
            raise ConfigurationError(
                f"{root} is of cluster {genesis.cluster} ({genesis.cluster_id}), not of "
                f"{left.genesis.cluster} ({left.genesis.cluster_id})"
            )
        name = identity.name
        if name in left.members:
            other = left.members[name][0].root
            raise ConfigurationError(f"{root} and {other} are both of member {name}: give one")
        running = running_roles(root)
        if running:
            roles = ", ".join(ROLE_FOLDERS[role] for role in running)
            raise ConfigurationError(f"{root} is in use ({roles}): stop that member first")
        left.members[name] = (disk, identity)
        _note_parts(left, disk, identity)
        _note_votes(left, disk, identity)
    if left is None:
        raise ConfigurationError("give the folder of a member")
    left.missing = tuple(sorted(set(left.names.values()) - left.members.keys()))
    return left


def _note_parts(left: LeftMembers, disk: LocalDisk, identity: Identity) -> None:
    try:
        with storage_errors(f"cannot read {disk.where(PARTS)}"):
            parts = read_parts(disk, identity)
    except StorageError as error:
        left.problems.append(f"which groups it has is unknown: {error}")
        return
    left.names |= parts.joined
    left.names[identity.member_id] = identity.name
    for group, part in parts.parts.items():
        left.specs.setdefault(group, part.spec)
        left.replicas.setdefault(group, set()).add((identity.member_id, part.replica_id))


def _note_votes(left: LeftMembers, disk: LocalDisk, identity: Identity) -> None:
    try:
        journal = read_journal(disk, "acceptor", owner=identity.owner)
    except StorageError as error:
        left.problems.append(f"votes cannot be used: {error}")
        return
    for group, part in journal.state.groups.items():
        left.floors[group] = max(left.floors.get(group, 1), part.floor)
        _take_highest(left.votes.setdefault(group, {}), part.votes)


def _take_highest(votes: dict[int, Vote], others: Mapping[int, Vote]) -> None:
    for instance_id, vote in others.items():
        known = votes.get(instance_id)
        if known is None or vote.ballot > known.ballot:
            votes[instance_id] = vote
