"""Takes damaged files of a member out of the way, so that it fetches again what they held.

Rules:

1. Nothing is deleted and nothing is written anew: what is replaced moves to `replaced/<n>/`, under
   the path it had.
2. Promises are never touched (R2): the journal, the locks, the incarnations and the identity are
   either whole, or the member is to be replaced by another (R9), and nothing is repaired.
3. What stays of a log is one run of segments without a hole that goes on from the newest whole
   checkpoint, or from instance 1 where there is none: what opening would keep. The rest goes with
   the damaged ones, and the member fetches on from the end of what stays.
4. A log of which nothing is damaged is left as it is, and so is a checkpoint.
5. The roles' locks are held meanwhile: no repair beside a running member.

The member loses its copy of instances that it had said are durable here. Others have them, as long
as a majority of the group is whole: repair one member at a time, and let it catch up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from ray_paxos.errors import DamageError, StorageError
from ray_paxos.storage.disk import Disk, storage_errors
from ray_paxos.storage.findings import Fault
from ray_paxos.storage.identity import ACTIVATED, IDENTITY, LOCK, ROLE_FOLDERS
from ray_paxos.storage.journal_files import JOURNAL_FOLDER
from ray_paxos.storage.log_verification import check_content
from ray_paxos.storage.member_files import (
    REPLACED,
    FileFormats,
    MemberFiles,
    checkpoint_place,
    list_segments,
    segment_place,
    survey,
)
from ray_paxos.storage.parts import held_groups
from ray_paxos.storage.place import PLACE
from ray_paxos.storage.segments import Segment, SegmentPlace, find_runs
from ray_paxos.storage.verification import Verification


@dataclass(frozen=True, slots=True)
class Move:
    """One file or folder that goes out of the way.

    Attributes:
        path: Below the member's folder.
        why: For a person.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What is to be done about a member's folder.

    Attributes:
        moves: In this order.
        beyond_repair: Faults for which the member has to be replaced; then there are no moves.
        fetches_from: By group: the first instance that the member will have to fetch again.
    """

    moves: tuple[Move, ...]
    beyond_repair: tuple[Fault, ...]
    fetches_from: dict[int, int]


def plan_repair(disk: Disk, formats: FileFormats, verification: Verification) -> RepairPlan:
    """Say what would be done about what was found.

    Args:
        disk: The member's folder.
        formats: The file formats of its data.
        verification: Of that folder, just made.

    Raises:
        OSError: The disk refuses.
    """
    identity = verification.identity
    beyond = tuple(f for f in verification.findings.faults if _is_beyond_repair(f.path))
    if beyond or identity is None:
        return RepairPlan((), beyond, {})
    files = survey(disk, formats, identity)
    moves = list(_stray_moves(files))
    fetches_from: dict[int, int] = {}
    for group in held_groups(disk, identity):
        whole = [cut.instance_id for cut in verification.checkpoints[group]]
        checkpoints = checkpoint_place(disk, formats, identity, group)
        for instance_id in files.checkpoints[group]:
            if instance_id not in whole:
                moves.append(Move(checkpoints.path(instance_id), "a damaged checkpoint"))
        place = segment_place(disk, formats, identity, group)
        log_moves, end = _plan_log(place, max(whole, default=0))
        if log_moves:
            moves += log_moves
            fetches_from[group] = end + 1
        moves += _plan_merged(place, files.merged[group])
    return RepairPlan(tuple(moves), (), fetches_from)


def carry_out(disk: Disk, plan: RepairPlan) -> str:
    """Do what a plan says.

    Returns:
        The folder, below the member's, that holds what was moved; empty where nothing was.

    Raises:
        FolderHeldError: A role of the member runs.
        StorageError: The disk refuses; what was moved before that stays moved.

    Guarantee: durable on return.
    """
    if not plan.moves:
        return ""
    with storage_errors(f"cannot repair {disk.where('')}"), _holding_all(disk):
        number = 1
        while disk.exists(f"{REPLACED}/{number}"):
            number += 1
        folder = f"{REPLACED}/{number}"
        for move in plan.moves:
            above = move.path.rpartition("/")[0]
            kept = f"{folder}/{above}" if above else folder
            disk.make_folder(kept)
            disk.rename(move.path, f"{folder}/{move.path}")
            # The new name first: a file without a name would be gone.
            disk.sync_folder(kept)
            disk.sync_folder(above)
    return folder


def _is_beyond_repair(path: str) -> bool:
    """Whether a fault there concerns who the member is or what it has promised."""
    if path in (IDENTITY, ACTIVATED, PLACE):
        return True
    folder, _, rest = path.partition("/")
    own = rest.partition("/")[0]
    return folder in ROLE_FOLDERS.values() and (
        not rest or own in (LOCK, "incarnation", "current", JOURNAL_FOLDER, "parts.json")
    )


def _stray_moves(files: MemberFiles) -> Iterator[Move]:
    for path in files.leftovers:
        yield Move(path, "left over from a process that ended")
    for path in files.unknown:
        yield Move(path, "no file of a member")


def _plan_log(place: SegmentPlace, covered: int) -> tuple[list[Move], int]:
    """Which segments go, and where log and checkpoint then end."""
    whole: list[Segment] = []
    moves: list[Move] = []
    for path in list_segments(place):
        try:
            header, _ = check_content(place, path)
        except StorageError as error:
            moves.append(Move(path, str(error)))
        else:
            whole.append(Segment(path, header))
    runs, _, problems = find_runs(place, whole)
    starts_late = bool(runs) and runs[0][0].first > covered + 1
    if not moves and not problems and not starts_late:
        return [], 0
    end = covered
    for run in runs:
        if run[0].first <= covered + 1 <= run[-1].last + 1:
            end = max(end, run[-1].last)
        else:
            why = "sound, but something between it and the log or the checkpoint is missing"
            moves += [Move(segment.path, why) for segment in run]
    return moves, end


def _plan_merged(place: SegmentPlace, paths: list[str]) -> Iterator[Move]:
    for path in paths:
        try:
            check_content(place, path)
        except StorageError as error:
            yield Move(path, str(error))


@contextlib.contextmanager
def _holding_all(disk: Disk) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for folder in ROLE_FOLDERS.values():
            try:
                lock = disk.lock(f"{folder}/{LOCK}")
            except FileNotFoundError as error:
                raise DamageError(f"{disk.where(f'{folder}/{LOCK}')} is missing") from error
            stack.callback(lock.release)
        yield
