"""Five hosts with a Ray node each, beside one for the GCS, and a cluster with a member on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hosts import Hosts, missing_for_hosts, ray_hosts
from tests.conftest import ROOT
from tests.hosts.clusters import HOSTS, HostCluster, host_cluster

ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PYTHONWARNINGS": "ignore",
    # The GCS gives up a node after five checks, which takes 12 s here: less than a host is to be
    # away for where the machine is slow.
    "RAY_health_check_failure_threshold": "15",
}

_running = ExitStack()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """With the last test here all of it ends: left running, it took half a processor."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        _running.close()


@pytest.fixture(scope="session")
def host_rights() -> None:
    """Skips where hosts cannot be made, saying why."""
    reason = missing_for_hosts()
    if reason:
        pytest.skip(f"hosts cannot be made here: {reason}")


@pytest.fixture(scope="session")
def hosts(host_rights: None) -> Hosts:
    """Five hosts beside the head's."""
    return _running.enter_context(ray_hosts(HOSTS, ENVIRONMENT))


@pytest.fixture(scope="session")
def shared_five(hosts: Hosts) -> HostCluster:
    """Not to be taken as it is, but by `five`."""
    return _running.enter_context(host_cluster(hosts, "five", HOSTS))


@pytest.fixture
def five(shared_five: HostCluster) -> Iterator[HostCluster]:
    """Five fused members on five hosts whose links are whole, before and after."""
    yield shared_five
    shared_five.rest()
