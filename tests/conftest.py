"""What all tests share: where things are, and who may start Ray."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).resolve().parent.parent
RAY_TESTS = Path(__file__).resolve().parent / "ray"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in tests/ray is marked `ray`; what starts Ray comes last, in one process.

    So several processes (`-n 2`) share all other tests, and then one has the machine for Ray.
    """
    for item in items:
        if RAY_TESTS in item.path.parents:
            item.add_marker("ray")
        if item.get_closest_marker("ray") is not None:
            item.add_marker(pytest.mark.xdist_group("ray"))
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


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
