"""Ending the processes of a Ray cluster that was started to stay."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ray_paxos.actors import ray_head

TOKEN = "0123456789abcdef" * 2
ENDS_WHEN_TOLD = """
import pathlib, signal, sys, time

def end(*_):
    name = pathlib.Path("/proc/self/comm").read_text()
    if name != "gcs_server\\n":
        time.sleep(0.3)
    with open(sys.argv[1], "a") as ended:
        ended.write(name)
    sys.exit()

signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
signal.pause()
"""


def test_the_gcs_is_told_to_end_once_all_others_have(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    started = []
    for name in ("gcs_server", "raylet", "gcs_client"):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\n{ENDS_WHEN_TOLD}")
        program.chmod(0o755)
        process = subprocess.Popen(
            [program, ended],
            env={ray_head.TOKEN_VARIABLE: TOKEN},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    record = {"address": "127.0.0.1:1", "token": TOKEN, "processes": {}}
    (tmp_path / ray_head.RECORD_NAME).write_text(json.dumps(record))
    assert ray_head.end_head(tmp_path)
    for process in started:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert sorted(ended.read_text().split()[:2]) == ["gcs_client", "raylet"]
    assert ended.read_text().split()[2:] == ["gcs_server"]
