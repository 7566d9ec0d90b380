"""What the storage tests share: a small cluster, records and values."""

from __future__ import annotations

from collections.abc import Iterable

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Genesis, GroupSpec, MemberSpec, Voter
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.records import (
    GroupCreated,
    JournalOpening,
    JournalRecord,
    SealedInstance,
    SealSegment,
    VoteCast,
)
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.values import (
    EMPTY_CHAIN,
    CommandBatch,
    SessionId,
    Value,
    encode_value,
    extend_chain,
    value_hash,
)
from ray_paxos.storage.folder import activate_member, stage_member
from ray_paxos.storage.identity import Identity, checkpointer_folder, log_folder
from ray_paxos.storage.journal import Journal, JournalSettings, create_journal, open_journal
from ray_paxos.storage.opening import OpenedRole
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_format import SegmentCodec, header_of
from ray_paxos.storage.segments import SegmentPlace
from ray_paxos.testing.disk import SimulatedDisk

MEMBERS = (("amber", 11), ("birch", 12), ("coral", 13))
MEMBER_ID = 11
BALLOT = Ballot(1, 11, 1)


def make_genesis(cluster: str = "demo", groups: int = 2) -> Genesis:
    voters = tuple(Voter(member_id, 1) for _, member_id in MEMBERS)
    specs = tuple(GroupSpec(group, voters, ()) for group in range(groups))
    members = tuple(MemberSpec(name, member_id) for name, member_id in MEMBERS)
    return Genesis(1, cluster, "0f" * 16, members, specs)


GENESIS = make_genesis()
IDENTITY = Identity(GENESIS, MEMBER_ID)


def member_disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    stage_member(disk, GENESIS, MEMBER_ID)
    activate_member(disk)
    return disk


def journal_opening(groups: int = 2) -> JournalOpening:
    state = AcceptorState()
    for spec in make_genesis(groups=groups).groups:
        state.apply(GroupCreated(spec.group, 1, spec.configuration, 1))
    return state.opening()


def journal_disk() -> SimulatedDisk:
    """A disk with an empty journal in `acceptor/`."""
    disk = SimulatedDisk()
    disk.make_folder("acceptor/journal")
    create_journal(disk, "acceptor", journal_opening())
    return disk


def fold(records: Iterable[JournalRecord]) -> AcceptorState:
    state = AcceptorState()
    state.restore(journal_opening())
    for record in records:
        state.apply(record)
    return state


def make_instances(
    count: int, *, first: int = 1, chain: bytes = EMPTY_CHAIN, size: int = 20, commands: int = 2
) -> list[SealedInstance]:
    """Sealed instances that follow `chain`; the same arguments give the same ones."""
    instances = []
    for instance_id in range(first, first + count):
        batch = CommandBatch(
            SessionId(1, 0),
            1,
            instance_id * commands,
            "kv",
            tuple(bytes([instance_id % 251, n]) * (size // 2) for n in range(commands)),
        )
        raw = encode_value(Value(instance_id * 1000, (batch,)))
        chain = extend_chain(chain, value_hash(raw))
        chosen = ChosenValue(instance_id, BALLOT, raw)
        instances.append(SealedInstance(chosen, chain, extend_chain(b"results", chain)))
    return instances


def make_seals(*lengths: int, group: int = 1) -> list[SealSegment]:
    """Seals of segments of these lengths, one after the other."""
    instances = make_instances(sum(lengths))
    seals = []
    for length in lengths:
        seals.append(SealSegment(group, tuple(instances[:length])))
        instances = instances[length:]
    return seals


def segment_place(disk: SimulatedDisk, codec: SegmentCodec, group: int = 1) -> SegmentPlace:
    genesis = GENESIS.hash()
    return SegmentPlace(disk, codec, genesis, group, log_folder(group), checkpointer_folder(group))


def sealed_disk(codec: SegmentCodec, *lengths: int) -> SimulatedDisk:
    disk = member_disk()
    folder = SegmentFolder.open(segment_place(disk, codec))
    for seal in make_seals(*lengths):
        folder.seal(seal)
        folder.sync()
    disk.kill()
    return disk


def reopened(disk: SimulatedDisk, codec: SegmentCodec) -> SegmentFolder:
    return SegmentFolder.open(segment_place(disk, codec))


def ranges(folder: SegmentFolder) -> list[tuple[int, int]]:
    return [(first, last) for first, last, _ in folder.listed()]


def add_segment(disk: SimulatedDisk, codec: SegmentCodec, first: int, last: int) -> str:
    """Put a segment with the true content of a range there, whatever lies around it."""
    place = segment_place(disk, codec)
    instances = make_instances(last)
    chain = instances[first - 2].chain if first > 1 else EMPTY_CHAIN
    header = header_of(GENESIS.hash(), 1, instances[first - 1 :], chain, chain)
    path = place.published(first, last)
    file = disk.create(path)
    file.write(codec.encode(header, instances[first - 1 :]))
    file.sync()
    disk.sync_folder(place.log)
    return path


def acceptor_state(opened: OpenedRole) -> AcceptorState:
    assert isinstance(opened.role, Acceptor)
    return opened.role.state


def learner_of(opened: OpenedRole, group: int = 1) -> Learner:
    assert isinstance(opened.role, GroupRouter)
    role = opened.role.roles[group]
    assert isinstance(role, Learner)
    return role


SMALL_FILES = JournalSettings(file_bytes=4_096, chunk_bytes=2_048, files_max=4)


def vote(instance_id: int, *, group: int = 1, size: int = 40, ballot: Ballot = BALLOT) -> VoteCast:
    return VoteCast(group, instance_id, ballot, bytes([instance_id % 256]) * size)


def append(journal: Journal, *records: JournalRecord) -> None:
    for record in records:
        journal.append([record])
    journal.sync()


def reopened_journal(
    disk: SimulatedDisk, settings: JournalSettings = SMALL_FILES
) -> tuple[Journal, AcceptorState]:
    disk.kill()
    return open_journal(disk, "acceptor", settings=settings)


def journal_files(disk: SimulatedDisk) -> list[str]:
    return [path for path in disk.files() if path.endswith(".journal")]
