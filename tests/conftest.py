"""What all tests share: where things are, and who may start Ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent

# Otherwise each Ray cluster that a test starts makes a worker for each processor that nobody needs:
# a start took 7.8 to 8.4 s, and 3.8 to 4.1 s without.
os.environ.update({"RAY_prestart_worker_first_driver": "0"})


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


def has_own_ray(path: str | Path) -> bool:
    """Whether tests of a file, of those that may start Ray, have Ray clusters of their own."""
    path = ROOT / path
    is_elsewhere = path.parent.name == "hosts" or path.name.endswith("_on_ray.py")
    return is_elsewhere or "tests.ray.subprocesses" in path.read_text()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may start Ray is marked `ray`, and comes last."""
    for item in items:
        if starts_ray(item.path):
            item.add_marker("ray")
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


class SharedFiles(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """With `-n 2` two processes share the files of tests; what starts Ray comes at last.

    One of them takes all that shares one Ray cluster; files that have Ray clusters of their own go
    to whoever is free. Beside tests that keep a processor busy starts of a cluster took up to twice
    as long. (xdist's own groups come to nothing with pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::")[0]
        if path.startswith("tests/hosts/"):
            return "hosts"
        return "ray" if starts_ray(path) and not has_own_ray(path) else path


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
