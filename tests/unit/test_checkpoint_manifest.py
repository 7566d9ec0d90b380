"""The manifest of a checkpoint: no changed byte, no foreign one, and no path out of its folder."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core import checkpoint
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint import (
    HOST_FILE,
    SESSIONS_FILE,
    CheckpointFile,
    Cut,
    Manifest,
    check_file_path,
    decode_manifest,
    encode_manifest,
    machine_folder,
)
from ray_paxos.core.genesis import Configuration, MachineSpec, Voter
from ray_paxos.errors import DamageError

GENESIS = bytes(range(16))
CONFIGURATION = Configuration(70, (Voter(11, 1), Voter(1 << 62, 2)), (Voter(12, 4),), 6)
CUT = Cut(77, b"c" * 16, b"r" * 16, Ballot(3, 1 << 62, 2), CONFIGURATION)
MACHINES = (MachineSpec("map", "kv", 1), MachineSpec('"é\n', "log", 2))


def manifest_of(*paths: str, machines: tuple[MachineSpec, ...] = MACHINES) -> Manifest:
    """A manifest with these files beside those of every checkpoint."""
    files = [CheckpointFile(path, 10, 0xFFFFFFFF) for path in (*paths, HOST_FILE, SESSIONS_FILE)]
    files.sort(key=lambda file: file.path)
    return Manifest(GENESIS, 1, CUT, machines, tuple(files))


MANIFEST = manifest_of("machine-0000/table.parquet", "machine-0001/a/b c/ü")


def decode(data: bytes) -> Manifest:
    return decode_manifest(data, "the manifest", genesis=GENESIS, group=1)


def checked(text: str) -> bytes:
    """A text with a right checksum, in the one form that a manifest has."""
    fields = json.loads(text)
    return checkpoint._checked_text(fields)


def test_a_manifest_comes_back_and_a_person_can_read_it():
    data = encode_manifest(MANIFEST)
    assert decode(data) == MANIFEST
    fields = json.loads(data)
    assert fields["format"] == 1
    assert (fields["config_id"], fields["replicas_given"]) == (70, 6)
    assert (fields["voters"], fields["followers"]) == ([[11, 1], [1 << 62, 2]], [[12, 4]])
    assert fields["files"][1] == ["machine-0000/table.parquet", 10, "ffffffff"]
    assert b'\n  ["machine-0000/table.parquet", 10, "ffffffff"],\n' in data
    assert MANIFEST.byte_count == 40
    assert MANIFEST.file("machine-0000/table.parquet") is not None
    assert MANIFEST.file("machine-0000") is None


def test_every_changed_byte_and_every_truncation_is_damage():
    data = encode_manifest(MANIFEST)
    for position in range(len(data)):
        for bit in range(8):
            wrong = bytearray(data)
            wrong[position] ^= 1 << bit
            with pytest.raises(DamageError, match="the manifest"):
                decode(bytes(wrong))
        with pytest.raises(DamageError, match="the manifest"):
            decode(data[:position])
    for other in (data + b"\n", b" " + data, b"[" * 100_000, b"[]", b"7", b"\xff"):
        with pytest.raises(DamageError):
            decode(other)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data):
    with pytest.raises(DamageError):
        decode(data)


def test_a_newer_format_another_cluster_and_another_group_are_told():
    newer = checked(json.dumps({"format": 2, "what": "ever"}))
    with pytest.raises(DamageError, match="of format 2; this release reads format 1"):
        decode(newer)
    data = encode_manifest(MANIFEST)
    with pytest.raises(DamageError, match="another cluster"):
        decode_manifest(data, "", genesis=bytes(16), group=1)
    with pytest.raises(DamageError, match="of group 1"):
        decode_manifest(data, "", genesis=GENESIS, group=2)


@pytest.mark.parametrize("name", list(json.loads(encode_manifest(MANIFEST)))[1:-1])
def test_fields_of_another_kind_or_missing_are_damage(name):
    fields = json.loads(encode_manifest(MANIFEST))
    del fields["crc32c"]
    others: list[object] = [None, {}, "x", [[]], -1.5]
    for wrong in others:
        with pytest.raises(DamageError):
            decode(checked(json.dumps({**fields, name: wrong})))
    del fields[name]
    with pytest.raises(DamageError, match="not a manifest"):
        decode(checked(json.dumps(fields)))


OUTSIDE = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    ".",
    "a/./b",
    "a//b",
    "a/",
    "a\\..\\b",
    "a\0b",
    "\ud800",
    "x" * 256,
    "é" * 128,
    "/".join("d" * 17),
    "/".join(["d" * 100] * 5),
]


@pytest.mark.parametrize("path", OUTSIDE, ids=ascii)
def test_a_path_that_leaves_its_folder_is_refused(path):
    with pytest.raises(DamageError, match="is no path inside"):
        check_file_path(path, "the manifest")
    with pytest.raises(DamageError):
        encode_manifest(manifest_of(f"machine-0000/{path}"))


@pytest.mark.parametrize("path", ["a", "a/b", "..a", "a..", "...", " ", "é" * 127, "x" * 255])
def test_a_path_inside_is_let_through(path):
    check_file_path(path, "the manifest")
    decode(encode_manifest(manifest_of(f"machine-0000/{path}")))


@pytest.mark.parametrize(
    "path",
    [
        "manifest.json",
        "_manifest.json",
        "other",
        "machine-0000",
        "machine-0002/x",
        "machine-0/x",
        "machine-00000/x",
        "Machine-0000/x",
        "host.msgpack/x",
        "sub/host.msgpack",
    ],
)
def test_only_names_that_a_checkpoint_has_are_let_through(path):
    fields = json.loads(encode_manifest(MANIFEST))
    del fields["crc32c"]
    fields["files"] = sorted([*fields["files"], [path, 1, "00000000"]])
    with pytest.raises(DamageError, match=r"is no file of a checkpoint|is inside a file"):
        decode(checked(json.dumps(fields)))


def test_files_that_contradict_each_other_are_refused():
    one = CheckpointFile("machine-0000/a", 1, 1)
    inside = CheckpointFile("machine-0000/a/b", 1, 1)
    files = MANIFEST.files
    for wrong, what in (
        ((one, one, *files), "ascending"),
        (files[::-1], "ascending"),
        (files[1:], "host.msgpack or"),
        (files[:-1], "host.msgpack or"),
        (tuple(sorted((one, inside, *files), key=lambda f: f.path)), "is inside a file"),
        ((msgspec.structs.replace(files[0], size=-1), *files[1:]), "less than no bytes"),
    ):
        with pytest.raises(DamageError, match=what):
            encode_manifest(msgspec.structs.replace(MANIFEST, files=wrong))


def test_what_is_listed_is_bounded(monkeypatch):
    monkeypatch.setattr(checkpoint, "FILES_MAX", 5)
    encode_manifest(manifest_of(*(f"machine-0000/{n}" for n in range(3))))
    many = manifest_of(*(f"machine-0000/{n}" for n in range(4)))
    with pytest.raises(DamageError, match="6 files, over 5"):
        encode_manifest(many)
    monkeypatch.setattr(checkpoint, "FILES_MAX", 6)
    data = encode_manifest(many)
    monkeypatch.setattr(checkpoint, "MANIFEST_BYTES_MAX", len(data) - 1)
    with pytest.raises(DamageError, match="over"):
        encode_manifest(many)
    with pytest.raises(DamageError, match="over"):
        decode(data)


def test_the_largest_manifest_fits_its_bound():
    longest = [f"{machine_folder(0)}/{'x' * 255}/{n:0131}" for n in range(checkpoint.FILES_MAX - 2)]
    data = encode_manifest(manifest_of(*longest))
    assert len(data) < checkpoint.MANIFEST_BYTES_MAX
