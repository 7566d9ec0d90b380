"""A Ray cluster on this machine that outlives the process that starts it.

It is started by `ray start --head` and written down in the data directory. All its processes carry
a random token in their environment and are found by it, so that ending them ends no other Ray,
and none that has got the number of a process that is gone.

Its GCS ends last: one that is told to end while other processes have calls to it on their way waits
for these for good, and they for it (Ray 2.60), until all are killed.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import ray

from ray_paxos.errors import ClusterError, StorageError

LISTEN_TIMEOUT_S = 3.0
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
END_POLL_S = 0.05
TOKEN_VARIABLE = "RAY_PAXOS_HEAD"
RECORD_NAME = "ray_head.json"
GCS_COMMAND = "gcs_server"


def is_listening(address: str) -> bool:
    """Whether something listens at HOST:PORT.

    Raises:
        ClusterError: That is no address.
    """
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ClusterError(f"{address!r} is no address of a Ray cluster; allowed: HOST:PORT, auto")
    try:
        with socket.create_connection((host, int(port)), LISTEN_TIMEOUT_S):
            return True
    except OSError:
        return False


def start_head(record_folder: Path) -> str:
    """Start a Ray cluster on this machine that outlives this process, and write it down.

    Args:
        record_folder: Gets the record, which `end_head` needs.

    Returns:
        Its address.

    Raises:
        ClusterError: `ray start` failed.
        StorageError: The record cannot be written.
    """
    token = secrets.token_hex(16)
    port = _free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
    command += [f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    command += [f"--ray-client-server-port={_free_port()}"]
    # Where another Ray cluster of the machine has its usual one, it tries that for 3.5 s.
    command += [f"--dashboard-agent-listen-port={_free_port()}"]
    # Not a pipe: the processes that stay would hold its other end open.
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, TOKEN_VARIABLE: token},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=START_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            _end_processes(token)
            raise ClusterError(f"cannot start Ray: {error}") from error
        if done.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            _end_processes(token)
            raise ClusterError(f"`ray start --head` failed: {said[-2000:]}")
    address = f"{_node_address()}:{port}"
    record = {"address": address, "token": token, "processes": dict(_processes(token))}
    try:
        record_folder.mkdir(parents=True, exist_ok=True)
        (record_folder / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n")
    except OSError as error:
        _end_processes(token)
        raise StorageError(f"cannot write {record_folder / RECORD_NAME}: {error}") from error
    return address


def end_head(record_folder: Path) -> bool:
    """End the Ray cluster that `start_head` started, and no other.

    Returns:
        False where none is written down.
    """
    record = _read_record(record_folder)
    if record is None:
        return False
    _end_processes(str(record["token"]))
    (record_folder / RECORD_NAME).unlink(missing_ok=True)
    # Of a cluster whose data was deleted nothing else was left.
    with suppress(OSError):
        record_folder.rmdir()
    return True


def recorded_address(record_folder: Path) -> str | None:
    """Address of the Ray cluster that is written down, if it still runs."""
    record = _read_record(record_folder)
    if record is None:
        return None
    address = str(record["address"])
    return address if is_listening(address) and any(_processes(str(record["token"]))) else None


def _read_record(record_folder: Path) -> Mapping[str, object] | None:
    try:
        record = json.loads((record_folder / RECORD_NAME).read_text())
    except (OSError, ValueError):
        return None
    is_whole = isinstance(record, dict) and {"address", "token"} <= record.keys()
    return record if is_whole and len(str(record["token"])) == 32 else None


def _processes(token: str) -> Iterator[tuple[int, str]]:
    """(process id, command) of every process that was started with this token."""
    mark = f"{TOKEN_VARIABLE}={token}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name), _command(int(folder.name))
        except OSError:
            # It ended meanwhile, or belongs to somebody else.
            continue


def _end_processes(token: str) -> None:
    # Ray's agents rename themselves, which may overwrite the environment that /proc shows: they
    # are known as children of those that have the token, from before these end.
    found = _with_descendants({process_id for process_id, _ in _processes(token)})
    servers = {pid: started for pid, started in found.items() if _command(pid) == GCS_COMMAND}
    _end({pid: started for pid, started in found.items() if pid not in servers})
    _end(servers)


def _end(doomed: Mapping[int, int]) -> None:
    for number, patience_s in ((signal.SIGTERM, END_TIMEOUT_S), (signal.SIGKILL, END_TIMEOUT_S)):
        deadline = time.monotonic() + patience_s
        for process_id in _alive(doomed):
            with suppress(ProcessLookupError):
                os.kill(process_id, number)
        while _alive(doomed):
            if time.monotonic() > deadline:
                break
            time.sleep(END_POLL_S)
        else:
            return


def _with_descendants(process_ids: set[int]) -> dict[int, int]:
    """These processes and all below them, each with when it started."""
    known = {int(f.name): _stat(int(f.name)) for f in Path("/proc").iterdir() if f.name.isdigit()}
    found = set(process_ids)
    grown = True
    while grown:
        below = {pid for pid, stat in known.items() if stat is not None and stat[0] in found}
        grown = not below <= found
        found |= below
    found.discard(os.getpid())
    return {pid: stat[1] for pid in found if (stat := known.get(pid)) is not None}


def _alive(processes: Mapping[int, int]) -> list[int]:
    """Those that still run: the same number, started at the same time, and no zombie."""
    return [pid for pid, started in processes.items() if (s := _stat(pid)) and s[1] == started]


def _stat(process_id: int) -> tuple[int, int] | None:
    """(parent, start time in ticks) of a process; None where it has ended."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else (int(fields[1]), int(fields[19]))


def _command(process_id: int) -> str:
    """The name of a process's program, cut to 15 characters; empty where it has ended."""
    try:
        return Path(f"/proc/{process_id}/comm").read_text().strip()
    except OSError:
        return ""


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _node_address() -> str:
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address
