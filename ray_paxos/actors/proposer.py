"""The proposer actor: one asyncio loop that owns the role and all its calls.

Peers' messages and clients' requests come in as calls; messages to peers go out by feeds, whose
answers are handled on the same loop. A protocol step never awaits, so nothing needs a lock. A
client's call stays open until the master's own learner has applied its commands:

```
 client ── submit ──▶ proposer ── feeds ──▶ acceptors, learner
        ◀── results ─────────  ◀─ answers ──
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ray_paxos.actors.feeds import FeedLimits
from ray_paxos.actors.outbound import Feeds
from ray_paxos.actors.role import RoleActor, own_handle
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.actors.waiting_calls import RequestKey, WaitingCalls
from ray_paxos.core.client_messages import (
    OpenSession,
    ReadIndex,
    RefusalCode,
    Refused,
    Submit,
    TransferMaster,
)
from ray_paxos.core.driver import Action, Driver, Observe, Transmit
from ray_paxos.core.events import MasterChanged
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.wire import decode_envelopes, encode_envelope, encode_envelopes
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.opening import OpenedRole, open_proposer

WATCHERS_MAX = 1_000
WATCH_TIMEOUT_S = 60.0
REPLY_TIMEOUT_S = 10.0
"""A client's call that is not answered by then returns with nothing; clients give up sooner."""


