"""`ray-paxos top` and `status` of a real cluster under load, of which one member has died for good.

The captures show just that: who is down and since when, where it voted, whether data is at risk.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import ray_paxos
from ray_paxos.actors.watching import LOOK_TIMEOUT_S, Watching, watched_cluster
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ClusterNotFoundError
from ray_paxos.observability.cluster_view import Health
from tests.ray.helpers import PATIENCE_S, end_member, put, wait_for
from tests.ray.subprocesses import ROOT, sandbox

pytestmark = pytest.mark.ray

TEXT = "cluster: seen\nmembers: 3\nroles: {roles}\ngroups: 3\nlogging: {{level: WARNING}}\n"


class Load:
    """Writes to group 1, one command after the other, until it is closed."""

    def __init__(self, cluster: ray_paxos.Cluster) -> None:
        self._client = cluster.client(1, label="load")
        self._is_closing = threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # As much as rates and times are made of, and leaves the processors to what is looked at.
        while not self._is_closing.wait(0.01):
            put(self._client, f"k{self.count % 100}", b"v")
            self.count += 1

    def go_on(self) -> None:
        wanted = self.count + 100
        wait_for("the load goes on", lambda: self.count >= wanted)

    def close(self) -> None:
        self._is_closing.set()
        self._thread.join()
        self._client.close()


@pytest.fixture
def seen(local_ray: None) -> Iterator[ray_paxos.Cluster]:
    """A cluster of this test's own, with fused roles."""
    started = ray_paxos.start(parse_configuration(TEXT.format(roles="fused")))
    yield started
    started.stop(delete_data=True)


def address() -> str:
    return str(ray.get_runtime_context().gcs_address)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ray_paxos.cli", *words, "--address", address()]


def environment(width: int = 0) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    size = {"COLUMNS": str(width)} if width else {}
    return {**kept, **size, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "TERM": "xterm"}


