"""A group has a state machine of a user's, named in the configuration by where its class is."""

from __future__ import annotations

import pytest

import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ConfigurationError

TEXT = (
    "cluster: owned\nmembers: 3\nroles: fused\nlogging: {{level: WARNING}}\n"
    "groups: [{{group: 1, machines: {{total: '{kind}'}}}}]\n"
)


def test_a_machine_of_ones_own_is_applied_saved_and_loaded(local_ray: None) -> None:
    configuration = parse_configuration(TEXT.format(kind="tests.ray.own_machine:Total"))
    cluster = ray_paxos.start(configuration)
    with cluster.client() as client:
        client.propose(b"3", "total")
        assert client.propose(b"4", "total").value == b"7"
        with pytest.raises(ray_paxos.CommandError, match="not a number"):
            client.propose(b"x", "total")
        assert client.query(b"", "total") == b"7"
    cluster.checkpoint()
    assert len({each.digest for each in cluster.member_digests().values()}) == 1
    cluster.stop()
    cluster = ray_paxos.start(configuration)
    with cluster.client() as client:
        assert client.query(b"", "total") == b"7"
    cluster.stop(delete_data=True)


def test_one_that_is_not_there_is_refused_before_anything_is_made(local_ray: None) -> None:
    configuration = parse_configuration(TEXT.format(kind="tests.ray.own_machine:Nothing"))
    with pytest.raises(ConfigurationError, match="has no class Nothing"):
        ray_paxos.start(configuration)
