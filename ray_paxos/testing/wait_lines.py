"""The way of a client's waits to learners and back: `core.client_waits`, on lines as on Ray.

A query that waits is held for up to a minute. Who sent it over a network that loses messages would
hear of a loss only then; but on Ray a line (`actors.role_line`) knows when the role at its other
end is gone, gives up what the role owed, and loses nothing while it lasts. So here:

1. What goes by a line arrives, unless the learner does not serve, or has died meanwhile.
2. What finds the line cut leaves once it is mended.
3. A client hears that its queries are lost when their learner is not in the life in which it was
   asked, or the line was cut, or the learner suspended, at each of several looks.

Nothing is asked again here but what `ClientWaits` asks again: a machine that names no topic, and a
learner that forgets what it holds, have to show.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ray_paxos.core.client_calls import Call
from ray_paxos.core.client_waits import ClientWaits, Waiter
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.wire import encode_envelopes
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.network import CLIENT_NODE, Deliver, SimulatedNetwork
from ray_paxos.testing.process import SimulatedProcess

WAITS_BASE = 1 << 20
"""A client's waits come from its own id and this: what is sent there goes by a line."""
LOOK_NS = 200 * MILLISECOND_NS
LOOKS_MAX = 5
"""After so many looks at which nothing could pass, a line gives up what is owed."""
MEND_NS = 50 * MILLISECOND_NS
DELAY_MAX_NS = 5 * MILLISECOND_NS


class Learners(Protocol):
    """How learners are found."""

    def process(self, member_id: int, role: RoleName) -> SimulatedProcess:
        """A process of a member."""


def _is_by_line(address: Address) -> bool:
    return address.role is RoleName.CLIENT and WAITS_BASE <= address.member_id < 2 * WAITS_BASE


class LinedNetwork:
    """The simulated network, beside which there are lines.

    Attributes:
        learners: Set before anything is sent.
    """

    learners: Learners

    def __init__(
        self, network: SimulatedNetwork, scheduler: Scheduler, random: random.Random
    ) -> None:
        """Take over nothing but what goes by lines.

        Args:
            network: Carries all else, and says which links are cut.
            scheduler: Virtual time.
            random: Of the lines alone.
        """
        self._network = network
        self._scheduler = scheduler
        self._random = random
        self._deliver: Deliver | None = None

    def connect(self, deliver: Deliver) -> None:
        """Say where envelopes arrive; before anything is sent."""
        self._deliver = deliver
        self._network.connect(deliver)

    def send(self, sender: Address, to: Address, envelope: Envelope) -> None:
        """Carry an envelope."""
        for address, member_id in ((to, sender.member_id), (sender, to.member_id)):
            if _is_by_line(address):
                life = self.learner(member_id).life
                self._leave(sender, to, encode_envelopes((envelope,)), member_id, life)
                return
        self._network.send(sender, to, envelope)

    def is_cut(self, member_id: int) -> bool:
        """Whether nothing passes between clients and a member, in one direction or both."""
        return self._network.is_cut(CLIENT_NODE, member_id) or self._network.is_cut(
            member_id, CLIENT_NODE
        )

    def learner(self, member_id: int) -> SimulatedProcess:
        """A member's learner."""
        return self.learners.process(member_id, RoleName.LEARNER)

    def _leave(self, sender: Address, to: Address, data: bytes, member_id: int, life: int) -> None:
        """Send something between clients and a learner in this life of it."""
        assert self._deliver is not None, "connected before anything is sent"
        if self.learner(member_id).life != life:
            return
        if self.is_cut(member_id):
            again = partial(self._leave, sender, to, data, member_id, life)
            self._scheduler.after(MEND_NS, again)
            return
        delay_ns = 1 + self._random.randrange(DELAY_MAX_NS)
        self._scheduler.after(delay_ns, partial(self._deliver, sender, to, data))


