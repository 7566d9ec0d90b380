"""Checks of the Ray cluster: whether it answers, its settings, its token, its nodes.

Each is a pure function of facts. What runs on other machines cannot be seen from here; a finding
that leaves that open says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from ray_paxos.cli.doctor_facts import Facts, Finding, NodeFacts, Status
from ray_paxos.config import MemberConfiguration

KEEPALIVE_TIME = "RAY_grpc_client_keepalive_time_ms"
INLINE = "RAY_max_direct_call_object_size"
AUTH_MODE = "RAY_AUTH_MODE"
NONE_RUNS = "no Ray cluster runs on this machine"
"""How `ray_connection` says so; any other error is of a Ray cluster that is there."""

WHY = {
    KEEPALIVE_TIME: "or a link stays dead for long after a cut has healed",
    "RAY_grpc_client_keepalive_timeout_ms": "or a silent link is not noticed for minutes",
    INLINE: "or batches above 100 KB take the slower way through the object store",
    "RAY_task_rpc_inlined_bytes_limit": "or calls of many batches take that way, too",
    "RAY_worker_niceness": "or actors wait behind all else on the machine",
}


def check_cluster(facts: Facts) -> Iterator[Finding]:
    """Whether a Ray cluster answers where the configuration says that one is."""
    ray = facts.ray
    if ray.wanted == "local":
        yield Finding(Status.OK, f"local ({ray.source}): a new one is started on this machine")
    elif ray.address:
        yield Finding(Status.OK, f"one answers at {ray.address} ({ray.source})")
    elif _starts_its_own(facts):
        found = "none runs on this machine; `ray-paxos up` or ray_paxos.start starts one"
        pinned = [member.name for member in facts.configuration.members if _pin(member)]
        if pinned:
            change = f"`ray start` the nodes first, with what {', '.join(pinned)} are pinned to"
            found += ", without labels and resources of members"
            yield Finding(Status.PROBLEM, found, change)
        elif facts.configuration.ray.nodes_min == 1:
            yield Finding(Status.OK, found)
        else:
            change = "`ray start --head`, and `ray start --address=...` on the other nodes"
            found += f", of one node; ray.nodes_min is {facts.configuration.ray.nodes_min}"
            yield Finding(Status.PROBLEM, found, change)
    else:
        change = "start it (`ray start --head`), or mend ray.address or $RAY_ADDRESS"
        yield Finding(Status.PROBLEM, f"{ray.wanted} ({ray.source}): {ray.error}", change)


def check_settings(facts: Facts) -> Iterator[Finding]:
    """Whether Ray's own processes run with what the configuration asks for."""
    ray, expected = facts.ray, facts.configuration.ray.environment()
    if not ray.address:
        if ray.wanted == "local" or _starts_its_own(facts):
            yield Finding(Status.OK, "a Ray cluster that we start gets what the file says")
        else:
            yield Finding(Status.WARNING, "no Ray cluster answers: nothing can be told")
        return
    if not ray.raylets:
        listed = " ".join(f"{name}={value}" for name, value in expected.items())
        change = f"run doctor on its nodes, too; each `ray start` needs: {listed}"
        yield Finding(Status.WARNING, "no raylet of it can be seen on this machine", change)
        return
    is_right = True
    for name, value in expected.items():
        having = {environment.get(name) for environment in ray.raylets.values()}
        if having != {value}:
            is_right = False
            shown = ", ".join(sorted(each or "not set" for each in having))
            change = f"{name}={value} at `ray start`, on every node, {WHY[name]}"
            yield Finding(Status.WARNING, f"{name} of the raylets here: {shown}", change)
    if is_right:
        yield Finding(Status.OK, f"all {len(expected)} as the file says, here")


