"""The job as users start it: a process of its own, on Ray clusters of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.dataset
import pytest

from tests.jobs.replay import replay

RUN_LIMIT_S = 240
"""Of a machine that is several times slower than usual."""
JOB = [sys.executable, "jobs/submit_commands.py"]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
PRINT_MASTERS_ROLES = """
import json, ray_paxos
status = ray_paxos.connect("demo").status()
(master,) = [group.master for group in status.groups if group.group == 1]
(member,) = [member for member in status.members if member.name == master]
print(json.dumps([role.pid for role in member.roles.values()]))
"""
FOR_ALL_TESTS = {
    "RAY_prestart_worker_first_driver",
    "RAY_raylet_client_connect_timeout_milliseconds",
    "RAY_raylet_client_num_connect_attempts",
}
"""By which Ray starts sooner and with less (tests/conftest.py): nothing that a job could see."""
STOP = 'import ray_paxos; ray_paxos.connect("demo").stop(shutdown_ray=True)'


class Machine:
    """As good as a machine of its own: home, data and Ray's files are apart, no Ray is found."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder = folder
        self.repository = repository
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("RAY_") or name in FOR_ALL_TESTS
        } | {
            "HOME": str(folder),
            "RAY_TMPDIR": str(folder),
            "RAY_PAXOS_HOME": str(folder / "data"),
            "PYTHONPATH": str(repository),
            # `ray job submit` starts `python`.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(
        self, *command: str, allowed: tuple[int, ...] = (0,)
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, which must be a good one."""
        done = subprocess.run(
            command,
            cwd=self.repository,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        assert done.returncode in allowed, done.stdout + done.stderr
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start with a pipe for its input."""
        return subprocess.Popen(
            command,
            cwd=self.repository,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def processes(self) -> list[int]:
        """Every process that was started on this machine and lives."""
        mark = f"RAY_TMPDIR={self.folder}".encode()
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    is_ours = mark in (process / "environ").read_bytes().split(b"\0")
                    state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue  # it has just ended
                if is_ours and state != "Z":
                    found.append(int(process.name))
        return found

    def wait_until_empty(self) -> None:
        """Until nothing runs here any more."""
        deadline = time.monotonic() + RUN_LIMIT_S
        while processes := self.processes():
            names = [read_name(process) for process in processes]
            assert time.monotonic() < deadline, f"still running: {names}"
            time.sleep(0.1)

    def kill(self) -> None:
        """`kill -9` of everything."""
        while processes := self.processes():
            for process in processes:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)


@pytest.fixture
def machine(repository: Path) -> Iterator[Machine]:
    # Not pytest's own folder: paths of sockets are limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    made = Machine(folder, repository)
    yield made
    made.kill()
    shutil.rmtree(folder)


def read_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_name(process: int) -> str:
    """The command line of a process, for messages."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "(ended)"


def wait_for_line(job: subprocess.Popen[bytes], start: bytes) -> None:
    """Until the job says something that starts so."""
    assert job.stdout is not None
    said = b""
    for line in job.stdout:
        said += line
        if line.startswith(start):
            return
    raise AssertionError(said.decode())


def put_lines(first: int, last: int) -> bytes:
    lines = [
        {"op": "put", "key": f"key{number % 100:03}", "value": f"value{number}"}
        for number in range(first, last + 1)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_real_commands_are_in_state_and_log_and_survive(
    machine: Machine, hdfs_commands: Path, tmp_path: Path
) -> None:
    state, document = tmp_path / "out.jsonl", tmp_path / "out.json"
    outputs = ["--dump-state", str(state), "--json", str(document)]
    machine.run(*JOB, "--input", str(hdfs_commands), *outputs)
    expected = replay(hdfs_commands)
    assert read_lines(state) == expected
    told = json.loads(document.read_text())
    assert (told["submitted"], told["acknowledged"], told["failed"]) == (2_469, 2_469, 0)
    assert told["digests_equal"] is True
    assert list(told["members"]) == ["m1", "m2", "m3"]
    log = pyarrow.dataset.dataset(told["log_dir"], partitioning="hive").to_table()
    is_command = (pyarrow.dataset.field("group") == 1) & (
        pyarrow.dataset.field("kind") == "command"
    )
    instances = log.filter(is_command).column("instance_id").to_pylist()
    assert len(instances) == 2_469
    # By which it is quick, on whatever machine: one at a time they would take as many rounds.
    assert len(set(instances)) < 2_469 / 10

    # Nothing of the first run is left but the data.
    machine.wait_until_empty()
    empty = tmp_path / "empty"
    empty.touch()
    machine.run(*JOB, "--input", str(empty), *outputs)
    assert read_lines(state) == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kept_cluster_takes_kills_and_is_found_again(machine: Machine, tmp_path: Path) -> None:
    state, document = tmp_path / "out.jsonl", tmp_path / "out.json"
    outputs = ["--dump-state", str(state), "--json", str(document)]
    # As after any earlier run: Ray starts ask for a token where this file is.
    machine.run(*RAY, "get-auth-token", "--generate")
    first = tmp_path / "first.jsonl"
    first.write_bytes(put_lines(0, 99))
    machine.run(*JOB, "--input", str(first), "--keep", *outputs)
    kept = machine.processes()
    assert kept

    # A second driver attaches; all four actors of the master's member are killed meanwhile.
    pids = json.loads(machine.run(sys.executable, "-c", PRINT_MASTERS_ROLES).stdout)
    assert len(set(pids)) == 4
    job = machine.start(*JOB, "--input", "-", *outputs)
    assert job.stdin is not None
    assert job.stdout is not None
    wait_for_line(job, b"cluster demo")
    for chunk in range(40):
        job.stdin.write(put_lines(100 * chunk, 100 * chunk + 99))
        job.stdin.flush()
        if chunk == 20:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    said, _nothing = job.communicate(timeout=RUN_LIMIT_S)
    assert job.returncode == 0, said.decode()
    told = json.loads(document.read_text())
    assert told["acknowledged"] == told["submitted"] == 4_000
    assert told["digests_equal"] is True
    assert read_lines(state) == [
        {"key": f"key{number:03}", "value": f"value{3_900 + number}", "version": 41}
        for number in range(100)
    ]

    # What a driver that was not told to stop it leaves running, kill -9 ends; the data stays.
    before = read_lines(state)
    machine.kill()
    empty = tmp_path / "empty"
    empty.touch()
    machine.run(*JOB, "--input", str(empty), "--keep", *outputs)
    assert read_lines(state) == before
    machine.run(sys.executable, "-c", STOP)
    machine.wait_until_empty()


# All other tests run without a token; that jobs do, too, is looked at nightly.
@pytest.mark.parametrize("mode", ["token", pytest.param("disabled", marks=pytest.mark.nightly)])
def test_it_runs_as_a_submitted_job(machine: Machine, mode: str) -> None:
    machine.environment["RAY_AUTH_MODE"] = mode
    if mode == "token":
        machine.run(*RAY, "get-auth-token", "--generate")
    port, agent_port = free_port(), free_port()
    # Not run(): what `ray start` leaves behind would hold the pipes of its output.
    subprocess.run(
        [
            *RAY,
            "start",
            "--head",
            "--port=0",
            f"--dashboard-port={port}",
            # Fixed by default, and without its port the agent takes no jobs.
            f"--dashboard-agent-listen-port={agent_port}",
            "--disable-usage-stats",
        ],
        env=machine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=RUN_LIMIT_S,
        check=True,
    )
    submit = [*RAY, "job", "submit", "--address", f"http://127.0.0.1:{port}", "--working-dir", "."]
    job = ["--", "python", "jobs/submit_commands.py", "--repeat", "2"]
    # The code travels with the working directory.
    machine.environment.pop("PYTHONPATH")
    done = submit_once_there_is_an_agent(machine, [*submit, *job])
    assert "40 commands submitted, 40 acknowledged, 0 failed" in done.stdout + done.stderr
    assert "all members hold the same state" in done.stdout + done.stderr


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def submit_once_there_is_an_agent(
    machine: Machine, command: list[str]
) -> subprocess.CompletedProcess[str]:
    """The job server answers before a node can run a job."""
    deadline = time.monotonic() + RUN_LIMIT_S
    while True:
        done = machine.run(*command, allowed=(0, 1))
        is_early = done.returncode == 1 and "No available agent" in done.stderr
        if not is_early or time.monotonic() > deadline:
            assert done.returncode == 0, done.stdout + done.stderr
            return done
        time.sleep(0.5)


def test_an_interrupted_job_leaves_nothing_running(machine: Machine) -> None:
    job = machine.start(*JOB, "--input", "-")
    assert job.stdin is not None
    assert job.stdout is not None
    job.stdin.write(put_lines(1, 3))
    job.stdin.flush()
    wait_for_line(job, b"cluster demo")
    job.send_signal(signal.SIGINT)
    # Its input stays open: the job must not wait for more of it.
    rest = job.stdout.read()
    assert job.wait(RUN_LIMIT_S) == 130, rest.decode()
    job.stdin.close()
    job.stdout.close()
    assert b"interrupted; what was acknowledged stays" in rest
    assert b"Traceback" not in rest
    machine.wait_until_empty()
