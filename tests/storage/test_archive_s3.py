"""Archives in a bucket, on moto's server on this machine."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from ray_paxos.errors import DamageError, StorageError
from ray_paxos.storage.archive_address import parse_address
from ray_paxos.storage.archive_files import ArchiveFiles
from ray_paxos.storage.archive_opening import open_archive
from tests.storage.archive_support import (
    LOG,
    archived,
    archiver,
    checkpoint,
    clean,
    make_disk,
    merge,
    place_of,
    restorer,
    seal,
)
from tests.storage.member_support import host_at

moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")

_buckets = itertools.count()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def address(endpoint: str, credentials: None) -> str:
    bucket = f"bucket{next(_buckets)}"
    store = pafs.S3FileSystem(
        endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    store.create_dir(bucket)
    return f"s3://{bucket}/some/where?endpoint_override={endpoint}&scheme=http&region=us-east-1"


@pytest.fixture
def files(address: str) -> ArchiveFiles:
    return open_archive(parse_address(address))


def test_a_member_is_archived_and_restored(files: ArchiveFiles, tmp_path: Path) -> None:
    disk = make_disk()
    seal(disk, 1, 30)
    own = archiver(files, disk)
    own.update()
    merge(disk, 1, 20)
    checkpoint(disk, 25)
    own.update()
    clean(disk, 21)
    seal(disk, 31, 40)
    checkpoint(disk, 35)
    own.update()
    assert archived(files) == ([(1, 20), (21, 30), (31, 40)], [35])
    for at in (None, 7, 36):
        host, state = restorer(files, tmp_path).restore(at)
        assert state.through == (at or 40)
        assert host.digest() == host_at(LOG, state.through).digest()


def test_a_second_life_goes_on(files: ArchiveFiles) -> None:
    disk = make_disk()
    seal(disk, 1, 20)
    checkpoint(disk, 20)
    archiver(files, disk).update()
    puts: list[str] = []
    put = files.put

    def counting(path: str, chunks: Iterable[bytes]) -> None:
        puts.append(path)
        put(path, chunks)

    files.put = counting  # type: ignore[method-assign]
    archiver(files, disk).update()
    assert puts == []
    seal(disk, 21, 30)
    archiver(files, disk).update()
    assert [path.rpartition("/")[2][:12] for path in puts] == ["_00000000000"]


def test_what_breaks_off_while_it_is_written_is_taken_for_unfinished(
    files: ArchiveFiles, tmp_path: Path
) -> None:
    disk = make_disk()
    seal(disk, 1, 20)
    place = place_of()

    def breaking() -> Iterator[bytes]:
        yield b"some bytes"
        raise StorageError("the disk fails")

    with pytest.raises(StorageError, match="the disk fails"):
        files.put(f"{place.log}/_{place.segment(1, 10).rpartition('/')[2]}", breaking())
    archiver(files, disk).update()
    assert archived(files) == ([(1, 10), (11, 20)], [])


def test_large_files_come_and_go_in_chunks(files: ArchiveFiles) -> None:
    data = os.urandom(1 << 20)
    files.put("x/large", (data for _ in range(13)))
    assert files.list("x") == {"large": 13 << 20}
    chunks = list(files.chunks("x/large"))
    assert max(map(len, chunks)) <= 4 << 20
    assert b"".join(chunks) == data * 13


def test_what_is_not_there(files: ArchiveFiles) -> None:
    assert files.list("nowhere") == {}
    files.delete("nowhere/x")
    files.delete_folder("nowhere")
    with pytest.raises(DamageError, match="is missing"):
        list(files.chunks("nowhere/x"))


def test_a_bucket_that_is_not_there_is_not_made(address: str) -> None:
    files = open_archive(parse_address(address.replace("bucket", "absent", 1)))
    with pytest.raises(StorageError, match="no bucket that is there"):
        files.check()
    disk = make_disk()
    seal(disk, 1, 10)
    with pytest.raises(StorageError, match="no bucket"):
        archiver(files, disk).update()


@pytest.mark.timeout(120)
def test_a_store_that_is_away_is_an_error_in_one_line() -> None:
    address = "s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    files = open_archive(parse_address(address))
    with pytest.raises(StorageError) as caught:
        files.check()
    assert str(caught.value).startswith("cannot reach s3://bucket: ")
    assert "\n" not in str(caught.value)
