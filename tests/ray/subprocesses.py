"""Runs a program with a Ray of its own: another process, another data directory, another TMPDIR."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 240.0


class Sandbox:
    """A folder that stands for $HOME, $TMPDIR and $RAY_PAXOS_HOME of the programs run in it."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`."""
        self.folder = folder
        self.data = folder / "data"
        # Ray finds the cluster that `ray start` started last in $TMPDIR, and its token in $HOME.
        ours = {"HOME": str(folder), "TMPDIR": str(folder), "RAY_PAXOS_HOME": str(self.data)}
        unwanted = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_TMPDIR")
        inherited = {k: v for k, v in os.environ.items() if k not in unwanted}
        self.environment = {
            **inherited,
            **ours,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def processes(self) -> dict[int, str]:
        """What still runs of what was started here: process id and command."""
        found: dict[int, str] = {}
        mark = f"HOME={self.folder}".encode()
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and mark in (process / "environ").read_bytes().split(
                    b"\0"
                ):
                    found[int(process.name)] = (process / "comm").read_text().strip()
            except OSError:
                # It ended meanwhile, or is the system's.
                continue
        return found

    def ended(self, within_s: float = 60.0) -> dict[int, str]:
        """What still runs once it had time to end: Ray's agents see some time later that their
        raylet is gone."""
        end = time.monotonic() + within_s
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.2)
        return left

    def run(
        self, program: str, *arguments: str, timeout_s: float = TIMEOUT_S, **environment: str
    ) -> list[str]:
        """Run a program, which has to end well; gives the lines that it prints."""
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**self.environment, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.splitlines()


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """A sandbox; in the end it is removed, and whatever still runs of it is ended."""
    # Not pytest's own folder: paths of Ray's sockets are limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rpx-"))
    box = Sandbox(folder)
    try:
        yield box
    finally:
        for process_id in box.processes():
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
