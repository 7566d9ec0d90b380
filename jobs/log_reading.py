"""What `verify_log.py` does on a node: reads a member's log from its disk, no faster than allowed.

Runs in an actor on that node and travels there by value, so it imports no other job. The member's
own actors are asked nothing: while their learner cleans and merges, this reads what is there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ray_paxos.cli.log_text import instance_lines
from ray_paxos.cli.member import FORMATS
from ray_paxos.core.records import SealedInstance
from ray_paxos.errors import DamageError, PaxosError
from ray_paxos.storage.checkpoints import published, verify_checkpoint
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.identity import read_identity
from ray_paxos.storage.inspection import ChosenLogView
from ray_paxos.storage.member_files import checkpoint_place, segment_place
from ray_paxos.storage.segments import SegmentReader

CLEANED_MAX = 100
"""So often the log may be cleaned beyond what is being read."""
INSTANCE_BYTES = 200


class LogReading:
    """Reads the logs of one member. A plain class; `verify_log` makes an actor of it."""

    def __init__(self, folder: str, bytes_per_s: int) -> None:
        """Read nothing yet.

        Args:
            folder: The member's, on this node.
            bytes_per_s: Of values, at most.
        """
        self._disk = LocalDisk(Path(folder))
        self._bytes_per_s = bytes_per_s
        self._free_s = time.monotonic()

    def scan(self, group: int, through: int, stride: int) -> dict[str, Any]:
        """Read a group's log, from where it begins, and verify all of it.

        Args:
            group: Whose log.
            through: Up to this instance.
            stride: The chains after every so many instances are given.

        Returns:
            `first`, `last` (instances read; 0 for none), `chains` (instance, value chain, result
            chain or None where it is not known), `checkpoints` (the same, of its checkpoints), and
            `problems`: what is damaged, with the file.
        """
        found: dict[str, Any] = {
            "first": 0,
            "last": 0,
            "chains": [],
            "checkpoints": [],
            "problems": [],
        }
        try:
            self._scan_log(group, through, stride, found)
        except (PaxosError, OSError) as error:
            found["problems"].append(str(error))
        try:
            self._scan_checkpoints(group, through, found)
        except (PaxosError, OSError) as error:
            found["problems"].append(str(error))
        return found

    def _scan_log(self, group: int, through: int, stride: int, found: dict[str, Any]) -> None:
        reader = SegmentReader(segment_place(self._disk, FORMATS, self._identity(), group))
        reader.refresh()
        for _ in range(CLEANED_MAX):
            if not reader.segments:
                return
            wanted = reader.floor
            # What was read before the log was cut is of no use: the chains go on from here.
            found |= {"first": wanted, "last": 0, "chains": []}
            try:
                for instance in reader.instances(wanted, min(through, reader.last)):
                    # Compared with the chain as it is read.
                    number = instance.chosen.instance_id
                    found["last"] = number
                    if number % stride == 0 or number == through:
                        found["chains"].append(_chains(instance))
                    self._keep_to_rate(len(instance.chosen.value) + INSTANCE_BYTES)
                return
            except DamageError:
                reader.refresh()
                if reader.segments and reader.floor <= wanted:
                    raise

    def _scan_checkpoints(self, group: int, through: int, found: dict[str, Any]) -> None:
        place = checkpoint_place(self._disk, FORMATS, self._identity(), group)
        for instance_id in published(place):
            try:
                manifest = verify_checkpoint(place, instance_id)
            except DamageError:
                if instance_id in published(place):
                    raise
                # Dropped meanwhile.
                continue
            self._keep_to_rate(manifest.byte_count)
            if instance_id <= through:
                cut = manifest.cut
                found["checkpoints"].append((instance_id, cut.chain.hex(), cut.result_chain.hex()))

    def chains(self, group: int, first: int, last: int) -> list[tuple[int, str, str | None]]:
        """The chains after each instance of a range, as far as the log has it."""
        reader = SegmentReader(segment_place(self._disk, FORMATS, self._identity(), group))
        reader.refresh()
        first = max(first, reader.floor)
        return [_chains(instance) for instance in reader.instances(first, last)]

    def describe(self, group: int, instance_id: int) -> str:
        """What one instance holds, for a person."""
        log = ChosenLogView(self._disk, FORMATS, self._identity(), group)
        lines = [
            line.strip()
            for instance in log.instances(instance_id, instance_id)
            for line in instance_lines(instance, log.kinds)
        ]
        return "; ".join(lines)

    def _identity(self) -> Any:
        return read_identity(self._disk)

    def _keep_to_rate(self, byte_count: int) -> None:
        now = time.monotonic()
        self._free_s = max(self._free_s, now) + byte_count / self._bytes_per_s
        if self._free_s > now + 0.02:
            time.sleep(self._free_s - now)


def _chains(instance: SealedInstance) -> tuple[int, str, str | None]:
    results = instance.result_chain
    return instance.chosen.instance_id, instance.chain.hex(), results.hex() if results else None
