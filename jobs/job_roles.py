"""How jobs reach the roles of a running cluster, whether each is an actor of its own or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from ray_paxos import Cluster
from ray_paxos.actors.administration import CLOSING_ORDER, ask_all
from ray_paxos.actors.controller import ControllerActor
from ray_paxos.actors.launching import ROLE_CLASSES
from ray_paxos.actors.member import MemberActor
from ray_paxos.actors.names import NAMESPACE, actor_name, role_method
from ray_paxos.core.messages import RoleName

CLOSE_S = 10.0
CONTROLLER_TITLE = f"ray::{ControllerActor.__name__}"
"""How the title of the controller's process begins."""


def find_role(cluster: Cluster, member: str, role: RoleName) -> Any:
    """The actor that has a role.

    Raises:
        ValueError: It does not live.
    """
    name = actor_name(cluster.name, member, role, is_fused=cluster.is_fused)
    return ray.get_actor(name, namespace=NAMESPACE)


def ask_for_state(cluster: Cluster, member: str, role: RoleName) -> Any:
    """Ask a role what it is doing; gives Ray's reference of the answer.

    Raises:
        ValueError: Its actor does not live.
    """
    handle = find_role(cluster, member, role)
    ask: Callable[..., Any] = role_method(handle, role, "state", is_fused=cluster.is_fused)
    return ask()


def process_title(cluster: Cluster, role: RoleName) -> str:
    """How the title of the process begins that has a role."""
    kind: type[Any] = MemberActor if cluster.is_fused else ROLE_CLASSES[role]
    return f"ray::{kind.__name__}"


def restart_member(cluster: Cluster, member: str) -> None:
    """Close all roles of a member cleanly, as far as they answer, and have Ray start them again.

    Args:
        cluster: Whose.
        member: Its name.
    """
    handles: dict[str, Any] = {}
    for role in CLOSING_ORDER:
        name = actor_name(cluster.name, member, role, is_fused=cluster.is_fused)
        try:
            handle = handles[name] = find_role(cluster, member, role)
        except ValueError:
            continue
        close = role_method(handle, role, "close", is_fused=cluster.is_fused)
        ask_all({role: close}, CLOSE_S)
    for handle in handles.values():
        ray.kill(handle, no_restart=False)
