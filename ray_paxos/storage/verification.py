"""Checks all that lies in a member's folder: what `ray-paxos log verify` does.

Nothing is changed and no role is opened. Every file is either verified, byte by byte, or named in
what is found: as damaged, as unknown, or as a leftover that no role reads. So a changed byte
cannot go unnoticed because nobody looked at its file.

Between the files:

- The vote floor of each group is covered by the log (or a checkpoint): below it the votes are
  gone, and only the log still knows what was chosen.
- A log that does not begin at 1 has a whole checkpoint of what comes before it.
- Votes and checkpoints agree with the log, and ballots with the proposer's incarnation (see
  `log_verification`).
- A member with a life behind it is activated.

While the member runs, the acceptor's files change as they are read; its journal is then read
again where it seems damaged, and what is in the midst of being written counts as unfinished.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ray_paxos.core.acceptor_state import GroupVotes
from ray_paxos.core.checkpoint import MANIFEST, Cut
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import DamageError
from ray_paxos.storage.checkpoints import CheckpointPlace, verify_checkpoint
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.findings import Findings
from ray_paxos.storage.identity import (
    ACTIVATED,
    IDENTITY,
    INCARNATION,
    LOCK,
    ROLE_FOLDERS,
    Identity,
    check_role,
    is_activated,
    read_identity,
)
from ray_paxos.storage.journal_files import CURRENT, FIRST_FILE, JOURNAL_FOLDER
from ray_paxos.storage.journal_reading import JournalReading, read_journal
from ray_paxos.storage.log_verification import (
    Expected,
    LogCheck,
    OwnBallots,
    check_log,
    check_merged,
)
from ray_paxos.storage.member_files import (
    FileFormats,
    MemberFiles,
    checkpoint_place,
    segment_place,
    survey,
)
from ray_paxos.storage.parts import PARTS, held_groups, read_parts
from ray_paxos.storage.place import PLACE, read_place
from ray_paxos.storage.segments import SegmentPlace

_READINGS_MAX = 5
_ACCEPTOR = ROLE_FOLDERS[RoleName.ACCEPTOR]


@dataclass(slots=True)
class Verification:
    """What was found in a member's folder.

    Attributes:
        findings: Faults, notes, and which files were verified.
        identity: Whose folder it is; None where that cannot be read: nothing else was looked at.
        journal: What the acceptor's journal holds; None where it is damaged.
        logs: By group: what its chosen log holds.
        checkpoints: By group: the cuts of the whole ones, ascending.
    """

    findings: Findings = field(default_factory=Findings)
    identity: Identity | None = None
    journal: JournalReading | None = None
    logs: dict[int, LogCheck] = field(default_factory=dict)
    checkpoints: dict[int, list[Cut]] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings.faults


def verify_member(
    disk: Disk, formats: FileFormats, *, running: Collection[RoleName] = ()
) -> Verification:
    """Check everything in a member's folder.

    Args:
        disk: The folder.
        formats: The file formats of its data.
        running: Roles whose folder a process holds.

    Raises:
        OSError: A folder may not be listed, or a file not read.
    """
    verification = Verification()
    findings = verification.findings
    with findings.looking_at(disk, IDENTITY):
        verification.identity = read_identity(disk)
        findings.note_verified(disk, IDENTITY)
    identity = verification.identity
    if identity is None:
        return verification
    _check_place(disk, identity, findings)
    incarnations = _check_roles(disk, identity, findings)
    _check_activation(disk, identity, incarnations, findings)
    is_live = RoleName.ACCEPTOR in running
    verification.journal = read_journal_of(disk, identity, findings, is_live=is_live)
    with findings.looking_at(disk, PARTS):
        read_parts(disk, identity)
        findings.note_verified(disk, PARTS)
    files = survey(disk, formats, identity)
    _check_names(disk, files, findings, is_live=bool(running))
    own = OwnBallots(identity.member_id)
    for group in held_groups(disk, identity):
        place = checkpoint_place(disk, formats, identity, group)
        cuts = _check_checkpoints(place, files.checkpoints[group], findings)
        verification.checkpoints[group] = cuts
        for cut in cuts:
            own.note(cut.ballot, place.path(cut.instance_id))
        _check_group(segment_place(disk, formats, identity, group), files, verification, own)
    _check_incarnation(disk, incarnations, own, findings)
    return verification


def read_journal_of(
    disk: Disk, identity: Identity, findings: Findings, *, is_live: bool
) -> JournalReading | None:
    """Read a member's journal, and note what is wrong with it.

    Args:
        disk: The member's folder.
        identity: Whose it is.
        findings: Takes in faults and notes.
        is_live: Whether the acceptor is writing to it.

    Returns:
        None where it is damaged.
    """
    path = f"{_ACCEPTOR}/{JOURNAL_FOLDER}"
    journal: JournalReading | None = None
    with findings.looking_at(disk, path):
        journal = _read_journal(disk, identity, _READINGS_MAX if is_live else 1)
        for file in journal.files:
            findings.note_verified(disk, file.path)
        findings.note_verified(disk, f"{_ACCEPTOR}/{CURRENT}")
    if journal is None:
        return None
    if not is_live:
        last = journal.files[-1]
        where = disk.where(last.path)
        if last.torn:
            findings.notes.append(f"{where}: what was appended last is unfinished, from {last.end}")
        # The first file is made by staging, and nothing is ever appended to it.
        if not last.is_ended and last.number > FIRST_FILE:
            findings.notes.append(f"{where} has no end mark: the acceptor was not stopped cleanly")
        elif last.is_ended and last.byte_count > last.end:
            findings.notes.append(f"{where}: unused room behind its end mark at {last.end}")
        for other in journal.others:
            findings.notes.append(f"{disk.where(other)} is left over; nothing reads it")
    return journal


def _read_journal(disk: Disk, identity: Identity, readings: int) -> JournalReading:
    """Files may go, and frames be half written, while a running acceptor's are read."""
    while True:
        readings -= 1
        try:
            return read_journal(disk, _ACCEPTOR, owner=identity.owner)
        except (DamageError, FileNotFoundError):
            if readings <= 0:
                raise


