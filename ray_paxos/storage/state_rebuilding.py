"""Builds a group's state again from its log, as of any instance: no cluster, no roles.

The same host that members apply with executes the same values, so the state is theirs. Where the
log tells the chain over the results of an instance, what was computed here is compared with it: a
machine that does not do what it did then is found, and named, at the first instance that differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ray_paxos.core.genesis import Configuration
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.results import encode_results
from ray_paxos.core.values import EMPTY_CHAIN, decode_value, extend_chain
from ray_paxos.errors import ApplyStoppedError, StorageError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoints import CheckpointPlace, newest_whole
from ray_paxos.storage.inspection import ChosenLogView


@dataclass(frozen=True, slots=True)
class RebuiltState:
    """A group's state after one instance.

    Attributes:
        host: Its machines and sessions.
        chain: Over the values.
        result_chain: Over the results, as computed here.
        unconfirmed: Of how many instances the log does not tell the results.
    """

    host: MachineHost
    chain: bytes
    result_chain: bytes
    unconfirmed: int


class RebuildingError(StorageError):
    """The state cannot be built: the log does not reach so far, or the machines are not those."""


def rebuild(
    instances: Iterable[SealedInstance],
    host: MachineHost,
    *,
    through: int,
    chain: bytes = EMPTY_CHAIN,
    result_chain: bytes = EMPTY_CHAIN,
) -> RebuiltState:
    """Apply a log.

    Args:
        instances: Those that follow what the host has applied, in order.
        host: As of the instance before.
        through: The last to be applied.
        chain: The value chain there.
        result_chain: The result chain there.

    Raises:
        RebuildingError: An instance is missing, is of a newer release, stops a machine, or gives
            other results than it gave the member.
        DamageError: A segment is damaged.
    """
    unconfirmed = 0
    for instance in instances:
        instance_id = instance.chosen.instance_id
        if instance_id > through:
            break
        if instance_id != host.applied_through + 1:
            raise RebuildingError(
                f"the log has instance {instance_id} where {host.applied_through + 1} is needed"
            )
        try:
            results = host.apply(instance_id, decode_value(instance.chosen.value))
        except (ApplyStoppedError, msgspec.DecodeError) as error:
            raise RebuildingError(f"instance {instance_id} cannot be applied: {error}") from error
        chain = instance.chain
        result_chain = extend_chain(result_chain, encode_results(results))
        if instance.result_chain is None:
            unconfirmed += 1
        elif instance.result_chain != result_chain:
            raise RebuildingError(
                f"instance {instance_id} gives other results here than it gave the member: its "
                "machines are of another version, or not the same wherever they run"
            )
    if host.applied_through < through:
        raise RebuildingError(f"the log ends at instance {host.applied_through}, before {through}")
    return RebuiltState(host, chain, result_chain, unconfirmed)


def rebuild_at(
    log: ChosenLogView,
    place: CheckpointPlace,
    registry: MachineRegistry,
    configuration: Configuration,
    instance_id: int,
) -> tuple[RebuiltState, int, tuple[str, ...]]:
    """The state as of an instance, from the newest checkpoint at or below it and the log.

    Args:
        log: The group's chosen log.
        place: Its checkpoints.
        registry: The classes of its machines.
        configuration: Of the group at its genesis.
        instance_id: Which.

    Returns:
        The state; the instance of the checkpoint that it was built on, 0 for none; and why newer
        ones were not used, for a person.

    Raises:
        RebuildingError: As `rebuild`.
        DamageError: A segment is damaged.
    """
    newest = newest_whole(place, registry, at_most=instance_id)
    if newest.checkpoint is None:
        start, chain, result_chain = 0, EMPTY_CHAIN, EMPTY_CHAIN
        host = MachineHost(registry, group=place.group, configuration=configuration)
    else:
        cut, host = newest.checkpoint.cut, newest.checkpoint.host
        start, chain, result_chain = cut.instance_id, cut.chain, cut.result_chain
    if start < instance_id and log.first > start + 1:
        raise RebuildingError(
            f"the log begins at instance {log.first}, and there is no checkpoint that leads from "
            f"before it to instance {instance_id}" + "".join(f"; {p}" for p in newest.problems)
        )
    instances = log.instances(start + 1, instance_id) if start < instance_id else ()
    state = rebuild(instances, host, through=instance_id, chain=chain, result_chain=result_chain)
    return state, start, newest.problems
