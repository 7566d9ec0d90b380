"""A cluster is upgraded member by member, to a release that there is not yet.

The next release is a copy of this one that knows one cluster version more, under which its batches
are compressed, and that has another version of the `kv` machine. Both lie on the one path from
which all processes of the Ray cluster import, one after the other, as on a node whose package is
upgraded.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ray_paxos.core.releases import NEWEST
from tests.ray.subprocesses import ROOT, TIMEOUT_S, Sandbox, sandbox

NEXT = NEWEST + 1
LEASE_MS = 6_000
NEXT_WIRE = f"""

import zlib  # noqa: E402

_seal, _open_sealed = seal, open_sealed


def seal(kind, version, body):
    return _seal(kind, version, zlib.compress(body, 1) if version >= {NEXT} else body)


def open_sealed(kind, data, decode):
    if data[1:2] < bytes([{NEXT}]):
        return _open_sealed(kind, data, decode)
    return _open_sealed(kind, data, lambda body: decode(zlib.decompress(body)))
"""
NEXT_MACHINE = f"""

class NextKeyValueMachine(KeyValueMachine):
    version = KeyValueMachine.version + 1
    since = {NEXT}


BUILT_IN = (*BUILT_IN, NextKeyValueMachine)
"""
OLD_DRIVER = """
import json, sys, threading, time
import ray, ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.machines.kv import encode_put

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
configuration = parse_configuration(sys.argv[1])
cluster = ray_paxos.start(configuration)
over = threading.Event()
acknowledged, gaps, problems = 0, [], []

def load():
    global acknowledged
    client, last = cluster.client(1), time.monotonic()
    # As much as shows a gap, and leaves the processors to members that come up.
    while not over.wait(0.05):
        try:
            client.propose(encode_put("load", b"%d" % acknowledged), machine="kv", timeout_s=30)
        except ray_paxos.PaxosError as error:
            problems.append(repr(error))
            return
        acknowledged += 1
        now = time.monotonic()
        gaps.append(now - last)
        last = now

def connect():
    try:
        ray_paxos.connect(cluster.name)
    except ray_paxos.PaxosError as error:
        return [type(error).__name__, str(error)]

def start_again():
    cluster.stop(shutdown_ray=False)
    try:
        ray_paxos.start(configuration)
    except ray_paxos.PaxosError as error:
        return [type(error).__name__, str(error)]

def account():
    return {"acknowledged": acknowledged, "longest_s": max(gaps), "problems": problems}

def stop_load():
    over.set()
    thread.join()
    return account()

thread = threading.Thread(target=load)
thread.start()
print(json.dumps(ray.get_runtime_context().gcs_address), flush=True)
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
"""
NEXT_DRIVER = """
import json, sys
import ray_paxos

cluster = ray_paxos.connect(sys.argv[1])
upgrades, operations = cluster.upgrades, cluster.operations

def raised():
    try:
        return upgrades.raise_version()
    except ray_paxos.PaxosError as error:
        return [type(error).__name__, str(error)]

def kv_of(group):
    operations.create_group(group, voters=3)
    (spec,) = [m for m in operations.wanted().groups[group].spec.machines if m.name == "kv"]
    cluster.client(group).propose(b"\\x92\\xa3get\\xa1a", machine="kv")
    return spec.version

print(json.dumps(eval(sys.argv[2])))
"""


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox() as made:
        yield made


class Releases:
    """Both releases, in a folder; `current` is what processes of the Ray cluster import from."""

    def __init__(self, folder: Path) -> None:
        self.current = folder / "current"
        self.old, self.next = folder / "old", folder / "next"
        for each in (self.old, self.next):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "ray_paxos", each / "ray_paxos", ignore=ignored)
        core = self.next / "ray_paxos/core"
        _change(core / "releases.py", f"\nNEWEST = {NEWEST}\n", f"\nNEWEST = {NEXT}\n")
        _append(core / "wire.py", NEXT_WIRE)
        registry = self.next / "ray_paxos/machines/registry.py"
        _change(registry, "\n\nclass MachineRegistry", NEXT_MACHINE + "\n\nclass MachineRegistry")
        self.install(self.old)

    def install(self, release: Path) -> None:
        self.current.unlink(missing_ok=True)
        self.current.symlink_to(release)


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path}: {old!r}"
    path.write_text(text.replace(old, new))


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


class OldDriver:
    """A driver of the old release, which stays connected and has a client with a load."""

    def __init__(self, box: Sandbox, environment: dict[str, str], text: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OLD_DRIVER, text],
            env=environment,
            cwd=box.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address: str = self._answer()

    def ask(self, expression: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> OldDriver:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.communicate(timeout=TIMEOUT_S)


def run_next(environment: dict[str, str], old: OldDriver, cwd: Path, expression: str) -> Any:
    """What an expression comes to in a driver that has just been started."""
    done = subprocess.run(
        [sys.executable, "-c", NEXT_DRIVER, "old", expression],
        env={**environment, "RAY_ADDRESS": old.address},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "was not handed over" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.ray
@pytest.mark.fused_by_default
def test_a_cluster_goes_over_to_the_next_release_under_load(box: Sandbox, arrangement: str) -> None:
    releases = Releases(box.folder)
    environment = {
        **box.environment,
        "PYTHONPATH": str(releases.current),
        "RAY_AUTH_MODE": "disabled",
    }
    text = (
        f"cluster: old\nmembers: 3\nroles: {arrangement}\nlogging: {{level: WARNING}}\n"
        # Longer than pauses of the machine: what waits for a lease to run out is told from them.
        f"proposer: {{election_timeout_ms: {LEASE_MS // 2}, lease_ms: {LEASE_MS}}}\n"
    )
    with OldDriver(box, environment, text) as old:
        ask_next = partial(run_next, environment, old, box.folder)
        releases.install(releases.next)
        # One member has the next release, two have the old one.
        ask_next("upgrades.restart_member('m1')")
        kind, why = ask_next("raised()")
        assert kind == "ReleaseError"
        assert "m1" not in why
        assert all(f"member {name} knows cluster version {NEWEST}" in why for name in ("m2", "m3"))
        # What they make together all of them know.
        assert ask_next("kv_of(2)") == 1
        assert ask_next("upgrades.restart_all()") == ["m1", "m2", "m3"]
        before = old.ask("account()")
        assert ask_next("raised()") == NEXT
        assert ask_next("kv_of(3)") == 2
        # A client that was there before goes on; nobody of its release comes in any more.
        kind, why = old.ask("connect()")
        assert kind == "ReleaseError"
        assert f"cluster version {NEXT}; this release knows cluster version {NEWEST}" in why
        account = old.ask("stop_load()")
        assert account["problems"] == []
        assert account["acknowledged"] > before["acknowledged"] > 0
        # Each master handed over: nobody waited for a lease to run out.
        assert account["longest_s"] < LEASE_MS / 1e3
        # The members remember it, and a release that does not know it leaves their folders alone.
        recorded = [json.loads(p.read_text()) for p in box.data.rglob("version.json")]
        assert [each["cluster_version"] for each in recorded] == [NEXT] * 3
        releases.install(releases.old)
        kind, why = old.ask("start_again()")
        assert kind == "ReleaseError"
        assert f"version.json: cluster version {NEXT}" in why
