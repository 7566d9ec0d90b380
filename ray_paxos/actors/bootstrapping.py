"""Starts a cluster: one named actor carries out what `core.bootstrap` decides.

Everything that could make a second genesis goes through this actor, whose name is unique in the
Ray cluster, and one call after the other. It keeps nothing: when it dies halfway, the next one
looks at the disks again and goes on from what it finds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from ray_paxos.actors import folders
from ray_paxos.actors.launching import actor_names, launch, live_actor_names, running_spec
from ray_paxos.actors.names import NAMESPACE, bootstrap_name
from ray_paxos.actors.placement import Pin, RayNode, choose_nodes
from ray_paxos.actors.spec import ClusterSpec, decode_spec, make_spec
from ray_paxos.config import ClusterConfiguration
from ray_paxos.config.cluster import VOTERS_DEFAULT_MAX
from ray_paxos.core.bootstrap import (
    Activate,
    Decision,
    NodeReport,
    Refuse,
    StageAll,
    StageMissing,
    Start,
    decide,
)
from ray_paxos.core.genesis import (
    GENESIS_FORMAT,
    SYSTEM_GROUP,
    Genesis,
    GroupSpec,
    MachineSpec,
    MemberSpec,
    first_voters,
)
from ray_paxos.core.releases import NEWEST, OLDEST
from ray_paxos.core.spreading import Place, spread
from ray_paxos.errors import BootstrapError, ClusterError, ConfigurationError, PaxosError
from ray_paxos.machines.system import SYSTEM_MACHINE, SystemMachine

STEPS_MAX = 8
"""Each step of a start makes another look necessary; more than four are never needed."""
ATTEMPTS_MAX = 5
ATTEMPT_PAUSE_S = 0.3
"""A name stays taken for a moment after its actor has died."""


def make_genesis(configuration: ClusterConfiguration) -> Genesis:
    """A new genesis, with random ids."""
    members = tuple(
        # 63 bits, from 1: ids are compared and stored as signed 64-bit numbers elsewhere.
        MemberSpec(member.name, secrets.randbits(63) | 1)
        for member in configuration.members
    )
    counts = {group.group: configuration.voters_of(group) for group in configuration.groups}
    counts[SYSTEM_GROUP] = min(len(members), VOTERS_DEFAULT_MAX)
    places = {member.name: Place() for member in members}
    by_name = {member.name: member for member in members}
    voters = {
        group: first_voters(by_name[name] for name in names)
        for group, names in spread(counts, places).items()
    }
    system = MachineSpec(SYSTEM_MACHINE, SystemMachine.kind, SystemMachine.version)
    groups = [GroupSpec(SYSTEM_GROUP, voters[SYSTEM_GROUP], (system,))]
    groups += [
        GroupSpec(group.group, voters[group.group], group.machine_specs())
        for group in sorted(configuration.groups, key=lambda group: group.group)
    ]
    return Genesis(
        GENESIS_FORMAT, configuration.cluster, secrets.token_hex(16), members, tuple(groups)
    )


class BootstrapActor:
    """Carries out starts, one after the other."""

    def start(self, configuration: str) -> dict[str, Any]:
        """Bring a cluster's actors up, whatever of it exists.

        Args:
            configuration: As JSON.

        Returns:
            `error` (class name and text, or None), `spec` (encoded), `members` (those launched),
            `missing` (why, by name), `was_running`.
        """
        try:
            return _start(ClusterConfiguration.model_validate_json(configuration))
        except PaxosError as error:
            return {"error": folders.error_fields(error)}
        except RayError as error:
            return {"error": ("ClusterError", folders.explain(error))}


def _start(configuration: ClusterConfiguration) -> dict[str, Any]:
    cluster = configuration.cluster
    pins = {m.name: Pin(m.node_labels, m.resource) for m in configuration.members}
    # Another driver may have made its actors just now: they answer once their processes are up.
    running = running_spec(cluster, configuration.ray.start_timeout_ms / 1000)
    if running is not None:
        check_roles(running, configuration)
    genesis = running.decoded_genesis() if running is not None else None
    data_dir = running.data_dir if running is not None else configuration.data_dir
    # Members that were found know by which version they went.
    version = OLDEST
    for _ in range(STEPS_MAX):
        nodes = folders.live_nodes()
        reports = folders.look_into(cluster, data_dir, nodes)
        decision = decide(cluster, reports, running=genesis)
        if isinstance(decision, Start):
            spec = running or make_spec(decision.genesis, configuration)
            spec = spec.knowing(decision.joined).under(version)
            launch(spec, decision.places, pins, nodes)
            return {
                "error": None,
                "spec": spec.encoded(),
                "members": list(decision.places),
                "missing": dict(decision.missing),
                "was_running": running is not None,
            }
        if isinstance(decision, StageAll):
            version = NEWEST
        _carry_out(decision, configuration, data_dir, pins, nodes, reports)
    raise BootstrapError(f"cluster {cluster} did not come up after {STEPS_MAX} steps")


def _carry_out(
    decision: Decision,
    configuration: ClusterConfiguration,
    data_dir: str | None,
    pins: Mapping[str, Pin],
    nodes: list[RayNode],
    reports: list[NodeReport],
) -> None:
    cluster = configuration.cluster
    match decision:
        case Refuse(reason=reason):
            raise BootstrapError(reason)
        case Activate(places=places):
            folders.activate(cluster, data_dir, places)
        case StageAll():
            genesis = make_genesis(configuration)
            _stage(genesis, choose_nodes(pins, nodes), data_dir)
        case StageMissing(genesis=genesis, members=members, taken=taken):
            missing = {name: pins.get(name, Pin()) for name in members}
            _stage(genesis, choose_nodes(missing, nodes, taken), data_dir)


def _stage(genesis: Genesis, places: Mapping[str, str], data_dir: str | None) -> None:
    ids = {member.name: member.member_id for member in genesis.members}
    staged = {name: (node_id, ids[name]) for name, node_id in places.items()}
    folders.stage(genesis.cluster, data_dir, genesis.encoded(), staged)


def attach(cluster: str, timeout_s: float) -> tuple[ClusterSpec, tuple[str, ...]] | None:
    """Find a cluster all of whose actors live.

    Args:
        cluster: Its name.
        timeout_s: How long to wait for one of its actors to answer, where it has any.

    Returns:
        Its spec, and the members; None for any other cluster, or none.

    Raises:
        ClusterError: As `running_spec`; likewise WireFormatError.
    """
    spec = running_spec(cluster, timeout_s)
    if spec is None:
        return None
    members = tuple(member.name for member in spec.members)
    wanted = {name for member in members for name in actor_names(spec, member)}
    return (spec, members) if wanted <= live_actor_names(cluster) else None


def check_roles(running: ClusterSpec, configuration: ClusterConfiguration) -> None:
    """Refuse to make actors of one kind beside those of the other.

    Raises:
        ConfigurationError: The cluster runs with another value of `roles` than configured.
    """
    if running.roles != configuration.roles:
        cluster = configuration.cluster
        raise ConfigurationError(
            f"roles: found {configuration.roles}; cluster {cluster} runs with roles "
            f"{running.roles}. Stop it first to change that; its data stays as it is"
        )


def bootstrap(configuration: ClusterConfiguration, timeout_s: float) -> dict[str, Any]:
    """Have the cluster's bootstrap actor start it.

    Args:
        configuration: For the genesis, where there is none yet.
        timeout_s: How long to wait for it.

    Returns:
        As `BootstrapActor.start`, without an error.

    Raises:
        PaxosError: As the actor reports it.
        ClusterError: The actor did not answer.
    """
    name = bootstrap_name(configuration.cluster)
    remote: Any = ray.remote
    last = ""
    for _ in range(ATTEMPTS_MAX):
        # Not detached: it ends with the driver that made it. Another driver that was waiting for
        # it then makes its own, which finds on the disks what this one has done.
        actor = remote(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
        )(BootstrapActor).remote()
        try:
            outcome: dict[str, Any] = ray.get(
                actor.start.remote(configuration.model_dump_json()), timeout=timeout_s
            )
        except RayActorError as error:
            last = folders.explain(error)
            time.sleep(ATTEMPT_PAUSE_S)
            continue
        except RayError as error:
            raise ClusterError(
                f"starting cluster {configuration.cluster}: {folders.explain(error)}"
            ) from error
        if outcome["error"] is not None:
            folders.raise_error(outcome["error"])
        return outcome
    raise ClusterError(f"starting cluster {configuration.cluster}: {last}")


def decode_outcome(outcome: Mapping[str, Any]) -> ClusterSpec:
    """The spec that a start reported."""
    return decode_spec(outcome["spec"])
