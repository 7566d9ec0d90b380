"""A client's calls against a group whose master changes and whose calls get lost; seeded.

The log is applied by the real host and taken in by the real intake. Between them is what a cluster
does to a request: it is redirected, refused, dropped as too late, proposed and chosen, proposed and
lost with its master, chosen though its master is gone; and the call or its answer may be lost or
late. Unlike the simulator this checks what the *client* tells its callers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.client_messages import (
    OpenSession,
    Query,
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    Submitted,
)
from ray_paxos.core.intake import Intake, Request
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.requests import ClientRequests
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import MILLISECOND_NS, ProposerSettings
from ray_paxos.core.values import SessionOpen
from ray_paxos.errors import PaxosError
from ray_paxos.machines.sessions import SessionLimits
from tests.unit.group_log import GroupLog

MS = MILLISECOND_NS
MEMBERS = (10, 20, 30)
CLIENT = Address(900, RoleName.CLIENT)


class Told:
    """A receiver that keeps what it was told, and will not be told twice."""

    def __init__(self, commands: Sequence[bytes] = (), deadline_ns: int = sys.maxsize) -> None:
        self.commands = commands
        self.deadline_ns = deadline_ns
        self.results: dict[int, tuple[EntryResult, int]] = {}
        self.errors: dict[int, PaxosError] = {}

    def begin(self) -> bool:
        return True

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        for place in range(count):
            assert start + place not in self.results, "told twice"
            assert start + place not in self.errors, "told a result after an error"
            self.results[start + place] = (entry, offset + place)

    def fail(self, start: int, error: PaxosError, count: int) -> None:
        for place in range(count):
            assert start + place not in self.results, "told an error after a result"
            assert start + place not in self.errors, "told twice"
            self.errors[start + place] = error

    @property
    def is_settled(self) -> bool:
        return len(self.results) + len(self.errors) >= max(len(self.commands), 1)


@dataclass(eq=False)
class Copy:
    """A call on its way, or its answer."""

    call: Call
    answer: Message | None = None


@dataclass
class World:
    """One client, and a group of three members.

    Attributes:
        now_ns: The client's clock, and the log's.
        log: What was chosen, applied.
        told: Every receiver there was.
    """

    random: Random
    settings: ClientSettings = field(default_factory=ClientSettings)
    limits: SessionLimits = field(default_factory=SessionLimits)
    now_ns: int = 10_000_000 * MS
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = GroupLog(limits=self.limits)
        self.client = ClientRequests(Patience(MEMBERS), label="t", first=0, settings=self.settings)
        self.master: int | None = 10
        # Small, so that overload happens.
        settings = ProposerSettings(intake_requests_max=4, batch_bytes_max=200)
        self.intake = Intake(settings)
        self.calls: list[Copy] = []
        self.held: dict[int, list[Copy]] = {}
        self.answers: list[Copy] = []
        self.open_values: list[Request] = []
        self.orphans: list[Request] = []

    # The client.

    def submit(self, commands: Sequence[bytes], timeout_ns: int | None) -> None:
        deadline_ns = sys.maxsize if timeout_ns is None else self.now_ns + timeout_ns
        told = Told(commands, deadline_ns)
        self.told.append(told)
        self.client.session.enqueue("recorder", commands, told)

    def send(self) -> bool:
        call = self.client.next_call(self.now_ns)
        if call is not None:
            self.calls.append(Copy(call))
        return call is not None

    def pass_time(self, ns: int) -> None:
        self.now_ns += ns
        outcomes = Outcomes()
        self.client.on_deadline(self.now_ns, outcomes)
        outcomes.settle()

    def ask(self, number: int, told: Told, *, withdraw: bool) -> None:
        outcomes = Outcomes()
        ask = self.client.abandon if withdraw else self.client.ask
        ask(number, told, outcomes)
        outcomes.settle()

    # The group.

    def arrive(self, copy: Copy) -> None:
        """A call reaches its member."""
        message = copy.call.message
        assert not isinstance(message, Query), "of clients that wait"
        if copy.call.member_id != self.master:
            copy.answer = Redirected(message.request_id, self.master, 50, untouched=True)
            self.answers.append(copy)
            return
        refused = self.intake.offer(CLIENT, message, self.now_ns)
        if refused is not None:
            copy.answer = refused
            self.answers.append(copy)
            return
        # What is held already is answered together.
        self.held.setdefault(message.request_id, []).append(copy)

    def propose(self) -> None:
        self.open_values += self.intake.take(self.now_ns)
        for _, refused in self.intake.take_refused():
            self._answer(refused.request_id, refused)

    def choose(self, request: Request) -> None:
        """A value is chosen and applied, whoever hears of it."""
        results = self.log.append(*request.entries, log_time_ns=self.now_ns)
        if request in self.open_values:
            self.open_values.remove(request)
            self.intake.release(request)
            self._answer(request.request_id, Submitted(request.request_id, results))

    def depose(self, master: int | None) -> None:
        """Another member leads, or nobody; what was open may be chosen later, or never."""
        for request in self.intake.drain():
            self._redirect(request, master, untouched=True)
        for request in self.open_values:
            self._redirect(request, master, untouched=False)
            self.orphans.append(request)
        self.open_values = []
        self.master = master

    def _redirect(self, request: Request, master: int | None, *, untouched: bool) -> None:
        self.intake.release(request)
        redirected = Redirected(request.request_id, master, 50, untouched)
        self._answer(request.request_id, redirected)

    def _answer(self, request_id: int, message: Message) -> None:
        for copy in self.held.pop(request_id, ()):
            copy.answer = message
            self.answers.append(copy)

    # The way back.

    def hear(self, copy: Copy) -> None:
        assert copy.answer is not None
        sender = Address(copy.call.member_id, RoleName.PROPOSER)
        envelope = Envelope(b"", 1, sender, 0, 1, 0, copy.answer)
        outcomes = Outcomes()
        self.client.on_answer(copy.call, [envelope], self.now_ns, outcomes)
        outcomes.settle()

    def fail(self, copy: Copy) -> None:
        """The client hears that there will be no answer."""
        self.client.on_lost(copy.call, self.now_ns)

    def steal_a_session(self) -> None:
        """Somebody else opens a session, for which an idle one may have to go."""
        self.log.append(SessionOpen("other"), log_time_ns=self.now_ns)

    # A random step.

    def step(self) -> None:
        random = self.random
        match random.randrange(12):
            case 0 | 1 | 2:
                self.send()
            case 3 | 4 if self.calls:
                copy = self._draw(self.calls)
                if random.random() < 0.12:
                    self._lose(copy)
                else:
                    self.arrive(copy)
            case 5:
                self.propose()
            case 6 | 7 if self.open_values:
                self.choose(self.open_values[0])
            case 8 | 9 if self.answers:
                copy = self._draw(self.answers)
                if random.random() < 0.12:
                    self._lose(copy)
                else:
                    self.hear(copy)
            case 10:
                self.pass_time(random.randrange(200) * MS)
            case 11 if random.random() < 0.2:
                self.depose(random.choice((*MEMBERS, None, None, None)))
            case 11 if self.orphans and random.random() < 0.5:
                orphan = self.orphans.pop(random.randrange(len(self.orphans)))
                if random.random() < 0.7:
                    self.choose(orphan)
            case _:
                pass

    def _draw(self, among: list[Copy]) -> Copy:
        return among.pop(self.random.randrange(len(among)))

    def _lose(self, copy: Copy) -> None:
        # The client hears of it at once, or waits until its own time is over.
        if self.random.random() < 0.5:
            self.fail(copy)

    def heal(self) -> None:
        """Let everything come to its end: no more losses, one master."""
        for _ in range(4_000):
            if not self.client.session.has_work and all(told.is_settled for told in self.told):
                return
            if self.master is None:
                self.depose(10)
            for copy in list(self.calls):
                self.calls.remove(copy)
                self.arrive(copy)
            self.propose()
            for request in list(self.open_values):
                self.choose(request)
            for copy in list(self.answers):
                self.answers.remove(copy)
                self.hear(copy)
            if not self.send():
                self.pass_time(20 * MS)
        raise AssertionError(f"{self.client.session.held_commands} commands never end")


def refusal(
    call: Call, code: RefusalCode, what: str = "full", retry_after_ms: int = 100
) -> Refused:
    return Refused(call.message.request_id, code, what, retry_after_ms)


def is_opening(call: Call) -> bool:
    return isinstance(call.message, OpenSession)


def submit_of(call: Call) -> Submit:
    assert isinstance(call.message, Submit)
    return call.message
