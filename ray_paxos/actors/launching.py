"""Makes the role actors of a cluster, finds those that live, and waits until they serve."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_paxos.actors.acceptor import AcceptorActor
from ray_paxos.actors.answers import RolePhase
from ray_paxos.actors.folders import explain, raise_error
from ray_paxos.actors.log_actors import CheckpointerActor, LearnerActor
from ray_paxos.actors.member import MemberActor
from ray_paxos.actors.names import (
    NAMESPACE,
    ROLE_NAMES,
    actor_name,
    parse_actor_name,
    role_method,
)
from ray_paxos.actors.placement import Pin, RayNode
from ray_paxos.actors.proposer import ProposerActor
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.core.messages import RoleName
from ray_paxos.core.quorum import majority
from ray_paxos.core.releases import THIS_RELEASE
from ray_paxos.errors import ClusterError, DamageError

RESOURCE_SHARE = 0.001
WAIT_OPEN_S = 1.0
ANSWER_TIMEOUT_S = 5.0
COME_UP_S = 10.0
"""So long a new process is waited for before the next one, beside a cluster that serves."""
ASK_PAUSE_S = 0.02
"""Between two rounds of asking: `wait_open` waits well, but a dead actor fails at once."""
PATIENCE_S = 5.0
"""How long an error of one role may last: a former life of the actor is gone by then."""

_logger = logging.getLogger(__name__)

ROLE_CLASSES: dict[RoleName, type[Any]] = {
    RoleName.ACCEPTOR: AcceptorActor,
    RoleName.LEARNER: LearnerActor,
    RoleName.CHECKPOINTER: CheckpointerActor,
    RoleName.PROPOSER: ProposerActor,
}


def actor_names(spec: ClusterSpec, member: str) -> dict[str, type[Any]]:
    """The names of a member's actors, and the class of each: four, or one with `roles: fused`."""
    cluster = spec.decoded_genesis().cluster
    if spec.is_fused:
        return {actor_name(cluster, member, RoleName.ACCEPTOR, is_fused=True): MemberActor}
    return {actor_name(cluster, member, role): kind for role, kind in ROLE_CLASSES.items()}


def live_actor_names(cluster: str) -> set[str]:
    """Names of the cluster's role actors that live or are being restarted."""
    named: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
    names = {entry["name"] for entry in named if entry["namespace"] == NAMESPACE}
    return {
        name
        for name in names
        if (parsed := parse_actor_name(name)) is not None and parsed[0] == cluster
    }


def live_members(cluster: str) -> tuple[str, ...]:
    """Names of the members that have an actor that lives or is being restarted, sorted."""
    parsed = [parse_actor_name(name) for name in live_actor_names(cluster)]
    return tuple(sorted({each[1] for each in parsed if each is not None}))


def running_spec(cluster: str, timeout_s: float) -> ClusterSpec | None:
    """The spec of a cluster that runs here: what the first of its actors to answer says.

    Args:
        cluster: Its name.
        timeout_s: How long to wait for an answer.

    Returns:
        None where no actor of that name lives.

    Raises:
        ReleaseError: This release does not know the cluster's version.
        ClusterError: Actors live, and none of them answers.
        WireFormatError: They are of another release.
    """
    references = []
    for name in sorted(live_actor_names(cluster)):
        try:
            handle: Any = ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            continue
        references.append(handle.describe.remote())
    deadline = time.monotonic() + timeout_s
    is_any = bool(references)
    while references:
        done, references = ray.wait(references, timeout=max(deadline - time.monotonic(), 0))
        if not done:
            break
        try:
            spec = decode_spec(ray.get(done[0]))
        except RayError:
            continue
        THIS_RELEASE.check(spec.cluster_version, f"cluster {cluster}")
        return spec
    if is_any:
        raise ClusterError(
            f"cluster {cluster} has role actors, but none of them answered within {timeout_s:g} s"
        )
    return None


def launch(
    spec: ClusterSpec,
    places: Mapping[str, str],
    pins: Mapping[str, Pin],
    nodes: Sequence[RayNode],
) -> None:
    """Make the role actors that do not live yet; those that do are left alone.

    Where some live, the others are made one after the other: a process takes a second or two of a
    processor to come up, and four at once take it from the members that serve.

    Args:
        spec: Of the cluster.
        places: node_id of the node with the member's folder, by name.
        pins: What the operator says about each member's node.
        nodes: All live nodes.
    """
    cluster = spec.decoded_genesis().cluster
    live = live_actor_names(cluster)
    for member, node_id in places.items():
        placing = _placing(pins.get(member, Pin()), node_id, nodes)
        for name, actor_class in actor_names(spec, member).items():
            if name in live:
                continue
            options: dict[str, Any] = {
                "name": name,
                "namespace": NAMESPACE,
                "get_if_exists": True,
                "lifetime": "detached",
                # A killed role comes back by itself; a call is never repeated by Ray, since
                # messages are idempotent and clients number their commands.
                "max_restarts": -1,
                "max_task_retries": 0,
                "num_cpus": 0,
                "enable_task_events": False,
                "concurrency_groups": actor_class.concurrency_groups,
                **placing,
            }
            remote: Any = ray.remote
            handle = remote(**options)(actor_class).remote(spec.encoded(), member)
            if live:
                opening = role_method(
                    handle, RoleName.ACCEPTOR, "wait_open", is_fused=spec.is_fused
                )(COME_UP_S)
                ray.wait([opening], timeout=COME_UP_S)


