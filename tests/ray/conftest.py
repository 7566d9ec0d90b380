"""One Ray cluster for all tests here, started once, with a data directory of its own."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray._private import parameter

import ray_paxos
from ray_paxos.config import ClusterConfiguration, RayConfiguration, parse_configuration

CONFIGURATION = "cluster: shared\nmembers: 3\nlogging: {level: WARNING}\n"


BOTH = ("separate", "fused")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play a test that starts a cluster with separate roles, with fused ones, or with both."""
    if "arrangement" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--roles")
    is_for_both = any(metafunc.definition.iter_markers("for_both_roles"))
    is_both = chosen == "both" or (chosen is None and is_for_both)
    # Clusters of a test's own come up in half the time with fused roles.
    is_own = any(metafunc.definition.iter_markers("fused_by_default"))
    played = BOTH if is_both else (chosen or ("fused" if is_own else "separate"),)
    metafunc.parametrize("arrangement", played, scope="session")


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """$RAY_PAXOS_HOME of the raylet and of all its workers."""
    # Not pytest's own: paths of sockets are limited to 107 bytes, and these stand beside it.
    folder = Path(tempfile.mkdtemp(prefix="rpx-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def local_ray(home: Path) -> Iterator[None]:
    """A Ray cluster of one node in this process, as `start` would make it."""
    environment = {
        **RayConfiguration().environment(),
        # Decided here, not by what lies in ~/.ray: test_connection.py plays both modes.
        "RAY_AUTH_MODE": "disabled",
        "RAY_PAXOS_HOME": str(home),
    }
    saved = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    # A Ray cluster that finds the usual port of its agent taken by another one on the machine tries
    # it for 3.5 s, and goes on without: this one leaves it to those that other tests start.
    any_port = functools.partial(parameter.RayParams, dashboard_agent_listen_port=0)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        # Ray's own, of the import and of what it starts.
        warnings.simplefilter("ignore")
        patch.setattr(parameter, "RayParams", any_port)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    for name, value in saved.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def configuration(arrangement: str) -> ClusterConfiguration:
    """Three members, with the roles that are played."""
    return parse_configuration(f"{CONFIGURATION}roles: {arrangement}\n")


@pytest.fixture(scope="session")
def cluster(local_ray: None, configuration: ClusterConfiguration) -> Iterator[ray_paxos.Cluster]:
    """A cluster that the tests share; each uses keys and clients of its own."""
    started = ray_paxos.start(configuration)
    yield started
    # Where both are played, the second one begins with nothing, too.
    started.stop(delete_data=True)


@pytest.fixture
def client(cluster: ray_paxos.Cluster) -> Iterator[ray_paxos.Client]:
    """A client of the shared cluster's first group."""
    with cluster.client(label="test") as opened:
        yield opened
