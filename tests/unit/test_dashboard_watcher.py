"""The process that looks: it may end or hang, and whoever asks goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ray_paxos.dashboard.target import Hello
from ray_paxos.dashboard.watcher import READERS, Watcher
from ray_paxos.errors import ClusterError, ClusterNotFoundError, ConfigurationError
from tests.unit.dashboard_target import FakeTarget, fail, tail_of
from tests.unit.dashboard_views import view_of


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Watcher]:
    made = Watcher(partial(FakeTarget, tmp_path), answer_timeout_s=5.0)
    yield made
    made.close()


def lives(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "lives").read_text().splitlines()]


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_looks_from_another_process(watcher: Watcher, tmp_path: Path) -> None:
    assert watcher.hello() == Hello("demo", "token 1")
    assert watcher.look() == view_of()
    assert watcher.read_log(9, ("m1",), 7) == tail_of(9, "m1", "7")
    (process,) = lives(tmp_path)
    assert process != os.getpid()
    watcher.close()
    wait_until(lambda: not is_running(process))


def test_a_process_that_ended_is_an_error_once_and_then_another_one_looks(
    watcher: Watcher, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match="has ended"):
        watcher.read_log(1, (), 1)
    assert watcher.look() == view_of()
    assert watcher.hello().token == "token 2", "it may have changed"
    assert len(lives(tmp_path)) == 2


def test_a_log_that_is_late_ends_nothing_and_holds_up_no_look(tmp_path: Path) -> None:
    watcher = Watcher(partial(FakeTarget, tmp_path), answer_timeout_s=5.0, read_timeout_s=0.3)
    try:
        for _ in range(READERS):
            with pytest.raises(ClusterError, match=r"no log within 0\.3 s"):
                watcher.read_log(2, (), 1)
        for _ in range(3):
            with pytest.raises(ClusterError, match="asked for before have not been read"):
                watcher.read_log(9, (), 1)
        for _ in range(3):
            assert watcher.look() == view_of()
        assert len(lives(tmp_path)) == 1
    finally:
        watcher.close()


def test_a_log_that_came_late_makes_room_for_the_next(tmp_path: Path) -> None:
    watcher = Watcher(partial(FakeTarget, tmp_path), read_timeout_s=0.3)
    try:
        for _ in range(READERS):
            with pytest.raises(ClusterError, match=r"no log within 0\.3 s"):
                watcher.read_log(6, (), 1)
        wait_until(lambda: not watcher._alive().reads_late)
        assert watcher.read_log(9, (), 1) == tail_of(9, "1")
    finally:
        watcher.close()


def test_a_call_that_hangs_is_given_up_and_its_process_with_it(tmp_path: Path) -> None:
    watcher = Watcher(partial(FakeTarget, tmp_path), answer_timeout_s=0.5)
    try:
        watcher.hello()
        (tmp_path / "hangs").touch()
        with pytest.raises(ClusterError, match=r"no answer within 0\.5 s"):
            watcher.look()
        (tmp_path / "hangs").unlink()
        wait_until(lambda: not is_running(lives(tmp_path)[0]))
        watcher._answer_timeout_s = 20.0
        assert watcher.look() == view_of()
    finally:
        watcher.close()


def test_once_it_has_ended_no_question_comes_to_it(watcher: Watcher) -> None:
    life = watcher._alive()
    life._changing.acquire()
    threading.Timer(0.3, life._changing.release).start()
    life.end()
    assert life.is_over


def test_errors_come_through_with_their_kind(watcher: Watcher) -> None:
    with pytest.raises(ClusterNotFoundError, match="no such cluster"):
        watcher.read_log(3, (), 1)
    with pytest.raises(ClusterError, match="ValueError: a bug"):
        watcher.read_log(4, (), 1)
    with pytest.raises(ClusterError, match="lambda"):
        watcher.read_log(5, (), 1)
    assert watcher.look() == view_of()


def test_it_is_closed_at_once_also_while_it_connects() -> None:
    watcher = Watcher(partial(time.sleep, 60))  # type: ignore[arg-type]
    problems: list[BaseException] = []

    def look() -> None:
        try:
            watcher.look()
        except ClusterError as error:
            problems.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    wait_until(lambda: watcher._life is not None)
    watcher.close()
    looking.join(10)
    assert not looking.is_alive()
    assert problems
    with pytest.raises(ClusterError, match="not watched any more"):
        watcher.look()


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ConfigurationError("bad name"), ConfigurationError),
        (OSError("no room"), ClusterError),
    ],
)
def test_a_target_that_cannot_be_made_says_why(raised: Exception, kind: type[Exception]) -> None:
    watcher = Watcher(partial(fail, raised))
    try:
        for _ in range(2):
            with pytest.raises(kind, match=str(raised)):
                watcher.hello()
    finally:
        watcher.close()


PROGRAM = """
import sys, time
from functools import partial
from pathlib import Path
from ray_paxos.dashboard.watcher import Watcher
from tests.unit.dashboard_target import FakeTarget

if __name__ == "__main__":
    watcher = Watcher(partial(FakeTarget, Path(sys.argv[1])))
    watcher.hello()
    print("ready", flush=True)
    time.sleep(60)
"""


CONNECTING = """
import sys
from functools import partial
from pathlib import Path
from ray_paxos.dashboard.watcher import Watcher
from tests.unit.dashboard_target import hang

if __name__ == "__main__":
    Watcher(partial(hang, Path(sys.argv[1]))).hello()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_whoever_watches_also_while_it_connects(
    number: signal.Signals, tmp_path: Path
) -> None:
    program, file = tmp_path / "program.py", tmp_path / "started"
    program.write_text(CONNECTING)
    root = Path(__file__).resolve().parent.parent.parent
    with subprocess.Popen(
        [sys.executable, str(program), str(file)], env={**os.environ, "PYTHONPATH": str(root)}
    ) as started:
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
        process = int(file.read_text())
        assert is_running(process)
        started.send_signal(number)
    wait_until(lambda: not is_running(process))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_whoever_watches(number: signal.Signals, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = Path(__file__).resolve().parent.parent.parent
    started = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        (process,) = lives(tmp_path)
        assert is_running(process)
        started.send_signal(number)
    wait_until(lambda: not is_running(process))


def test_an_interrupt_of_the_terminal_does_not_reach_it(watcher: Watcher, tmp_path: Path) -> None:
    watcher.hello()
    os.kill(lives(tmp_path)[0], signal.SIGINT)
    assert watcher.look() == view_of()
    assert len(lives(tmp_path)) == 1