def _check_roles(disk: Disk, identity: Identity, findings: Findings) -> Mapping[RoleName, int]:
    incarnations: dict[RoleName, int] = {}
    for role, folder in ROLE_FOLDERS.items():
        lock, path = f"{folder}/{LOCK}", f"{folder}/{INCARNATION}"
        with findings.looking_at(disk, lock):
            check_role(disk, lock, identity, role)
            findings.note_verified(disk, lock)
        with findings.looking_at(disk, path):
            incarnations[role] = read_incarnation(disk, identity, role)
            findings.note_verified(disk, path)
    return incarnations


def read_incarnation(disk: Disk, identity: Identity, role: RoleName) -> int:
    """How often a role's folder was opened.

    Raises:
        DamageError: That is missing or damaged.
        ForeignFolderError: It is another role's or member's.
    """
    path = f"{ROLE_FOLDERS[role]}/{INCARNATION}"
    incarnation = check_role(disk, path, identity, role).get("incarnation")
    if not isinstance(incarnation, int) or incarnation < 0:
        raise DamageError(f"{disk.where(path)}: no incarnation")
    return incarnation


def _check_place(disk: Disk, identity: Identity, findings: Findings) -> None:
    with findings.looking_at(disk, PLACE):
        # That it is a copy is no fault: copies are looked at, too. They only never take part.
        read_place(disk, identity.owner)
        findings.note_verified(disk, PLACE)


def _check_activation(
    disk: Disk, identity: Identity, incarnations: Mapping[RoleName, int], findings: Findings
) -> None:
    with findings.looking_at(disk, ACTIVATED):
        if is_activated(disk, identity):
            findings.note_verified(disk, ACTIVATED)
        elif any(incarnations.values()):
            message = f"{disk.where(ACTIVATED)} is missing, and the member has taken part already"
            findings.add(ACTIVATED, message)
        else:
            findings.notes.append(f"{disk.where('')} is staged only: it takes part in nothing yet")


