"""What all tests share: where things are, and who may start Ray."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ray
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent

os.environ.update(
    {
        # Otherwise each Ray cluster that a test starts makes a worker for each processor that
        # nobody needs: a start took 7.8 to 8.4 s, and 3.8 to 4.1 s without.
        "RAY_prestart_worker_first_driver": "0",
        # A raylet looks for its object store's socket before that is there, and then again after
        # a second: a fifth of what starting a Ray cluster takes.
        "RAY_raylet_client_connect_timeout_milliseconds": "20",
        "RAY_raylet_client_num_connect_attempts": "500",
    }
)

LONGEST = (
    "ray",
    "hosts",
    "tests/jobs/test_submit_commands_on_ray.py",
    "tests/ray/test_metrics.py",
    "tests/ray/test_top.py",
    "tests/ray/test_upgrade.py",
    "tests/jobs/test_chaos_on_ray.py",
    "tests/ray/test_lifecycle.py",
    "tests/ray/test_connection.py",
    "tests/ray/test_tracing_on_ray.py",
)
"""Of what starts Ray, the longest first: in the end, no process is left alone with one of them."""

BYTECODE = "PYTHONDONTWRITEBYTECODE"
COMPILED = "PYTHONPYCACHEPREFIX"


def pytest_configure(config: pytest.Config) -> None:
    """What tests start finds all modules compiled, also where none are to be written here.

    Otherwise each of the many processes of a Ray cluster compiles anew what the installer has not:
    0.15 s of a processor where that is this package alone, and 1.2 s, twice of what it takes to
    come up, where it is Ray, too.
    """
    if os.environ.pop(BYTECODE, "") and COMPILED not in os.environ:
        os.environ[COMPILED] = tempfile.mkdtemp(prefix="ray_paxos_compiled_")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(COMPILED), ignore_errors=True))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which way of running members the tests that start clusters play."""
    parser.addoption(
        "--roles",
        choices=("separate", "fused", "both"),
        help="`roles` of the clusters in tests/ray; by default separate, fused where a test is "
        "marked `fused_by_default`, and both where it is marked `for_both_roles`",
    )


def starts_ray(path: str | Path) -> bool:
    """Whether tests of a file may start Ray, by its place and name."""
    path = Path(path)
    return path.parent.name in ("ray", "hosts") or path.name.endswith("_on_ray.py")


@cache
def has_own_ray(path: str | Path) -> bool:
    """Whether tests of a file, of those that may start Ray, have Ray clusters of their own."""
    path = ROOT / path
    is_elsewhere = path.parent.name == "hosts" or path.name.endswith("_on_ray.py")
    return is_elsewhere or "tests.ray.subprocesses" in path.read_text()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """What may start Ray is marked `ray`, and comes last, what takes longest of it first."""
    for item in items:
        if starts_ray(item.path):
            item.add_marker("ray")
    yield
    items.sort(key=lambda item: rank(item.nodeid))


def share_of(nodeid: str) -> str:
    """What has to be played by one process, as one after the other."""
    path = nodeid.split("::")[0]
    if path.startswith("tests/hosts/"):
        return "hosts"
    return "ray" if starts_ray(path) and not has_own_ray(path) else path


def rank(nodeid: str) -> int:
    """Where a test comes: those that need no Ray stay in front, in their order."""
    if not starts_ray(nodeid.split("::")[0]):
        return -1
    share = share_of(nodeid)
    return LONGEST.index(share) if share in LONGEST else len(LONGEST)


class SharedFiles(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """With `-n 2` two processes share the files of tests; what starts Ray comes at last.

    One of them takes all that shares one Ray cluster; files that have Ray clusters of their own go
    to whoever is free. Beside tests that keep a processor busy starts of a cluster took up to twice
    as long. (xdist's own groups come to nothing with pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedFiles:
    """Of `-n`."""
    config.option.loadscopereorder = False
    return SharedFiles(config, log)


@pytest.fixture(scope="session", autouse=True)
def take_interrupts() -> None:
    """Programs started here can be interrupted, also where these tests run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def forbid_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Ray fails in a test that is not marked `ray`: unit tests need no cluster."""
    if request.node.get_closest_marker("ray") is not None:
        return

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("only tests marked `ray` start Ray, such as those in tests/ray")

    monkeypatch.setattr(ray, "init", refuse)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """The folder of real data beside the repository; skips where it is not there."""
    path = repository.parent / "shared" / "data"
    if not path.exists():
        pytest.skip(f"{path} is not there: the shared data lies beside the repository")
    return path


@pytest.fixture(scope="session")
def hdfs_commands(shared_data: Path) -> Path:
    """2,469 real key-value commands."""
    return shared_data / "hdfs_commands.jsonl"


@pytest.fixture(scope="session")
def jepsen_data(shared_data: Path) -> Path:
    """64 real histories of etcd and 4 of a key-value store, with their verdicts."""
    return shared_data / "jepsen"
