"""Which member's folder a command is about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import ConfigurationError
from ray_paxos.storage.checkpoints import CheckpointPlace
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.identity import IDENTITY, ROLE_FOLDERS, Identity, read_identity
from ray_paxos.storage.inspection import ChosenLogView
from ray_paxos.storage.member_files import FileFormats, checkpoint_place
from ray_paxos.storage.parquet import ParquetCodec
from ray_paxos.storage.parquet_tables import ParquetTables
from ray_paxos.storage.parts import held_groups
from ray_paxos.storage.running import running_roles

FORMATS = FileFormats(ParquetCodec(), ParquetTables())


@dataclass(frozen=True, slots=True)
class Member:
    """A member's folder, and whose it is.

    Attributes:
        root: The folder.
        disk: The same, as storage reads it.
        identity: Of the member.
        running: Roles of which a process holds the folder.
    """

    root: Path
    disk: LocalDisk
    identity: Identity
    running: tuple[RoleName, ...]

    def group(self, wanted: int | None) -> int:
        """The group that a command is about: by default the first that is not the system's.

        Raises:
            ConfigurationError: The member does not vote in it.
        """
        own = held_groups(self.disk, self.identity)
        if wanted is None:
            return next((group for group in own if group != SYSTEM_GROUP), SYSTEM_GROUP)
        if wanted not in own:
            known = ", ".join(map(str, own))
            raise ConfigurationError(f"{self.root} has no group {wanted}; it has {known}")
        return wanted

    def log(self, group: int) -> ChosenLogView:
        """A group's chosen log; raises DamageError where it is none."""
        return ChosenLogView(self.disk, FORMATS, self.identity, group)

    def checkpoints(self, group: int) -> CheckpointPlace:
        """A group's checkpoints."""
        return checkpoint_place(self.disk, FORMATS, self.identity, group)


def find_disk(root: Path) -> LocalDisk:
    """A member's folder, which may be damaged.

    Raises:
        ConfigurationError: It is no member's folder.
        OSError: It may not be read.
    """
    if not root.exists():
        raise ConfigurationError(f"{root} does not exist")
    if not root.is_dir():
        raise ConfigurationError(f"{root} is a file; give a member's folder")
    if not any((root / name).exists() for name in (IDENTITY, *ROLE_FOLDERS.values())):
        message = f"{root} is no member's folder (those are <data_dir>/<cluster>/<member>)"
        members = sorted(path.parent.name for path in root.glob(f"*/{IDENTITY}"))
        if members:
            message += f"; it holds those of {', '.join(members)}: give one"
        raise ConfigurationError(message)
    return LocalDisk(root)


def open_member(root: Path) -> Member:
    """A member's folder whose identity is whole.

    Raises:
        ConfigurationError: It is no member's folder.
        DamageError: The identity is missing or damaged.
        OSError: It may not be read.
    """
    disk = find_disk(root)
    return Member(root, disk, read_identity(disk), running_roles(root))
