"""Which files lead to a group's state as of an instance; by their names alone, pure.

A state is a checkpoint (or nothing) and all instances after it without a gap. Files come from
several members: any one that holds an instance will do, so files may overlap and be there twice.

Each file that is found to be damaged is taken out, and planned anew: what is wanted is then
reached by another member's file, from another checkpoint, or not at all, and then it is said why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ray_paxos.errors import StorageError
from ray_paxos.storage.archive_layout import Range, runs_of

_SHOWN_MAX = 6


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """A segment: its range, and whose it is."""

    first: int
    last: int
    member: str


@dataclass(frozen=True, slots=True, order=True)
class SavedState:
    """A checkpoint: its instance, and whose it is."""

    instance_id: int
    member: str


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """How to come to the state as of an instance.

    Attributes:
        through: The instance.
        base: What to begin with; None for nothing.
        segments: In order; of each only what comes after the one before, and after the base.
    """

    through: int
    base: SavedState | None
    segments: tuple[LogFile, ...]


class IncompleteError(StorageError):
    """What is there does not lead to the instance wanted; says what is missing."""


def plan_restore(
    segments: Collection[LogFile], saved: Collection[SavedState], *, at: int | None
) -> RestorePlan:
    """Find the files that lead to an instance.

    Args:
        segments: All that may be used.
        saved: All checkpoints that may be used.
        at: The instance; None for the newest that can be reached.

    Raises:
        IncompleteError: None leads there.
    """
    ordered = sorted(segments, key=lambda f: (f.first, -f.last, f.member))
    bases: dict[int, SavedState | None] = {0: None}
    for state in sorted(saved, reverse=True):
        bases[state.instance_id] = state
    usable = [i for i in bases if at is None or i <= at]
    ends = {instance_id: _reach(ordered, instance_id) for instance_id in usable}
    through = max(ends.values()) if at is None else at
    for instance_id in sorted(usable, reverse=True):
        if ends[instance_id] >= through:
            cover = _cover(ordered, instance_id, through)
            return RestorePlan(through, bases[instance_id], tuple(cover))
    raise IncompleteError(_explain(ordered, sorted(saved), through))


def _reach(ordered: Sequence[LogFile], base: int) -> int:
    """The last instance to which files lead from a base without a gap."""
    end = base
    for file in ordered:
        if file.first > end + 1:
            break
        end = max(end, file.last)
    return end


def _cover(ordered: Sequence[LogFile], base: int, through: int) -> Iterable[LogFile]:
    """As few files as lead from a base to an instance."""
    end = base
    best: LogFile | None = None
    for file in ordered:
        if end >= through:
            return
        if file.first > end + 1 and best is not None:
            yield best
            end, best = best.last, None
            if end >= through:
                return
        if file.last > end and (best is None or file.last > best.last):
            best = file
    if best is not None and end < through:
        yield best


def missing_of(runs: Sequence[Range], first: int, last: int) -> list[Range]:
    """What of a range is in none of these runs, which are ascending and do not touch."""
    missing = []
    for start, end in runs:
        if start > last:
            break
        if start > first:
            missing.append((first, start - 1))
        first = max(first, end + 1)
    if first <= last:
        missing.append((first, last))
    return missing


def ranges_text(ranges: Sequence[Range]) -> str:
    """Ranges of instances for a person."""
    shown = [f"{first} to {last}" if first < last else str(first) for first, last in ranges]
    if len(shown) > _SHOWN_MAX:
        shown[_SHOWN_MAX:] = [f"and {len(shown) - _SHOWN_MAX} more"]
    return ", ".join(shown)


def _explain(ordered: Sequence[LogFile], saved: Sequence[SavedState], wanted: int) -> str:
    """Why no plan leads to an instance."""
    runs = runs_of((file.first, file.last) for file in ordered)
    instances = sorted({state.instance_id for state in saved})
    end = max([last for _, last in runs] + instances, default=0)
    if wanted > end:
        what = f"instance {wanted} is not there: what is there ends at instance {end}"
        return what if end else "nothing is there"
    start = max((i for i in instances if i <= wanted), default=0)
    missing = missing_of(runs, start + 1, wanted)
    found = ", ".join(map(str, instances)) or "none"
    return (
        f"instance {wanted} cannot be reached: instances {ranges_text(missing)} are missing, and "
        f"no checkpoint after them and up to it is there (checkpoints: {found})"
    )
