"""How the actors of a cluster are called, and how a role's actor is asked for something.

With `roles: separate` every role has an actor, `cluster/member/role`. With `roles: fused` a member
is one actor, `cluster/member/member`, which is the actor of all four roles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ray_paxos.core.messages import RoleName

NAMESPACE = "ray_paxos"
FUSED_NAME = "member"

ROLE_NAMES = {
    RoleName.PROPOSER: "proposer",
    RoleName.ACCEPTOR: "acceptor",
    RoleName.LEARNER: "learner",
    RoleName.CHECKPOINTER: "checkpointer",
}

SHARED_METHODS = ("ask", "describe", "query", "read", "submit", "watch_master")
"""Methods that a fused member has itself; the others are asked of one of its roles."""


def actor_name(cluster: str, member: str, role: RoleName, *, is_fused: bool = False) -> str:
    """Name of the actor that has a role, in the namespace of ray_paxos."""
    return f"{cluster}/{member}/{FUSED_NAME if is_fused else ROLE_NAMES[role]}"


def role_method(handle: Any, role: RoleName, method: str, *, is_fused: bool) -> Callable[..., Any]:
    """A method of a role, to be called with its arguments; gives Ray's reference of the answer.

    Args:
        handle: Of the role's actor.
        role: Which role is meant.
        method: Its name in the role's own actor.
        is_fused: Whether the actor has all four roles.
    """
    if is_fused and method not in SHARED_METHODS:
        return partial(handle.ask.remote, ROLE_NAMES[role], method)
    remote: Callable[..., Any] = getattr(handle, method).remote
    return remote


def bootstrap_name(cluster: str) -> str:
    """Name of the one actor that may make a genesis for a cluster.

    It has two parts, so no member's actor can have it.
    """
    return f"{cluster}/bootstrap"


def controller_name(cluster: str) -> str:
    """Name of a cluster's controller; it has two parts, too."""
    return f"{cluster}/controller"


def parse_actor_name(name: str) -> tuple[str, str, RoleName | None] | None:
    """Cluster, member and role of an actor's name, None for the role where it has all four.

    None where it is no member's actor.
    """
    parts = name.split("/")
    if len(parts) != 3:
        return None
    if parts[2] == FUSED_NAME:
        return parts[0], parts[1], None
    for role, text in ROLE_NAMES.items():
        if parts[2] == text:
            return parts[0], parts[1], role
    return None