def _placing(pin: Pin, node_id: str, nodes: Sequence[RayNode]) -> dict[str, Any]:
    """Options that bring an actor to its member's disk.

    A label or a resource that only this node has brings it back when the node returns under a new
    id; so does nothing else. Where the operator named none, or one that several nodes have, the
    node's id pins it, and `start` makes the actors again once that node is gone.
    """
    if str(pin) and [node.node_id for node in nodes if pin.allows(node)] == [node_id]:
        placing: dict[str, Any] = {}
        if pin.labels:
            placing["label_selector"] = dict(pin.labels)
        if pin.resource is not None:
            placing["resources"] = {pin.resource: RESOURCE_SHARE}
        return placing
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}


@dataclass(slots=True)
class _Waiting:
    """What is known of a role that is waited for; `ask` asks for its state, None: it is gone."""

    ask: Callable[..., Any] | None
    phase: str = RolePhase.OPENING.value
    reason: str = "no answer yet"
    error: str = ""
    is_restarting: bool = False
    failing_since: float | None = None

    @property
    def is_damaged(self) -> bool:
        """Whether it has stopped for good, since what it needs on its disk is damaged."""
        return self.phase == RolePhase.STOPPED.value and self.error == DamageError.__name__

    def note_failing(self, is_failing: bool) -> None:
        """Count the time for which it has failed without a break."""
        if not is_failing:
            self.failing_since = None
        elif self.failing_since is None:
            self.failing_since = time.monotonic()


def wait_until_serving(
    spec: ClusterSpec, members: Iterable[str], timeout_s: float, *, is_strict: bool
) -> None:
    """Wait until all roles of these members serve.

    Args:
        spec: The cluster's.
        members: Names of those whose actors were launched.
        timeout_s: How long to wait.
        is_strict: Whether a majority of the members is enough only where the others are damaged:
            they stay so, and `status` tells what to do about them.

    Raises:
        PaxosError: One role stopped, or cannot open, or took too long: of the role's own kind of
            error, with its text.
    """
    names = tuple(members)
    waiting = {
        (member, role): _Waiting(_find_state(spec, member, role))
        for member in names
        for role in ROLE_NAMES
    }
    deadline = time.monotonic() + timeout_s
    while True:
        _ask(waiting)
        now = time.monotonic()
        unready = {key: role for key, role in waiting.items() if role.phase != "serving"}
        if not unready:
            return
        damaged = {key for key, role in unready.items() if role.is_damaged}
        hopeless = {key for key, role in unready.items() if _is_hopeless(role, now, is_strict)}
        if now >= deadline or len(hopeless) == len(unready) or (is_strict and hopeless - damaged):
            ready = len(names) - len({member for member, _ in unready})
            if (is_strict and unready.keys() - damaged) or ready < majority(len(names)):
                _raise_unready(unready, timeout_s)
            for member, name in sorted(damaged):
                reason = unready[member, name].reason
                _logger.warning("member %s, %s: %s", member, ROLE_NAMES[name], reason)
            return
        time.sleep(ASK_PAUSE_S)


def _ask(waiting: Mapping[tuple[str, RoleName], _Waiting]) -> None:
    """Ask every role that is not known to serve; each answers once its opening has ended."""
    asked: dict[Any, _Waiting] = {}
    for role in waiting.values():
        if role.phase != RolePhase.SERVING.value and role.ask is not None:
            asked[role.ask(WAIT_OPEN_S)] = role
    if not asked:
        return
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_TIMEOUT_S)
    for reference in done:
        role = asked[reference]
        try:
            state = ray.get(reference, timeout=0)
        except GetTimeoutError:
            continue
        except RayError as error:
            # Being restarted, or waiting for its node to come back.
            role.reason = explain(error)
            role.is_restarting = isinstance(error, ActorUnavailableError)
            role.note_failing(True)
            continue
        role.phase, role.reason, role.error = state["phase"], state["reason"], state["error"]
        role.is_restarting = False
        role.note_failing(bool(role.error))


def _is_hopeless(role: _Waiting, now: float, is_strict: bool) -> bool:
    if role.phase == RolePhase.STOPPED.value or role.ask is None:
        return True
    if is_strict and role.is_restarting:
        # On a busy machine a new process may take longer than any patience.
        return False
    return role.failing_since is not None and now - role.failing_since > PATIENCE_S


def _raise_unready(unready: Mapping[tuple[str, RoleName], _Waiting], timeout_s: float) -> None:
    # The one that says most comes first: a role that stopped, then one that cannot open.
    ranked = sorted(unready.items(), key=lambda item: (not item[1].error, item[1].phase))
    (member, name), role = ranked[0]
    what = f"member {member}, {ROLE_NAMES[name]}: "
    if role.error:
        raise_error((role.error, role.reason), what)
    listed = ", ".join(f"{m}/{ROLE_NAMES[n]}: {r.phase}, {r.reason}" for (m, n), r in ranked[:4])
    raise ClusterError(f"not all roles serve after {timeout_s:g} s ({listed})")


def _find_state(spec: ClusterSpec, member: str, role: RoleName) -> Callable[..., Any] | None:
    """How to ask a role for its state; None where its actor is gone."""
    is_fused = spec.is_fused
    name = actor_name(spec.decoded_genesis().cluster, member, role, is_fused=is_fused)
    try:
        handle: Any = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None
    return role_method(handle, role, "state", is_fused=is_fused)
