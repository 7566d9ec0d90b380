"""The calls of one real client, `core.requests`, over the simulated network.

Each call has an address of its own (`calls`), and so an answer of its own. A share of them fails at
once for the client, and arrives all the same.
"""

from __future__ import annotations

import random
from functools import partial

from ray_paxos.core.client_calls import Call
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.requests import ClientRequests
from ray_paxos.testing.calls import call_address
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.network import Transport

FAILING_SHARE = 0.02
"""Of all calls, so many fail at once for the client, and arrive all the same."""


class SessionCalls:
    """What carries the calls of one client."""

    def __init__(
        self,
        requests: ClientRequests,
        *,
        client_id: int,
        group: int,
        members: tuple[int, ...],
        genesis: bytes,
        timeout_ns: int,
        scheduler: Scheduler,
        transport: Transport,
        random: random.Random,
    ) -> None:
        """Make none yet.

        Args:
            requests: Decides which call is made when, and takes in what comes back.
            client_id: Whose.
            group: To whose proposers.
            members: Whom it finds when it looks for further members.
            genesis: Of the cluster.
            timeout_ns: A call that fails does so within this.
            scheduler: Virtual time.
            transport: The network.
            random: Chooses the calls that fail.
        """
        self._requests = requests
        self._client_id = client_id
        self._group = group
        self._members = members
        self._genesis = genesis
        self._timeout_ns = timeout_ns
        self._scheduler = scheduler
        self._transport = transport
        self._random = random
        self._calls: dict[int, Call] = {}
        self._call_count = 0
        self._timer_ns: int | None = None

    def go_on(self) -> None:
        """Make the calls that are due, and wake up for what will be."""
        now_ns = self._scheduler.now_ns
        while (call := self._requests.next_call(now_ns)) is not None:
            self._make(call)
        due_ns = self._requests.due_ns(now_ns)
        if due_ns is not None and (self._timer_ns is None or due_ns < self._timer_ns):
            self._timer_ns = max(due_ns, now_ns + 1)
            self._scheduler.at(self._timer_ns, partial(self._ring, self._timer_ns))

    def _ring(self, timer_ns: int) -> None:
        if self._timer_ns != timer_ns:
            return
        self._timer_ns = None
        outcomes = Outcomes()
        self._requests.on_deadline(self._scheduler.now_ns, outcomes)
        outcomes.settle()
        self.go_on()

    def _make(self, call: Call) -> None:
        self._call_count += 1
        number = self._call_count
        self._calls[number] = call
        sender = call_address(self._client_id, number)
        to = Address(call.member_id, RoleName.PROPOSER)
        envelope = Envelope(self._genesis, self._group, sender, 0, 0, 0, call.message)
        self._transport.send(sender, to, envelope)
        if self._random.random() < FAILING_SHARE:
            delay_ns = self._random.randrange(self._timeout_ns)
            self._scheduler.after(delay_ns, partial(self._fail, number))

    def _fail(self, number: int) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            self._requests.on_lost(call, self._scheduler.now_ns)
            self.go_on()

    def receive_answer(self, number: int, envelope: Envelope) -> None:
        """Take in the answer of one call; what the network repeats is no answer."""
        call = self._calls.pop(number, None)
        if call is None:
            return
        outcomes = Outcomes()
        now_ns = self._scheduler.now_ns
        self._requests.on_answer(call, (envelope,), now_ns, outcomes)
        if self._requests.take_lack_of_members():
            self._requests.meet(self._members, now_ns, outcomes)
        outcomes.settle()
        self.go_on()
