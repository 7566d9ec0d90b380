"""Five hosts with a Ray node each, beside one for the GCS, and a cluster with a member on each."""

from __future__ import annotations

from collections.abc import Iterator

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


@pytest.fixture(scope="session")
def host_rights() -> None:
    """Skips where hosts cannot be made, saying why."""
    reason = missing_for_hosts()
    if reason:
        pytest.skip(f"hosts cannot be made here: {reason}")


@pytest.fixture(scope="session")
def hosts(host_rights: None) -> Iterator[Hosts]:
    """Five hosts beside the head's."""
    with ray_hosts(HOSTS, ENVIRONMENT) as started:
        yield started


@pytest.fixture(scope="session")
def shared_five(hosts: Hosts) -> Iterator[HostCluster]:
    """Not to be taken as it is, but by `five`."""
    with host_cluster(hosts, "five", HOSTS) as cluster:
        yield cluster


@pytest.fixture
def five(shared_five: HostCluster) -> Iterator[HostCluster]:
    """Five fused members on five hosts whose links are whole, before and after."""
    yield shared_five
    shared_five.hosts.links.heal()
