"""Writing segments: the learner's hand on its chosen log, and the checkpointer's part in merging.

The rules are those of `segments`. Sealing and publishing are in two steps, as a shell calls them:
the first writes bytes, the second makes them durable and gives them their name.

```
Learner        seal ─▶ _<range> written │ sync ─▶ synced, renamed, folder synced
Checkpointer   merge ▶ _<range> written │ sync ─▶ synced, read back, renamed to merged-<range>
Learner        publish, noted           │ sync ─▶ verified, renamed into log/, folder synced,
                                        │         parts deleted
```
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.values import EMPTY_CHAIN
from ray_paxos.errors import DamageError, InvariantViolationError
from ray_paxos.storage.disk import Disk, DiskFile, is_full
from ray_paxos.storage.segment_format import SegmentHeader, header_of, read_instances
from ray_paxos.storage.segments import (
    MERGED,
    UNFINISHED,
    Segment,
    SegmentPlace,
    SegmentReader,
    open_segment,
)


@dataclass(frozen=True, slots=True)
class _Sealing:
    file: DiskFile
    header: SegmentHeader


@dataclass(frozen=True, slots=True)
class _Publishing:
    first: int
    last: int


class SegmentFolder:
    """The learner's own hand on a group's log: seals, publishes, and cleans up.

    Invariants: what `reader.segments` lists is durable; `_pending` continues it.

    Attributes:
        reader: Reads what is published; never lists anew, since this folder knows.
        problem: What was last given up, for a person; empty where nothing was.
    """

    def __init__(self, place: SegmentPlace) -> None:
        """Use `SegmentFolder.open`."""
        self._place = place
        self.reader = SegmentReader(place)
        self.problem = ""
        self._pending: list[_Sealing | _Publishing] = []

    @classmethod
    def open(cls, place: SegmentPlace) -> SegmentFolder:
        """Find the log of a group and make its names durable.

        Raises:
            DamageError: It is not one whole log, or its folder is missing.
            OSError: The disk refuses.

        Guarantee: every segment listed is durable; what crashes left over is gone.
        """
        folder = cls(place)
        disk = place.disk
        covered = folder.reader.refresh()
        # A process that was killed may have renamed without syncing: nothing may be vouched for
        # that is in the page cache only.
        disk.sync_folder(place.log)
        for segment in folder.reader.segments:
            if any(segment.first <= part.first <= segment.last for part in covered):
                # The parts are all there is of this range should the merged one be damaged.
                open_segment(place, segment.path)
        for part in covered:
            disk.unlink(part.path)
        for name in disk.list(place.log):
            if name.startswith(UNFINISHED):
                disk.unlink(f"{place.log}/{name}")
        return folder

    @property
    def segments(self) -> tuple[tuple[int, int, int], ...]:
        """(first, last, bytes of values) of the published segments, in order."""
        return tuple((s.first, s.last, s.header.value_bytes) for s in self.reader.segments)

    def replay(self) -> Iterator[SealedInstance]:
        """Every sealed instance, from 1 on, verified; raises DamageError as it comes to it."""
        yield from self.reader.instances(1, self.reader.last)
        self.reader.forget_content()

    def seal(self, record: SealSegment) -> None:
        """Write the instances that follow the log as a segment; durable after `sync`.

        Raises:
            InvariantViolationError: They do not follow it, or contradict their own chain.
            OSError: The disk refuses; nothing of the file is left, and the same call may be made
                again.
        """
        instances = record.instances
        first, last = instances[0].chosen.instance_id, instances[-1].chosen.instance_id
        before = self._last_header()
        if before is not None and (before.first, before.chain_after) == (
            first,
            instances[-1].chain,
        ):
            # Done already: a write of several records found no room for a later one.
            return
        if first != (before.last + 1 if before is not None else 1):
            end = before.last if before is not None else 0
            what = f"group {record.group}: instances {first} to {last} to be sealed after {end}"
            raise InvariantViolationError(what)
        header = header_of(
            self._place.genesis,
            record.group,
            instances,
            before.chain_after if before is not None else EMPTY_CHAIN,
            before.result_chain_after if before is not None else EMPTY_CHAIN,
        )
        data = self._place.codec.encode(header, instances)
        path = f"{self._place.log}/{UNFINISHED}{self._place.name(first, last)}"
        self._pending.append(_Sealing(write_file(self._place.disk, path, data), header))

    def publish(self, first: int, last: int) -> None:
        """Put a merged segment in the place of its parts at the next `sync`.

        Does nothing where the merged file is not there (the merge was given up, or its
        checkpointer began anew), or where the log's segments are cut otherwise by now: the order
        then came late or twice.
        """
        self._pending.append(_Publishing(first, last))

    def sync(self) -> None:
        """Make everything sealed and published durable.

        A merged file that is not what it should be is given up, and its parts stay (`problem`).

        Raises:
            OSError: The disk refuses; nothing of what is pending may be vouched for.
        """
        while self._pending:
            step = self._pending[0]
            if isinstance(step, _Sealing):
                self._finish_seal(step)
            else:
                self._finish_publish(step.first, step.last)
            del self._pending[0]

    def _last_header(self) -> SegmentHeader | None:
        for step in reversed(self._pending):
            if isinstance(step, _Sealing):
                return step.header
        segments = self.reader.segments
        return segments[-1].header if segments else None

    def _finish_seal(self, sealing: _Sealing) -> None:
        place, header = self._place, sealing.header
        sealing.file.sync()
        sealing.file.close()
        path = place.published(header.first, header.last)
        place.disk.rename(f"{place.log}/{UNFINISHED}{place.name(header.first, header.last)}", path)
        place.disk.sync_folder(place.log)
        self.reader.segments = (*self.reader.segments, Segment(path, header))

    def _finish_publish(self, first: int, last: int) -> None:
        place, disk = self._place, self._place.disk
        segments = self.reader.segments
        parts = [s for s in segments if first <= s.first and s.last <= last]
        if len(parts) < 2 or parts[0].first != first or parts[-1].last != last:
            return
        source, path = place.merged(first, last), place.published(first, last)
        try:
            header = self._check_merged(source, parts)
            disk.rename(source, path)
        except FileNotFoundError:
            return
        except DamageError as error:
            # Nothing is lost by it but the merge: the parts stay.
            self.problem = str(error)
            _unlink_if_there(disk, source)
            return
        disk.sync_folder(place.log)
        before = [s for s in segments if s.last < first]
        after = [s for s in segments if s.first > last]
        self.reader.segments = (*before, Segment(path, header), *after)
        # Should the power go and bring parts back: they lie inside the merged one, and are ignored.
        for part in parts:
            disk.unlink(part.path)

    def _check_merged(self, source: str, parts: Sequence[Segment]) -> SegmentHeader:
        """Whether a merged file, every byte of it, may take the place of its parts."""
        place = self._place
        found = open_segment(place, source).header
        first, last = parts[0].header, parts[-1].header
        if (found.genesis, found.group, found.first, found.last) != (
            place.genesis,
            place.group,
            first.first,
            last.last,
        ) or (found.chain_before, found.chain_after) != (first.chain_before, last.chain_after):
            raise DamageError(f"{place.disk.where(source)} does not hold what its parts hold")
        return found


class MergeFolder:
    """The checkpointer's part in merging: writes merged segments and proves them readable.

    Merging is a service: where it cannot be done, the parts stay as they are, the learner finds
    nothing to publish, and `problem` says why.

    Attributes:
        reader: Reads the learner's segments.
        problem: Why a merge was last given up, for a person; empty where none was.
    """

    def __init__(self, place: SegmentPlace) -> None:
        """Use `MergeFolder.open`."""
        self.reader = SegmentReader(place)
        self.problem = ""
        self._place = place
        self._pending: list[_Sealing] = []

    @classmethod
    def open(cls, place: SegmentPlace) -> MergeFolder:
        """Begin without what an earlier life left: the learner tells of its segments anew.

        Raises:
            DamageError: The folder is missing.
            OSError: The disk refuses.
        """
        disk = place.disk
        try:
            names = disk.list(place.work)
        except FileNotFoundError as error:
            message = f"{disk.where(place.work)} is missing; it is never made anew"
            raise DamageError(message) from error
        for name in names:
            if name.startswith((UNFINISHED, MERGED)):
                _unlink_if_there(disk, f"{place.work}/{name}")
        return cls(place)

    def merge(self, first: int, last: int) -> None:
        """Write one segment with the instances of a range; to be named by `sync`.

        Gives up where the segments are damaged, or the disk has no room; does nothing where the
        log's segments are cut otherwise by now.

        Raises:
            OSError: The disk refuses.
        """
        try:
            self._merge(first, last)
        except DamageError as error:
            self.problem = str(error)
        except OSError as error:
            if not is_full(error):
                raise
            self.problem = f"no room to merge instances {first} to {last}"
        finally:
            self.reader.forget_content()

    def sync(self) -> None:
        """Make merged segments durable, read them back, and give them their names.

        Raises:
            OSError: The disk refuses.
        """
        place = self._place
        while self._pending:
            merging = self._pending.pop(0)
            header = merging.header
            path = f"{place.work}/{UNFINISHED}{place.name(header.first, header.last)}"
            merging.file.sync()
            merging.file.close()
            try:
                self._read_back(path, header)
            except DamageError as error:
                self.problem = str(error)
                place.disk.unlink(path)
            else:
                place.disk.rename(path, place.merged(header.first, header.last))
                place.disk.sync_folder(place.work)

    def _merge(self, first: int, last: int) -> None:
        place = self._place
        self.reader.refresh()
        parts = [s for s in self.reader.segments if first <= s.last and s.first <= last]
        if not parts or parts[0].first != first or parts[-1].last != last:
            return
        header = SegmentHeader(
            place.genesis,
            place.group,
            first,
            last,
            sum(part.header.value_bytes for part in parts),
            parts[0].header.chain_before,
            parts[-1].header.chain_after,
            parts[0].header.result_chain_before,
            parts[-1].header.result_chain_after,
        )
        data = place.codec.encode(header, self.reader.instances(first, last))
        path = f"{place.work}/{UNFINISHED}{place.name(first, last)}"
        _unlink_if_there(place.disk, path)
        self._pending.append(_Sealing(write_file(place.disk, path, data), header))

    def _read_back(self, path: str, header: SegmentHeader) -> None:
        where = self._place.disk.where(path)
        content = open_segment(self._place, path)
        count = sum(1 for _ in read_instances(content, header.first, where))
        if content.header != header or count != header.last - header.first + 1:
            raise DamageError(f"{where} does not read back as written")


def write_file(disk: Disk, path: str, data: bytes) -> DiskFile:
    """Write a new file, not yet durable.

    Raises:
        OSError: The disk refuses; nothing of the file is left.
    """
    file = disk.create(path)
    try:
        file.write(data)
    except OSError:
        file.close()
        with contextlib.suppress(OSError):
            disk.unlink(path)
        raise
    return file


def _unlink_if_there(disk: Disk, path: str) -> None:
    # The learner takes merged files away by renaming them.
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(path)
