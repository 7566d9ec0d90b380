"""Which classes can be mounted, by kind and version.

Mounting is an entry of the group's log, so it happens on all members at one instance or, where
the class is unknown, is refused there. A member whose registry lacks a class that the others have
computes another result for the mount: its result chain differs from that instance on, and the
member stops applying instead of going on silently without the machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.errors import CheckpointError, ConfigurationError
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.log import LogMachine
from ray_paxos.machines.permits import PermitsMachine
from ray_paxos.machines.system import SystemMachine

BUILT_IN: tuple[type[StateMachine], ...] = (
    KeyValueMachine,
    LogMachine,
    PermitsMachine,
    SystemMachine,
)


class MachineRegistry:
    """State machine classes by kind and version. Several versions of a kind may be registered."""

    def __init__(self, classes: Iterable[type[StateMachine]] = BUILT_IN) -> None:
        """Register `classes` (by default the built-in ones).

        Raises:
            ConfigurationError: As `register`.
        """
        self._classes: dict[tuple[str, int], type[StateMachine]] = {}
        for machine_class in classes:
            self.register(machine_class)

    def register(self, machine_class: type[StateMachine]) -> None:
        """Make a class mountable.

        Raises:
            ConfigurationError: It names no kind, or another class has its kind and version; or it
                says when something is due, and not what becomes of it.
        """
        kind = getattr(machine_class, "kind", "")
        if not kind:
            raise ConfigurationError(
                f"the state machine class {machine_class.__qualname__} has no `kind`"
            )
        says_when = machine_class.due_ns is not StateMachine.due_ns
        if says_when and machine_class.on_due is StateMachine.on_due:
            raise ConfigurationError(
                f"the state machine class {machine_class.__qualname__} has `due_ns` and no `on_due`"
            )
        registered = self._classes.setdefault((kind, machine_class.version), machine_class)
        if registered is not machine_class:
            raise ConfigurationError(
                f"the machine kind {kind!r} version {machine_class.version} is already "
                f"{registered.__qualname__}; {machine_class.__qualname__} needs another"
            )

    def find(self, kind: str, version: int) -> type[StateMachine] | None:
        """The class of that kind and version, or None."""
        return self._classes.get((kind, version))

    def make(self, spec: MachineSpec) -> StateMachine:
        """A new machine for what a checkpoint says was mounted.

        Raises:
            CheckpointError: Its kind and version are not registered on this member.
        """
        machine_class = self.find(spec.kind, spec.version)
        if machine_class is None:
            raise CheckpointError(
                f"machine {spec.name!r} is of kind {spec.kind!r} version {spec.version}, which is "
                "not registered on this member; register it and restart the member"
            )
        return machine_class()

    def newest_versions(self, cluster_version: int) -> dict[str, int]:
        """Of each kind, the newest version that may be mounted under a cluster version."""
        found: dict[str, int] = {}
        for (kind, version), machine_class in self._classes.items():
            if machine_class.since <= cluster_version:
                found[kind] = max(version, found.get(kind, version))
        return found

    @property
    def kinds(self) -> tuple[tuple[str, int], ...]:
        """What is registered, as (kind, version), sorted."""
        return tuple(sorted(self._classes))
