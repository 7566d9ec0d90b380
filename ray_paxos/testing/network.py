"""The simulated network: everything that a datagram can suffer, drawn from one seed.

Every envelope goes through its binary form, so that the wire format is exercised and no two
processes ever share an object. Between members it may be lost, repeated, delayed by anything from
a fraction of a millisecond to seconds (and so overtaken), or cut off by a partition, in one
direction or both. Between two processes of one member (calls on one machine) it is not lost and
seldom repeated, but it is delayed, may be overtaken, and is gone if its receiver dies first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Protocol

from ray_paxos.core.messages import Accept, Address, Envelope, RoleName
from ray_paxos.core.wire import encode_envelopes
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.options import MICROSECOND_NS, NetworkOptions

CLIENT_NODE = 0
"""All clients stand on one side of any partition; this is their place."""

Deliver = Callable[[Address, Address, bytes], None]
"""Called with sender, receiver and the envelope's binary form when an envelope arrives."""


class Transport(Protocol):
    """What carries envelopes between processes and clients."""

    def connect(self, deliver: Deliver) -> None:
        """Say where envelopes arrive; before anything is sent."""

    def send(self, sender: Address, to: Address, envelope: Envelope) -> None:
        """Carry an envelope, or lose it."""


def node_of(address: Address) -> int:
    """Where a process runs, for partitions: its member, or the clients' side."""
    return CLIENT_NODE if address.role is RoleName.CLIENT else address.member_id


class SimulatedNetwork:
    """Carries envelopes with delays and losses drawn at random.

    Attributes:
        options: How bad the network is; `calm` replaces them.
        counts: How many were lost, repeated and cut off.
        hides_instance: While set, every accept of the next instance proposed gets lost, and of no
            other: the later ones of a pipeline are then voted for over a hole.
        sent_over_hole: Accepts of later instances sent meanwhile.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        random: Random,
        options: NetworkOptions,
    ) -> None:
        """Start with every link up."""
        self.options = options
        self.counts: Counter[str] = Counter()
        self.hides_instance = False
        self.sent_over_hole = 0
        self._hidden: tuple[int, int] | None = None
        self._scheduler = scheduler
        self._random = random
        self._deliver: Deliver | None = None
        self._cuts: Counter[tuple[int, int]] = Counter()

    def connect(self, deliver: Deliver) -> None:
        """Say where envelopes arrive; before anything is sent."""
        self._deliver = deliver

    def send(self, sender: Address, to: Address, envelope: Envelope) -> None:
        """Carry an envelope, or lose it."""
        data = encode_envelopes((envelope,))
        source, target = node_of(sender), node_of(to)
        if source == target:
            self._carry_locally(sender, to, data)
            return
        if self._cuts[source, target]:
            self.counts["cut off"] += 1
            return
        draw = self._random.random
        options = self.options
        if self.hides_instance and self._hides(envelope):
            self.counts["accepts hidden"] += 1
            return
        loss = options.loss
        if options.lossy_kind and type(envelope.message).__name__ == options.lossy_kind:
            loss = max(loss, options.lossy_rate)
        if loss and draw() < loss:
            self.counts["lost"] += 1
            return
        self._carry(sender, to, data)
        if options.duplication and draw() < options.duplication:
            self.counts["repeated"] += 1
            self._carry(sender, to, data)

    def _hides(self, envelope: Envelope) -> bool:
        message = envelope.message
        if not isinstance(message, Accept):
            return False
        place = (envelope.group, message.instance_id)
        self._hidden = self._hidden or place
        if self._hidden == place:
            return True
        self.sent_over_hole += self._hidden < place
        return False

    def show(self) -> None:
        """Hide no instance any more."""
        self.hides_instance = False
        self.sent_over_hole = 0
        self._hidden = None

    def _carry(self, sender: Address, to: Address, data: bytes) -> None:
        draw = self._random.random
        options = self.options
        delay_ns = options.delay_min_ns + int(draw() * options.delay_spread_ns)
        if options.straggling and draw() < options.straggling:
            delay_ns += int(draw() * options.straggle_max_ns)
            self.counts["delayed"] += 1
        self._arrive(delay_ns, sender, to, data)

    def _carry_locally(self, sender: Address, to: Address, data: bytes) -> None:
        draw = self._random.random
        options = self.options
        delay_ns = int((20 + 200 * draw()) * MICROSECOND_NS)
        if options.local_straggling and draw() < options.local_straggling:
            delay_ns += int(draw() * options.local_straggle_max_ns)
        self._arrive(delay_ns, sender, to, data)
        if options.local_duplication and draw() < options.local_duplication:
            self.counts["repeated"] += 1
            delay_ns += int(draw() * options.local_straggle_max_ns)
            self._arrive(delay_ns, sender, to, data)

    def _arrive(self, delay_ns: int, sender: Address, to: Address, data: bytes) -> None:
        assert self._deliver is not None, "connected before anything is sent"
        self._scheduler.after(delay_ns, partial(self._deliver, sender, to, data))

    def cut(self, links: Iterable[tuple[int, int]]) -> None:
        """Cut links (from, to), one direction each; a link cut twice is to be mended twice."""
        for link in links:
            self._cuts[link] += 1

    def is_cut(self, source: int, target: int) -> bool:
        """Whether nothing passes from one place to another."""
        return self._cuts[source, target] > 0

    def mend(self, links: Iterable[tuple[int, int]]) -> None:
        """Undo one `cut` of the same links."""
        for link in links:
            if self._cuts[link] > 0:
                self._cuts[link] -= 1

    def calm(self, options: NetworkOptions) -> None:
        """Mend every link, and from now on behave as `options` say."""
        self._cuts.clear()
        self.show()
        self.options = options