class ProposerActor(RoleActor):
    """Proposes for one member, in all its groups."""

    role = RoleName.PROPOSER

    async def deliver(self, batch: bytes) -> bytes:
        """Take a peer's envelopes in; answers as `AcceptorActor.deliver`."""
        opened = self._serving_role()
        if opened is None:
            return self._not_serving()
        envelopes = decode_envelopes(batch)
        if not envelopes:
            return encode_envelopes(())
        replies: list[Envelope] = []
        self._receive(opened.driver, envelopes, envelopes[0].sender, replies)
        return encode_envelopes(replies)

    async def submit(self, batch: bytes) -> bytes:
        """Take a client's requests in, and return once all of them are answered.

        Args:
            batch: Encoded envelopes of one client, each a Submit, an OpenSession, a ReadIndex or a
                TransferMaster.

        Returns:
            Encoded envelopes with the answers there are, or this role's state.
        """
        opened = self._serving_role()
        if opened is None:
            return self._not_serving()
        replies: list[Envelope] = []
        asked: list[Envelope] = []
        waiters: dict[RequestKey, asyncio.Future[Envelope]] = {}
        calls = self._calls
        for envelope in decode_envelopes(batch):
            message = envelope.message
            if not isinstance(message, Submit | OpenSession | ReadIndex | TransferMaster):
                continue
            if not self._has_group(opened, envelope.group):
                replies.append(self._unknown_group(envelope, message.request_id))
                continue
            key = (envelope.sender, message.request_id)
            if key not in waiters:
                waiters[key] = calls.join(key)
            asked.append(envelope)
        if waiters:
            try:
                self._receive(opened.driver, asked, None, [])
                await asyncio.wait(waiters.values(), timeout=REPLY_TIMEOUT_S)
            finally:
                for key, waiter in waiters.items():
                    calls.leave(key, waiter)
        replies += [waiter.result() for waiter in waiters.values() if waiter.done()]
        return encode_envelopes(replies)

    async def watch_master(
        self, group: int, known_version: int, timeout_s: float
    ) -> tuple[int, int]:
        """Return once a later master record than the known one is applied here, or in time.

        Args:
            group: Whose.
            known_version: The caller's; 0 for none.
            timeout_s: How long to wait for another.

        Returns:
            (member_id of the latest master, version of its record); zeros before the first, or
            where this role does not serve the group.
        """
        opened = self._serving_role()
        if opened is None or not self._has_group(opened, group):
            return 0, 0
        deadline = self._loop.time() + min(timeout_s, WATCH_TIMEOUT_S)
        while True:
            master, version = self._proposer(opened, group).master_record
            remaining_s = deadline - self._loop.time()
            if version > known_version or remaining_s <= 0 or len(self._watchers) >= WATCHERS_MAX:
                return master, version
            watcher = self._loop.create_future()
            self._watchers.add(watcher)
            try:
                await asyncio.wait((watcher,), timeout=remaining_s)
            finally:
                # Also where the call is cancelled, or there would soon be no room for others.
                self._watchers.discard(watcher)

    async def wake(self) -> None:
        """The role was opened: begin to serve."""
        self._serving_role()

    async def wait_open(self, timeout_s: float) -> None:
        """Return once opening has ended, well or badly, or the time ran out."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._opening.wait, timeout_s)

    async def close(self) -> None:
        """Stop cleanly: no more requests, no more messages, and the folder is let go of."""
        opened = self._serving_role()
        if opened is None:
            opened = self._opening.cancel()
        else:
            self._feeds.close()
            if self._timer is not None:
                self._timer.cancel()
        self._stop("closed", "")
        if opened is not None:
            opened.store.close()

    # Parts; on the loop.

    def _on_opened(self) -> None:
        own_handle().wake.remote()

    def _started(self, opened: OpenedRole) -> None:
        spec = decode_spec(self._encoded_spec)
        self._loop = asyncio.get_running_loop()
        self._genesis_hash = spec.decoded_genesis().hash()
        self._calls = WaitingCalls(self._loop)
        self._watchers: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._feeds = Feeds(
            spec.decoded_genesis(),
            loop=self._loop,
            on_answer=self._on_answer,
            limits=FeedLimits.for_this_process(),
        )
        self._set_timer(opened.driver)

    def _on_answer(self, envelopes: Sequence[Envelope]) -> None:
        """A peer answered a call of ours."""
        opened = self._serving_role()
        if opened is not None:
            self._receive(opened.driver, envelopes, None, [])

    def _receive(
        self,
        driver: Driver,
        envelopes: Sequence[Envelope],
        caller: Address | None,
        replies: list[Envelope],
    ) -> None:
        now_ns = self._clock()
        with self._handling():
            for envelope in envelopes:
                self._execute(driver.receive(envelope, now_ns), caller, replies)
            self._set_timer(driver)

    def _execute(
        self, actions: Sequence[Action], caller: Address | None, replies: list[Envelope]
    ) -> None:
        encoded, encoded_message = b"", None
        for action in actions:
            match action:
                case Transmit(to=to, envelope=envelope):
                    if to == caller:
                        replies.append(envelope)
                    elif to.role is RoleName.CLIENT:
                        self._answer_client(to, envelope)
                    else:
                        # The same message to several peers is encoded once.
                        if envelope.message is not encoded_message:
                            encoded, encoded_message = encode_envelope(envelope), envelope.message
                        self._feeds.put(to, encoded)
                case Observe(event=event):
                    self._events.observe(event)
                    if isinstance(event, MasterChanged):
                        self._tell_watchers()
                case other:
                    raise AssertionError(f"a proposer does not {type(other).__name__}")

    def _tell_watchers(self) -> None:
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _answer_client(self, to: Address, envelope: Envelope) -> None:
        request_id = getattr(envelope.message, "request_id", None)
        if request_id is not None:
            self._calls.answer((to, request_id), envelope)

    def _set_timer(self, driver: Driver) -> None:
        """Have the timer run out by the driver's deadline; an earlier one is set again then."""
        deadline_ns = driver.deadline_ns
        if deadline_ns is None:
            return
        if self._timer is not None:
            if self._timer_ns <= deadline_ns:
                return
            self._timer.cancel()
        delay_s = max(deadline_ns - self._clock(), 0) / 1e9
        self._timer_ns = deadline_ns
        self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        opened = self._serving_role()
        if opened is None:
            return
        driver, now_ns = opened.driver, self._clock()
        with self._handling():
            if driver.deadline_ns is not None and driver.deadline_ns <= now_ns:
                self._execute(driver.on_deadline(now_ns), None, [])
            self._set_timer(driver)

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
        return open_proposer(
            disk,
            genesis,
            member_id,
            settings=spec.proposer,
            random=self._random(),
            now_ns=self._clock(),
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
        described = {}
        for group in opened.role.roles:
            proposer = self._proposer(opened, group)
            described[group] = {
                "phase": proposer.phase.value,
                "is_serving": proposer.is_serving,
                "master_id": proposer.master_id,
                "lease_ms": max(proposer.lease_until_ns - self._clock(), 0) // 1_000_000,
                "reads": proposer.read_counts[0],
                "read_rounds": proposer.read_counts[1],
            }
        return described
