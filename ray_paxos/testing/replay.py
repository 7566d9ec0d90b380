"""A group's log executed anew, in this process or another one, and a machine saved and loaded.

What members came to must be what their log gives, wherever and whenever it is executed. A replay
says what a log gives; `in_process_check` compares.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.results import encode_results
from ray_paxos.core.values import EMPTY_CHAIN, decode_value, extend_chain
from ray_paxos.errors import ApplyStoppedError
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.machines.table import TableMachine

Digests = dict[str, bytes]
"""Of each machine, by its name."""


@dataclass
class Replay:
    """What a log gives.

    Attributes:
        chains: The result chain after each instance.
        digests: By instance, for those that were asked for.
        stopped: The machine, the instance and the cause where a machine failed; else None.
    """

    chains: list[bytes] = field(default_factory=list)
    digests: dict[int, Digests] = field(default_factory=dict)
    stopped: tuple[str, int, str] | None = None


def machine_digests(host: MachineHost) -> Digests:
    """The digest of each machine.

    Raises:
        Exception: Whatever a machine's `digest` raises.
    """
    return {spec.name: machine.digest() for spec, machine in host.machines}


def replay(
    log: Sequence[bytes], registry: MachineRegistry, group: int, digests_at: Collection[int]
) -> tuple[Replay, MachineHost]:
    """Execute a log from its beginning.

    Args:
        log: What instance 1, 2, ... chose, encoded.
        registry: The classes.
        group: Whose log.
        digests_at: After which instances machines are digested.

    Returns:
        What it gives, and the host at the end, or where a machine failed.

    Raises:
        Exception: Whatever a machine's `digest` raises.
    """
    host, made, chain = MachineHost(registry, group=group), Replay(), EMPTY_CHAIN
    for instance_id, value in enumerate(log, 1):
        try:
            results = host.apply(instance_id, decode_value(value))
        except ApplyStoppedError as error:
            made.stopped = (error.machine, error.instance_id, error.cause)
            break
        chain = extend_chain(chain, encode_results(results))
        made.chains.append(chain)
        if instance_id in digests_at:
            made.digests[instance_id] = machine_digests(host)
    return made, host


@dataclass
class Saved:
    """A machine's state as a checkpoint holds it.

    Attributes:
        spec: Which machine.
        files: By path, what `save` wrote; empty for a table.
        rows: Of a table.
    """

    spec: MachineSpec
    files: dict[str, bytes] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)


def save_machine(spec: MachineSpec, machine: StateMachine) -> Saved:
    """Save a machine, as a checkpoint does.

    Raises:
        Exception: Whatever the machine's `save` or `rows` raises.
    """
    if isinstance(machine, TableMachine):
        return Saved(spec, rows=list(machine.rows()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine.save(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return Saved(spec, {str(path.relative_to(folder)): path.read_bytes() for path in paths})


def load_machine(saved: Saved, registry: MachineRegistry) -> StateMachine:
    """A new machine with a saved state.

    Raises:
        Exception: Whatever the machine's `load` or `restore` raises.
    """
    machine = registry.make(saved.spec)
    if isinstance(machine, TableMachine):
        machine.restore(saved.rows)
        return machine
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, data in saved.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        machine.load(folder)
    return machine
