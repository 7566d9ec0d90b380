"""The proposer's shell: peers' messages and clients' requests, answered when they are applied.

```
 client ── submit ────▶ proposer ── accepts ──▶ acceptors;  chosen ──▶ learner
 line   ── exchange ──▶          ◀─ votes, results ──
        ◀── results ──  mailbox
```

A call waits until the master's own learner has applied the commands, whichever way they came; how
the answers find it is said in `line_exchange`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ray_paxos.actors.errands import Delivery, Errand
from ray_paxos.actors.feeds import carried_bytes_max
from ray_paxos.actors.line_exchange import LineExchange
from ray_paxos.actors.role_tracing import ProposerTracing, trace_role
from ray_paxos.actors.shell import Arrival, Shell
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.core.client_messages import (
    OpenSession,
    ReadIndex,
    RefusalCode,
    Refused,
    Submit,
    TransferMaster,
)
from ray_paxos.core.driver import Action, Observe, Run, Transmit, Write
from ray_paxos.core.events import CommandsAnswered, MasterChanged
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.membership_messages import ChangeMembership
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.tasks import Task
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.opening import OpenedRole, open_proposer

REQUESTS = (Submit, OpenSession, ReadIndex, TransferMaster, ChangeMembership)
WATCHERS_MAX = 64
"""So many calls wait for another master at once; more are told at once who leads now."""
WATCH_TIMEOUT_S = 60.0


class ProposerShell(Shell):
    """Proposes for one member, in all its groups."""

    role = RoleName.PROPOSER
    _tracing: ProposerTracing | None = None

    def submit(self, batch: bytes) -> bytes:
        """Take a client's requests in, and return once all of them are answered.

        Args:
            batch: Encoded envelopes of one client, each with one of `REQUESTS`.

        Returns:
            Encoded envelopes with the answers there are, or this role's state.
        """
        opened = self.serving_role()
        if opened is None:
            return self.not_serving()
        return self._exchange.submit(batch)

    def exchange(self, line: int, batch: bytes) -> bytes:
        """Take requests of a line in, and return with what is there for the line.

        Args:
            line: Number of the line, which its process has chosen at random.
            batch: As of `submit`, of any clients; may be empty.

        Returns:
            Encoded answers to requests of any call of the line. None, where another call of the
            line waits in this one's place, or nothing came in time. Or this role's state: nothing
            was taken in.
        """
        opened = self.serving_role()
        if opened is None:
            return self.not_serving()
        return self._exchange.exchange(line, batch)

    def _refusal(self, envelope: Envelope) -> Envelope | None:
        """The answer to a request for a group that is not here."""
        opened = self._opened
        assert opened is not None, "it serves"
        if self._has_group(opened, envelope.group):
            return None
        message = envelope.message
        assert isinstance(message, REQUESTS)
        return self._unknown_group(envelope, message.request_id)

    def watch_master(self, group: int, known_version: int, timeout_s: float) -> tuple[int, int]:
        """Return once a later master record than the known one is applied here, or in time.

        Args:
            group: Whose.
            known_version: The caller's; 0 for none.
            timeout_s: How long to wait for another.

        Returns:
            (member_id of the latest master, version of its record); zeros before the first, or
            where this role does not serve the group.
        """
        opened = self.serving_role()
        if opened is None or not self._has_group(opened, group):
            return 0, 0
        deadline = time.monotonic() + min(timeout_s, WATCH_TIMEOUT_S)
        with self._changed:
            while True:
                master, version = self._proposer(opened, group).master_record
                remaining_s = deadline - time.monotonic()
                is_over = version > known_version or remaining_s <= 0
                if is_over or self._watchers >= WATCHERS_MAX or self._is_ending:
                    return master, version
                self._watchers += 1
                try:
                    self._changed.wait(remaining_s)
                finally:
                    self._watchers -= 1

    def _started(self, opened: OpenedRole) -> None:
        self._genesis_hash = decode_spec(self._encoded_spec).decoded_genesis().hash()
        self._tracing = trace_role(ProposerTracing, self._encoded_spec, self._member, self._clock)
        admit = self._tracing.admit if self._tracing is not None else None
        self._exchange = LineExchange(REQUESTS, self._refusal, self._bring, admit=admit)
        self._changed = threading.Condition()
        self._watchers = 0
        self._is_ending = False

    def _end(self) -> None:
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def _handle(
        self, opened: OpenedRole, brought: Sequence[Delivery | Arrival], errand: Errand
    ) -> None:
        super()._handle(opened, brought, errand)
        self._exchange.open_answered()

    def _execute(self, actions: Sequence[Action], present: Sequence[Errand]) -> None:
        for action in actions:
            match action:
                case Transmit():
                    self._transmit(action, present)
                case Observe(event=event):
                    self._observer.observe(event)
                    if isinstance(event, MasterChanged):
                        with self._changed:
                            self._changed.notify_all()
                    elif self._tracing is not None and isinstance(event, CommandsAnswered):
                        self._tracing.answered(event)
                case Run(task=task):
                    # Rare, and over in a moment: the member was given a group, or has left one.
                    self.background.post(partial(self._run, task))
                case Write():
                    raise AssertionError("a proposer writes nothing")

    def _run(self, task: Task) -> None:
        opened = self.serving_role()
        if opened is None:
            return
        outcome = opened.store.run(task)
        self.arrive(lambda driver, now_ns: driver.on_outcome(task, outcome, now_ns))

    def _answer_client(self, to: Address, envelope: Envelope) -> None:
        if self._tracing is not None:
            self._tracing.sent(to, envelope)
        self._exchange.answer(to, envelope)

    @staticmethod
    def _has_group(opened: OpenedRole, group: int) -> bool:
        assert isinstance(opened.role, GroupRouter)
        return group in opened.role.roles

    def _unknown_group(self, envelope: Envelope, request_id: int) -> Envelope:
        what = f"group {envelope.group} is not at this member"
        refused = Refused(request_id, RefusalCode.UNKNOWN_GROUP, what, 0)
        sender = Address(0, RoleName.PROPOSER)
        return Envelope(self._genesis_hash, envelope.group, sender, 0, 0, 0, refused)

    def _open_folder(
        self, spec: ClusterSpec, genesis: Genesis, member_id: int, disk: LocalDisk
    ) -> OpenedRole:
        # What Ray carries within a call is known where it is called.
        batch_bytes_max = carried_bytes_max(spec.proposer.batch_bytes_max)
        return open_proposer(
            disk,
            genesis,
            member_id,
            settings=replace(spec.proposer, batch_bytes_max=batch_bytes_max),
            random=self._random(),
            now_ns=self._clock(),
            introduce=self._switchboard.introduce,
            priorities=spec.priorities,
        )

    @staticmethod
    def _proposer(opened: OpenedRole, group: int) -> Proposer:
        assert isinstance(opened.role, GroupRouter)
        proposer = opened.role.roles[group]
        assert isinstance(proposer, Proposer)
        return proposer

    def _describe_groups(self, opened: OpenedRole) -> dict[int, dict[str, Any]]:
        assert isinstance(opened.role, GroupRouter)
        described, now_ns = {}, self._clock()
        for group in opened.role.roles:
            proposer = self._proposer(opened, group)
            described[group] = {
                "phase": proposer.phase.value,
                "is_serving": proposer.is_serving,
                "master_id": proposer.master_id,
                "lease_ms": max(proposer.lease_until_ns - now_ns, 0) // 1_000_000,
                "is_voter": proposer.is_voter,
                "silent_ms": {
                    member_id: silent_ns // 1_000_000
                    for member_id, silent_ns in proposer.silent_ns(now_ns).items()
                },
                "queued_requests": proposer.queued[0],
                "queued_bytes": proposer.queued[1],
                "open_instances": proposer.open_instances,
                "reads": proposer.read_counts[0],
                "read_rounds": proposer.read_counts[1],
            }
        return described
