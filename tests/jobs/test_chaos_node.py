"""Signals to real processes, and logs as they lie on a disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import chaos_node
from chaos_node import NodeAgent, read_rows, started_at
from ray_paxos.observability.event_file import EventFile, older_path
from ray_paxos.observability.event_record import decode_record
from ray_paxos.storage.member_files import EVENTS
from ray_paxos.storage.parquet import ParquetCodec
from ray_paxos.storage.segment_format import header_of
from tests.jobs.test_chaos_events import GOOD
from tests.storage.support import GENESIS, make_instances

CODEC = ParquetCodec()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    yield started
    started.kill()
    started.wait()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sleeps() -> int:
    """Shells that watch over something that this test stopped."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes().startswith(b"sleep\x00" + MARK.encode())
        except OSError:
            continue
    return found


MARK = "77.125"
"""Of all sleeping shells of the machine, those of these tests have this time."""


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> NodeAgent:
    monkeypatch.setattr(chaos_node, "LATE_S", 76.875)
    return NodeAgent()


def test_a_process_is_known_by_title_and_start(
    agent: NodeAgent, process: subprocess.Popen[bytes]
) -> None:
    started = started_at(process.pid)
    assert agent.identify({process.pid: sys.executable}) == {process.pid: started}
    assert agent.identify({process.pid: "ray::AcceptorActor"}) == {}
    assert agent.identify({2**22 + 1: sys.executable}) == {}


def test_only_the_life_that_is_meant_is_killed(
    agent: NodeAgent, process: subprocess.Popen[bytes]
) -> None:
    started = started_at(process.pid)
    assert agent.kill([(process.pid, started - 1), (2**22 + 1, started)]) == []
    assert agent.pause([(process.pid, started - 1)], 0.25) == []
    assert state_of(process.pid) in "RS"
    assert sleeps() == 0
    assert agent.kill([(process.pid, started)]) == [(process.pid, started)]
    assert process.wait(10) == -9
    assert agent.kill([(process.pid, started)]) == []


def test_what_is_stopped_goes_on_after_its_time(
    agent: NodeAgent, process: subprocess.Popen[bytes]
) -> None:
    life = process.pid, started_at(process.pid)
    started_s = time.monotonic()
    assert agent.pause([life], 0.25) == [life]
    wait_for(lambda: state_of(process.pid) == "T")
    wait_for(lambda: sleeps() == 1)
    wait_for(lambda: state_of(process.pid) in "RS")
    assert 0.2 < time.monotonic() - started_s < 5
    wait_for(lambda: sleeps() == 0)


def test_everything_that_is_stopped_can_be_continued_at_once(
    agent: NodeAgent, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_node, "LATE_S", 17.125)
    life = process.pid, started_at(process.pid)
    agent.pause([life], 60.0)
    wait_for(lambda: state_of(process.pid) == "T")
    agent.resume()
    wait_for(lambda: state_of(process.pid) in "RS")
    wait_for(lambda: sleeps() == 0)


def test_what_is_stopped_goes_on_even_if_the_agent_is_killed(
    process: subprocess.Popen[bytes], repository: Path
) -> None:
    program = (
        "import os, signal, sys, chaos_node\n"
        "chaos_node.LATE_S = 1.0\n"
        "pid = int(sys.argv[1])\n"
        "chaos_node.NodeAgent().pause([(pid, chaos_node.started_at(pid))], 0.5)\n"
        # Looked at here: a busy machine may start no other process before it goes on.
        "assert ' T ' in open(f'/proc/{pid}/stat').read(), 'it is stopped'\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(process.pid)],
        env=os.environ | {"PYTHONPATH": f"{repository}{os.pathsep}{repository / 'jobs'}"},
        check=False,
    )
    assert done.returncode == -9
    wait_for(lambda: state_of(process.pid) in "RS")


