"""What the actors of single roles share (`roles: separate`): each is one shell, reached by calls.

Calls run in several threads, in groups of their own, so that no kind of call waits behind another
kind: a peer's message not behind clients that wait for results, and a question for the state behind
neither. What they share is the shell's, which sees to whose turn it is.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import ray

from ray_paxos.actors.background import be_nicer
from ray_paxos.actors.interpreter import settle_in
from ray_paxos.actors.observing import Observing
from ray_paxos.actors.peers import Introduction
from ray_paxos.actors.shell import Clock, Shell, boot_time_ns, member_folder
from ray_paxos.actors.spec import decode_spec
from ray_paxos.actors.switchboard import Switchboard

PEERS = "peers"
CLIENTS = "clients"
READS = "reads"
WATCHERS = "watchers"
WAITERS = "waiters"
CONTROL = "control"
GROUPS = {PEERS: 2, CONTROL: 4}
"""Threads for each kind of call. A role is called by few peers, each with a call at a time."""
WAITER_THREADS = 256
"""So many processes may wait for something at one learner; those beyond wait in Ray's queue until
one of these has its answer, ten seconds at most. As threads they cost next to nothing: a fused
member had 148 MB without them, and 150 with."""


def own_handle() -> Any:
    """A handle of the actor that this process runs."""
    return ray.get_runtime_context().current_actor


def own_node_id() -> str:
    """Ray's id of this process's node."""
    node_id: str = ray.get_runtime_context().get_node_id()
    return node_id


Own = TypeVar("Own", bound=Shell)


class RoleActor(Generic[Own]):
    """Base of the role actors."""

    shell_class: type[Own]
    concurrency_groups: ClassVar[dict[str, int]] = GROUPS

    def __init__(self, spec: bytes, member: str, clock: Clock = boot_time_ns) -> None:
        """Start opening, in the background; touches no disk and does not raise.

        Args:
            spec: The cluster's, encoded.
            member: Whose role this is.
            clock: Nanoseconds, never falling.
        """
        # Before any other thread is started: each has its own, and inherits its maker's.
        be_nicer(self.shell_class.niceness)
        settle_in()
        self._encoded_spec = spec
        self._member = member
        self._switchboard = Switchboard()
        self._shell = self.shell_class(spec, member, self._switchboard, clock=clock)
        self._switchboard.plug_in(self._shell)
        Observing(spec, member, (self._shell,)).begin()

    @ray.method(concurrency_group=PEERS)
    def deliver(self, batch: bytes, introduction: Introduction = None) -> bytes:
        """Take envelopes in, and answer what can be answered at once.

        Args:
            batch: Encoded envelopes of one sender.
            introduction: Of a member that joined after the genesis.

        Returns:
            Encoded envelopes for that sender, or this role's state where it does not serve.
        """
        self._switchboard.take_introduction(introduction)
        return self._switchboard.deliver(self._shell.role, batch)

    @ray.method(concurrency_group=CONTROL)
    def describe(self) -> bytes:
        """The cluster's spec, for drivers that attach, and its version as far as known here."""
        return decode_spec(self._encoded_spec).under(self._switchboard.version).encoded()

    @ray.method(concurrency_group=CONTROL)
    def raise_version(self, version: int) -> None:
        """Go by this cluster version from here on.

        Raises:
            ReleaseError: This release does not know it.
        """
        self._switchboard.raise_version(version)

    @ray.method(concurrency_group=CONTROL)
    def folder(self) -> str:
        """The member's folder, on this node."""
        return str(member_folder(decode_spec(self._encoded_spec), self._member))

    @ray.method(concurrency_group=CONTROL)
    def state(self, wait_open_s: float = 0.0) -> dict[str, Any]:
        """What this role is doing, as plain data.

        Args:
            wait_open_s: For how long to wait until opening has ended, well or badly.
        """
        if wait_open_s:
            self._shell.wait_open(wait_open_s)
        return {**self._shell.state(), "node_id": own_node_id()}

    @ray.method(concurrency_group=CONTROL)
    def report(self, events_after: int, with_slow: bool) -> tuple[dict[str, Any], bytes]:
        """What this role is doing, and what it has counted, as `Shell.report`."""
        state, report = self._shell.report(events_after, with_slow)
        return {**state, "node_id": own_node_id()}, report

    @ray.method(concurrency_group=CONTROL)
    def observe(self, is_on: bool) -> None:
        """Observe from here on, or not, as `Shell.observe`."""
        self._shell.observe(is_on)

    @ray.method(concurrency_group=CONTROL)
    def wait_open(self, timeout_s: float) -> None:
        """Return once opening has ended, well or badly, or the time ran out."""
        self._shell.wait_open(timeout_s)

    @ray.method(concurrency_group=CONTROL)
    def close(self) -> None:
        """Stop cleanly, and let go of the folder."""
        self._switchboard.close(self._shell.role)
