"""The cluster that a benchmark starts for itself, and when everything in it is done.

It is started as any user would, in a folder that is removed, on a Ray of its own unless the
configuration or $RAY_ADDRESS names one. A run's clock stops when every learner has applied all
instances, all of them are in durable segments, and every checkpointer is as close behind as when
the clock started: both times a checkpoint has just been made. Of many groups none are asked for: a
checkpoint is asked for group by group, and asking for a hundred takes longer than making them; then
they are made as scheduled, and the clock stops when all is durable.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import yaml

from benchmark_processes import Process, member_processes, own_processes
from ray_paxos.config import ClusterConfiguration, load_configuration, parse_configuration
from ray_paxos.errors import ClusterError, ConfigurationError

if TYPE_CHECKING:
    from ray_paxos import Client, Cluster

NAME = "benchmark"
ROLES = ("separate", "fused")
SETTLE_S = 300.0
PAUSE_S = 0.02
PAUSE_MAX_S = 0.2
CHECKPOINTED_GROUPS_MAX = 4
"""Of more groups no checkpoints are asked for at the end of a run."""


def benchmark_configuration(
    config: str, folder: str, *, groups: int, roles: str
) -> ClusterConfiguration:
    """A configuration for a benchmark.

    Args:
        config: The file that says all but name, folder, groups and roles.
        folder: Where its data goes.
        groups: How many.
        roles: `separate` or `fused`.

    Raises:
        ConfigurationError: The file is wrong, or there is no choice of roles in this version.
    """
    check_roles(roles)
    base = load_configuration(config).model_dump(mode="json")
    base["cluster"], base["data_dir"] = NAME, folder
    base["groups"] = {"count": groups, "machines": {"kv": "kv"}}
    if roles != "separate":
        base["roles"] = roles
    if base["ray"]["address"] is None and "RAY_ADDRESS" not in os.environ:
        # Not one that happens to run here: it may have other limits, and other work.
        base["ray"]["address"] = "local"
    return parse_configuration(yaml.safe_dump(base), f"{config}, as the benchmark changes it")


def check_roles(roles: str) -> None:
    """Refuse a choice of roles that this version of the configuration does not have.

    Raises:
        ConfigurationError: As it says.
    """
    if roles not in ROLES:
        raise ConfigurationError(f"--roles: found {roles!r}; allowed: {', '.join(ROLES)}")
    if not has_roles(roles):
        raise ConfigurationError(
            f"--roles {roles}: configurations of this version have no field `roles`; allowed: "
            "separate"
        )


def has_roles(roles: str) -> bool:
    """Whether the configuration can have the roles so."""
    return roles == "separate" or "roles" in ClusterConfiguration.model_fields


class BenchmarkCluster:
    """A cluster that is measured.

    Attributes:
        cluster: The cluster.
        groups: Its groups, but for the system's.
        start_s: How long it took to start.
    """

    def __init__(self, cluster: Cluster, groups: tuple[int, ...], start_s: float) -> None:
        """Measure this one."""
        self.cluster = cluster
        self.groups = groups
        self.start_s = start_s

    @contextmanager
    def clients(self) -> Iterator[list[Client]]:
        """One client of each group; closed in the end."""
        with ExitStack() as stack:
            yield [
                stack.enter_context(self.cluster.client(group, label="benchmark"))
                for group in self.groups
            ]

    def processes(self) -> list[Process]:
        """The members', the driver's, and Ray's."""
        return member_processes(self.cluster.status().members) + own_processes()

    def settle(self) -> dict[str, int]:
        """Wait until all is applied, durable and, of few groups, in checkpoints on all members.

        Returns:
            When each came true, by `time.monotonic_ns`: `applied_ns`, `durable_ns` and, of few
            groups, `checkpointed_ns`.

        Raises:
            ClusterError: It did not come true in time.
            CheckpointError: A member could not make a checkpoint.
        """
        found = {"applied_ns": self._wait_applied()}
        self.cluster.flush(timeout_s=SETTLE_S)
        found["durable_ns"] = time.monotonic_ns()
        if len(self.groups) <= CHECKPOINTED_GROUPS_MAX:
            with ThreadPoolExecutor(CHECKPOINTED_GROUPS_MAX) as pool:
                list(pool.map(self._checkpoint, self.groups))
            found["checkpointed_ns"] = time.monotonic_ns()
        return found

    def _checkpoint(self, group: int) -> None:
        self.cluster.checkpoint(group, timeout_s=SETTLE_S)

    def _wait_applied(self) -> int:
        deadline, pause_s = time.monotonic() + SETTLE_S, PAUSE_S
        while True:
            behind = self.behind()
            if not behind:
                return time.monotonic_ns()
            if time.monotonic() > deadline:
                raise ClusterError(f"not applied everywhere in {SETTLE_S:g} s: {behind}")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def behind(self) -> str:
        """Which learners have not applied everything yet; empty where all have."""
        found = []
        for group in self.cluster.status().groups:
            learned = max((p.learned_through for p in group.positions.values()), default=0)
            late = [
                f"{name} (group {group.group})"
                for name, position in group.positions.items()
                if position.applied_through < learned
            ]
            late += [
                f"{name} (group {group.group})"
                for name in self.cluster.members
                if name not in group.positions
            ]
            found += late
        return ", ".join(found)


def end_as_by_interrupt() -> None:
    """Let SIGTERM, as of `ray job stop`, end this process as Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def benchmark_cluster(config: str, *, groups: int, roles: str) -> Iterator[BenchmarkCluster]:
    """Start a cluster for a benchmark, and end it with its data.

    Args:
        config: As `benchmark_configuration`.
        groups: Likewise.
        roles: Likewise.
    """
    import ray_paxos

    with tempfile.TemporaryDirectory(prefix="ray_paxos-benchmark-") as folder:
        configuration = benchmark_configuration(config, folder, groups=groups, roles=roles)
        began = time.monotonic()
        cluster = ray_paxos.start(configuration)
        # Ray takes it, and aborts the process: nothing would be stopped or removed.
        end_as_by_interrupt()
        try:
            yield BenchmarkCluster(
                cluster,
                tuple(sorted(group.group for group in configuration.groups)),
                time.monotonic() - began,
            )
        finally:
            cluster.stop(delete_data=True)