def test_a_folder_goes_with_its_process(
    agent: NodeAgent, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder, spare = tmp_path / "chaos" / "m1", tmp_path / "chaos.m1.wiped"
    (folder / "acceptor").mkdir(parents=True)
    (folder / "acceptor" / "lock").write_text("x")
    life = process.pid, started_at(process.pid)
    assert agent.wipe([life], str(folder), str(spare)) == [life]
    assert process.wait(10) == -9
    assert list((tmp_path / "chaos").iterdir()) == []
    assert not spare.exists()
    with pytest.raises(FileNotFoundError):
        agent.wipe([life], str(folder), str(spare))


# Logs


def put_segment(folder: Path, first: int, last: int) -> Path:
    instances = make_instances(last)
    before = instances[first - 2].chain if first > 1 else bytes(16)
    header = header_of(GENESIS.hash(), 1, instances[first - 1 :], before, before)
    path = folder / f"{first:016d}-{last:016d}.parquet"
    path.write_bytes(CODEC.encode(header, instances[first - 1 :]))
    return path


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "log" / "group=1"
    folder.mkdir(parents=True)
    for first, last in ((1, 3), (4, 4), (5, 11)):
        put_segment(folder, first, last)
    (folder / "_0000000000000012-0000000000000013.parquet").write_bytes(b"unfinished")
    return tmp_path / "log"


def places(rows: pa.Table) -> list[tuple[object, object]]:
    return [(row["instance_id"], row["index"]) for row in rows.to_pylist()]


def test_a_log_is_read_in_order_from_an_instance_on(agent: NodeAgent, log_dir: Path) -> None:
    read = agent.read_log(str(log_dir), 1, 4)
    assert read["problem"] == ""
    rows = pa.ipc.open_stream(read["rows"]).read_all()
    assert tuple(rows.column_names) == chaos_node.COLUMNS
    assert places(rows) == [(instance, row) for instance in range(4, 12) for row in (0, 1)]
    assert rows["chain"].to_pylist()[0] == make_instances(4)[-1].chain
    assert set(rows["session"].to_pylist()) == {"1.0"}


def test_parts_beside_what_they_were_merged_into_count_once(
    agent: NodeAgent, log_dir: Path
) -> None:
    alone = read_rows(log_dir, 1, 1)
    put_segment(log_dir / "group=1", 1, 4)
    assert read_rows(log_dir, 1, 1) == alone
    assert agent.read_log(str(log_dir), 1, 1)["problem"] == ""


def test_files_that_go_while_they_are_read_are_looked_for_again(
    log_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = []
    true_paths = chaos_node.segment_paths

    def listed(folder: Path, first: int) -> list[Path]:
        paths = true_paths(folder, first)
        listings.append(paths)
        if len(listings) == 1:
            put_segment(folder, 1, 4)
            for path in paths[:2]:
                path.unlink()
        return paths

    monkeypatch.setattr(chaos_node, "segment_paths", listed)
    assert places(read_rows(log_dir, 1, 1))[-1] == (11, 1)
    assert len(listings) == 2


def test_a_flipped_bit_and_a_hole_are_told(agent: NodeAgent, log_dir: Path) -> None:
    path = log_dir / "group=1" / "0000000000000005-0000000000000011.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert "wrong checksum" in agent.read_log(str(log_dir), 1, 1)["problem"]
    path.write_bytes(whole)
    (log_dir / "group=1" / "0000000000000004-0000000000000004.parquet").unlink()
    assert "instances 4 to 4 are missing" in agent.read_log(str(log_dir), 1, 1)["problem"]


def test_a_log_that_is_not_there_is_told(agent: NodeAgent, log_dir: Path) -> None:
    read = agent.read_log(str(log_dir), 9, 1)
    assert read["rows"] is None
    assert read["problem"].startswith("FileNotFoundError")


# Files of events.


def write_events(member: Path, *, bytes_max: int = 1_000_000) -> None:
    """Write some events of its roles."""
    files: dict[Path, EventFile] = {}
    for number, record in enumerate(GOOD):
        folder = member / ("proposer" if number % 2 else "learner")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / EVENTS
        files.setdefault(path, EventFile(path, bytes_max, pytest.fail)).write(record, 0)
    for file in files.values():
        file.close()


def read_events(member: Path) -> tuple[list[int], list[str]]:
    read = NodeAgent().read_events(str(member / "learner" / "log"))
    numbers = [decode_record(line).sequence for line in read["records"]]
    return numbers, read["problems"]


def test_events_of_all_roles_are_read(tmp_path: Path) -> None:
    write_events(tmp_path / "m1")
    numbers, problems = read_events(tmp_path / "m1")
    assert sorted(numbers) == sorted(record.sequence for record in GOOD)
    assert problems == []


def test_the_older_file_of_a_role_counts_too(tmp_path: Path) -> None:
    write_events(tmp_path / "m1", bytes_max=400)
    newer = tmp_path / "m1" / "proposer" / EVENTS
    assert older_path(newer).exists()
    newer.unlink()
    newer.touch()
    assert any(record.sequence in read_events(tmp_path / "m1")[0] for record in GOOD[1::2])


def test_a_file_that_cannot_be_read_is_told_and_hides_nothing(tmp_path: Path) -> None:
    write_events(tmp_path / "m1")
    path = tmp_path / "m1" / "proposer" / EVENTS
    with path.open("ab") as file:
        file.write(b"nonsense\n")
    numbers, problems = read_events(tmp_path / "m1")
    assert len(numbers) == len(GOOD)
    assert len(problems) == 1
    assert f"{path}, line 4" in problems[0]


def test_a_member_without_files_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "m1" / "learner" / "log").mkdir(parents=True)
    assert read_events(tmp_path / "m1") == ([], [])
