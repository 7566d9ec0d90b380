"""A Ray cluster that a chaos run starts for itself: one raylet a member, each with its own disk.

```
 this process ──▶ head: GCS, raylet without members (the driver's)
              ──▶ node of m1: raylet, resource `member-m1`, $RAY_PAXOS_HOME = <folder>/m1
              ──▶ node of m2: ...
```

All of it ends with this process (Ray has its processes killed when their maker ends). Data lies in
a folder that is deleted unless the run tells to keep it.

Ray keeps what its GCS knows in memory; killed and started again it then knows nothing of nodes and
actors. So where the GCS is to be killed, it keeps its state in RocksDB (`RAY_gcs_storage`, Linux
only, an alpha of Ray 2.60), in the same folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from chaos_cluster import Links
from chaos_disks import LoopDisk, hide_mounts, make_disk
from chaos_plan import OF_DISKS, FaultKind
from ray_paxos.config import ClusterConfiguration, parse_configuration
from ray_paxos.errors import ClusterError

OBJECT_STORE_BYTES = 80_000_000
NODES_MAX = 15


def pinned_configuration(
    configuration: ClusterConfiguration, labels: Mapping[str, Mapping[str, str]] | None = None
) -> ClusterConfiguration:
    """A configuration whose members go to the nodes that the run starts for them.

    Args:
        configuration: As it was given.
        labels: Of each member's node; by default it has a resource (`resource_of`) instead.

    Raises:
        ConfigurationError: What comes of it is wrong.
    """
    document = configuration.model_dump(mode="json")
    # On each node its own $RAY_PAXOS_HOME decides.
    document["data_dir"] = None
    for member in document["members"]:
        name = member["name"]
        member["node_labels"] = dict(labels[name]) if labels is not None else {}
        member["resource"] = None if labels is not None else resource_of(name)
    text = yaml.safe_dump(document)
    return parse_configuration(text, "the configuration, as --nodes or --hosts changes it")


def resource_of(member: str) -> str:
    """The custom Ray resource that only a member's node has."""
    return f"member-{member}"


class OwnNodes:
    """The nodes of a run. Made by `own_nodes`."""

    def __init__(
        self, folder: Path, disks: Mapping[str, LoopDisk], variables: Mapping[str, str]
    ) -> None:
        """Start the head.

        Args:
            folder: Of the members' data.
            disks: Of members that have one of their own.
            variables: For the environment of every node.
        """
        from ray.cluster_utils import Cluster

        self._folder = folder
        self._disks = disks
        self._variables = dict(variables)
        self._cluster: Any = Cluster()
        self._head: Any = self._add(num_cpus=1)
        self._nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        """Of the Ray cluster."""
        return str(self._cluster.address)

    @property
    def links(self) -> Links | None:
        """None: all of them are on one host."""
        return None

    def start(self, member: str) -> None:
        """Start a member's node."""
        home = {"RAY_PAXOS_HOME": str(self._folder / member)}
        resources = {resource_of(member): 1}
        self._nodes[member] = self._add(num_cpus=1, resources=resources, variables=home)

    def add_spare(self) -> None:
        """Start a node without a member."""
        self._add(num_cpus=1)

    def kill(self, member: str) -> None:
        """SIGKILL of the raylet and of all below it, at once."""
        node = self._nodes.pop(member)
        for process_id in with_descendants(raylet_of(node)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        # What else Ray started for the node, such as its log monitor.
        self._cluster.remove_node(node, allow_graceful=False)

    def kill_gcs(self) -> None:
        """SIGKILL; Ray forgets which port it had."""
        self._head.kill_gcs_server()

    def start_gcs(self) -> None:
        """On the port that it had."""
        self._head.start_gcs_server()

    def slow_disk(self, member: str, freeze_s: float, for_s: float) -> None:
        """Freeze it again and again."""
        self._disks[member].slow(freeze_s, for_s)

    def fill_disk(self, member: str, for_s: float) -> None:
        """Leave no room on it."""
        self._disks[member].fill(for_s)

    def heal_disks(self) -> None:
        """All of them."""
        for disk in self._disks.values():
            disk.heal()

    def close(self) -> None:
        """End all nodes."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()

    def _add(self, *, variables: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Start a node.

        Args:
            variables: For its environment, besides those of every node.
            options: As of Ray's `Cluster.add_node`.

        Raises:
            ClusterError: It did not come up.
        """
        try:
            return self._cluster.add_node(
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                env_vars={**self._variables, **(variables or {})},
                **options,
            )
        except Exception as error:
            # Ray has bare ones of its own here, too.
            if type(error) not in (Exception, RuntimeError, TimeoutError):
                raise
            raise ClusterError(f"a Ray node of the run's own did not come up: {error}") from error


@contextlib.contextmanager
def own_nodes(
    configuration: ClusterConfiguration, count: int, kinds: Collection[FaultKind]
) -> Iterator[OwnNodes]:
    """Start nodes for a configuration's members, and end them.

    Args:
        configuration: Of the cluster.
        count: How many; those that are more than the members have none.
        kinds: Of the faults that are to be injected: they say what the nodes need.

    Yields:
        The nodes.

    Raises:
        ClusterError: A disk cannot be made or mounted, or a node did not come up.
    """
    # Ray's sockets lie below it, and their paths are limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rpc-"))
    members = [member.name for member in configuration.members]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        disks: dict[str, LoopDisk] = {}
        if OF_DISKS & set(kinds):
            hide_mounts()
            for name in members:
                disks[name] = make_disk(folder / f"{name}.image", folder / name)
                stack.callback(disks[name].close)
        variables = {
            **configuration.ray.environment(),
            # Whoever can reach it and has not this token can do nothing with it.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        if FaultKind.KILL_GCS in kinds:
            variables |= {
                "RAY_gcs_storage": "rocksdb",
                "RAY_gcs_storage_path": str(folder / "gcs"),
            }
            (folder / "gcs").mkdir()
        # Here, too: the GCS is a child of this process, and the driver is a part of it. Sessions of
        # Ray, and the note where its cluster is, go apart from those of others on this machine.
        stack.enter_context(environment({**variables, "RAY_TMPDIR": str(folder)}))
        with warnings.catch_warnings():
            # Ray's own.
            warnings.simplefilter("ignore")
            nodes = OwnNodes(folder, disks, variables)
        stack.callback(nodes.close)
        for name in members:
            nodes.start(name)
        for _ in range(count - len(members)):
            nodes.add_spare()
        yield nodes


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have variables in this process's environment for a time."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def raylet_of(node: Any) -> int:
    """Process id of a node's raylet."""
    (found,) = node.all_processes["raylet"]
    return int(found.process.pid)


def with_descendants(process_id: int) -> list[int]:
    """A process and all below it, the one itself first."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                parents[int(path.name)] = int(fields[1])
    found = [process_id]
    for above in found:
        found += [pid for pid, parent in parents.items() if parent == above]
    return found
