"""The learner's hand on its chosen log: it alone gives, takes and removes names there.

The rules are those of `segments`. Sealing is in two steps, as a shell calls them: the first writes
bytes, the second makes them durable and gives them their name. What is a task is done in one.

```
Learner        seal ─▶ _<range> written │ sync ─▶ synced, renamed, folder synced
Checkpointer   merge ─▶ merged-<range>, see `segment_merging`
Learner        publish ─▶ verified, renamed into log/, folder synced, parts deleted
```
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.values import EMPTY_CHAIN, extend_chain, value_hash
from ray_paxos.errors import DamageError, InvariantViolationError, StorageError
from ray_paxos.storage.disk import DiskFile
from ray_paxos.storage.segment_files import unlink_if_there, write_file
from ray_paxos.storage.segment_format import SegmentHeader, header_of
from ray_paxos.storage.segments import (
    UNFINISHED,
    Segment,
    SegmentPlace,
    SegmentReader,
    find_runs,
    open_segment,
)
from ray_paxos.storage.set_aside import SetAside

PROBLEMS_MAX = 4


@dataclass(frozen=True, slots=True)
class _Sealing:
    file: DiskFile
    header: SegmentHeader


class SegmentFolder:
    """The learner's own hand on a group's log: seals, publishes, and cleans up.

    Invariants: what `reader.segments` lists is durable; `_pending` continues it.

    Attributes:
        reader: Reads what is published; never lists anew, since this folder knows.
        set_aside: Files that were set aside and are still there, with their paths.
    """

    def __init__(self, place: SegmentPlace, base: Cut | None) -> None:
        """Use `SegmentFolder.open`."""
        self._place = place
        self._base = base
        self.reader = SegmentReader(place)
        self._problems: list[str] = []
        self.set_aside: tuple[str, ...] = ()
        self._set_aside = SetAside(place)
        self._pending: list[_Sealing] = []

    @classmethod
    def open(cls, place: SegmentPlace, base: Cut | None = None) -> SegmentFolder:
        """Find the log of a group and make its names durable.

        Of what is damaged, missing or foreign nothing is served: the log is what a checkpoint and
        the segments after it make up, as far as they do, and the rest is set aside (`problems`),
        to be learned again.

        Args:
            place: Where it lies.
            base: The own checkpoint that the log goes on from; None for none.

        Raises:
            DamageError: Its folder is missing.
            OSError: The disk refuses.

        Guarantee: every segment listed is durable; what crashes left over is gone.
        """
        folder = cls(place, base)
        disk = place.disk
        folder.reader.names()
        for name in disk.list(place.log):
            if name.startswith(UNFINISHED):
                disk.unlink(f"{place.log}/{name}")
        # A process that was killed may have renamed without syncing: nothing may be vouched for
        # that is in the page cache only.
        disk.sync_folder(place.log)
        folder._find_log()
        folder._set_aside.clean(max(folder.reader.last, folder._base_instance))
        folder.set_aside = folder._set_aside.paths()
        return folder

    def _find_log(self) -> None:
        """Make the log of what is there; again, as long as something of it is found damaged."""
        place, set_aside = self._place, self._set_aside
        segments = self._readable()
        while True:
            runs, covered, _ = find_runs(place, segments)
            damaged = self._damaged_over(covered, runs)
            if damaged is None:
                break
            segments = [segment for segment in segments if segment != damaged]
        # A cut that the power ended may have left holes below the base, which nobody misses.
        needed = [segment for segment in segments if segment.last >= self._base_instance]
        self._problems += find_runs(place, needed)[2]
        run = self._run_from_base(runs)
        for segment in covered:
            place.disk.unlink(segment.path)
        for other in runs:
            if other is run:
                continue
            for segment in other:
                if segment.last <= self._base_instance:
                    place.disk.unlink(segment.path)
                else:
                    set_aside.put(segment.path, is_damaged=False)
        self.reader.segments = run
        place.disk.sync_folder(place.log)

    def _readable(self) -> list[Segment]:
        """All segments whose names and footers are what they should be."""
        found: list[Segment] = []
        for name in self.reader.names():
            try:
                found.append(self.reader.look_at(name))
            except DamageError as error:
                self._problems.append(str(error))
                self._set_aside.put(f"{self._place.log}/{name}", is_damaged=True)
        return found

    def _damaged_over(
        self, covered: Sequence[Segment], runs: Sequence[Sequence[Segment]]
    ) -> Segment | None:
        """A merged segment that is damaged while its parts are still there; set aside here."""
        for run in runs:
            for segment in run:
                if not any(segment.first <= part.first <= segment.last for part in covered):
                    continue
                # The parts are all there is of this range should the merged one be damaged.
                try:
                    open_segment(self._place, segment.path)
                except DamageError as error:
                    self._problems.append(str(error))
                    self._set_aside.put(segment.path, is_damaged=True)
                    return segment
        return None

    def _run_from_base(self, runs: Sequence[tuple[Segment, ...]]) -> tuple[Segment, ...]:
        """The run that goes on from the base without a gap; empty where none does."""
        base = self._base
        for run in runs:
            if not run[0].first <= self._base_instance + 1 <= run[-1].last + 1:
                continue
            if base is None or self._chain_at_base(run) == base.chain:
                return run
            where = self._place.disk.where(run[0].path)
            self._problems.append(f"{where} does not lead to the checkpoint's chain")
        beyond = next((run for run in runs if run[-1].last > self._base_instance), None)
        if beyond is not None and not self._problems:
            where = self._place.disk.where(beyond[0].path)
            self._problems.append(f"{where}: nothing is there of what comes before it")
        return ()

    def _chain_at_base(self, run: Sequence[Segment]) -> bytes | None:
        """The run's chain after the base, from headers alone; the base's own inside a segment."""
        instance_id = self._base_instance
        for segment in run:
            if instance_id == segment.first - 1:
                return segment.header.chain_before
            if instance_id == segment.last:
                return segment.header.chain_after
        # Inside a segment: its replay compares (`Learner`).
        return self._base.chain if self._base is not None else None

    @property
    def _base_instance(self) -> int:
        return self._base.instance_id if self._base is not None else 0

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found wrong and set aside, for a person."""
        return tuple(self._problems[-PROBLEMS_MAX:])

    def listed(self) -> tuple[tuple[int, int, int], ...]:
        """(first, last, bytes of values) of the published segments, in order."""
        return tuple((s.first, s.last, s.header.value_bytes) for s in self.reader.segments)

    def replay(self) -> Iterator[SealedInstance]:
        """Every sealed instance after the base, verified.

        Where a segment is found damaged nothing of it is given out: it is set aside, with those
        behind it, and the log ends before it. `listed` says so afterwards.
        """
        base = self._base_instance
        chain = self._base.chain if self._base is not None else EMPTY_CHAIN
        for segment in self.reader.segments:
            if segment.last <= base:
                continue
            first = max(segment.first, base + 1)
            try:
                instances = list(self.reader.instances(first, segment.last))
                before = extend_chain(chain, value_hash(instances[0].chosen.value))
                if instances[0].chain != before:
                    where = self._place.disk.where(segment.path)
                    raise DamageError(f"{where} does not go on from the checkpoint's chain")
            except DamageError as error:
                self._cut_off_from(segment, str(error))
                break
            chain = instances[-1].chain
            yield from instances
        self.reader.forget_content()

    def _cut_off_from(self, damaged: Segment, why: str) -> None:
        self._problems.append(why)
        segments = self.reader.segments
        kept = tuple(s for s in segments if s.last < damaged.first)
        if kept and kept[-1].last < self._base_instance:
            # The base lies inside the damaged one: what is left does not reach it.
            for segment in kept:
                self._place.disk.unlink(segment.path)
            kept = ()
        self.reader.segments = kept
        for segment in segments:
            if segment.first >= damaged.first:
                self._set_aside.put(segment.path, is_damaged=segment == damaged)
        self._place.disk.sync_folder(self._place.log)
        self.set_aside = self._set_aside.paths()

    def cut(self, floor: int, base: Cut | None) -> int:
        """Remove segments that end below an instance, durably.

        Args:
            floor: Nothing at or above it goes, unless
            base: a checkpoint is installed beyond the end: then all go, and the log goes on there.

        Returns:
            The floor after it.

        Raises:
            OSError: The disk refuses; what is still there makes up one log.
        """
        if base is not None:
            assert not self._pending, "nothing is on its way into a log that is left behind"
            self._base = base
            floor = max(floor, base.instance_id + 1)
        disk, reader = self._place.disk, self.reader
        # Ascending: were this cut short, what is left would still have no hole.
        while reader.segments and reader.segments[0].last < floor:
            unlink_if_there(disk, reader.segments[0].path)
            reader.segments = reader.segments[1:]
        disk.sync_folder(self._place.log)
        return self.reader.floor if self.reader.segments else max(floor, self._base_instance + 1)

    def replace(self, values: Sequence[ChosenValue]) -> None:
        """Put a segment of these values in the place of a damaged one of the same range.

        Raises:
            DamageError: They are not what the damaged one held, by the chains at its ends.
            OSError: The disk refuses; the damaged one is still there.
        """
        place, disk = self._place, self._place.disk
        first, last = values[0].instance_id, values[-1].instance_id
        listed = self.reader.segments
        damaged = next((s for s in listed if (s.first, s.last) == (first, last)), None)
        if damaged is None:
            return
        header = damaged.header
        chain = header.chain_before
        instances: list[SealedInstance] = []
        for chosen in values:
            chain = extend_chain(chain, value_hash(chosen.value))
            is_last = chosen.instance_id == last
            result_chain = header.result_chain_after if is_last else None
            instances.append(SealedInstance(chosen, chain, result_chain))
        if chain != header.chain_after:
            where = disk.where(damaged.path)
            raise DamageError(f"what was fetched for {where} does not have its chain")
        header = header_of(
            place.genesis, place.group, instances, header.chain_before, header.result_chain_before
        )
        path = f"{place.log}/{UNFINISHED}{place.name(first, last)}"
        unlink_if_there(disk, path)
        file = write_file(disk, path, place.codec.encode(header, instances))
        try:
            file.sync()
        finally:
            file.close()
        disk.rename(path, damaged.path)
        disk.sync_folder(place.log)
        self.reader.forget_content()
        changed = Segment(damaged.path, header)
        self.reader.segments = tuple(changed if s == damaged else s for s in self.reader.segments)

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
        end = before.last if before is not None else self._base_instance
        if first != end + 1:
            what = f"group {record.group}: instances {first} to {last} to be sealed after {end}"
            raise InvariantViolationError(what)
        header = header_of(
            self._place.genesis,
            record.group,
            instances,
            *self._chains_before(before),
        )
        data = self._place.codec.encode(header, instances)
        path = f"{self._place.log}/{UNFINISHED}{self._place.name(first, last)}"
        self._pending.append(_Sealing(write_file(self._place.disk, path, data), header))

    def sync(self) -> None:
        """Make everything sealed durable.

        Raises:
            OSError: The disk refuses; nothing of what is pending may be vouched for.
        """
        while self._pending:
            self._finish_seal(self._pending[0])
            del self._pending[0]

    def _chains_before(self, before: SegmentHeader | None) -> tuple[bytes, bytes | None]:
        """Value and result chain that the next segment goes on from."""
        if before is not None:
            return before.chain_after, before.result_chain_after
        if self._base is not None:
            return self._base.chain, self._base.result_chain
        return EMPTY_CHAIN, EMPTY_CHAIN

    def _last_header(self) -> SegmentHeader | None:
        if self._pending:
            return self._pending[-1].header
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

    def publish(self, first: int, last: int) -> None:
        """Put a merged segment in the place of its parts, durably.

        Raises:
            StorageError: The merged file is not there (its checkpointer began anew), or the log's
                segments are cut otherwise by now: the order came late or twice.
            DamageError: The merged file is not what it should be; it is removed.
            OSError: The disk refuses.

            Nothing is lost by any of these but the merge: the parts stay.
        """
        place, disk = self._place, self._place.disk
        segments = self.reader.segments
        parts = [s for s in segments if first <= s.first and s.last <= last]
        if len(parts) < 2 or parts[0].first != first or parts[-1].last != last:
            where = disk.where(place.log)
            raise StorageError(f"{where} has no segments to be merged from {first} to {last}")
        source, path = place.merged(first, last), place.published(first, last)
        try:
            header = self._check_merged(source, parts)
            disk.rename(source, path)
        except FileNotFoundError as error:
            raise StorageError(f"{disk.where(source)} is not there to be published") from error
        except DamageError:
            unlink_if_there(disk, source)
            raise
        disk.sync_folder(place.log)
        before = [s for s in segments if s.last < first]
        after = [s for s in segments if s.first > last]
        self.reader.segments = (*before, Segment(path, header), *after)
        # Whatever of the parts stays, or comes back with the power, lies inside the merged one: it
        # is ignored, and goes at the next opening.
        for part in parts:
            with contextlib.suppress(OSError):
                disk.unlink(part.path)

    def _check_merged(self, source: str, parts: Sequence[Segment]) -> SegmentHeader:
        """Whether a merged file, every byte of it, may take the place of its parts."""
        place = self._place
        found = open_segment(place, source).header
        first, last = parts[0].header, parts[-1].header
        if (found.first, found.last, found.chain_before, found.chain_after) != (
            first.first,
            last.last,
            first.chain_before,
            last.chain_after,
        ):
            raise DamageError(f"{place.disk.where(source)} does not hold what its parts hold")
        return found
