"""A member of a real folder with a life behind it, made by the code that members run on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.records import (
    JournalRecord,
    PromiseMade,
    SealedInstance,
    SealSegment,
    VoteCast,
    VoteFloorSet,
)
from ray_paxos.core.results import encode_results
from ray_paxos.core.values import (
    EMPTY_CHAIN,
    CommandBatch,
    Entry,
    MachineMount,
    MasterRecord,
    SessionId,
    SessionOpen,
    Value,
    decode_value,
    encode_value,
    extend_chain,
    value_hash,
)
from ray_paxos.machines import kv
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import activate_member, stage_member
from ray_paxos.storage.identity import ROLE_FOLDERS, Identity, open_role_folder
from ray_paxos.storage.journal import JournalSettings, open_journal
from ray_paxos.storage.member_files import FileFormats, checkpoint_place, segment_place
from ray_paxos.storage.parquet import ParquetCodec
from ray_paxos.storage.parquet_tables import ParquetTables
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_merging import MergeFolder
from ray_paxos.storage.segments import SegmentPlace
from tests.storage.support import GENESIS, MEMBER_ID

# Blocks so small that a short segment has several.
FORMATS = FileFormats(ParquetCodec(block_bytes=600), ParquetTables())
IDENTITY = Identity(GENESIS, MEMBER_ID)
BALLOT = Ballot(1, MEMBER_ID, 1)
SESSION = SessionId(2, 2)
MACHINES = (MachineSpec("settings", "kv", 1), MachineSpec("events", "log", 1))


def make_log(count: int, *, commands: int = 4, group: int = 1) -> list[SealedInstance]:
    """A log as a learner seals it: a reign, machines, a session, and then commands.

    Every fifth instance writes to the log machine, every seventh is a no-op.
    """
    host = MachineHost(MachineRegistry(), group=group)
    chain, results = EMPTY_CHAIN, EMPTY_CHAIN
    number = 1
    sealed = []
    for instance_id in range(1, count + 1):
        entries: tuple[Entry, ...]
        if instance_id == 1:
            entries = (MasterRecord(BALLOT),)
        elif instance_id == 2:
            mounts = [MachineMount(m.name, m.kind, m.version) for m in MACHINES]
            entries = (*mounts, SessionOpen("a client"))
        elif instance_id % 7 == 0:
            entries = ()
        else:
            is_line = instance_id % 5 == 0
            batch = (b"line %d" % instance_id,) if is_line else _writes(instance_id, commands)
            machine = "events" if is_line else "settings"
            entries = (CommandBatch(SESSION, number, number, machine, batch),)
            number += len(batch)
        value = Value(instance_id * 1_000, entries)
        raw = encode_value(value)
        chain = extend_chain(chain, value_hash(raw))
        results = extend_chain(results, encode_results(host.apply(instance_id, value)))
        sealed.append(SealedInstance(ChosenValue(instance_id, BALLOT, raw), chain, results))
    return sealed


def _writes(instance_id: int, count: int) -> tuple[bytes, ...]:
    """Writes to 50 keys, of values that do not compress."""
    return tuple(
        kv.encode_put(f"key-{(instance_id * count + n) % 50}", value_hash(b"%d" % n))
        for n in range(count)
    )


def host_at(log: Sequence[SealedInstance], instance_id: int) -> MachineHost:
    host = MachineHost(MachineRegistry(), group=1)
    for instance in log[:instance_id]:
        host.apply(instance.chosen.instance_id, decode_value(instance.chosen.value))
    return host


def cut_at(log: Sequence[SealedInstance], instance_id: int) -> Cut:
    at = log[instance_id - 1]
    assert at.result_chain is not None
    configuration = GENESIS.groups[1].configuration
    return Cut(instance_id, at.chain, at.result_chain, at.chosen.ballot, configuration)


def make_member(
    root: Path,
    log: Sequence[SealedInstance],
    *,
    segment_length: int = 10,
    vote_floor: int = 1,
    log_floor: int = 1,
    checkpoints: Sequence[int] = (),
    merges: tuple[int, int] | None = None,
    stops_cleanly: bool = True,
    formats: FileFormats = FORMATS,
    journal_bytes: int = 20_000,
) -> LocalDisk:
    """A member's folder whose roles were opened once and stopped."""
    disk = LocalDisk(root)
    stage_member(disk, GENESIS, MEMBER_ID)
    activate_member(disk)
    held = [open_role_folder(disk, IDENTITY, role) for role in ROLE_FOLDERS]
    records: list[JournalRecord] = [PromiseMade(1, BALLOT)]
    records += [VoteCast(1, i.chosen.instance_id, BALLOT, i.chosen.value) for i in log]
    if vote_floor > 1:
        records.append(VoteFloorSet(1, vote_floor))
    settings = JournalSettings(file_bytes=journal_bytes, chunk_bytes=8_000)
    journal, _ = open_journal(disk, "acceptor", owner=IDENTITY.owner, settings=settings)
    for record in records:
        journal.append([record])
        journal.sync()
    if stops_cleanly:
        journal.close()
    segments = segment_place(disk, formats, IDENTITY, 1)
    _seal(segments, log, segment_length)
    place = checkpoint_place(disk, formats, IDENTITY, 1)
    for instance_id in checkpoints:
        CheckpointFolder.open(place).save(host_at(log, instance_id), cut_at(log, instance_id))
    if log_floor > 1:
        SegmentFolder.open(segments).cut(log_floor, None)
    if merges is not None:
        merging = MergeFolder.open(segments)
        merging.merge(*merges)
    for folder in held:
        folder.release()
    return disk


def _seal(place: SegmentPlace, log: Sequence[SealedInstance], segment_length: int) -> None:
    folder = SegmentFolder.open(place)
    for start in range(0, len(log), segment_length):
        folder.seal(SealSegment(1, tuple(log[start : start + segment_length])))
        folder.sync()


def segment_path(root: Path, first: int, last: int) -> Path:
    return root / segment_place(LocalDisk(root), FORMATS, IDENTITY, 1).published(first, last)


def checkpoint_path(root: Path, instance_id: int) -> Path:
    return root / checkpoint_place(LocalDisk(root), FORMATS, IDENTITY, 1).path(instance_id)


def files_below(root: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path below."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
