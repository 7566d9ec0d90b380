"""What a member's folder holds, in brief, and its chosen log to be read by a person.

Reading goes on where something is damaged, as far as it can: what is wrong stands beside what is
there. To know that nothing is wrong, verify (`verification`): a summary reads of each segment the
checksum and both ends, not every value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.messages import RoleName
from ray_paxos.core.records import SealedInstance
from ray_paxos.errors import StorageError
from ray_paxos.storage.checkpoints import published, read_manifest
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.findings import Fault, Findings
from ray_paxos.storage.identity import ACTIVATED, ROLE_FOLDERS, Identity, is_activated
from ray_paxos.storage.journal_reading import JournalReading
from ray_paxos.storage.log_rows import MachineKinds
from ray_paxos.storage.log_verification import ballot_text, check_header
from ray_paxos.storage.member_files import (
    FileFormats,
    checkpoint_place,
    list_segments,
    segment_place,
    survey,
)
from ray_paxos.storage.parts import held_groups
from ray_paxos.storage.segment_format import read_instances
from ray_paxos.storage.segments import SegmentPlace, SegmentReader, open_segment
from ray_paxos.storage.verification import read_incarnation, read_journal_of


@dataclass(frozen=True, slots=True)
class RoleSummary:
    """One role's folder.

    Attributes:
        name: Of the role.
        incarnation: How often it was opened; None where that is damaged.
        is_running: Whether a process holds it.
    """

    name: str
    incarnation: int | None
    is_running: bool


@dataclass(frozen=True, slots=True)
class JournalFileSummary:
    """One live file of the journal.

    Attributes:
        path: Below the member's folder.
        byte_count: Its length.
        frames: How many it holds.
        is_ended: Whether it was closed with an end mark.
    """

    path: str
    byte_count: int
    frames: int
    is_ended: bool


@dataclass(frozen=True, slots=True)
class VotesSummary:
    """What the acceptor holds about one group.

    Attributes:
        replica_id: Its identity there.
        config_id: Of the configuration that it follows.
        promise: Ballot as `round.member.incarnation`; None before the first.
        floor: The vote floor.
        votes: How many there are, at or above it.
        first_vote: Instance of the lowest; None where there is none.
        last_vote: Of the highest.
        longest_lease_ms: What it ever kept its word for at most.
    """

    replica_id: int
    config_id: int
    promise: str | None
    floor: int
    votes: int
    first_vote: int | None
    last_vote: int | None
    longest_lease_ms: int


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """One published segment.

    Attributes:
        path: Below the member's folder.
        byte_count: Length of the file.
        first: Its first instance, by its name.
        last: Its last.
        first_ballot: At which its first instance was chosen; None where it is damaged.
        last_ballot: At which its last one was.
        problem: What is wrong with it; empty where nothing was seen.
    """

    path: str
    byte_count: int
    first: int
    last: int
    first_ballot: str | None = None
    last_ballot: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """One group of a member.

    Attributes:
        group: Its number.
        votes: The acceptor's part; None where the journal is damaged or lacks it.
        segments: All published ones, by name.
        merged: Paths of merged segments that wait to be published.
        checkpoints: Instances of the published checkpoints; not verified.
    """

    group: int
    votes: VotesSummary | None
    segments: tuple[SegmentSummary, ...]
    merged: tuple[str, ...]
    checkpoints: tuple[int, ...]


@dataclass(slots=True)
class MemberSummary:
    """One member's folder.

    Attributes:
        folder: Where it is.
        cluster: Name of its cluster.
        cluster_id: Of that cluster.
        member: The member's name.
        member_id: Its id.
        is_activated: Whether it takes part.
        roles: The folders of its roles.
        journal: The live files; empty where the journal is damaged.
        groups: Those in which it votes.
        faults: What was seen to be wrong.
        notes: What else a person should know.
    """

    folder: str
    cluster: str
    cluster_id: str
    member: str
    member_id: int
    is_activated: bool = False
    roles: list[RoleSummary] = field(default_factory=list)
    journal: list[JournalFileSummary] = field(default_factory=list)
    groups: list[GroupSummary] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def summarize(
    disk: Disk,
    formats: FileFormats,
    identity: Identity,
    *,
    running: Collection[RoleName] = (),
    groups: Collection[int] | None = None,
) -> MemberSummary:
    """Look through a member's folder.

    Args:
        disk: The folder.
        formats: The file formats of its data.
        identity: Whose it is.
        running: Roles whose folder a process holds.
        groups: Only these; None for all.

    Raises:
        OSError: A folder may not be listed, or a file not read.
    """
    genesis = identity.genesis
    name = identity.name
    summary = MemberSummary(
        disk.where(""), genesis.cluster, genesis.cluster_id, name, identity.member_id
    )
    findings = Findings()
    with findings.looking_at(disk, ACTIVATED):
        summary.is_activated = is_activated(disk, identity)
    for role, folder in ROLE_FOLDERS.items():
        incarnation: int | None = None
        with findings.looking_at(disk, folder):
            incarnation = read_incarnation(disk, identity, role)
        summary.roles.append(RoleSummary(folder, incarnation, role in running))
    is_live = RoleName.ACCEPTOR in running
    journal = read_journal_of(disk, identity, findings, is_live=is_live)
    for file in journal.files if journal is not None else ():
        summary.journal.append(
            JournalFileSummary(file.path, file.byte_count, file.frames, file.is_ended)
        )
    files = survey(disk, formats, identity)
    for group in held_groups(disk, identity):
        if groups is not None and group not in groups:
            continue
        place = segment_place(disk, formats, identity, group)
        segments = tuple(_look_at(place, path, findings) for path in list_segments(place))
        votes = _votes(journal, group)
        merged, checkpoints = files.merged[group], files.checkpoints[group]
        summary.groups.append(
            GroupSummary(group, votes, segments, tuple(merged), tuple(checkpoints))
        )
    for path in files.missing:
        findings.add(path, f"{disk.where(path)} is missing")
    for path in files.unknown:
        findings.add(path, f"{disk.where(path)} is no file of a member")
    summary.faults = findings.faults
    summary.notes = findings.notes
    return summary


def machines_of(
    disk: Disk, formats: FileFormats, identity: Identity, group: int
) -> tuple[MachineSpec, ...]:
    """The machines that the genesis and the newest readable checkpoint name for a group."""
    specs = [s for spec in identity.genesis.groups if spec.group == group for s in spec.machines]
    place = checkpoint_place(disk, formats, identity, group)
    with contextlib.suppress(StorageError):
        for instance_id in reversed(published(place)):
            return (*specs, *read_manifest(place, instance_id).machines)
    return tuple(specs)


class ChosenLogView:
    """A group's chosen log as it lies on the disk, for reading.

    Attributes:
        kinds: Which machine is of which kind.
    """

    def __init__(self, disk: Disk, formats: FileFormats, identity: Identity, group: int) -> None:
        """List the segments.

        Raises:
            DamageError: They do not add up to one log.
        """
        self._reader = SegmentReader(segment_place(disk, formats, identity, group))
        self._reader.refresh()
        first = self.first
        earlier = self.instances(first, self.last) if first else iter(())
        self.kinds = MachineKinds(machines_of(disk, formats, identity, group), earlier)

    @property
    def first(self) -> int:
        """The first instance; 0 where there is none."""
        segments = self._reader.segments
        return segments[0].first if segments else 0

    @property
    def last(self) -> int:
        """The last instance; 0 where there is none."""
        return self._reader.last

    def instances(self, first: int, last: int) -> Iterator[SealedInstance]:
        """The instances of a range, verified as they are read; raises DamageError."""
        yield from self._reader.instances(first, last)
        self._reader.forget_content()

    def follow(self, first: int, wait: Callable[[], None]) -> Iterator[SealedInstance]:
        """The instances from one on, and then, for ever, those that are sealed later.

        Args:
            first: Where to begin.
            wait: Called when there is nothing new; returns when to look again.

        Raises:
            DamageError: What is there now is no whole log.
        """
        while True:
            # What was cleaned away meanwhile is not waited for.
            first = max(first, self.first)
            for instance in self.instances(first, self.last):
                first = instance.chosen.instance_id + 1
                yield instance
            wait()
            self._reader.refresh()


def _look_at(place: SegmentPlace, path: str, findings: Findings) -> SegmentSummary:
    disk = place.disk
    first, last = place.parse(path.rpartition("/")[2])
    faults_before = len(findings.faults)
    byte_count = 0
    with findings.looking_at(disk, path):
        byte_count = disk.size(path)
        header = check_header(place, path)
        content = open_segment(place, path)
        where = disk.where(path)
        head = next(read_instances(content, header.first, where))
        tail = next(read_instances(content, header.last, where))
        ballots = ballot_text(head.chosen.ballot), ballot_text(tail.chosen.ballot)
        return SegmentSummary(path, byte_count, first, last, *ballots)
    problem = findings.faults[faults_before].problem
    return SegmentSummary(path, byte_count, first, last, problem=problem)


def _votes(journal: JournalReading | None, group: int) -> VotesSummary | None:
    part = journal.state.groups.get(group) if journal is not None else None
    if part is None:
        return None
    return VotesSummary(
        part.replica_id,
        part.configuration.config_id,
        ballot_text(part.promise) if part.promise is not None else None,
        part.floor,
        len(part.votes),
        min(part.votes, default=None),
        max(part.votes, default=None),
        part.longest_lease_ms,
    )