def run(*words: str, width: int = 160) -> str:
    """What a command that succeeds prints."""
    done = subprocess.run(
        command(*words),
        env=environment(width),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def words_of(text: str) -> str:
    return " ".join(text.split())


class Live:
    """`ray-paxos top` at a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self._outer, self.inner = pty.openpty()
        fcntl.ioctl(self.inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        self.settings = termios.tcgetattr(self.inner)
        self.process = subprocess.Popen(
            command("top", "seen", *words),
            stdin=self.inner,
            stdout=self.inner,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
        )
        self.written = ""

    def read(self) -> None:
        if select.select([self._outer], [], [], 0.1)[0]:
            self.written += os.read(self._outer, 65_536).decode(errors="replace")

    def frame_with(self, *patterns: str) -> str:
        """The next picture that has all of these, without colours."""

        def found() -> str:
            self.read()
            frames = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\0", self.written).split("cluster seen")
            for each in frames[1:]:
                shown = words_of(each.replace("\0", " "))
                if all(re.search(pattern, shown) for pattern in patterns):
                    return shown
            return ""

        return wait_for(f"{patterns} on the screen", found)

    def press(self, keys: str) -> None:
        self.written = ""
        os.write(self._outer, keys.encode())

    def ended(self) -> tuple[int, str]:
        """Its status, and what it wrote to standard error."""

        def status() -> bool:
            self.read()
            return self.process.poll() is not None

        wait_for("its end", status)
        assert self.process.stderr is not None
        return self.process.returncode, self.process.stderr.read().decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        os.close(self._outer)
        os.close(self.inner)


@pytest.fixture
def live() -> Iterator[list[Live]]:
    opened: list[Live] = []
    yield opened
    for each in opened:
        each.close()


def kill_the_master(cluster: ray_paxos.Cluster) -> tuple[str, float]:
    """End the member that leads group 1 for good; its name, and when that was."""
    master = wait_for("a master", lambda: cluster.master(1))
    assert master is not None
    begun = time.time()
    end_member(cluster, master.member)
    return master.member, begun


def test_a_member_that_died_under_load(
    seen: ray_paxos.Cluster, live: list[Live], tmp_path: Path
) -> None:
    load = Load(seen)
    try:
        load.go_on()
        dead, begun = kill_the_master(seen)
        load.go_on()
        followed = time.time()
        check_documents(dead, begun - heard_within_s(seen), followed)
        check_pictures(dead)
        check_status(dead)
        check_live(dead, live)
    finally:
        load.close()
    seen.stop()
    status, errors = live[0].ended()
    assert status == 1
    assert errors.startswith("Error: cluster seen runs no more: none of its actors lives")
    assert "`ray-paxos up`" in errors
    assert termios.tcgetattr(live[0].inner) == live[0].settings
    check_nobody_is_there()


def heard_within_s(cluster: ray_paxos.Cluster) -> float:
    """A master of another group may have heard of a member so long before that one was killed.

    It hears of it with each heartbeat; one of which it hears less would stand against it.
    """
    return 2 * cluster.spec.proposer.election_timeout_ns / 1e9


def check_documents(dead: str, begun: float, followed: float) -> None:
    """The watch begins after the fault, and knows when it was: from the others."""
    document = json.loads(run("top", "seen", "--once", "--json"))
    (member,) = (each for each in document["members"] if each["name"] == dead)
    assert member["is_up"] is False
    assert begun * 1_000 <= member["down_since_ms"] <= followed * 1_000 + 1
    assert member["votes_in"] == [0, 1, 2, 3]
    assert member["leads"] == []
    assert {each["health"] for each in document["groups"]} == {"at risk"}
    assert {tuple(each["voters_down"]) for each in document["groups"]} == {(dead,)}
    assert document["commands_per_s"] > 0
    assert document["p99_ms"] > 0
    assert {"queue", "accept", "fsync", "chosen", "apply"} <= document["hops_p99_ms"].keys()
    assert any(each["kind"] == "MasterStarted" for each in document["events"])


def check_pictures(dead: str) -> None:
    for width in (80, 160):
        text = run("top", "seen", "--once", width=width)
        assert max(map(len, text.splitlines())) <= width
        check_text(words_of(text), dead)
    detail = words_of(run("top", "seen", "--once", "--group", "1"))
    assert f"1 of 3 voters is down ({dead})" in detail
    assert f"{dead} voter DOWN" in detail


def check_text(text: str, dead: str) -> None:
    """What a person who has never seen the project has to find."""
    assert re.search(
        rf"{dead} is down since \d\d:\d\d:\d\d \(\d+ (s|min)\): no such actor lives in the Ray "
        r"cluster\. It votes in groups 0-3\.",
        text,
    ), text
    assert (
        f"1 of 3 voters is down ({dead}). Nothing acknowledged is lost; one more failure stops "
        "this group." in text
    )
    assert re.search(rf"{dead} DOWN ", text)
    rate = re.search(r"([\d,.]+) commands/s", text)
    assert rate is not None
    assert float(rate[1].replace(",", "")) > 0


def check_status(dead: str) -> None:
    lines = run("status", "seen").splitlines()
    assert any(line.startswith(f"  ! {dead} is down since ") for line in lines)
    assert not any("does not answer" in line for line in lines), "it was said once"
    assert any(line.startswith("  ! groups 0-3 at risk: 1 of 3 voters is down") for line in lines)
    document = json.loads(run("status", "seen", "--json"))
    first = document["groups"][1]
    assert first["health"] == "at risk"
    position = next(iter(first["positions"].values()))
    assert {"applied_through", "checkpoint", "applied", "is_voter"} <= position.keys()
    detail = words_of(run("status", "seen", "--group", "1"))
    assert "one more failure" in detail
    assert re.search(r" [1-9][\d,.]* commands/s, \d+ queued", detail), detail
    refused = subprocess.run(
        command("status", "seen", "--group", "77"),
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "Error: group: found 77; allowed: 0-3\n"


def check_live(dead: str, live: list[Live]) -> None:
    shown = Live("--interval-s", "0.5")
    live.append(shown)
    frame = shown.frame_with(f"{dead} is down since", "It votes in groups 0-3", "q quit")
    assert "one more failure stops this group" in frame
    shown.frame_with(f"{dead} is down since", r"[1-9][\d,.]* commands/s p50 [\d.]+ ms")
    shown.press("\x1b[B\x1b[B\r")
    shown.frame_with("group 1 at risk", f"{dead} voter DOWN", "esc back")
    shown.press("\x1b")
    shown.frame_with("q quit")


def check_nobody_is_there() -> None:
    for words in (("top", "seen", "--once"), ("status", "seen")):
        done = subprocess.run(
            command(*words),
            env=environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: no cluster seen runs in the Ray cluster at")


@pytest.mark.slow
def test_roles_that_are_actors_of_their_own(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client
) -> None:
    watching = Watching(cluster)
    wait_for("a master", lambda: watching.look().groups[1].master)
    for number in range(20):
        put(client, f"top{number}", b"v")
    view = watching.look()
    assert all(member.is_up and member.node_address for member in view.members)
    assert [group.voters for group in view.groups] == [("m1", "m2", "m3")] * 2
    assert {group.health for group in view.groups} == {Health.OK}
    assert view.commands_per_s is not None
    assert view.commands_per_s > 0
    # That a part of the log was learned on one member's word may stand for a moment.
    wait_for("all to be well", lambda: watching.look().alarms == ())


def test_a_member_that_stands_still_holds_nobody_up(seen: ray_paxos.Cluster) -> None:
    """Neither those who watch the others, nor itself once it goes on."""
    (still,) = (m for m in seen.status().members if m.name == "m2")
    process_id = still.roles["acceptor"].pid
    watching = Watching(seen)
    watching.look()
    os.kill(process_id, signal.SIGSTOP)
    try:
        first = time.monotonic()
        view = watching.look()
        later = time.monotonic()
        for _ in range(20):
            view = watching.look()
        taken = time.monotonic() - later
    finally:
        os.kill(process_id, signal.SIGCONT)
    assert later - first >= LOOK_TIMEOUT_S, "it is waited for once"
    assert taken < 20 * LOOK_TIMEOUT_S / 4, "twenty looks would take as often as long otherwise"
    (member,) = (each for each in view.members if not each.is_up)
    assert member.name == "m2"
    assert "it has not answered for a while" in member.alarms[0]
    wait_for("it to be up", lambda: all(each.is_up for each in watching.look().members))


@pytest.mark.slow
def test_a_ray_cluster_that_is_killed_while_it_is_watched() -> None:
    with sandbox() as box:
        configuration = box.folder / "seen.yaml"
        configuration.write_text(TEXT.format(roles="fused"))
        box.environment["RAY_AUTH_MODE"] = "disabled"
        box.run(UP, str(configuration))
        watcher = subprocess.Popen(
            [sys.executable, "-m", "ray_paxos.cli", "top", "seen", "--interval-s", "0.5"],
            env=box.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None
        assert "cluster seen" in watcher.stdout.readline()
        for process_id, name in box.processes().items():
            if name in ("gcs_server", "raylet"):
                os.kill(process_id, signal.SIGKILL)
        _, errors = watcher.communicate(timeout=PATIENCE_S)
        assert watcher.returncode == 1
        assert errors.startswith(("Error: the Ray cluster at ", "Error: Ray's"))
        assert "cluster seen" in errors


UP = """
import sys
from ray_paxos.cli.main import main
main(["up", sys.argv[1]])
"""


def test_without_a_majority_it_is_watched_all_the_same(seen: ray_paxos.Cluster) -> None:
    for name in ("m1", "m3"):
        end_member(seen, name)
    watching = Watching(watched_cluster("seen"))

    def lost() -> Any:
        view = watching.look()
        is_lost = {group.health for group in view.groups} == {Health.NO_MAJORITY}
        return view if is_lost and all(group.master is None for group in view.groups) else None

    view = wait_for("its master to step down", lost)
    assert [member.name for member in view.members if not member.is_up] == ["m1", "m3"]
    risk = view.groups[1].risk
    assert "2 of 3 voters are down (m1, m3): this group takes no writes." in risk
    assert "on the disks of at least 2 of m1, m2, m3" in risk
    end_member(seen, "m2")
    with pytest.raises(ClusterNotFoundError, match="cluster seen runs no more"):
        wait_for("its end", lambda: watching.look() and None)


def test_watching_changes_nothing(seen: ray_paxos.Cluster) -> None:
    """No session is opened and nothing is proposed: the log ends where it ended."""
    with seen.client(1) as client:
        put(client, "k", b"v")
    watching = Watching(seen)

    def positions() -> list[tuple[int, int | None, tuple[int, ...]]]:
        view = watching.look()
        applied = [position.applied or 0 for g in view.groups for position in g.positions.values()]
        return [(g.applied, g.sessions, tuple(applied)) for g in view.groups]

    def settled() -> bool:
        """Who leads and what is written has come to rest."""
        earlier = positions()
        time.sleep(2)
        return positions() == earlier

    wait_for("the cluster to rest", settled)
    before = positions()
    run("top", "seen", "--count", "3", "--interval-s", "0.2")
    run("status", "seen")
    for _ in range(20):
        watching.look()
    assert positions() == before
