"""The workloads of a chaos run beside the default one: each is clients of one kind of recipe.

| workload | clients | what has to hold, by its name in `checks` |
|---|---|---|
| `lock`, `rw-lock`, `semaphore` | acquire, look, write by their token, release; some stand still | `mutual_exclusion`, `tokens`, `fenced`; of `lock`: `linearizable` |
| `election` | the same of the lead; others read and watch who leads | the same, and `one_leader`, `watches` |
| `queue` | put, take, acknowledge, give back, extend; some are too slow | `queue`, `counts` |
| `ledger` | run once, begin, commit, abort, look, wait; some are too slow | `one_outcome` |
| `counter` | add and read; take ids, singly and in blocks | `counted_once`, `ids_once` |
| `barrier` | wait for all others, round after round | `rounds` |
| `kv-txn` | transfers and reads over several keys, each one transaction | `totals`, `linearizable` |
| `watch` | put, delete, compare and set; two watch, and are begun anew now and then | `watches` |
| `object` | append to a replicated object, and read it | `exactly_once`, `reads` |
"""  # noqa: E501  # a table

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ray_paxos.config import GroupConfiguration
from ray_paxos.errors import ConfigurationError


class WorkloadKind(Enum):
    """What clients do."""

    KV = "kv"
    LOCK = "lock"
    RW_LOCK = "rw-lock"
    SEMAPHORE = "semaphore"
    QUEUE = "queue"
    LEDGER = "ledger"
    ELECTION = "election"
    COUNTER = "counter"
    BARRIER = "barrier"
    KV_TXN = "kv-txn"
    WATCH = "watch"
    OBJECT = "object"


OF_HISTORIES = (WorkloadKind.KV, WorkloadKind.KV_TXN)
"""Those that write a history as it happens."""
CLIENTS_MIN = {
    WorkloadKind.QUEUE: 2,
    WorkloadKind.BARRIER: 2,
    WorkloadKind.WATCH: 2,
}
"""Of those that need more than one."""
MACHINES = {
    WorkloadKind.LOCK: "permits",
    WorkloadKind.RW_LOCK: "permits",
    WorkloadKind.SEMAPHORE: "permits",
    WorkloadKind.ELECTION: "permits",
    WorkloadKind.QUEUE: "queues",
    WorkloadKind.LEDGER: "ledgers",
    WorkloadKind.COUNTER: "counters",
    WorkloadKind.BARRIER: "barriers",
    WorkloadKind.KV_TXN: "kv",
    WorkloadKind.WATCH: "kv",
    WorkloadKind.OBJECT: "objects",
}
"""The machine that a recipe looks for, by its name."""


@dataclass(frozen=True)
class WorkloadOptions:
    """What of the command line a workload has to fit.

    Attributes:
        kind: Of the workload.
        clients: How many.
        is_of_many: Whether all groups are meant.
        history: The file of the history; None for none.
        groups: How many groups the cluster has.
    """

    kind: WorkloadKind
    clients: int
    is_of_many: bool
    history: str | None
    groups: int


def check_workload(options: WorkloadOptions, group: GroupConfiguration) -> None:
    """Refuse what does not fit together.

    Raises:
        ConfigurationError: It says what.
    """
    kind = options.kind
    if kind is WorkloadKind.KV:
        return
    name = kind.value
    if options.is_of_many:
        raise ConfigurationError(
            f"--workload {name} and --groups: give one of them; allowed with --groups: --workload "
            "kv"
        )
    if options.history is not None and kind not in OF_HISTORIES:
        allowed = " or ".join(each.value for each in OF_HISTORIES)
        raise ConfigurationError(
            f"--workload {name} and --history: it has none to write; allowed with --history: "
            f"--workload {allowed}"
        )
    least = CLIENTS_MIN.get(kind, 1)
    if options.clients < least:
        raise ConfigurationError(
            f"--workload {name}: found --clients {options.clients}; allowed: {least} or more"
        )
    if kind is WorkloadKind.OBJECT and options.groups > 1:
        raise ConfigurationError(
            f"--workload {name}: found {options.groups} groups; allowed: a configuration of one "
            "group, since an object's name says in which one it lives"
        )
    machine = MACHINES[kind]
    if group.machines.get(machine) != machine:
        raise ConfigurationError(
            f"--workload {name} needs a machine {machine} of that kind, and group {group.group} "
            "has none"
        )