def _check_names(disk: Disk, files: MemberFiles, findings: Findings, *, is_live: bool) -> None:
    for path in files.missing:
        findings.add(path, f"{disk.where(path)} is missing; it is never made anew")
    for path in files.unknown:
        findings.add(path, f"{disk.where(path)} is no file of a member: it was renamed or mislaid")
    # What a running role has begun is no leftover.
    for path in () if is_live else files.leftovers:
        findings.notes.append(f"{disk.where(path)} is left over; nothing reads it")
    for path in () if is_live else files.unfinished:
        findings.notes.append(f"{disk.where(path)} is an unfinished checkpoint; nothing reads it")
    for path in files.set_aside:
        findings.notes.append(f"{disk.where(path)} was set aside; nothing reads it")


def _check_checkpoints(
    place: CheckpointPlace, instances: Sequence[int], findings: Findings
) -> list[Cut]:
    """The cuts of those that are whole."""
    disk, cuts = place.disk, []
    for instance_id in instances:
        path = place.path(instance_id)
        with findings.looking_at(disk, path):
            try:
                manifest = verify_checkpoint(place, instance_id)
            except DamageError:
                if disk.exists(f"{path}/{MANIFEST}"):
                    raise
                # A running checkpointer has dropped it.
                continue
            cuts.append(manifest.cut)
            for name in (MANIFEST, *(file.path for file in manifest.files)):
                findings.note_verified(disk, f"{path}/{name}")
    return cuts


def _check_group(
    place: SegmentPlace, files: MemberFiles, verification: Verification, own: OwnBallots
) -> None:
    findings, journal = verification.findings, verification.journal
    part = journal.state.groups.get(place.group) if journal is not None else None
    votes = part.votes if part is not None else {}
    if part is not None:
        path = f"{_ACCEPTOR}/{JOURNAL_FOLDER}"
        own.note(part.promise, path)
        for vote in votes.values():
            own.note(vote.ballot, path)
    cuts = {cut.instance_id: cut for cut in verification.checkpoints[place.group]}
    expected = Expected(votes, cuts)
    check = check_log(place, expected, own, findings)
    verification.logs[place.group] = check
    for path in files.merged[place.group]:
        check_merged(place, path, expected, own, findings)
    if check.without_results:
        findings.notes.append(
            f"{place.disk.where(place.log)}: the results of {check.without_results} instances are "
            "not known: sealed while applying was stopped, or fetched again"
        )
    if check.is_whole:
        _check_reach(place, check, max(cuts, default=0), part, findings)


def _check_reach(
    place: SegmentPlace,
    check: LogCheck,
    covered: int,
    part: GroupVotes | None,
    findings: Findings,
) -> None:
    """Whether log and checkpoints together hold everything up to their end, and to the floor."""
    where = place.disk.where(place.log)
    if check.first > covered + 1:
        findings.add(
            place.log,
            f"{where} begins at instance {check.first}, and no whole checkpoint covers what "
            "comes before",
        )
    end = max(check.last, covered)
    if part is not None and part.floor > end + 1:
        findings.add(
            place.log,
            f"{where} ends at instance {end}, and the vote floor is {part.floor}: the member "
            "holds neither votes nor values of what lies between",
        )


def _check_incarnation(
    disk: Disk, incarnations: Mapping[RoleName, int], own: OwnBallots, findings: Findings
) -> None:
    incarnation = incarnations.get(RoleName.PROPOSER)
    if incarnation is not None and own.incarnation > incarnation:
        path = f"{ROLE_FOLDERS[RoleName.PROPOSER]}/{INCARNATION}"
        findings.add(
            path,
            f"{disk.where(path)} says {incarnation}, and {disk.where(own.path)} has a ballot of "
            f"the member's incarnation {own.incarnation}: it was set back, and would give the "
            "same ballots twice",
        )
