"""The acceptor actor: a sync actor that appends and syncs once for each call.

A call carries envelopes of all groups that the caller had to send, so one fsync serves them all,
and the answers ride back as the call's result. Nothing here runs in the background: an acceptor
has no deadlines and speaks only when it is spoken to. Clients have a call of their own, which
writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ray_paxos.actors.role import RoleActor
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.client_messages import QuorumRead
from ray_paxos.core.driver import Action, Observe, Transmit, Write
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.messages import Envelope, RoleName
from ray_paxos.core.records import Record
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.errors import PaxosError
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.opening import OpenedRole, open_acceptor

RECORD_OVERHEAD_BYTES = 256


class AcceptorActor(RoleActor):
    """Votes for one member, in all its groups."""

    role = RoleName.ACCEPTOR

    def deliver(self, batch: bytes) -> bytes:
        """Take envelopes in, make durable what they ask for, and answer.

        Args:
            batch: Encoded envelopes of one sender.

        Returns:
            Encoded envelopes for that sender, or this role's state where it does not serve.
        """
        opened = self._serving_role()
        if opened is None:
            return self._not_serving()
        envelopes = decode_envelopes(batch)
        with self._handling():
            return self._vote(opened, envelopes, len(batch))

    def read(self, batch: bytes) -> bytes:
        """Answer a client's quorum reads.

        Args:
            batch: Encoded envelopes of one client, each a QuorumRead; others are passed over.

        Returns:
            Encoded envelopes for that client, or this role's state where it does not serve.
        """
        opened = self._serving_role()
        if opened is None:
            return self._not_serving()
        asked = [e for e in decode_envelopes(batch) if isinstance(e.message, QuorumRead)]
        replies: list[Envelope] = []
        with self._handling():
            for envelope in asked:
                for action in opened.driver.receive(envelope, self._clock()):
                    self._take(action, replies)
        return encode_envelopes(replies)

    def _vote(self, opened: OpenedRole, envelopes: Sequence[Envelope], byte_count: int) -> bytes:
        role, store, driver = opened.role, opened.store, opened.driver
        assert isinstance(role, Acceptor)
        replies: list[Envelope] = []
        written = 0
        try:
            room = byte_count + RECORD_OVERHEAD_BYTES * len(envelopes)
            role.storage_full = not store.reserve(room)
            now_ns = self._clock()
            records: list[Record] = []
            for envelope in envelopes:
                for action in driver.receive(envelope, now_ns):
                    if isinstance(action, Write):
                        records += action.records
                        written = action.number
                    else:
                        self._take(action, replies)
            if records:
                # One append for the whole call: one frame, and the room that was reserved.
                store.write(records)
                store.sync()
        except PaxosError as error:
            self._fail(driver, error)
            return self._not_serving()
        if written:
            for action in driver.on_durable(written, self._clock()):
                self._take(action, replies)
        return encode_envelopes(replies)

    def wait_open(self, timeout_s: float) -> None:
        """Return once opening has ended, well or badly, or the time ran out."""
        self._opening.wait(timeout_s)

    def close(self) -> None:
        """Stop cleanly: the journal gets its end mark, and the folder is let go of."""
        opened = self._serving_role() or self._opening.cancel()
        self._stop("closed", "")
        if opened is not None:
            opened.store.close()

    def _take(self, action: Action, replies: list[Envelope]) -> None:
        match action:
            case Transmit(envelope=envelope):
                # An acceptor answers whoever asked, and every call has one asker.
                replies.append(envelope)
            case Observe(event=event):
                self._events.observe(event)
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
            }
            for group, votes in opened.role.state.groups.items()
        }
