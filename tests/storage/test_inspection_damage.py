"""Any byte of any file: changed or cut off, and verifying the member finds it. Zero undetected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.log_rows import rows_of
from ray_paxos.storage.member_files import FileFormats
from ray_paxos.storage.parquet import ParquetCodec
from ray_paxos.storage.parquet_tables import ParquetTables
from ray_paxos.storage.verification import verify_member
from tests.storage.member_support import FORMATS, files_below, make_log, make_member

SEED = 20_241


def samples(files: dict[str, bytes], count: int, random: Random) -> Iterator[tuple[str, int, int]]:
    """(file, offset, bits to flip there; 0 to cut the file there), spread over all files.

    Each file has its share, however small it is, and first and last bytes come first of all.
    """
    paths = list(files)
    for path in paths:
        for offset in (0, len(files[path]) - 1):
            yield path, offset, 0
            yield path, offset, 1 << random.randrange(8)
    for number in range(4 * len(paths), count):
        path = paths[number % len(paths)]
        offset = random.randrange(len(files[path]))
        yield path, offset, random.choice((0, random.randrange(1, 256)))


def undetected(
    disk: LocalDisk, damage: Iterator[tuple[str, int, int]], formats: FileFormats = FORMATS
) -> list[str]:
    """Do one damage after the other, each alone; returns those that verifying does not find."""
    missed = []
    for path, offset, bits in damage:
        file = disk.root / path
        whole = file.read_bytes()
        changed = whole[:offset]
        if bits:
            changed += bytes([whole[offset] ^ bits]) + whole[offset + 1 :]
        file.write_bytes(changed)
        faults = verify_member(disk, formats).findings.faults
        if not faults:
            missed.append(f"{path}: byte {offset} {f'flipped by {bits}' if bits else 'cut off'}")
        elif not any(path in fault.problem or path == fault.path for fault in faults):
            missed.append(f"{path}: byte {offset}: found, but told as {faults[0].problem}")
        file.write_bytes(whole)
    assert verify_member(disk, formats).is_whole
    return missed


def test_a_changed_byte_or_a_cut_at_sampled_places_is_found(tmp_path: Path) -> None:
    log = make_log(60)
    disk = make_member(
        tmp_path / "amber",
        log,
        segment_length=15,
        vote_floor=21,
        log_floor=16,
        checkpoints=(20, 40),
        merges=(31, 60),
    )
    files = files_below(disk.root)
    assert verify_member(disk, FORMATS).is_whole
    assert undetected(disk, samples(files, 400, Random(SEED))) == []


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_of_10_000_commands_every_one_of_2_000_damages_is_found(tmp_path: Path) -> None:
    log = make_log(200, commands=75)
    assert sum(1 for row in rows_of(log) if row.kind == "command") > 10_000
    formats = FileFormats(ParquetCodec(block_bytes=50_000), ParquetTables())
    disk = make_member(
        tmp_path / "amber",
        log,
        segment_length=40,
        vote_floor=81,
        log_floor=41,
        checkpoints=(80, 170),
        merges=(81, 160),
        formats=formats,
        journal_bytes=200_000,
    )
    files = files_below(disk.root)
    assert verify_member(disk, formats).is_whole
    assert undetected(disk, samples(files, 2_400, Random(SEED)), formats) == []


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_every_byte_of_every_small_file_is_found(tmp_path: Path) -> None:
    disk = make_member(tmp_path / "amber", make_log(12), checkpoints=(5,))
    files = {path: data for path, data in files_below(disk.root).items() if len(data) < 2_000}
    assert len(files) >= 15
    random = Random(SEED)
    damage = (
        (path, offset, bits)
        for path, data in files.items()
        for offset in range(len(data))
        for bits in (0, random.randrange(1, 256))
    )
    assert undetected(disk, damage) == []
