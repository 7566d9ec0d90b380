"""What looking through a member's folder brought to light."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from ray_paxos.errors import StorageError
from ray_paxos.storage.disk import Disk


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not what it was, or not what it should be.

    Attributes:
        path: File or folder, below the member's folder.
        problem: What is wrong, with the full path, and offset or instance where they are known.
    """

    path: str
    problem: str


@dataclass(slots=True)
class Findings:
    """Faults, in the order in which they were found, and what else a person should know.

    Attributes:
        faults: The first is the place to look at first.
        notes: What is no damage, but not as after a clean stop.
        verified: Paths of the files of which every byte agreed with a checksum.
        byte_count: Of these.
    """

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    byte_count: int = 0

    def add(self, path: str, problem: str) -> None:
        """Note a fault, once."""
        fault = Fault(path, problem)
        if fault not in self.faults:
            self.faults.append(fault)

    def note_verified(self, disk: Disk, path: str) -> None:
        """Every byte of a file is as it was written."""
        self.verified.append(path)
        self.byte_count += disk.size(path)

    @contextlib.contextmanager
    def looking_at(self, disk: Disk, path: str) -> Iterator[None]:
        """Turn whatever is wrong with a file into a fault, and go on behind the block.

        Raises:
            PermissionError: It may not be read: that says nothing about the file.
        """
        try:
            yield
        except StorageError as error:
            if isinstance(error.__cause__, PermissionError):
                raise error.__cause__ from error
            self.add(path, str(error))
        except PermissionError:
            raise
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            self.add(path, f"cannot read {disk.where(path)}: {reason}")
