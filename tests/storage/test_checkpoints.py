"""Checkpoints: what is saved comes back, and nothing damaged, foreign or mislaid ever does (F2)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ray_paxos.core.checkpoint import MANIFEST, Manifest, decode_manifest, encode_manifest
from ray_paxos.core.values import CommandBatch, MachineMount, SessionId, Value
from ray_paxos.errors import (
    ApplyStoppedError,
    CheckpointError,
    DamageError,
    InvariantViolationError,
    StorageError,
    StorageFullError,
)
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.log import LogMachine
from ray_paxos.machines.registry import BUILT_IN, MachineRegistry
from ray_paxos.machines.table import Row
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoints import (
    load_checkpoint,
    newest_whole,
    published,
    verify_checkpoint,
)
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.parquet_tables import ParquetTables
from ray_paxos.storage.table_format import TableCodec
from ray_paxos.testing.codec import PlainTables
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.checkpoint_support import (
    CONFIGURATION,
    DIGESTS,
    FOLDER,
    GENESIS,
    GROUP,
    REGISTRY,
    empty_place,
    make_cut,
    make_host,
    place_on,
    save,
    values,
)


@pytest.fixture(params=[PlainTables(), ParquetTables()], ids=lambda tables: type(tables).__name__)
def tables(request) -> TableCodec:
    chosen: TableCodec = request.param
    return chosen


def path_of(instance_id: int, name: str = MANIFEST) -> str:
    return f"{FOLDER}/{instance_id:016}/{name}"


# What is saved comes back.


def test_a_saved_host_comes_back_and_goes_on_as_the_saved_one_would(tables):
    for through in range(1, len(values())):
        _, place = empty_place(tables)
        folder = save(place, through)
        loaded = folder.load(through, REGISTRY)
        assert loaded.cut == make_cut(through)
        assert loaded.host.digest() == DIGESTS[through]
        whole = make_host(through)
        for instance_id, value in enumerate(values()[through:], through + 1):
            assert loaded.host.apply(instance_id, value) == whole.apply(instance_id, value)
        assert loaded.host.digest() == whole.digest()


def test_a_real_disk_holds_it_too(tmp_path, tables):
    disk = LocalDisk(tmp_path)
    disk.make_folder(FOLDER)
    folder = save(place_on(disk, tables), 4, 11)
    assert folder.instances == (4, 11)
    reopened = CheckpointFolder.open(place_on(LocalDisk(tmp_path), tables))
    assert reopened.instances == (4, 11)
    assert reopened.load(11, REGISTRY).host.digest() == DIGESTS[11]
    reopened.drop(4)
    reopened.set_aside(11)
    assert disk.list(FOLDER) == ["damaged-0000000000000011"]
    assert disk.exists(f"{FOLDER}/damaged-0000000000000011/machine-0003/deep/er/1")


def test_the_manifest_tells_what_is_in_it():
    disk, place = empty_place()
    manifest = save(place, 11).verify(11)
    assert (manifest.genesis, manifest.group) == (GENESIS, GROUP)
    assert manifest.cut == make_cut(11)
    assert manifest.cut.configuration == CONFIGURATION
    assert manifest.machines == make_host(11).mounted
    assert [file.path for file in manifest.files] == [
        "host.msgpack",
        "machine-0000/table.plain",
        "machine-0001/lines",
        "machine-0002/state.pickle",
        "machine-0003/deep/er/0",
        "machine-0003/deep/er/1",
        "sessions.msgpack",
    ]
    assert manifest.byte_count == sum(
        len(data) for path, data in disk.files().items() if not path.endswith(MANIFEST)
    )


def test_saving_the_same_instance_again_changes_nothing():
    disk, place = empty_place()
    folder = save(place, 7)
    before, operations = disk.files(), disk.operations
    assert folder.save(make_host(7), make_cut(7)) == folder.verify(7)
    assert (disk.files(), disk.operations) == (before, operations)


def test_checkpoints_are_dropped_whole():
    disk, place = empty_place()
    folder = save(place, 3, 5, 7)
    folder.drop(5)
    folder.drop(6)
    assert folder.instances == (3, 7)
    assert published(place) == (3, 7)
    assert not any("0000000000000005" in name for name in disk.list(FOLDER))


# Damage.


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position * 5 % 8)
        yield f"byte {position} flipped", bytes(flipped)
    for size in range(len(data)):
        yield f"cut to {size} bytes", data[:size]
    yield "a byte added", data + b"\0"
    yield "a line end added", data + b"\n"


def test_every_flipped_byte_and_every_truncation_is_damage_that_names_the_file(tables):
    disk, place = empty_place(tables)
    save(place, 9)
    tried = 0
    for path, data in disk.files().items():
        for what, wrong in damaged(data):
            disk.overwrite(path, wrong)
            with pytest.raises(DamageError) as error:
                verify_checkpoint(place, 9)
            assert path in str(error.value), what
            tried += 1
        disk.overwrite(path, data)
    assert tried > 2_000
    assert verify_checkpoint(place, 9).cut == make_cut(9)


def test_damage_falls_back_to_the_checkpoint_before(tables):
    disk, place = empty_place(tables)
    save(place, 3, 9)
    for path, data in disk.files().items():
        if "0000000000000003" in path:
            continue
        for _, wrong in list(damaged(data))[:: max(1, len(data) // 6)]:
            disk.overwrite(path, wrong)
            found = newest_whole(place, REGISTRY)
            assert found.checkpoint is not None
            assert found.checkpoint.cut == make_cut(3)
            assert found.checkpoint.host.digest() == DIGESTS[3]
            (problem,) = found.problems
            assert path in problem
        disk.overwrite(path, data)
    whole = newest_whole(place, REGISTRY)
    assert whole.checkpoint is not None
    assert whole.checkpoint.host.digest() == DIGESTS[9]
    assert whole.problems == ()


def test_only_the_instances_asked_for_are_loaded():
    _, place = empty_place()
    save(place, 3, 5, 9)
    for above, at_most, expected in ((0, None, 9), (0, 8, 5), (4, 4, None), (9, None, None)):
        found = newest_whole(place, REGISTRY, above=above, at_most=at_most)
        assert (found.checkpoint and found.checkpoint.cut.instance_id) == expected
        assert found.problems == ()


def test_where_none_is_whole_every_problem_is_told():
    disk, place = empty_place()
    save(place, 3, 5)
    for instance_id in (3, 5):
        disk.flip_bit(path_of(instance_id, "host.msgpack"), 0)
    found = newest_whole(place, REGISTRY)
    assert found.checkpoint is None
    assert [path_of(n, "host.msgpack") in p for n, p in zip((5, 3), found.problems, strict=True)]
    disk.remove(FOLDER)
    assert "never made anew" in newest_whole(place, REGISTRY).problems[0]
    with pytest.raises(DamageError, match="never made anew"):
        CheckpointFolder.open(place)


def test_missing_and_foreign_files_are_damage(tables):
    disk, place = empty_place(tables)
    save(place, 9)
    paths = [path for path in disk.files() if not path.endswith(MANIFEST)]
    for path in paths:
        other = disk.snapshot()
        other.remove(path)
        with pytest.raises(DamageError, match="is missing"):
            verify_checkpoint(place_on(other, tables), 9)
    for path in ("left", "machine-0002/more", "machine-0003/deep/er/9", "_manifest.json.old"):
        other = disk.snapshot()
        other.create(path_of(9, path))
        with pytest.raises(DamageError, match="not in the manifest"):
            verify_checkpoint(place_on(other, tables), 9)
    other = disk.snapshot()
    other.remove(path_of(9, "machine-0004"))
    with pytest.raises(DamageError, match=r"machine-0004 is missing"):
        load_checkpoint(place_on(other, tables), 9, REGISTRY)


def test_swapped_files_are_damage():
    disk, place = empty_place()
    save(place, 4, 9)
    for name in ("host.msgpack", "sessions.msgpack", "machine-0000/table.plain", MANIFEST):
        mine, other = disk.read(path_of(9, name)), disk.read(path_of(4, name))
        disk.overwrite(path_of(9, name), other)
        with pytest.raises(DamageError, match=name):
            verify_checkpoint(place, 9)
        disk.overwrite(path_of(9, name), mine)


def test_a_host_file_that_contradicts_the_manifest_is_damage():
    # As a release with a bug in saving would leave it, every checksum right.
    disk, place = empty_place()
    folder = save(place, 4, 9)
    other = disk.read(path_of(4, "host.msgpack"))
    disk.overwrite(path_of(9, "host.msgpack"), other)
    old = folder.verify(4).file("host.msgpack")
    manifest = decode_manifest(disk.read(path_of(9)), "the manifest", genesis=GENESIS, group=GROUP)
    files = tuple(old if f.path == "host.msgpack" else f for f in manifest.files)
    disk.overwrite(path_of(9), encode_manifest(msgspec.structs.replace(manifest, files=files)))
    verify_checkpoint(place, 9)
    with pytest.raises(DamageError, match="is not of the checkpoint of instance 9"):
        load_checkpoint(place, 9, REGISTRY)


def changed_manifest(disk: SimulatedDisk, **changes: object) -> None:
    manifest = decode_manifest(disk.read(path_of(9)), "", genesis=GENESIS, group=GROUP)
    changed: Manifest = msgspec.structs.replace(manifest, **changes)
    disk.overwrite(path_of(9), encode_manifest(changed))


def test_a_checkpoint_of_another_cluster_or_group_is_refused():
    for changes, what in (
        ({"genesis": bytes(16)}, "another cluster"),
        ({"group": 2}, "of group 2"),
        ({"cut": make_cut(8)}, "instance 8"),
    ):
        disk, place = empty_place()
        save(place, 9)
        changed_manifest(disk, **changes)
        with pytest.raises(DamageError, match=what):
            verify_checkpoint(place, 9)


def test_what_is_set_aside_is_kept_once_and_served_never():
    disk, place = empty_place()
    folder = save(place, 3, 5, 7)
    content = disk.read(path_of(5, "host.msgpack"))
    folder.set_aside(7)
    folder.set_aside(5)
    folder.set_aside(6)
    assert folder.instances == (3,)
    assert disk.list(FOLDER) == ["0000000000000003", "damaged-0000000000000005"]
    assert disk.read(f"{FOLDER}/damaged-0000000000000005/host.msgpack") == content
    for reader in (folder, CheckpointFolder.open(place)):
        assert reader.instances == (3,)
        assert reader.manifest_bytes(5) is None
        assert reader.read_chunk(5, "host.msgpack", 0, 10) is None
    found = newest_whole(place, REGISTRY).checkpoint
    assert found is not None
    assert found.cut.instance_id == 3
    save(place, 5)
    assert published(place) == (3, 5)


def test_names_that_are_no_checkpoints_are_let_alone():
    disk, place = empty_place()
    save(place, 3)
    for name in ("notes.txt", "merged-0000000000000001-0000000000000002.plain", "٣"):
        disk.create(f"{FOLDER}/{name}")
    for name in ("12", "00000000000000005"):
        disk.make_folder(f"{FOLDER}/{name}")
        disk.create(f"{FOLDER}/{name}/{MANIFEST}")
    before = disk.files()
    assert save(place).instances == published(place) == (3,)
    assert disk.files() == before


# Readers beside the checkpointer.


class DroppingDisk(SimulatedDisk):
    """Its checkpointer publishes 9 and drops 5 while somebody reads a file of 5."""

    watched = ""

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        if self.watched and path == self.watched:
            self.watched = ""
            folder = save(place_on(self.process()), 9)
            folder.drop(5)
        return super().read(path, offset, size)


@pytest.mark.parametrize("name", [MANIFEST, "machine-0001/lines", "sessions.msgpack"])
def test_a_checkpoint_that_is_dropped_while_it_is_read_is_no_problem(name):
    disk = DroppingDisk()
    disk.make_folder(FOLDER)
    save(place_on(disk.process()), 5)
    disk.watched = path_of(5, name)
    found = newest_whole(place_on(disk), REGISTRY)
    assert found.checkpoint is not None
    assert found.checkpoint.cut.instance_id == 9
    assert found.problems == ()


# Machines that fail.


class Faulty(StateMachine):
    """Does what a test tells it to."""

    kind = "faulty"
    on_save: BaseException | None = None
    on_load: BaseException | None = None

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        raise ValueError("cannot apply")

    def query(self, request: bytes) -> bytes:
        return b""

    def save(self, directory: Path) -> None:
        (directory / "half").write_bytes(b"half")
        if self.on_save is not None:
            raise self.on_save

    def load(self, directory: Path) -> None:
        if self.on_load is not None:
            raise self.on_load


@pytest.fixture
def faulty(monkeypatch) -> type[Faulty]:
    monkeypatch.setattr(Faulty, "on_save", None)
    monkeypatch.setattr(Faulty, "on_load", None)
    return Faulty


def faulty_host() -> MachineHost:
    host = MachineHost(MachineRegistry((Faulty,)), group=GROUP)
    host.apply(1, Value(0, (MachineMount("bad", "faulty", 1),)))
    return host


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("no"), CheckpointError),
        (SystemExit(1), CheckpointError),
        (OSError(28, "No space left on device"), StorageFullError),
        (OSError(5, "Input/output error"), StorageError),
    ],
)
def test_a_machine_that_cannot_be_saved_leaves_nothing(faulty, raised, expected):
    disk, place = empty_place()
    faulty.on_save = raised
    folder = CheckpointFolder.open(place)
    with pytest.raises(expected) as error:
        folder.save(faulty_host(), make_cut(1))
    assert type(error.value) is expected
    assert disk.list(FOLDER) == []
    assert folder.instances == ()


def test_a_machine_that_cannot_be_loaded_is_named_and_is_no_damage(faulty):
    _, place = empty_place()
    folder = CheckpointFolder.open(place)
    folder.save(faulty_host(), make_cut(1))
    faulty.on_load = KeyError("items")
    with pytest.raises(CheckpointError, match=r"machine 'bad' of kind 'faulty'.*KeyError"):
        folder.load(1, MachineRegistry((Faulty,)))
    folder.verify(1)


def test_a_machine_whose_kind_is_not_registered_is_named_and_is_no_damage():
    _, place = empty_place()
    folder = save(place, 1, 9)
    named = r"'shelf' is of kind 'shelf' version 1.*register"
    with pytest.raises(CheckpointError, match=named):
        folder.load(9, MachineRegistry())
    with pytest.raises(CheckpointError, match=named):
        newest_whole(place, MachineRegistry())
    folder.verify(9)


class NewerMap(KeyValueMachine):
    version = 2


def test_a_machine_of_another_version_is_not_taken_for_it():
    _, place = empty_place()
    folder = save(place, 9)
    with pytest.raises(CheckpointError, match=r"'map' is of kind 'kv' version 1"):
        folder.load(
            9, MachineRegistry((NewerMap, *(each for each in BUILT_IN if each.kind != "kv")))
        )


def test_a_host_that_stopped_or_stands_elsewhere_is_not_saved(faulty):
    disk, place = empty_place()
    folder = CheckpointFolder.open(place)
    with pytest.raises(InvariantViolationError, match="instance 5, of 4 applied"):
        folder.save(make_host(4), make_cut(5))
    host = make_host(9, REGISTRY)
    broken = MachineHost(MachineRegistry((*BUILT_IN, Faulty)), group=GROUP)
    for instance_id, value in enumerate(values()[:1], 1):
        broken.apply(instance_id, value)
    broken.apply(2, Value(0, (MachineMount("bad", "faulty", 1),)))
    with pytest.raises(ApplyStoppedError):
        broken.apply(3, Value(0, (CommandBatch(SessionId(1, 5), 1, 1, "bad", (b"x",)),)))
    with pytest.raises(ApplyStoppedError):
        folder.save(broken, make_cut(3))
    assert disk.list(FOLDER) == []
    folder.save(host, make_cut(9))


class BadRows(KeyValueMachine):
    """A table whose rows do not fit its columns."""

    kind = "bad rows"
    row: Row = ()

    def rows(self) -> Iterator[Row]:
        yield self.row


@pytest.mark.parametrize(
    "row",
    [
        ("k", 1),
        ("k", None, b""),
        (None, 1, b""),
        ("k", "one", b""),
        ("k", 1 << 63, b""),
        ("\ud800", 1, b""),
    ],
    ids=repr,
)
def test_rows_that_do_not_fit_the_columns_are_told(tables, row, monkeypatch):
    monkeypatch.setattr(BadRows, "row", row)
    disk, place = empty_place(tables)
    host = MachineHost(MachineRegistry((BadRows,)), group=GROUP)
    host.apply(1, Value(0, (MachineMount("t", "bad rows", 1),)))
    with pytest.raises(CheckpointError, match=r"machine 't'.*cannot be saved"):
        CheckpointFolder.open(place).save(host, make_cut(1))
    assert disk.list(FOLDER) == []


@pytest.mark.parametrize("name", ["a\\b", "x" * 250 + "é" * 3, "/".join("d" * 20), "n" * 256])
def test_files_that_no_checkpoint_can_hold_are_told(name, tmp_path):
    class Untidy(Faulty):
        kind = "untidy"

        def save(self, directory: Path) -> None:
            try:
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                (directory / name).write_bytes(b"")
            except OSError as error:
                raise ValueError("too long") from error

    disk = LocalDisk(tmp_path)
    disk.make_folder(FOLDER)
    host = MachineHost(MachineRegistry((Untidy,)), group=GROUP)
    host.apply(1, Value(0, (MachineMount("t", "untidy", 1),)))
    with pytest.raises(CheckpointError):
        CheckpointFolder.open(place_on(disk)).save(host, make_cut(1))
    assert disk.list(FOLDER) == []


class Forgetful(PlainTables):
    """A file format with a bug: it loses the last row, or changes one."""

    def __init__(self, how: str) -> None:
        self.how = how

    def write(self, path: Path, columns, rows) -> None:
        changed = list(rows)
        if changed and self.how == "loses":
            changed.pop()
        elif changed and self.how == "changes":
            changed[0] = (*changed[0][:2], b"other", None)
        elif changed and self.how == "repeats":
            changed.append(changed[-1])
        super().write(path, columns, changed)


@pytest.mark.parametrize("how", ["loses", "changes", "repeats"])
def test_a_table_that_does_not_read_back_is_never_published(how):
    disk, place = empty_place(Forgetful(how))
    folder = CheckpointFolder.open(place)
    with pytest.raises(StorageError, match="does not read back"):
        folder.save(make_host(9), make_cut(9))
    assert disk.list(FOLDER) == []


def test_many_sessions_and_large_tables_come_back(tmp_path, tables):
    from ray_paxos.core.values import SessionOpen
    from ray_paxos.machines import kv

    host = MachineHost(MachineRegistry((KeyValueMachine, LogMachine)), group=GROUP)
    host.apply(1, Value(0, (MachineMount("map", "kv", 1), SessionOpen("first"))))
    host.apply(2, Value(1, tuple(SessionOpen("s" * 150) for _ in range(9_000))))
    big = tuple(kv.encode_put(f"big{n}", bytes([n]) * 1_500_000) for n in range(9))
    host.apply(3, Value(2, (CommandBatch(SessionId(1, 1), 1, 1, "map", big),)))
    small = tuple(kv.encode_put(f"key{n}", b"v") for n in range(60_000))
    host.apply(4, Value(3, (CommandBatch(SessionId(1, 1), 10, 10, "map", small),)))
    disk = LocalDisk(tmp_path)
    disk.make_folder(FOLDER)
    folder = CheckpointFolder.open(place_on(disk, tables))
    folder.save(host, make_cut(4))
    loaded = folder.load(4, MachineRegistry()).host
    assert loaded.session_count == 9_001
    assert loaded.digest() == host.digest()
    shutil.rmtree(tmp_path)
