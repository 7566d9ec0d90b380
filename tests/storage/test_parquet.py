"""Segments as Parquet: readable by anyone, and every value back byte for byte."""

from __future__ import annotations

from random import Random

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.values import (
    EMPTY_CHAIN,
    CommandBatch,
    MachineMount,
    MasterRecord,
    MembershipEntry,
    MembershipKind,
    SessionId,
    SessionOpen,
    Value,
    encode_value,
    extend_chain,
    row_count,
    value_hash,
)
from ray_paxos.errors import DamageError
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import activate_member, stage_member
from ray_paxos.storage.parquet import (
    FAST_LEVEL,
    LEVEL,
    SCHEMA,
    ParquetCodec,
    _compression_level,
)
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_format import header_of, read_instances
from tests.storage.support import (
    GENESIS,
    MEMBER_ID,
    make_instances,
    make_seals,
    segment_place,
)

INT64_MAX = (1 << 63) - 1


def seal(values: list[bytes]) -> list[SealedInstance]:
    chain, instances = EMPTY_CHAIN, []
    for instance_id, raw in enumerate(values, 1):
        chain = extend_chain(chain, value_hash(raw))
        ballot = Ballot(instance_id, INT64_MAX, 3)
        result_chain = None if instance_id % 3 == 0 else chain
        instances.append(SealedInstance(ChosenValue(instance_id, ballot, raw), chain, result_chain))
    return instances


def encode(instances: list[SealedInstance], codec: ParquetCodec | None = None) -> bytes:
    header = header_of(GENESIS.hash(), 1, instances, EMPTY_CHAIN, EMPTY_CHAIN)
    return (codec or ParquetCodec()).encode(header, instances)


def decode(data: bytes) -> list[SealedInstance]:
    return list(read_instances(ParquetCodec().open(data, "a file"), 1, "a file"))


def rows(data: bytes) -> list[dict[str, object]]:
    return pq.read_table(pa.BufferReader(data)).to_pylist()


integers = st.one_of(st.integers(0, 300), st.integers(-(2**63), 2**64 - 1))
texts = st.text(max_size=12)
entries = st.one_of(
    st.builds(
        CommandBatch,
        st.builds(SessionId, integers, integers),
        integers,
        integers,
        texts,
        st.lists(st.binary(max_size=20), max_size=4).map(tuple),
    ),
    st.builds(SessionOpen, texts),
    st.builds(MasterRecord, st.builds(Ballot, integers, integers, integers)),
    st.builds(MachineMount, texts, texts, integers),
    st.builds(MembershipEntry, st.sampled_from(MembershipKind), integers, integers),
)
values = st.builds(Value, integers, st.lists(entries, max_size=4).map(tuple))
raws = st.one_of(values.map(encode_value), st.binary(max_size=30))


@settings(max_examples=120, deadline=None)
@given(st.lists(raws, min_size=1, max_size=6), st.integers(1, 200))
def test_any_value_comes_back_byte_for_byte_whatever_it_holds(raws, block_bytes):
    instances = seal(raws)
    assert decode(encode(instances, ParquetCodec(block_bytes))) == instances


BATCH = CommandBatch(SessionId(7, 1), 3, 5, "kv", (b"a", b"", b"\x00\xff"))


def test_each_command_and_each_other_entry_is_one_row():
    value = Value(
        99,
        (
            MasterRecord(Ballot(4, 11, 2)),
            MachineMount("orders", "kv", 1),
            SessionOpen("a client"),
            BATCH,
            msgspec.structs.replace(BATCH, first_number=8, commands=(b"d",)),
        ),
    )
    noop = Value(100, ())
    instances = seal([encode_value(value), encode_value(noop)])
    found = rows(encode(instances))
    assert len(found) == row_count(value) + row_count(noop)
    assert [row["index"] for row in found] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert [row["kind"] for row in found] == (
        ["master", "machine", "session"] + ["command"] * 4 + ["noop"]
    )
    assert [row["number"] for row in found] == [None, None, None, 5, 6, 7, 8, None]
    assert [row["command"] for row in found] == [
        b"4.11.2",
        b"1 kv",
        b"a client",
        b"a",
        b"",
        b"\x00\xff",
        b"d",
        None,
    ]
    command = found[3]
    assert command == {
        "instance_id": 1,
        "index": 3,
        "kind": "command",
        "ballot_round": 1,
        "ballot_member": INT64_MAX,
        "ballot_incarnation": 3,
        "machine": "kv",
        "session": "7.1",
        "number": 5,
        "command": b"a",
        "log_time": 99,
        "chain": instances[0].chain,
        "result_chain": instances[0].result_chain,
        "entry": 3,
        "lowest_open": 3,
    }
    assert {row["log_time"] for row in found} == {99, 100}
    assert decode(encode(instances)) == instances


@pytest.mark.parametrize("kind", MembershipKind, ids=lambda kind: kind.name)
def test_a_change_of_members_is_a_row_that_says_which(kind):
    instances = seal([encode_value(Value(5, (MembershipEntry(kind, 4, 17),)))])
    data = encode(instances)
    (row,) = rows(data)
    text = {1: b"add 4 17", 2: b"promote 4 17", 3: b"demote 4 17", 4: b"remove 4 17"}
    assert (row["kind"], row["command"], row["log_time"]) == ("membership", text[kind], 5)
    assert row["machine"] is row["session"] is row["number"] is None
    assert decode(data) == instances


