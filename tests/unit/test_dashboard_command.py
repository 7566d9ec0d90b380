"""`ray-paxos dashboard`: wrong use, where it listens, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli.dashboard import dashboard
from ray_paxos.dashboard.serving import is_loopback, open_socket, url_of
from ray_paxos.errors import ConfigurationError

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*words: str) -> Result:
    return CliRunner().invoke(dashboard, words)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("demo", "--port", str(port))
    assert result.exit_code == 2
    assert f"cannot listen at 127.0.0.1 port {port}: Address already in use" in result.output
    assert "--port 0" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--port", "65536"), "65536 is not in the range"),
        (("--port", "-1"), "-1 is not in the range"),
        (("--port", "http"), "'http' is not a valid integer"),
        (("--interval-s", "0"), "0.0 is not in the range"),
        (("--host", "no.such.host.invalid"), "--host no.such.host.invalid: no such host here"),
        (("--host", "x" * 300), "no such host here"),
        (("--host", "192.0.2.77"), "cannot listen at 192.0.2.77 port"),
    ],
)
def test_wrong_use_is_said_before_anything_is_asked(words: tuple[str, ...], says: str) -> None:
    result = run("demo", *words)
    assert result.exit_code == 2
    assert says in result.output


def test_loopback_is_told_from_the_rest() -> None:
    with open_socket("127.0.0.1", 0) as listening:
        assert is_loopback(listening)
        port = listening.getsockname()[1]
        assert url_of(listening, "127.0.0.1") == f"http://127.0.0.1:{port}/"
        with pytest.raises(ConfigurationError):
            open_socket("127.0.0.1", port)
    with open_socket("0.0.0.0", 0) as listening:
        assert not is_loopback(listening)


def test_an_address_of_version_6_is_written_in_brackets() -> None:
    try:
        listening = open_socket("::1", 0)
    except ConfigurationError:
        pytest.skip("this machine has no IPv6")
    with listening:
        assert is_loopback(listening)
        assert url_of(listening, "::1").startswith("http://[::1]:")


PROGRAM = """
import sys
from functools import partial
from pathlib import Path
from ray_paxos.cli import dashboard
from ray_paxos.dashboard.watcher import Watcher
from tests.unit.dashboard_target import FakeTarget

if __name__ == "__main__":
    dashboard.connect_to = lambda *_: Watcher(partial(FakeTarget, Path(sys.argv[1])))
    dashboard.dashboard(sys.argv[2:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end_and_ends_well(
    number: signal.Signals, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = ("demo", "--port", "0", "--json", "--host", "0.0.0.0")
    started = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started:
        assert started.stdout is not None
        assert started.stderr is not None
        told = json.loads(started.stdout.readline())
        assert told["cluster"] == "demo"
        assert told["asks_for_token"] is True
        port = told["url"].rstrip("/").rpartition(":")[2]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/view", headers={"Authorization": "Bearer token 1"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["view"]["cluster"] == "demo"
        started.send_signal(number)
        assert started.wait(30) == 0
        warned = started.stderr.read()
    assert "warning: it listens at 0.0.0.0, not only for this machine" in warned
    assert "Traceback" not in warned
