"""Starting a cluster, and attaching to one that runs.

`start` may be called by many drivers, at any time and as often as they like: it attaches to what
runs, starts what is on the nodes' disks, and makes a new cluster only where there is nothing.
"""

from __future__ import annotations

import logging
import os
import time

from ray_paxos.actors.bootstrapping import attach, bootstrap, check_roles, decode_outcome
from ray_paxos.actors.controller import ensure_controller
from ray_paxos.actors.folders import cluster_folder, live_nodes
from ray_paxos.actors.launching import live_members, running_spec, wait_until_serving
from ray_paxos.actors.ray_connection import connect_ray, connect_running_ray
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.cluster import Cluster
from ray_paxos.config import ClusterConfiguration, load_configuration
from ray_paxos.core.quorum import majority
from ray_paxos.errors import ClusterNotFoundError, PaxosError, PlacementError

_logger = logging.getLogger(__name__)


def start(
    configuration: str | os.PathLike[str] | ClusterConfiguration,
    *,
    address: str | None = None,
    keep: bool = False,
    timeout_s: float | None = None,
) -> Cluster:
    """Start a cluster, or attach to it where it runs.

    Args:
        configuration: A YAML file, or what `load_configuration` made of it. Members and groups
            in it are for a cluster that does not exist yet.
        address: Of the Ray cluster; by default the one this process is connected to, the
            configuration's, $RAY_ADDRESS, one that runs on this machine, or a new one.
        keep: Where a Ray cluster has to be started, let it live on after this process.
        timeout_s: How long until all roles serve; by default as configured.

    Returns:
        The cluster; all roles of all members that were found serve.

    Raises:
        ConfigurationError: The configuration is wrong, or the cluster runs with another value of
            `roles`.
        PlacementError: There are too few Ray nodes.
        BootstrapError: What is on the disks does not allow a safe start.
        ClusterError: There is no Ray cluster at the address, or it does not answer.
        StorageError: A folder is held, foreign, damaged, full or read-only.

    Guarantee: no data is made where a node that may hold data of that name has not answered.
    """
    if not isinstance(configuration, ClusterConfiguration):
        configuration = load_configuration(configuration)
    limit_s = timeout_s if timeout_s is not None else configuration.ray.start_timeout_ms / 1000
    folder = cluster_folder(configuration.cluster, configuration.data_dir)
    connection = connect_ray(address, configuration.ray, folder, keep=keep)
    deadline = time.monotonic() + limit_s
    found = attach(configuration.cluster, limit_s)
    if found is not None:
        spec, members = found
        check_roles(spec, configuration)
        wait_until_serving(spec, members, limit_s, is_strict=False)
        return _with_controller(Cluster(spec, connection, was_running=True), spec)
    _check_nodes(configuration)
    outcome = bootstrap(configuration, limit_s)
    spec, was_running = decode_outcome(outcome), bool(outcome["was_running"])
    cluster = Cluster(spec, connection, was_running=was_running)
    try:
        wait_until_serving(
            spec,
            outcome["members"],
            max(deadline - time.monotonic(), 1.0),
            is_strict=not was_running,
        )
    except PaxosError:
        if not was_running:
            # Nothing half-started stays behind: the next start sees the disks as they are.
            cluster.stop(timeout_s=5.0)
        raise
    missing = outcome["missing"]
    for member in sorted(set(missing) - cluster.members_gone()) if missing else ():
        _logger.warning(
            "cluster %s: member %s is missing: %s", cluster.name, member, missing[member]
        )
    return _with_controller(cluster, spec)


def _with_controller(cluster: Cluster, spec: ClusterSpec) -> Cluster:
    if spec.controller.runs:
        ensure_controller(spec)
    return cluster


def connect(name: str, *, address: str | None = None, timeout_s: float = 20.0) -> Cluster:
    """Attach to a running cluster by its name, from any driver, task or actor.

    Args:
        name: The cluster's.
        address: Of the Ray cluster; by default as `start`, but none is started.
        timeout_s: How long to wait until a majority of the members serves.

    Raises:
        ClusterNotFoundError: No cluster of that name runs there.
        ClusterError: There is no Ray cluster, or the cluster does not answer.
    """
    connection = connect_running_ray(address, cluster_folder(name, None))
    spec = running_spec(name, timeout_s)
    if spec is None:
        raise ClusterNotFoundError(
            f"no cluster {name} runs in the Ray cluster at {connection.address}; start it by "
            "ray_paxos.start"
        )
    found = live_members(name)
    first = tuple(member.name for member in spec.decoded_genesis().members)
    # Those of the genesis may all have left; but a few that live are no majority by themselves.
    members = found if len(found) >= majority(len(first)) else sorted({*found, *first})
    wait_until_serving(spec, members, timeout_s, is_strict=False)
    return Cluster(spec, connection, was_running=True)


def _check_nodes(configuration: ClusterConfiguration) -> None:
    alive = live_nodes()
    if len(alive) < configuration.ray.nodes_min:
        raise PlacementError(
            f"the Ray cluster has {len(alive)} live nodes, and the configuration asks for at least "
            f"{configuration.ray.nodes_min} (ray.nodes_min). Start more with `ray start --address`"
        )