@dataclass(slots=True)
class _Owed:
    """A query that a learner has, as far as its line knows.

    Attributes:
        call: Which.
        life: Of the learner, when it was asked; None where it did not serve.
        looks: At which nothing could pass, one after the other.
    """

    call: Call
    life: int | None
    looks: int = 0


class WaitingCalls:
    """The waits of one client.

    Invariants: `_owed` has what was sent and is neither answered nor lost.
    """

    def __init__(
        self,
        waits: ClientWaits,
        *,
        client_id: int,
        group: int,
        genesis: bytes,
        scheduler: Scheduler,
        lines: LinedNetwork,
    ) -> None:
        """Wait for nothing.

        Args:
            waits: Decides who is asked, and when again.
            client_id: Whose.
            group: Of whose machines.
            genesis: Of the cluster.
            scheduler: Virtual time.
            lines: Carry them.
        """
        self.address = Address(WAITS_BASE + client_id, RoleName.CLIENT)
        self._waits = waits
        self._group = group
        self._genesis = genesis
        self._scheduler = scheduler
        self._lines = lines
        self._owed: dict[tuple[int, int], _Owed] = {}
        self._timer_ns: int | None = None
        self._is_looking = False

    def add(self, machine: str, request: bytes, at_least: int, waiter: Waiter) -> None:
        """Wait for the answer to a query; arguments as of `ClientWaits.add`."""
        self._waits.add(machine, request, at_least, waiter)
        self._go_on()

    def receive(self, envelope: Envelope) -> None:
        """Take an answer in; one that is not owed any more, too, where it is the first."""
        number = getattr(envelope.message, "request_id", 0)
        owed = self._owed.pop((envelope.sender.member_id, number), None)
        if owed is None:
            return
        outcomes = Outcomes()
        now_ns = self._scheduler.now_ns
        self._waits.on_answer(owed.call, envelope.message, now_ns, outcomes)
        outcomes.settle()
        self._go_on()

    def _go_on(self) -> None:
        now_ns = self._scheduler.now_ns
        while (call := self._waits.next_call(now_ns)) is not None:
            self._ask(call)
        due_ns = self._waits.due_ns
        if due_ns is not None and (self._timer_ns is None or due_ns < self._timer_ns):
            self._timer_ns = max(due_ns, now_ns + 1)
            self._scheduler.at(self._timer_ns, partial(self._ring, self._timer_ns))
        if self._owed and not self._is_looking:
            self._is_looking = True
            self._scheduler.after(LOOK_NS, self._look)

    def _ask(self, call: Call) -> None:
        learner = self._lines.learner(call.member_id)
        life = learner.life if learner.is_serving else None
        self._owed[call.member_id, call.message.request_id] = _Owed(call, life)
        envelope = Envelope(self._genesis, self._group, self.address, 0, 0, 0, call.message)
        self._lines.send(self.address, Address(call.member_id, RoleName.LEARNER), envelope)

    def _ring(self, timer_ns: int) -> None:
        if self._timer_ns != timer_ns:
            return
        self._timer_ns = None
        outcomes = Outcomes()
        self._waits.on_time(self._scheduler.now_ns, outcomes)
        outcomes.settle()
        self._go_on()

    def _look(self) -> None:
        """Give up what will not be answered."""
        self._is_looking = False
        for place, owed in list(self._owed.items()):
            what = self._loss(owed)
            if what and self._owed.pop(place, None) is not None:
                self._waits.on_lost(owed.call, what, self._scheduler.now_ns)
        self._go_on()

    def _loss(self, owed: _Owed) -> str:
        member_id = owed.call.member_id
        learner = self._lines.learner(member_id)
        if learner.life != owed.life or not learner.is_serving:
            return "its learner is gone"
        stands_still = self._lines.is_cut(member_id) or learner.is_suspended
        owed.looks = owed.looks + 1 if stands_still else 0
        return "it is not reached" if owed.looks >= LOOKS_MAX else ""
