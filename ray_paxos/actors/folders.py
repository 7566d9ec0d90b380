"""Looks into and works on the data directories of Ray nodes, by short tasks pinned to each.

Tasks return plain data and no exceptions of ours: an error comes back as its class name and text,
so that it reaches the person who started the cluster as the message it was meant to be.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_paxos import errors
from ray_paxos.actors.placement import RayNode
from ray_paxos.core.bootstrap import FolderFound, FolderState, NodeReport
from ray_paxos.core.genesis import decode_genesis
from ray_paxos.core.releases import OLDEST, THIS_RELEASE
from ray_paxos.errors import ClusterError, PaxosError
from ray_paxos.storage.data_dir import resolve_data_dir
from ray_paxos.storage.disk import LocalDisk, storage_errors
from ray_paxos.storage.folder import FoundMember, activate_member, find_members, stage_member

HEAD_RESOURCE = "node:__internal_head__"
LOOK_TIMEOUT_S = 30.0
WORK_TIMEOUT_S = 60.0

CARRIED = (
    errors.ClusterError,
    errors.ConfigurationError,
    errors.InvariantViolationError,
    errors.StorageError,
    errors.WireFormatError,
)
"""Kinds that come through as themselves; they are made from a text."""

ErrorFields = tuple[str, str]
"""Class name and text of a PaxosError."""


def error_fields(error: PaxosError) -> ErrorFields:
    """An error as plain data."""
    return type(error).__name__, str(error)


def raise_error(fields: ErrorFields, context: str = "") -> None:
    """Raise what `error_fields` took apart.

    Raises:
        PaxosError: Of the class named; a ClusterError where this release has no such class.
    """
    name, text = fields
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, CARRIED)):
        kind = ClusterError
    raise kind(f"{context}{text}")


def explain(error: RayError) -> str:
    """One line about an error of Ray's, for a person."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"


def live_nodes() -> list[RayNode]:
    """The live nodes of the Ray cluster this process is connected to.

    Raises:
        ClusterError: It is connected to none.
    """
    if not ray.is_initialized():
        raise ClusterError(
            "this process is not connected to Ray any more; ray_paxos.connect or start connects it"
        )
    draining = _draining_nodes()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        RayNode(
            node_id=node["NodeID"],
            name=f"{node['NodeManagerHostname']}/{node['NodeManagerAddress']}/{node['NodeID'][:6]}",
            is_head=HEAD_RESOURCE in node["Resources"],
            labels=dict(node.get("Labels") or {}),
            resources=frozenset(node["Resources"]),
            is_going=node["NodeID"] in draining,
        )
        for node in nodes
        if node["Alive"]
    ]


def _draining_nodes() -> Collection[str]:
    """Ray's ids of the nodes that it drains, as `ray drain-node` or an autoscaler asked of it.

    Ray says so nowhere in public (2.60): a node that is drained is alive in `ray.nodes` and in its
    state API until it has ended. One call to its control service, as `ray.nodes` is.
    """
    try:
        from ray._private.state import state

        draining: Mapping[str, int] = state.get_draining_nodes()
    except (ImportError, AttributeError):
        # Private to Ray, and may move: then a node goes without a word.
        return ()
    return draining.keys()


def cluster_folder(cluster: str, data_dir: str | None) -> Path:
    """A cluster's folder on this node.

    Raises:
        ConfigurationError: The data directory means nothing here.
    """
    return resolve_data_dir(data_dir, os.environ) / cluster


def look_into(cluster: str, data_dir: str | None, nodes: Sequence[RayNode]) -> list[NodeReport]:
    """Ask every node what it holds of a cluster.

    Args:
        cluster: Its name.
        data_dir: As configured.
        nodes: All live nodes.

    Returns:
        One report a node; a node that did not answer in time is reported as that, and one that
        Ray drains is not asked: it begins no task.
    """
    asked = [node for node in nodes if not node.is_going]
    results = _run_on(
        {node.node_id: (_look, (cluster, data_dir)) for node in asked}, LOOK_TIMEOUT_S
    )
    reports = []
    for node in nodes:
        result = results.get(node.node_id, "Ray drains it, and begins no task there")
        if isinstance(result, str):
            reports.append(NodeReport(node.node_id, node.name, False, result))
        elif result["error"] is not None:
            reports.append(NodeReport(node.node_id, node.name, False, result["error"][1]))
        else:
            found = tuple(_decode_folder(folder) for folder in result["folders"])
            reports.append(NodeReport(node.node_id, node.name, True, "", found))
    return reports


def stage(
    cluster: str,
    data_dir: str | None,
    genesis: bytes,
    places: Mapping[str, tuple[str, int]],
    *,
    is_joining: bool = False,
    cluster_version: int = OLDEST,
) -> None:
    """Stage members' folders: durable on return, and nobody can vote yet.

    Args:
        cluster: Its name.
        data_dir: As configured.
        genesis: Encoded.
        places: (node_id, member_id) by name.
        is_joining: Whether they are not of the genesis.
        cluster_version: That the releases of their nodes have to know.

    Raises:
        ReleaseError: One does not.
        PaxosError: A node could not; others may have staged theirs.
    """
    work = {}
    for name, (node_id, member_id) in places.items():
        arguments = cluster, data_dir, genesis, name, member_id, is_joining, cluster_version
        work[name] = node_id, _stage, arguments
    _work(work)


