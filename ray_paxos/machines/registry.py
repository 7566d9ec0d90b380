"""Which classes can be mounted, by kind and version.

Mounting is an entry of the group's log, so it happens on all members at one instance or, where
the class is unknown, is refused there. A member whose registry lacks a class that the others have
computes another result for the mount: its result chain differs from that instance on, and the
member stops applying instead of going on silently without the machine.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.errors import CheckpointError, ConfigurationError
from ray_paxos.machines.barriers import BarriersMachine
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.counters import CountersMachine
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.ledgers import LedgersMachine
from ray_paxos.machines.log import LogMachine
from ray_paxos.machines.objects import ObjectsMachine
from ray_paxos.machines.own_classes import is_own, load_own
from ray_paxos.machines.permits import PermitsMachine
from ray_paxos.machines.queues import QueuesMachine
from ray_paxos.machines.system import SystemMachine

_logger = logging.getLogger(__name__)

BUILT_IN: tuple[type[StateMachine], ...] = (
    BarriersMachine,
    CountersMachine,
    KeyValueMachine,
    LedgersMachine,
    LogMachine,
    ObjectsMachine,
    PermitsMachine,
    QueuesMachine,
    SystemMachine,
)


_METHODS = ("apply", "apply_many", "on_due", "query", "save", "load", "digest")


def _kind_of_function(function: object) -> str:
    """What a method is that must be a plain function; empty where it may be one."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "an `async def`"
    return "a generator" if inspect.isgeneratorfunction(function) else ""


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
                says when something is due, and not what becomes of it; or a method is missing, or
                is no plain function. Says what to write.
        """
        kind = getattr(machine_class, "kind", "")
        where = f"the state machine class {machine_class.__qualname__}"
        if not kind or not isinstance(kind, str):
            raise ConfigurationError(
                f"{where} has no `kind`; give it one: kind = "
                f'"{machine_class.__qualname__.rpartition(".")[2].lower()}"'
            )
        missing = ", ".join(f"`{name}`" for name in sorted(machine_class.__abstractmethods__))
        if missing:
            raise ConfigurationError(f"{where} has no {missing}; define what is missing")
        for name in _METHODS:
            kind_of = _kind_of_function(getattr(machine_class, name))
            if kind_of:
                raise ConfigurationError(
                    f"{where}: `{name}` is {kind_of}; make it a plain `def` that returns its "
                    "result: members call it, and nobody awaits it or goes through it"
                )
        says_when = machine_class.due_ns is not StateMachine.due_ns
        if says_when and machine_class.on_due is StateMachine.on_due:
            raise ConfigurationError(
                f"{where} has `due_ns` and no `on_due`; define on_due(self, context), which lets "
                "end what is due"
            )
        registered = self._classes.setdefault((kind, machine_class.version), machine_class)
        if registered is not machine_class:
            raise ConfigurationError(
                f"the machine kind {kind!r} version {machine_class.version} is already "
                f"{registered.__qualname__}; {machine_class.__qualname__} needs another"
            )

    def find(self, kind: str, version: int) -> type[StateMachine] | None:
        """The class of that kind and version, or None.

        One of a user's is imported here, the first time; where that fails, the log says why.
        """
        found = self._classes.get((kind, version))
        if found is not None or not is_own(kind):
            return found
        try:
            own = self.own(kind)
        except ConfigurationError as error:
            _logger.warning("a machine cannot be made: %s", error)
            return None
        if own.version != version:
            _logger.warning("%s is of version %d here, not %d", kind, own.version, version)
            return None
        self._classes[kind, version] = own
        return own

    def own(self, kind: str) -> type[StateMachine]:
        """The class of a user's that a kind names, imported and checked.

        Raises:
            ConfigurationError: As `own_classes.load_own`, and as `register`.
        """
        own = load_own(kind)
        MachineRegistry(()).register(own)
        return own

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
