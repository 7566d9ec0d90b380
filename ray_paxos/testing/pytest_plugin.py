"""Fixtures for tests of one's own state machines and replicated objects: fast, and without Ray.

```python
def test_a_lease_ends(ray_paxos_cluster):
    cluster = ray_paxos_cluster({"leases": Leases})
    client = cluster.client()
    client.propose(b"take")
    cluster.advance(31)
    assert client.query(b"holder") == b""


def test_stock(ray_paxos_objects):
    stock = ray_paxos_objects.replicated(Inventory, "stock", {"bolt": 10})
    assert stock.take("bolt", 3) == 7
```

Rules:

1. Each test has clusters of its own. After it, the network is mended, what is down is started, and
   each cluster is checked (`InProcessCluster.check`): a machine that is not deterministic, that is
   not loaded as it was saved, or whose queries write, is an error of the test.
2. A test costs 20 ms, and half a millisecond for each command that it waits for: with 1,000 of them
   it is done in 0.6 s. Simulated time costs none, but for some 3 ms a second.
3. Every run of pytest in an environment with `ray_paxos` imports this module, so it imports nothing
   else: what the fixtures need is imported by the first test that uses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray_paxos.testing.in_process_factories import ClusterFactory, ObjectsFactory


@pytest.fixture
def ray_paxos_cluster() -> Iterator[ClusterFactory]:
    """Makes in-process clusters: `ray_paxos_cluster({"ledger": Ledger}, members=3, seed=0)`."""
    from ray_paxos.testing.in_process_factories import ClusterFactory

    made = ClusterFactory()
    yield made
    made.check()


@pytest.fixture
def ray_paxos_objects(ray_paxos_cluster: ClusterFactory) -> ObjectsFactory:
    """Makes replicated objects: `ray_paxos_objects.replicated(Inventory, "stock")`."""
    from ray_paxos.testing.in_process_factories import objects_factory

    return objects_factory(ray_paxos_cluster)