def activate(cluster: str, data_dir: str | None, places: Mapping[str, str]) -> None:
    """Activate staged folders; `places` is node_id by name.

    Raises:
        PaxosError: A node could not; others may have activated theirs.
    """
    _work({name: (node_id, _activate, (cluster, data_dir, name))
           for name, node_id in places.items()})  # fmt: skip


def delete(cluster: str, data_dir: str | None, places: Mapping[str, str]) -> None:
    """Delete members' folders, with everything in them; `places` is node_id by name.

    Raises:
        PaxosError: A node could not; others may have deleted theirs.
    """
    _work({name: (node_id, _delete, (cluster, data_dir, name))
           for name, node_id in places.items()})  # fmt: skip


def _work(tasks: Mapping[str, tuple[str, Callable[..., Any], tuple[Any, ...]]]) -> None:
    """Run one task a member on its node and raise the first error."""
    references = {
        name: _submit(node_id, function, arguments)
        for name, (node_id, function, arguments) in tasks.items()
    }
    for name, result in _collect(references, WORK_TIMEOUT_S).items():
        if isinstance(result, str):
            raise ClusterError(f"member {name}: its node did not answer ({result})")
        if result["error"] is not None:
            raise_error(result["error"], f"member {name}: ")


def _run_on(
    tasks: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]], timeout_s: float
) -> dict[str, Any]:
    references = {
        node_id: _submit(node_id, function, arguments)
        for node_id, (function, arguments) in tasks.items()
    }
    return _collect(references, timeout_s)


def _submit(node_id: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    remote: Any = ray.remote
    task = remote(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
    )(function)
    return task.remote(*arguments)


def _collect(references: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """The results, by key; a text says why there is none."""
    if not references:
        return {}
    done, _ = ray.wait(list(references.values()), num_returns=len(references), timeout=timeout_s)
    finished = set(done)
    results: dict[str, Any] = {}
    for key, reference in references.items():
        if reference not in finished:
            ray.cancel(reference, force=True)
            results[key] = f"no answer within {timeout_s:g} s"
            continue
        try:
            results[key] = ray.get(reference)
        except RayError as error:
            results[key] = explain(error)
    return results


def _decode_folder(folder: dict[str, Any]) -> FolderFound:
    reason = folder["reason"]
    genesis = None
    if folder["genesis"]:
        try:
            genesis = decode_genesis(folder["genesis"])
        except msgspec.DecodeError as error:
            reason = reason or f"not a genesis ({error})"
    state = FolderState(folder["state"]) if genesis is not None else FolderState.UNREADABLE
    return FolderFound(
        folder["member"],
        folder["path"],
        folder["place"],
        state,
        genesis,
        folder["member_id"],
        reason,
        folder["joined_as"],
    )


# Run on the nodes, as tasks.


def _look(cluster: str, data_dir: str | None) -> dict[str, Any]:
    try:
        found = find_members(cluster_folder(cluster, data_dir))
        # A folder whose staging broke off holds nothing and may be staged again: not found.
        folders = [_describe(member) for member in found if member.state != "unfinished"]
    except PaxosError as error:
        return {"error": error_fields(error), "folders": []}
    return {"error": None, "folders": folders}


def _describe(member: FoundMember) -> dict[str, Any]:
    status = member.path.stat()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    identity = member.identity
    return {
        "member": member.path.name,
        "path": str(member.path),
        "place": f"{boot_id}:{status.st_dev}:{status.st_ino}",
        "state": "unreadable" if member.state == "damaged" else member.state,
        "genesis": identity.genesis.encoded() if identity is not None else b"",
        "member_id": identity.member_id if identity is not None else 0,
        "reason": member.problem,
        "joined_as": identity.joined_as if identity is not None else "",
    }


def _stage(
    cluster: str,
    data_dir: str | None,
    genesis: bytes,
    member: str,
    member_id: int,
    is_joining: bool,
    cluster_version: int,
) -> dict[str, Any]:
    try:
        THIS_RELEASE.check(cluster_version, f"member {member}")
        disk = LocalDisk(cluster_folder(cluster, data_dir) / member)
        joined_as = member if is_joining else ""
        stage_member(disk, decode_genesis(genesis), member_id, joined_as=joined_as)
    except PaxosError as error:
        return {"error": error_fields(error)}
    return {"error": None}


def _activate(cluster: str, data_dir: str | None, member: str) -> dict[str, Any]:
    try:
        activate_member(LocalDisk(cluster_folder(cluster, data_dir) / member))
    except PaxosError as error:
        return {"error": error_fields(error)}
    return {"error": None}


def _delete(cluster: str, data_dir: str | None, member: str) -> dict[str, Any]:
    try:
        path = cluster_folder(cluster, data_dir) / member
        with storage_errors(f"cannot delete {path}"):
            shutil.rmtree(path)
        # The cluster's own folder goes with its last member's.
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    except PaxosError as error:
        return {"error": error_fields(error)}
    return {"error": None}
