"""The machines that recipes are played on, beside those of all walks."""

from __future__ import annotations

from collections.abc import Iterable

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.machines.barriers import BarriersMachine
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.counters import CountersMachine
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.ledgers import LedgersMachine
from ray_paxos.machines.permits import PermitsMachine
from ray_paxos.machines.queues import QueuesMachine

RECIPE_KV = "keys"
"""A kv machine beside the one of other clients."""
RECIPE_CLASSES: tuple[type[StateMachine], ...] = (
    PermitsMachine,
    QueuesMachine,
    LedgersMachine,
    CountersMachine,
    BarriersMachine,
)
_KEYS = MachineSpec(RECIPE_KV, KeyValueMachine.kind, KeyValueMachine.version)
MACHINE_OF: dict[str, MachineSpec] = {
    **{each.kind: MachineSpec(each.kind, each.kind, each.version) for each in RECIPE_CLASSES},
    "kv-txn": _KEYS,
    "kv-watch": _KEYS,
    "kv-ttl": _KEYS,
}
"""By recipe, on which machine it is played."""
RECIPE_TITLES = tuple(MACHINE_OF)


def machines_of(recipes: Iterable[str]) -> tuple[MachineSpec, ...]:
    """The machines that some recipes need, each once."""
    return tuple(dict.fromkeys(MACHINE_OF[title] for title in recipes))