# The same batch in bytes that no encoder of ours writes: a longer form of the log time.
LONG_FORM = b"\x92\xcc\x01\x90"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1 of a later release",
        LONG_FORM,
        encode_value(Value(1, (msgspec.structs.replace(BATCH, commands=()),))),
        encode_value(Value(1, (msgspec.structs.replace(BATCH, first_number=INT64_MAX),))),
        encode_value(Value(2**64 - 1, ())),
    ],
)
def test_a_value_that_the_columns_cannot_hold_is_kept_whole(raw):
    instances = seal([encode_value(Value(1, (BATCH,))), raw, encode_value(Value(3, ()))])
    data = encode(instances)
    assert decode(data) == instances
    (row,) = [row for row in rows(data) if row["kind"] == "opaque"]
    assert (row["instance_id"], row["command"]) == (2, raw)


def test_two_batches_of_one_session_stay_two():
    second = msgspec.structs.replace(BATCH, first_number=8, commands=(b"d",))
    apart = seal([encode_value(Value(1, (BATCH, second)))])
    joined = msgspec.structs.replace(BATCH, commands=(*BATCH.commands, b"d"))
    together = seal([encode_value(Value(1, (joined,)))])
    assert decode(encode(apart)) == apart
    assert decode(encode(together)) == together
    assert apart != together


def test_the_header_is_read_from_the_end_of_the_file_alone():
    instances = make_instances(500, size=400)
    data = encode(instances, ParquetCodec(block_bytes=1_000))
    asked: list[int] = []

    def tail(size: int) -> bytes:
        asked.append(size)
        return data[-size:]

    header = ParquetCodec().read_header(tail, "a file")
    assert (header.first, header.last) == (1, 500)
    assert header.chain_after == instances[-1].chain
    assert max(asked) < len(data)


def test_pages_have_checksums_of_their_own_that_reading_verifies():
    # Behind the checksum of the whole file: what changes in memory, or between two reads.
    data = bytearray(encode(make_instances(50, size=400)))
    data[len(data) // 3] ^= 0x10
    file = pq.ParquetFile(pa.BufferReader(bytes(data)), page_checksum_verification=True)
    with pytest.raises(OSError, match=r"CRC|crc|checksum"):
        file.read()


def test_the_checksum_field_is_one_metadata_entry_that_readers_ignore():
    data = encode(make_instances(3))
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata.metadata
    assert metadata is not None
    assert sorted(metadata) == [b"ray_paxos.crc32c", b"ray_paxos.segment"]
    assert pq.read_table(pa.BufferReader(data)).schema.equals(SCHEMA)


def test_user_bytes_that_look_like_our_footer_change_nothing():
    forged = b"ray_paxos.segment{} ray_paxos.crc32c\x18\x0800000000 PAR1"
    value = Value(1, (msgspec.structs.replace(BATCH, machine=forged.decode(), commands=(forged,)),))
    instances = seal([encode_value(value)])
    data = encode(instances)
    assert decode(data) == instances
    with pytest.raises(DamageError):
        decode(data.replace(b"forged", b"other!", 1)[:-1] + b"2")


def test_the_logs_of_all_groups_are_one_table(tmp_path):
    disk = LocalDisk(tmp_path / "amber")
    stage_member(disk, GENESIS, MEMBER_ID)
    activate_member(disk)
    log_dir = tmp_path / "amber" / "learner" / "log"
    assert ds.dataset(log_dir, partitioning="hive").to_table().num_rows == 0
    codec = ParquetCodec()
    for group in (0, 1):
        folder = SegmentFolder.open(segment_place(disk, codec, group))  # type: ignore[arg-type]
        for record in make_seals(2, 3, group=group):
            folder.seal(record)
            folder.sync()
        folder.seal(SealSegment(group, tuple(make_instances(9)[5:])))
    table = ds.dataset(log_dir, partitioning="hive").to_table()
    assert table.column_names == [*SCHEMA.names, "group"]
    assert sorted(table.column("group").unique().to_pylist()) == [0, 1]
    found = table.filter(ds.field("group") == 1).to_pylist()
    assert [row["instance_id"] for row in found] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    commands = [row["command"] for row in found if row["kind"] == "command"]
    assert len(commands) == 10, "what is being sealed is not read"


def test_only_values_that_compress_are_compressed_well():
    random = Random(1)

    def sealed(*commands: bytes) -> list[SealedInstance]:
        batch = msgspec.structs.replace(BATCH, commands=commands)
        return seal([encode_value(Value(1, (batch,)))] * 2)

    text = b'{"order": %d, "state": "paid"}'
    told = sealed(*(text % random.randrange(10**6) for _ in range(3_000)))
    noise = sealed(*(random.randbytes(50) for _ in range(3_000)))
    levels = {_compression_level(instances) for instances in (told, sealed(b"a"))}
    assert levels == {LEVEL}
    assert _compression_level(noise) == FAST_LEVEL
    assert len(encode(told)) < sum(len(each.chosen.value) for each in told) / 3
    assert decode(encode(noise)) == noise
