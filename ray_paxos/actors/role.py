"""What all role actors share: how they come up, what they say of themselves, how they end.

```
 constructor ──▶ opening ──────▶ serving ──────▶ stopped
 (starts the      │  ▲ again      (answers        (a failed write or fsync, damage, a clean close;
  opening thread)  └──┘            envelopes)       stays up and says why)
```

A restarted actor is made by Ray with the same arguments and comes up by itself. It never exits on
its own: fail-stop is the state `stopped`, since a process that ends would only be started again.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import ray

from ray_paxos.actors.answers import RolePhase, RoleState, encode_state
from ray_paxos.actors.names import actor_name
from ray_paxos.actors.observing import EventLog, set_up_logging
from ray_paxos.actors.opening import Opening
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.core.driver import Driver, Observe
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import InvariantViolationError
from ray_paxos.storage.data_dir import resolve_data_dir
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.opening import OpenedRole

Clock = Callable[[], int]


def boot_time_ns() -> int:
    """Nanoseconds since boot, suspends included: the one clock that roles see."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def own_handle() -> Any:
    """A handle of the actor that this process runs."""
    return ray.get_runtime_context().current_actor


def member_folder(spec: ClusterSpec, member: str) -> Path:
    """A member's folder on this node.

    Raises:
        ConfigurationError: The data directory means nothing here.
    """
    cluster = spec.decoded_genesis().cluster
    return resolve_data_dir(spec.data_dir, os.environ) / cluster / member


class RoleActor:
    """Base of the role actors.

    Invariants: `_opened` is set once, by the main thread; nothing is answered with envelopes
    before that, or after `_stopped` is set.
    """

    role: ClassVar[RoleName]
    niceness: ClassVar[int] = 0
    """Of its threads, above that of Ray's workers: who waits for what it does?"""

    def __init__(self, spec: bytes, member: str, clock: Clock = boot_time_ns) -> None:
        """Start opening, in the background; touches no disk and does not raise.

        Args:
            spec: The cluster's, encoded.
            member: Whose role this is.
            clock: Nanoseconds, never falling.
        """
        if self.niceness:
            # Before any thread is started: each has its own, and inherits its maker's.
            os.nice(self.niceness)
        self._encoded_spec = spec
        self._member = member
        self._clock = clock
        self._opened: OpenedRole | None = None
        self._stopped: RoleState | None = None
        self._events = EventLog(f"{member}/{self.role.name.lower()}")
        self._opening = Opening(self._open, self._on_opened)

    # What others may call on every role.

    def describe(self) -> bytes:
        """The cluster's spec, for drivers that attach."""
        return self._encoded_spec

    def folder(self) -> str:
        """The member's folder, on this node."""
        return str(member_folder(decode_spec(self._encoded_spec), self._member))

    def state(self) -> dict[str, Any]:
        """What this role is doing, as plain data."""
        opened = self._serving_role()
        state = self._role_state()
        return {
            "member": self._member,
            "role": self.role.name.lower(),
            "phase": state.phase.value,
            "reason": state.reason,
            "error": state.error,
            "pid": os.getpid(),
            "node_id": ray.get_runtime_context().get_node_id(),
            "incarnation": opened.incarnation if opened is not None else 0,
            "stopped_groups": dict(opened.stopped_groups) if opened is not None else {},
            "groups": self._describe_groups(opened) if opened is not None else {},
        }

    # For the subclasses.

    def _open_folder(
        self, spec: ClusterSpec, genesis: Genesis, member_id: int, disk: LocalDisk
    ) -> OpenedRole:
        """Open the role's own folder; in the opening thread."""
        raise NotImplementedError

    def _describe_groups(self, opened: OpenedRole) -> dict[int, dict[str, Any]]:
        """What there is to say of each group."""
        raise NotImplementedError

    def _on_opened(self) -> None:
        """The role waits to be taken; in the opening thread."""

    def _started(self, opened: OpenedRole) -> None:
        """The role was taken and is served from here on; in the main thread."""

    def _open(self) -> OpenedRole:
        spec = decode_spec(self._encoded_spec)
        set_up_logging(spec.log_level)
        genesis = spec.decoded_genesis()
        ids = {member.name: member.member_id for member in genesis.members}
        disk = LocalDisk(member_folder(spec, self._member))
        self._events = EventLog(actor_name(genesis.cluster, self._member, self.role))
        return self._open_folder(spec, genesis, ids[self._member], disk)

    def _random(self) -> random.Random:
        return random.Random(secrets.randbits(64))

    def _serving_role(self) -> OpenedRole | None:
        """The role, where it serves; takes it over when it has been opened meanwhile."""
        if self._opened is None:
            self._opened = self._opening.take()
            if self._opened is None:
                return None
            self._started(self._opened)
        return self._opened if self._stopped is None else None

    def _role_state(self) -> RoleState:
        if self._stopped is not None:
            return self._stopped
        if self._opened is None and self._opening.state.phase is RolePhase.SERVING:
            return RoleState(RolePhase.OPENING, "about to serve")
        return self._opening.state

    def _not_serving(self) -> bytes:
        return encode_state(self._role_state())

    def _stop(self, reason: str, error: str) -> None:
        """Serve no more, for good."""
        if self._stopped is None:
            self._stopped = RoleState(RolePhase.STOPPED, reason, error)

    def _fail(self, driver: Driver, error: Exception) -> None:
        """A write or fsync failed: vouch for nothing more (R3)."""
        for action in driver.on_storage_failed(str(error)):
            if isinstance(action, Observe):
                self._events.observe(action.event)
        self._stop(str(error), type(error).__name__)

    @contextlib.contextmanager
    def _handling(self) -> Iterator[None]:
        """Around every step of the role: one that breaks off leaves it in no state to go on."""
        is_whole = False
        try:
            yield
            is_whole = True
        finally:
            if not is_whole:
                self._stop(
                    "a step of the protocol broke off, which is a bug; see this actor's log",
                    InvariantViolationError.__name__,
                )
