"""The acceptor's shell: one append and one sync for all that waits for it.

```
 calls of peers ──▶ inbox ──▶ turn: handle all, append, sync ──▶ answers, each to its own call
 own proposer ────▶   │                                 │
                      └── what comes during the sync ◀──┘  waits, and shares the next one
```

Nothing leaves before the sync of every record that was made up to then (R3): the turn is kept over
the sync, and messages are let go by the driver after it. An acceptor has no deadlines and speaks
only when it is spoken to. Clients have a call of their own, which writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ray_paxos.actors.errands import Delivery, Errand
from ray_paxos.actors.role_tracing import AcceptorTracing, trace_role
from ray_paxos.actors.shell import Arrival, Shell, present_errands
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.client_messages import QuorumRead
from ray_paxos.core.driver import Action, Observe, Transmit, Write
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.messages import Accept, Envelope, RoleName
from ray_paxos.core.records import Record
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.wire import decode_envelopes, encode_envelopes, version_of
from ray_paxos.errors import PaxosError
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.opening import OpenedRole, open_acceptor

RECORD_ROOM_BYTES = 1_024
"""What any record takes in the journal, at most, without the value of a vote."""


class AcceptorShell(Shell):
    """Votes for one member, in all its groups."""

    role = RoleName.ACCEPTOR
    _tracing: AcceptorTracing | None = None

    def read(self, batch: bytes) -> bytes:
        """Answer a client's quorum reads.

        Args:
            batch: Encoded envelopes of one client, each a QuorumRead; others are passed over.

        Returns:
            Encoded envelopes for that client, or this role's state where it does not serve.
        """
        if self.serving_role() is None:
            return self.not_serving()
        asked = [e for e in decode_envelopes(batch) if isinstance(e.message, QuorumRead)]
        if not asked:
            return encode_envelopes((), version_of(batch))
        errand = Errand(asked[0].sender)
        for envelope in asked:
            self.hand(Delivery(envelope, errand))
        self.serve_now(errand)
        self._switchboard.settle(errand)
        replies = [envelope for _, envelope in errand.replies]
        return encode_envelopes(replies, version_of(batch))

    def _handle(
        self, opened: OpenedRole, brought: Sequence[Delivery | Arrival], errand: Errand
    ) -> None:
        role, store, driver = opened.role, opened.store, opened.driver
        assert isinstance(role, Acceptor)
        present = present_errands(brought, errand)
        deliveries = [each for each in brought if isinstance(each, Delivery)]
        written = fsync_ns = 0
        try:
            role.storage_full = not store.reserve(sum(_room(each.envelope) for each in deliveries))
            now_ns = self._clock()
            records: list[Record] = []
            for each in deliveries:
                self._asking = each.errand
                for action in driver.receive(each.envelope, now_ns):
                    if isinstance(action, Write):
                        records += action.records
                        written = action.number
                    else:
                        self._execute((action,), present)
            self._asking = None
            if records:
                # One append for all of them: one frame, and the room that was reserved.
                begun_ns = self._clock()
                store.write(records)
                store.sync()
                fsync_ns = self._clock() - begun_ns
                self._observer.note_write(fsync_ns, len(records), _votes_in(deliveries))
        except PaxosError as error:
            self._fail(driver, error)
            return
        if written:
            self._execute(driver.on_durable(written, self._clock()), present)
        if self._tracing is not None:
            self._tracing.voted(deliveries, now_ns, fsync_ns, len(records))

    def _started(self, opened: OpenedRole) -> None:
        self._tracing = trace_role(AcceptorTracing, self._encoded_spec, self._member, self._clock)

    def _execute(self, actions: Sequence[Action], present: Sequence[Errand]) -> None:
        for action in actions:
            match action:
                case Transmit():
                    self._transmit(action, present)
                case Observe(event=event):
                    self._observer.observe(event)
                case other:
                    raise AssertionError(f"an acceptor does not {type(other).__name__}")

    def _open_folder(
        self, spec: ClusterSpec, genesis: Genesis, member_id: int, disk: LocalDisk
    ) -> OpenedRole:
        return open_acceptor(disk, genesis, member_id, settings=spec.acceptor, clock=self._clock)

    def _describe_groups(self, opened: OpenedRole) -> dict[int, dict[str, Any]]:
        assert isinstance(opened.role, Acceptor)
        return {
            group: {
                "floor": votes.floor,
                "votes": len(votes.votes),
                "promise": msgspec.to_builtins(votes.promise),
                "storage_full": opened.role.storage_full,
                "quorum_reads": opened.role.quorum_reads.get(group, 0),
                "barred_ms": opened.role.barred_ns(group, self._clock()) // MILLISECOND_NS,
            }
            for group, votes in opened.role.state.groups.items()
        }


def _votes_in(deliveries: Sequence[Delivery]) -> Iterator[tuple[int, int]]:
    """(group, instance_id) of what votes were asked for."""
    for each in deliveries:
        message = each.envelope.message
        if isinstance(message, Accept):
            yield each.envelope.group, message.instance_id


def _room(envelope: Envelope) -> int:
    message = envelope.message
    return RECORD_ROOM_BYTES + (len(message.value) if isinstance(message, Accept) else 0)