def check_keepalive(facts: Facts) -> Iterator[Finding]:
    """Whether this process probes links more often than the cluster's servers bear."""
    ray = facts.ray
    own = _number((ray.own or {}).get(KEEPALIVE_TIME))
    servers = [_number(e.get(KEEPALIVE_TIME)) for e in (ray.raylets or {}).values()]
    if own is not None and any(server is None or own < server for server in servers):
        yield Finding(
            Status.PROBLEM,
            f"{KEEPALIVE_TIME}={own} here, and more or nothing where Ray was started: its servers "
            "close links that are probed more often than they probe",
            f"unset it here, or start Ray with {KEEPALIVE_TIME}={own} on every node",
        )


def check_token(facts: Facts) -> Iterator[Finding]:
    """Whether this process shows the token that the cluster asks for."""
    ray = facts.ray
    own = (ray.own or {}).get(AUTH_MODE, "")
    asked = {e[AUTH_MODE] for e in (ray.raylets or {}).values() if e.get(AUTH_MODE)}
    shown = f"{AUTH_MODE} is {own or 'not set'} here"
    if own == "token" and not ray.has_token:
        change = "$RAY_AUTH_TOKEN, or the cluster's token in ~/.ray/auth_token"
        yield Finding(Status.PROBLEM, f"{shown}, and there is no token", change)
    elif own and asked and asked != {own}:
        change = f"{AUTH_MODE}={min(asked)} here, as Ray was started"
        yield Finding(Status.PROBLEM, f"{shown}, and {min(asked)} where Ray was started", change)
    elif not own and asked == {"token"} and not ray.has_token:
        change = f"{AUTH_MODE}=token, and the cluster's token in ~/.ray/auth_token"
        yield Finding(Status.PROBLEM, f"{shown}, there is no token, and Ray asks for one", change)
    elif not own and ray.has_token and ray.wanted not in ("auto", "local"):
        change = f"{AUTH_MODE}=token, if that cluster asks for one"
        found = f"{shown}: to an address that is given no token is shown"
        yield Finding(Status.WARNING, found, change)
    else:
        token = "a token is there" if ray.has_token else "no token is there"
        yield Finding(Status.OK, f"{shown}; {token}")


def check_nodes(facts: Facts) -> Iterator[Finding]:
    """Live nodes against ray.nodes_min, the members, and what these are pinned to."""
    nodes, configuration = facts.ray.nodes, facts.configuration
    members = configuration.members
    if nodes is None:
        if facts.ray.address:
            yield Finding(Status.WARNING, f"cannot be told: {facts.ray.error}")
        return
    found = f"{len(nodes)} live nodes for {len(members)} members"
    is_right = True
    if len(nodes) < configuration.ray.nodes_min:
        is_right = False
        change = "more nodes (`ray start --address=...`): with fewer nothing is started"
        least = f"{found}; ray.nodes_min is {configuration.ray.nodes_min}"
        yield Finding(Status.PROBLEM, least, change)
    for member in members:
        pin = _pin(member)
        if pin and not any(_carries(node, member) for node in nodes):
            is_right = False
            change = f"`ray start` the node that has its disk with {pin}"
            yield Finding(Status.PROBLEM, f"no live node has {pin}, for {member.name}", change)
    if not is_right:
        return
    if len(nodes) < len(members):
        change = "as many nodes as members, if a lost node must not stop the cluster"
        spread = f"{found}: one node has up to {facts.members_here}"
        yield Finding(Status.WARNING, spread, change)
    else:
        yield Finding(Status.OK, found)


def _starts_its_own(facts: Facts) -> bool:
    """As `connect_ray` does where nobody named a cluster and none is found."""
    ray = facts.ray
    is_named = facts.configuration.ray.address or (ray.own or {}).get("RAY_ADDRESS")
    return not is_named and not ray.address and ray.error.startswith(NONE_RUNS)


def _carries(node: NodeFacts, member: MemberConfiguration) -> bool:
    has_labels = all(node.labels.get(key) == value for key, value in member.node_labels.items())
    return has_labels and (member.resource is None or member.resource in node.resources)


def _pin(member: MemberConfiguration) -> str:
    parts = [f"label {key}={value}" for key, value in member.node_labels.items()]
    if member.resource:
        parts.append(f"resource {member.resource}")
    return " and ".join(parts)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
