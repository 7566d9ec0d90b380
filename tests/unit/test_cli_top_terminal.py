"""`ray-paxos top` at a terminal of its own: keys, signals, stops, encodings."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_paxos.cli.encodable import encodable
from ray_paxos.cli.keys import Keys
from ray_paxos.errors import ClusterError

PATIENCE_S = 60.0

PROGRAM = """
import sys
from msgspec.structs import replace
from ray_paxos.cli import top as top_module
from ray_paxos.cli.main import main
from tests.unit.test_cli_top import PlayedLooks
from tests.unit.watched_roles import BEGIN_MS, event
looks = PlayedLooks({lasts})
odd = replace(event("m1", "Odd", BEGIN_MS), text="long\\u2026 caf\\u00e9 path\\udcff")
looks.played["m1"].events.append(odd)
top_module.looking_at = lambda cluster, address: looks
main(["top", "demo", "--interval-s", "0.2", *sys.argv[1:]])
"""


class Terminal:
    """A program at a terminal of its own."""

    def __init__(
        self, repository: Path, *words: str, lasts: int = 1_000, encoding: str = "utf-8"
    ) -> None:
        self.screen, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.inner = inner
        self.settings = termios.tcgetattr(inner)
        environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(repository)}
        environment["PYTHONIOENCODING"] = encoding
        environment.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(lasts=lasts), *words],
            stdin=inner,
            stdout=inner,
            stderr=subprocess.PIPE,
            cwd=repository,
            env=environment,
            # Of its own, since one without a parent in the same session is not stopped.
            preexec_fn=os.setpgrp,
        )
        self.written = ""
        self.raw = b""

    def read(self) -> None:
        if select.select([self.screen], [], [], 0.1)[0]:
            data = os.read(self.screen, 65_536)
            self.raw += data
            self.written += data.decode(errors="replace")

    def drain(self) -> None:
        """Read what is there already."""
        while select.select([self.screen], [], [], 0)[0]:
            self.read()

    def wait_for(self, text: str) -> str:
        """What was written up to a text and with it, since the last time."""
        end = time.monotonic() + PATIENCE_S
        while text not in self.written:
            assert time.monotonic() < end, f"{text!r} is not in {self.written!r}"
            self.read()
        before, _, self.written = self.written.partition(text)
        return before + text

    def press(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def ended(self) -> int:
        """Its status; all that it wrote is in `written`."""
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, "it goes on"
            self.read()
        self.drain()
        return self.process.returncode

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.inner) == self.settings


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()
        assert terminal.process.stderr is not None
        terminal.process.stderr.close()
        os.close(terminal.screen)
        os.close(terminal.inner)


def test_live(repository: Path, terminals: list[Terminal]) -> None:
    terminal = Terminal(repository)
    terminals.append(terminal)
    first = terminal.wait_for("q quit")
    assert "\x1b[?1049h" in first, "the alternate screen"
    assert "m2 is down since" in first
    assert "\x1b[?1049l" not in first
    terminal.press("s")
    terminal.wait_for("sorted by lag")
    terminal.press("/m3")
    terminal.wait_for("/m3_")
    terminal.press("\r\x1b[B\r")
    terminal.wait_for("one more failure stops this group")
    terminal.wait_for("esc back")
    terminal.press("h")
    terminal.wait_for("what it does")
    terminal.press("q")
    assert terminal.ended() == 0
    assert "\x1b[?1049l" in terminal.written, "back to what was on the screen before"
    assert terminal.is_restored()


def test_live_ends_after_so_many_pictures(repository: Path, terminals: list[Terminal]) -> None:
    terminal = Terminal(repository, "--count", "2")
    terminals.append(terminal)
    assert terminal.ended() == 0
    assert terminal.is_restored()


def test_a_cluster_that_disappears_ends_the_live_view(
    repository: Path, terminals: list[Terminal]
) -> None:
    terminal = Terminal(repository, lasts=2)
    terminals.append(terminal)
    assert terminal.ended() == 1
    assert terminal.process.stderr is not None
    assert terminal.process.stderr.read() == b"Error: cluster demo runs no more: start it again\n"
    assert terminal.written.endswith("\x1b[?1049l"), "the message is on the usual screen"
    assert terminal.is_restored()


def state_of(process_id: int) -> str:
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0]


def wait_for_state(terminal: Terminal, states: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while state_of(terminal.process.pid) not in states:
        assert time.monotonic() < end
        terminal.read()
    terminal.drain()


def test_a_live_view_stops_and_goes_on(repository: Path, terminals: list[Terminal]) -> None:
    terminal = Terminal(repository, "--interval-s", "60")
    terminals.append(terminal)
    terminal.wait_for("q quit")
    for _ in range(2):
        terminal.written = ""
        terminal.process.send_signal(signal.SIGTSTP)
        wait_for_state(terminal, "T")
        assert terminal.is_restored(), "for the shell"
        assert terminal.written.endswith("\x1b[?1049l\x1b[?25h")
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for("\x1b[?1049h")
        terminal.wait_for("q quit")
        assert not terminal.is_restored(), "keys come at once again"
    terminal.press("s")
    terminal.wait_for("sorted by lag")
    terminal.press("q")
    assert terminal.ended() == 0
    assert terminal.is_restored()


def test_a_live_view_goes_on_after_a_stop_that_it_did_not_hear_of(
    repository: Path, terminals: list[Terminal]
) -> None:
    terminal = Terminal(repository, "--interval-s", "60")
    terminals.append(terminal)
    terminal.wait_for("q quit")
    terminal.process.send_signal(signal.SIGSTOP)
    wait_for_state(terminal, "T")
    assert not terminal.is_restored()
    termios.tcsetattr(terminal.inner, termios.TCSANOW, terminal.settings)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.wait_for("q quit")
    assert not terminal.is_restored()
    terminal.press("q")
    assert terminal.ended() == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("words", [("--count", "1"), ("--once",)])
def test_a_terminal_may_lack_characters(
    words: tuple[str, ...], encoding: str, repository: Path, terminals: list[Terminal]
) -> None:
    terminal = Terminal(repository, *words, encoding=encoding)
    terminals.append(terminal)
    status = terminal.ended()
    assert terminal.process.stderr is not None
    assert (status, terminal.process.stderr.read()) == (0, b"")
    missing = "?" if encoding == "ascii" else "é"
    kept = "…" if encoding == "utf-8" else "?"
    assert f"long{kept} caf{missing} path?" in terminal.raw.decode(encoding)
    assert terminal.is_restored()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_signals_leave_the_terminal_as_it_was(
    number: signal.Signals, status: int, repository: Path, terminals: list[Terminal]
) -> None:
    terminal = Terminal(repository)
    terminals.append(terminal)
    terminal.wait_for("q quit")
    assert not terminal.is_restored(), "keys come at once"
    terminal.process.send_signal(number)
    assert terminal.ended() == status
    assert terminal.is_restored()
    assert "\x1b[?1049l" in terminal.written


def test_once_on_a_terminal_stays_on_it(repository: Path, terminals: list[Terminal]) -> None:
    terminal = Terminal(repository, "--once")
    terminals.append(terminal)
    assert terminal.ended() == 0
    assert "m2 is down since" in terminal.written
    assert "\x1b[?1049h" not in terminal.written


HANDLED = (signal.SIGTERM, signal.SIGTSTP, signal.SIGCONT)


def test_no_handler_stays_where_the_terminal_cannot_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise termios.error(5, "Input/output error")

    outer, inner = pty.openpty()
    before = [signal.getsignal(number) for number in HANDLED]
    opened = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(tty, "setcbreak", fail)
    try:
        with pytest.raises(termios.error), Keys(inner):
            pass
        assert [signal.getsignal(number) for number in HANDLED] == before
        assert len(os.listdir("/proc/self/fd")) == opened
        monkeypatch.undo()
        with Keys(inner):
            assert [signal.getsignal(number) for number in HANDLED] != before
        assert [signal.getsignal(number) for number in HANDLED] == before
        assert len(os.listdir("/proc/self/fd")) == opened
    finally:
        os.close(outer)
        os.close(inner)


def test_a_stop_that_is_ignored_stays_ignored() -> None:
    outer, inner = pty.openpty()
    before = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        with Keys(inner):
            assert signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTSTP, before)
        os.close(outer)
        os.close(inner)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_lacks_is_as_wide_as_it_was(encoding: str) -> None:
    text = encodable("a…界\udcff|", encoding)
    assert text == "a????|"
    assert encodable("plain", encoding) == "plain"


def test_a_terminal_is_restored_when_something_breaks() -> None:
    outer, inner = pty.openpty()
    before = termios.tcgetattr(inner)

    def look_and_break() -> None:
        with Keys(inner) as keys:
            assert termios.tcgetattr(inner) != before
            assert keys.pressed(0) == []
            os.write(outer, b"q\x1b[A")
            assert keys.pressed(5) == ["q", "up"]
            raise ClusterError("gone")

    try:
        with pytest.raises(ClusterError):
            look_and_break()
        assert termios.tcgetattr(inner) == before
    finally:
        os.close(outer)
        os.close(inner)
