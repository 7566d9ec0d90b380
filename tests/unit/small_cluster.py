"""Real proposers, acceptors and learners of a few members, and links that a test cuts.

Less than the simulator, which draws faults by seed: here a test names each cut, and every message
takes the same time. Disks are instant and nobody crashes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Mapping
from math import inf

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState, GroupVotes
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import Event, MasterStarted
from ray_paxos.core.genesis import Configuration, GroupSpec, Voter
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.settings import AcceptorSettings, LearnerSettings, ProposerSettings
from tests.unit.core_helpers import (
    GENESIS,
    GROUP,
    LOG_MACHINE,
    MS,
    REPLICAS,
    client,
    learner_of,
    proposer_of,
    submit,
)
from tests.unit.learner_bench import ScriptedHost

LATENCY_NS = 3 * MS
SETTINGS = ProposerSettings()


class SmallCluster:
    """Runs until a time; `links` holds the pairs (from, to) that messages pass.

    `rates` says how fast a member's clock runs; `now_ns` is nobody's.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int = 1,
        settings: ProposerSettings = SETTINGS,
        priorities: Mapping[int, int] | None = None,
        rates: Mapping[int, float] | None = None,
    ) -> None:
        self.now_ns = 0
        self.rates = dict(rates or {})
        self.members = tuple(range(1, count + 1))
        self.links = {(a, b) for a in self.members for b in self.members}
        self.stopped: set[int] = set()
        self.reigns: list[tuple[int, int]] = []
        self.replies: list[Message] = []
        configuration = Configuration(0, tuple(Voter(m, REPLICAS[m]) for m in self.members))
        self.roles: dict[Address, Proposer | Acceptor | Learner] = {}
        self._messages: list[tuple[int, int, Address, Envelope]] = []
        self._count = 0
        for member_id in self.members:
            votes = GroupVotes(REPLICAS[member_id], configuration, 1)
            self.roles[Address(member_id, RoleName.ACCEPTOR)] = Acceptor(
                AcceptorState({GROUP: votes}),
                member_id=member_id,
                settings=AcceptorSettings(),
                now_ns=0,
            )
            self.roles[learner_of(member_id)] = Learner(
                group=GROUP,
                member_id=member_id,
                configuration=configuration,
                host=ScriptedHost(),
                base=None,
                settings=LearnerSettings(),
                random=random.Random(seed + member_id),
                now_ns=0,
                incarnation=1,
                sealed=(),
                segments=tuple,
            )
            self.roles[proposer_of(member_id)] = Proposer(
                spec=GroupSpec(GROUP, configuration.voters, (LOG_MACHINE,)),
                member_id=member_id,
                incarnation=1,
                settings=settings,
                random=random.Random(100 * seed + member_id),
                now_ns=0,
                priorities=priorities,
            )

    # Links.

    def only(self, *pairs: tuple[int, int]) -> None:
        """Only these members hear each other, and each itself."""
        self.links = {(m, m) for m in self.members}
        self.links |= {pair for a, b in pairs for pair in ((a, b), (b, a))}

    def heal(self) -> None:
        self.links = {(a, b) for a in self.members for b in self.members}

    # Clocks.

    def clock_ns(self, member_id: int) -> int:
        """What a member's clock shows."""
        return int(self.now_ns * self.rates.get(member_id, 1))

    def _due_ns(self, address: Address) -> float:
        """When a role's deadline is, or infinity."""
        deadline_ns = self.roles[address].deadline_ns
        if deadline_ns is None or address.member_id in self.stopped:
            return inf
        # One nanosecond later than it may be, so that its own clock never shows less.
        rate = self.rates.get(address.member_id, 1)
        return deadline_ns if rate == 1 else int(deadline_ns / rate) + 2

    # Who does what.

    def proposer(self, member_id: int) -> Proposer:
        role = self.roles[proposer_of(member_id)]
        assert isinstance(role, Proposer)
        return role

    def learned(self, member_id: int) -> int:
        role = self.roles[learner_of(member_id)]
        assert isinstance(role, Learner)
        return role.learned_through

    @property
    def masters(self) -> list[int]:
        """Those who believe that they lead, and serve."""
        return [m for m in self.members if self.proposer(m).is_serving]

    @property
    def holders(self) -> list[int]:
        """Those who believe in a lease."""
        return [m for m in self.members if self.proposer(m).lease_until_ns > self.clock_ns(m)]

    def tell(self, member_id: int, message: Message) -> None:
        """A client's message to a proposer."""
        self._post(client(), proposer_of(member_id), message, (0, 0), 0)

    def submit(self, member_id: int, request_ids: Iterable[int]) -> None:
        for request_id in request_ids:
            self.tell(member_id, submit(request_id))

    # Time.

    def run(self, milliseconds: int, *, until_master: bool = False) -> None:
        """Let time pass, or less, until somebody serves."""
        end_ns = self.now_ns + milliseconds * MS
        while not (until_master and self.masters):
            next_ns = self._next_ns()
            self.now_ns = max(self.now_ns, int(min(next_ns, end_ns)))
            if next_ns > end_ns:
                return
            while self._messages and self._messages[0][0] <= self.now_ns:
                _, _, to, envelope = heapq.heappop(self._messages)
                if to.member_id not in self.stopped:
                    now_ns = self.clock_ns(to.member_id)
                    self._take(to, self.roles[to].handle(envelope, now_ns))
            for address, role in self.roles.items():
                if self._due_ns(address) <= self.now_ns:
                    self._take(address, role.on_deadline(self.clock_ns(address.member_id)))
            assert len(self.holders) <= 1, "two leases at once"

    def _next_ns(self) -> float:
        delivery_ns = self._messages[0][0] if self._messages else inf
        return min(delivery_ns, *(self._due_ns(address) for address in self.roles))

    def _take(self, sender: Address, effects: Effects) -> None:
        stamp = self.roles[sender].stamp(GROUP)
        for send in [*effects.sends_now, *effects.sends_after_sync]:
            self._post(sender, send.to, send.message, stamp, 1)
        for event in effects.events:
            self._note(sender, event)
        if effects.records and sender.role is RoleName.LEARNER:
            now_ns = self.clock_ns(sender.member_id)
            self._take(sender, self.roles[sender].on_durable(effects.records, now_ns))

    def _note(self, sender: Address, event: Event) -> None:
        if isinstance(event, MasterStarted):
            self.reigns.append((self.now_ns // MS, sender.member_id))

    def _post(
        self,
        sender: Address,
        to: Address,
        message: Message,
        stamp: tuple[int, int],
        incarnation: int,
    ) -> None:
        if to.role is RoleName.CLIENT:
            self.replies.append(message)
            return
        is_client = sender.role is RoleName.CLIENT
        if to not in self.roles or not (
            is_client or (sender.member_id, to.member_id) in self.links
        ):
            return
        self._count += 1
        envelope = Envelope(GENESIS, GROUP, sender, stamp[0], incarnation, stamp[1], message)
        heapq.heappush(self._messages, (self.now_ns + LATENCY_NS, self._count, to, envelope))
