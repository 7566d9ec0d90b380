"""Chooses the Ray node of each member; pure.

Rules:

1. A member goes only to a node that has the labels and the custom resource the operator named.
2. Members go to nodes of their own, so that one lost machine is one lost member. Where there is
   one node in all, everything goes there: that is the embedded default.
3. The head node is used only where the others do not suffice, since losing it costs the GCS, too.
4. What is placed already stays where it is.
5. A node that Ray is about to end is given nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ray_paxos.errors import PlacementError


@dataclass(frozen=True, slots=True)
class RayNode:
    """A live node of the Ray cluster.

    Attributes:
        node_id: Ray's id.
        name: What a person calls it.
        is_head: Whether the GCS runs there.
        labels: Its labels.
        resources: Names of what it offers.
        is_going: Whether Ray drains it: what lives there lives on until the node ends, and no actor
            and no task is begun there any more.
    """

    node_id: str
    name: str
    is_head: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: frozenset[str] = frozenset()
    is_going: bool = False


@dataclass(frozen=True, slots=True)
class Pin:
    """What the operator says about a member's node; empty for nothing.

    Attributes:
        labels: That the node carries.
        resource: That the node has; None for any node.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    resource: str | None = None

    def allows(self, node: RayNode) -> bool:
        """Whether the member may live there."""
        if self.resource is not None and self.resource not in node.resources:
            return False
        return all(node.labels.get(name) == value for name, value in self.labels.items())

    def __str__(self) -> str:
        """For a person."""
        parts = [f"label {name}={value}" for name, value in self.labels.items()]
        if self.resource is not None:
            parts.append(f"resource {self.resource}")
        return " and ".join(parts)


def choose_nodes(
    pins: Mapping[str, Pin], nodes: Sequence[RayNode], taken: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Place members.

    Args:
        pins: Of each member to place, by name.
        nodes: All live nodes.
        taken: node_id of members that are placed already, by name.

    Returns:
        node_id of every member of `pins`, by name.

    Raises:
        PlacementError: There are too few nodes, or none that a pin allows.
    """
    going = sorted(node.name for node in nodes if node.is_going)
    nodes = [node for node in nodes if not node.is_going]
    if not nodes:
        drained = f" that is not being drained (draining: {', '.join(going)})" if going else ""
        raise PlacementError(f"the Ray cluster has no live node{drained}")
    for name, pin in pins.items():
        if not any(pin.allows(node) for node in nodes):
            raise PlacementError(
                f"member {name}: no live Ray node has {pin}. Start one that has it, or correct "
                "the member's entry in the configuration"
            )
    if len(nodes) == 1 and not going:
        return {name: nodes[0].node_id for name in pins}
    used = set((taken or {}).values())
    free = sorted((n for n in nodes if n.node_id not in used), key=lambda n: (n.name, n.node_id))
    workers = [node for node in free if not node.is_head]
    for candidates in (workers, [*workers, *(node for node in free if node.is_head)]):
        chosen = _match(pins, candidates)
        if chosen is not None:
            return chosen
    members = len(pins) + len(taken or {})
    raise PlacementError(
        f"{members} members need {members} Ray nodes, each of its own, or one node for all of "
        f"them; {len(nodes)} are alive ({', '.join(sorted(node.name for node in nodes))})"
        + (f", and Ray drains {', '.join(going)}" if going else "")
        + ("" if all(not str(pin) for pin in pins.values()) else ", and the members' pins apply")
    )


def going_nodes(nodes: Sequence[RayNode]) -> frozenset[str]:
    """node_id of those that Ray is about to end."""
    return frozenset(node.node_id for node in nodes if node.is_going)


def free_nodes(
    nodes: Sequence[RayNode], taken: Collection[str], resource: str | None = None
) -> tuple[str, ...]:
    """Nodes that may each be given a member of their own.

    The head only where it is alone, since losing it costs the GCS.

    Args:
        nodes: All live nodes.
        taken: node_id of those that have a member.
        resource: The custom resource of those that may have one; None for any.

    Returns:
        Their node_id, sorted.
    """
    workers = [node for node in nodes if not node.is_head] or list(nodes)
    pin = Pin(resource=resource)
    free = [node for node in workers if pin.allows(node) and not node.is_going]
    return tuple(sorted(node.node_id for node in free if node.node_id not in taken))


def _match(pins: Mapping[str, Pin], nodes: Sequence[RayNode]) -> dict[str, str] | None:
    """Give every member a node of its own, by augmenting paths; None where that is impossible."""
    holder: dict[str, str] = {}

    def place(name: str, tried: set[str]) -> bool:
        for node in nodes:
            if node.node_id in tried or not pins[name].allows(node):
                continue
            tried.add(node.node_id)
            if node.node_id not in holder or place(holder[node.node_id], tried):
                holder[node.node_id] = name
                return True
        return False

    if not all(place(name, set()) for name in pins):
        return None
    return {name: node_id for node_id, name in holder.items()}
