"""Makes, finds and ends members that are not of the genesis, as group 0 wants them.

```
 stage, on the one node that is named ─▶ look again: still joining? ─▶ activate ─▶ MemberJoined
```

The second look is what keeps a slow process from making a member anew that has voted meanwhile and
lost its disk: the folder is staged before the look, and nobody votes before `MemberJoined`. So
either the look tells that it has joined, and what was staged is never activated; or the member has
not voted when it is activated.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from ray_paxos.actors import folders
from ray_paxos.actors.launching import launch
from ray_paxos.actors.placement import Pin, RayNode
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.core.bootstrap import FolderFound, FolderState, NodeReport
from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.wanted import MemberState, Wanted, WantedMember
from ray_paxos.errors import BootstrapError, PlacementError


def check_new_member(
    spec: ClusterSpec, name: str, node_id: str, nodes: Sequence[RayNode]
) -> RayNode:
    """Make sure that a new member of that name can be made on a node.

    Args:
        spec: Of the cluster.
        name: Of the new member.
        node_id: Ray's id of the node, or the beginning of it.
        nodes: All live nodes.

    Returns:
        The node.

    Raises:
        PlacementError: No such node lives, or more than one; or it is being drained.
        BootstrapError: A node does not answer, or a folder of that name is there: it may hold
            votes, and nothing is made over it.
    """
    fitting = [node for node in nodes if node_id and node.node_id.startswith(node_id)]
    if len(fitting) == 1 and fitting[0].is_going:
        raise PlacementError(
            f"Ray drains node {fitting[0].name}: it will be ended, and takes no new member"
        )
    if len(fitting) != 1:
        listed = ", ".join(f"{node.node_id[:12]} ({node.name})" for node in nodes)
        what = "no live Ray node has" if not fitting else "more than one live Ray node has"
        raise PlacementError(f"{what} the id {node_id}; there are {listed}")
    found, silent = _folders_of(spec, name, nodes)
    if silent:
        raise BootstrapError(
            f"node {', '.join(report.name for report in silent)} does not answer, and may hold a "
            f"folder of member {name}; a new member is made only when every node has answered"
        )
    if found:
        report, folder = found[0]
        raise BootstrapError(
            f"there is a folder of a member {name}: {folder.path} on node {report.name}. A new "
            "member begins with nothing: take another name, or take that folder away if nothing "
            "in it is needed"
        )
    return fitting[0]


def new_member(
    name: str, node_id: str, *, labels: Mapping[str, str] | None = None, resource: str = ""
) -> WantedMember:
    """A member that was never there, with a random id.

    Args:
        name: Its name.
        node_id: Ray's id of the node that it is made on.
        labels: Of the node that has its disk, as the operator gives them.
        resource: The custom resource of that node; empty for none.
    """
    spec = MemberSpec(name, secrets.randbits(63) | 1)
    pinned = tuple(sorted((labels or {}).items()))
    return WantedMember(spec, MemberState.JOINING, node_id, pinned, resource)


def make_member(
    spec: ClusterSpec,
    member: WantedMember,
    look_again: Callable[[], Wanted],
    nodes: Sequence[RayNode],
) -> bool:
    """Stage and activate a joining member's folder.

    Args:
        spec: Of the cluster.
        member: As group 0 has it.
        look_again: Reads what is wanted, linearizably.
        nodes: All live nodes.

    Returns:
        Whether it may be recorded as joined; False where it is joining no more.

    Raises:
        PlacementError: Its node is gone, and with it the only one that it may be made on.
        ReleaseError: Its node has a release that does not know the cluster's version.
        PaxosError: Its node could not make the folder.
    """
    name, member_id = member.spec.name, member.spec.member_id
    if member.node_id not in {node.node_id for node in nodes}:
        # A node that was started in its place has another id. It is not made there: whoever is slow
        # might make it a second time, where it was to be made first.
        raise PlacementError(
            f"member {name}: its node {member.node_id[:12]} is gone, and it is made on no other "
            "one; remove it, and add a member of another name"
        )
    cluster = spec.decoded_genesis().cluster
    places = {name: (member.node_id, member_id)}
    folders.stage(
        cluster,
        spec.data_dir,
        spec.genesis,
        places,
        is_joining=True,
        cluster_version=spec.cluster_version,
    )
    now = look_again().members.get(name)
    if now is None or now.spec != member.spec or now.state is not MemberState.JOINING:
        return False
    folders.activate(cluster, spec.data_dir, {name: member.node_id})
    return True


def launch_member(
    spec: ClusterSpec, member: WantedMember, node_id: str, nodes: Sequence[RayNode]
) -> None:
    """Make those of a member's actors that do not live, on the node that has its folder.

    Args:
        spec: Of the cluster, with all members that are known.
        member: As group 0 has it.
        node_id: Of the node.
        nodes: All live nodes.
    """
    name = member.spec.name
    pin = Pin(dict(member.labels), member.resource or None)
    launch(spec.knowing((member.spec,)), {name: node_id}, {name: pin}, nodes)


def find_folders(
    spec: ClusterSpec, names: Sequence[str], nodes: Sequence[RayNode]
) -> Mapping[str, str]:
    """node_id of the live node that has a member's own, activated folder, by name."""
    ids = {each.name: each for each in spec.members}
    genesis = spec.decoded_genesis()
    found: dict[str, str] = {}
    for report in folders.look_into(genesis.cluster, spec.data_dir, nodes):
        for folder in report.folders:
            is_own = (
                folder.state is FolderState.ACTIVATED
                and folder.genesis is not None
                and folder.genesis.hash() == genesis.hash()
                and ids.get(folder.member) == MemberSpec(folder.member, folder.member_id)
            )
            if is_own and folder.member in names:
                found.setdefault(folder.member, report.node_id)
    return found


def _folders_of(
    spec: ClusterSpec, name: str, nodes: Sequence[RayNode]
) -> tuple[list[tuple[NodeReport, FolderFound]], list[NodeReport]]:
    """The folders of that name, and the nodes that did not answer."""
    cluster = spec.decoded_genesis().cluster
    reports = folders.look_into(cluster, spec.data_dir, nodes)
    found = [(report, each) for report in reports for each in report.folders if each.member == name]
    return found, [report for report in reports if not report.answered]
