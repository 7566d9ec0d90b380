"""Reading one file of a group and comparing every byte of it with what was written."""

from __future__ import annotations

from ray_paxos.core.tasks import Scrub, Scrubbed
from ray_paxos.errors import DamageError
from ray_paxos.storage.checkpoints import CheckpointPlace, published, verify_checkpoint
from ray_paxos.storage.segments import SegmentPlace, open_segment


class Scrubber:
    """Reads what lies in one group's folders; keeps nothing open."""

    def __init__(self, segments: SegmentPlace, checkpoints: CheckpointPlace) -> None:
        """Read there."""
        self._segments = segments
        self._checkpoints = checkpoints

    def scrub(self, task: Scrub) -> Scrubbed:
        """Read a segment or a checkpoint.

        Returns:
            What is wrong with it. A file that is gone by now, cleaned or merged, is no damage.

        Raises:
            OSError: The disk refuses.
        """
        try:
            if task.segment is None:
                if task.checkpoint not in published(self._checkpoints):
                    return Scrubbed("", 0)
                manifest = verify_checkpoint(self._checkpoints, task.checkpoint)
                return Scrubbed("", manifest.byte_count)
            path = self._segments.published(*task.segment)
            if not self._segments.disk.exists(path):
                return Scrubbed("", 0)
            byte_count = self._segments.disk.size(path)
            header = open_segment(self._segments, path).header
        except FileNotFoundError:
            return Scrubbed("", 0)
        except DamageError as error:
            return Scrubbed(str(error), 0)
        if (header.first, header.last) != task.segment:
            where = self._segments.disk.where(path)
            return Scrubbed(f"{where} holds instances {header.first} to {header.last}", 0)
        return Scrubbed("", byte_count)
