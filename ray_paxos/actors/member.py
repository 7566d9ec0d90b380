"""The actor of a whole member, with `roles: fused`: four shells, reached by calls of few kinds.

```
 a lone command, at the master                                  at a follower
 client ─ submit ─▶ proposer ─▶ feed ─────── deliver ─────────▶ acceptor: append, sync
                    └▶ acceptor: append, sync                    │ (chosen of earlier ones: learner)
                       ▼                                         │
                    proposer ◀──────────── accepted ◀────────────┘
                    └▶ learner: apply ─▶ proposer
 client ◀─ results ─────────────────────────┘
```

What the roles of one member have for each other never leaves the process. What they have for
another member goes in one call, and what that one's roles have to say to it comes back as the
call's answer.

Calls run in threads, each kind in a group of its own, so that none waits behind another kind:
peers' messages never behind clients that wait for results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import ray

# Decoders are made when their modules are imported, and two threads that make some at once crash
# the process (msgspec): all modules that the shells' threads need later are imported here.
import ray_paxos.storage.checkpoint_state
import ray_paxos.storage.journal_files  # noqa: F401
from ray_paxos.actors.acceptor_shell import AcceptorShell
from ray_paxos.actors.checkpointer_shell import CheckpointerShell
from ray_paxos.actors.interpreter import settle_in
from ray_paxos.actors.learner_shell import LearnerShell
from ray_paxos.actors.names import ROLE_NAMES
from ray_paxos.actors.observing import Observing
from ray_paxos.actors.peers import Introduction
from ray_paxos.actors.proposer import CLIENT_THREADS
from ray_paxos.actors.proposer_shell import WATCHERS_MAX, ProposerShell
from ray_paxos.actors.role import (
    CLIENTS,
    CONTROL,
    PEERS,
    READS,
    WAITER_THREADS,
    WAITERS,
    WATCHERS,
    own_handle,
    own_node_id,
)
from ray_paxos.actors.shell import Clock, Shell, boot_time_ns, member_folder
from ray_paxos.actors.spec import decode_spec
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import ConfigurationError

QUORUM_READS = "quorum_reads"
ROLES = {text: role for role, text in ROLE_NAMES.items()}


class MemberActor:
    """All four roles of one member."""

    concurrency_groups: ClassVar[dict[str, int]] = {
        PEERS: 4,
        CLIENTS: CLIENT_THREADS,
        READS: 1,
        QUORUM_READS: 2,
        WATCHERS: WATCHERS_MAX + 2,
        WAITERS: WAITER_THREADS,
        CONTROL: 8,
    }

    def __init__(self, spec: bytes, member: str, clock: Clock = boot_time_ns) -> None:
        """Start opening all roles, in the background; touches no disk and does not raise.

        Args:
            spec: The cluster's, encoded.
            member: Whose roles these are.
            clock: Nanoseconds, never falling.
        """
        settle_in()
        self._encoded_spec = spec
        self._member = member
        switchboard = self._switchboard = Switchboard()
        self._proposer = ProposerShell(spec, member, switchboard, clock=clock)
        self._acceptor = AcceptorShell(spec, member, switchboard, clock=clock)
        self._learner = LearnerShell(spec, member, switchboard, clock=clock)
        self._checkpointer = CheckpointerShell(
            spec, member, switchboard, clock=clock, niceness=CheckpointerShell.niceness
        )
        self._learner.measure_by(lambda: own_handle().came_back.remote())
        shells = (self._proposer, self._acceptor, self._learner, self._checkpointer)
        self._shells: dict[RoleName, Shell] = {shell.role: shell for shell in shells}
        switchboard.plug_in(*shells)
        Observing(spec, member, shells).begin()

    @ray.method(concurrency_group=PEERS)
    def deliver(self, batch: bytes, introduction: Introduction = None) -> bytes:
        """Take in what another member's roles have for the roles here.

        Args:
            batch: Addressed envelopes of one member.
            introduction: Of a member that joined after the genesis.

        Returns:
            Addressed envelopes for that member, or a state where no role serves.
        """
        self._switchboard.take_introduction(introduction)
        return self._switchboard.deliver_addressed(batch)

    @ray.method(concurrency_group=CLIENTS)
    def submit(self, batch: bytes) -> bytes:
        """Take a client's requests in, as `ProposerShell.submit`."""
        return self._proposer.submit(batch)

    @ray.method(concurrency_group=CLIENTS)
    def exchange(self, line: int, batch: bytes) -> bytes:
        """Take a line's requests in and give it answers, as `ProposerShell.exchange`."""
        return self._proposer.exchange(line, batch)

    @ray.method(concurrency_group=WATCHERS)
    def watch_master(self, group: int, known_version: int, timeout_s: float) -> tuple[int, int]:
        """Wait for another master, as `ProposerShell.watch_master`."""
        return self._proposer.watch_master(group, known_version, timeout_s)

    @ray.method(concurrency_group=READS)
    def query(self, batch: bytes) -> bytes:
        """Answer a client's reads from what the learner has applied."""
        return self._switchboard.deliver(RoleName.LEARNER, batch)

    @ray.method(concurrency_group=WAITERS)
    def exchange_queries(self, line: int, batch: bytes) -> bytes:
        """Take queries that may wait, as `LearnerShell.exchange_queries`."""
        return self._learner.exchange_queries(line, batch)

    @ray.method(concurrency_group=READS)
    def came_back(self) -> None:
        """The actor's own call, by which the learner measures how long reads wait."""
        self._learner.came_back()

    @ray.method(concurrency_group=QUORUM_READS)
    def read(self, batch: bytes) -> bytes:
        """Answer a client's quorum reads, as `AcceptorShell.read`."""
        return self._acceptor.read(batch)

    @ray.method(concurrency_group=CONTROL)
    def describe(self) -> bytes:
        """The cluster's spec, for drivers that attach, and its version as far as known here."""
        return decode_spec(self._encoded_spec).under(self._switchboard.version).encoded()

    @ray.method(concurrency_group=CONTROL)
    def ask(self, role: str, method: str, *arguments: Any) -> Any:
        """Ask one of the roles what an actor of its own is asked by a call.

        Args:
            role: Its name.
            method: `close`, `configuration`, `deliver`, `digest`, `folder`, `memberships`,
                `observe`, `raise_version`, `report`, `state` or `wait_open`.
            arguments: Of the method.

        Returns:
            As the method of the role's own actor.

        Raises:
            ConfigurationError: There is no such role or method.
        """
        name = ROLES.get(role)
        if name is None:
            raise ConfigurationError(f"role: found {role!r}; allowed: {', '.join(ROLES)}")
        shell = self._shells[name]
        methods: dict[str, Callable[..., Any]] = {
            "close": lambda: self._switchboard.close(name),
            "deliver": lambda batch: self._switchboard.deliver(name, batch),
            "configuration": self._learner.configuration,
            "memberships": lambda: {**self._learner.memberships(), "node_id": own_node_id()},
            "digest": self._learner.digest,
            "folder": lambda: str(member_folder(decode_spec(self._encoded_spec), self._member)),
            "observe": shell.observe,
            "report": lambda *arguments: self._report(shell, *arguments),
            "state": lambda wait_open_s=0.0: self._state(shell, wait_open_s),
            "wait_open": shell.wait_open,
            "raise_version": self._switchboard.raise_version,
        }
        if method not in methods:
            raise ConfigurationError(f"method: found {method!r}; allowed: {', '.join(methods)}")
        return methods[method](*arguments)

    @staticmethod
    def _report(shell: Shell, events_after: int, with_slow: bool) -> tuple[dict[str, Any], bytes]:
        state, report = shell.report(events_after, with_slow)
        return {**state, "node_id": own_node_id()}, report

    @staticmethod
    def _state(shell: Shell, wait_open_s: float) -> dict[str, Any]:
        if wait_open_s:
            shell.wait_open(wait_open_s)
        return {**shell.state(), "node_id": own_node_id()}
