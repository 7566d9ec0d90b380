"""How the actors of a cluster are called."""

from __future__ import annotations

from ray_paxos.core.messages import RoleName

NAMESPACE = "ray_paxos"

ROLE_NAMES = {
    RoleName.PROPOSER: "proposer",
    RoleName.ACCEPTOR: "acceptor",
    RoleName.LEARNER: "learner",
    RoleName.CHECKPOINTER: "checkpointer",
}


def actor_name(cluster: str, member: str, role: RoleName) -> str:
    """Name of a role's actor in the namespace of ray_paxos."""
    return f"{cluster}/{member}/{ROLE_NAMES[role]}"


def bootstrap_name(cluster: str) -> str:
    """Name of the one actor that may make a genesis for a cluster.

    It has two parts, so no member's actor can have it.
    """
    return f"{cluster}/bootstrap"


def parse_actor_name(name: str) -> tuple[str, str, RoleName] | None:
    """Cluster, member and role of an actor's name; None where it is no role's."""
    parts = name.split("/")
    if len(parts) != 3:
        return None
    for role, text in ROLE_NAMES.items():
        if parts[2] == text:
            return parts[0], parts[1], role
    return None
