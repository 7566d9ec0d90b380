"""Copies of one request, from a client's requests through a line to the intake, and back (R7)."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from ray_paxos.actors.role_line import Event, RoleLine
from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.client_messages import OpenSession, RefusalCode, Submit, Submitted
from ray_paxos.core.driver import Action
from ray_paxos.core.intake import Intake, Request
from ray_paxos.core.messages import Envelope, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.requests import ClientRequests
from ray_paxos.core.settings import ProposerSettings
from ray_paxos.core.values import SessionId
from ray_paxos.core.wire import encode_envelope
from ray_paxos.errors import OutcomeUnknownError, OverloadedError
from tests.unit.client_world import Told
from tests.unit.core_helpers import MS, client, envelope
from tests.unit.line_bench import Lookup
from tests.unit.played_proposer import PlayedProposer, answer_to


class Reference:
    """Stands for Ray's reference of a call's answer."""

    def __init__(self, answer: Future[bytes]) -> None:
        self._answer = answer

    def future(self) -> Future[bytes]:
        return self._answer


class Pair:
    """A client, and the shell of the only proposer, with its intake; one clock, set by hand.

    Attributes:
        sent: Calls of the client that have left.
        taken: How many events were taken in.
    """

    client_id = 900

    def __init__(self) -> None:
        # So early that the session is not retired, which nobody has used.
        self.now_ns = 1_000 * MS
        self.intake = Intake(ProposerSettings())
        self.shell = PlayedProposer()
        self.shell.driver.on_request = self._offer
        self.requests = ClientRequests(
            Patience([1]), label="test", first=0, settings=ClientSettings()
        )
        self.requests.session.opened(SessionId(3, 1))
        self.sent: list[Call] = []
        self.taken = 0
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._line = RoleLine(
            1,
            RoleName.PROPOSER,
            77,
            actors=self,
            lookup=Lookup(),
            post=self._events.put,
            clock=lambda: self.now_ns / 1e9,
            call_bytes_max=100_000,
        )

    # The client.

    def submit(self, timeout_ms: int) -> Told:
        told = Told([b"x"], self.now_ns + timeout_ms * MS)
        self.requests.session.enqueue("log", told.commands, told)
        return told

    def send(self) -> None:
        """The client sends its next request, or the same one again."""
        call = self.requests.next_call(self.now_ns)
        assert call is not None
        self.sent.append(call)
        self._line.put(self, call, encode_envelope(envelope(client(), call.message)))
        self._line.flush()
        self.take_events(lambda: self._line.handle is not None)

    def time_passes(self, milliseconds: int) -> None:
        self.now_ns += milliseconds * MS
        outcomes = Outcomes()
        self.requests.on_deadline(self.now_ns, outcomes)
        outcomes.settle()

    def take_events(self, until: Callable[[], bool]) -> None:
        """Take in what happens, and go on asking, until it is so."""
        while not until():
            outcomes = Outcomes()
            self._events.get(timeout=5)(outcomes)
            self.taken += 1
            outcomes.settle()
            self._line.flush()

    def wait_returned(self, count: int) -> None:
        """Until so many calls of the line have returned, and were taken in."""
        # The first event is that the proposer was looked up.
        self.take_events(lambda: self.taken >= 1 + count)

    def on_answer(self, call: Call, envelope: Envelope, outcomes: Outcomes) -> None:
        self.requests.on_answer(call, (envelope,), self.now_ns, outcomes)

    def on_not_taken(self, call: Call, what: str) -> None:
        self.requests.on_not_serving(call, what, self.now_ns)

    def on_lost(self, call: Call, what: str) -> None:
        self.requests.on_lost(call, self.now_ns, what=what)

    # The way.

    def known(self) -> Sequence[int]:
        return ()

    def look(self) -> Sequence[int]:
        raise AssertionError("nobody looks for members here")

    def find(self, member_id: int, role: RoleName) -> Any:
        return self.shell

    def call(self, proposer: Any, batch: bytes) -> Any:
        raise AssertionError("a line makes no lone calls")

    def exchange(self, proposer: Any, role: RoleName, line: int, batch: bytes) -> Reference:
        return Reference(self.shell.threads.submit(self.shell.exchange, line, batch))

    # The role.

    def _offer(self, asked: Envelope) -> list[Action]:
        assert isinstance(asked.message, Submit | OpenSession)
        refused = self.intake.offer(asked.sender, asked.message, self.now_ns)
        return [answer_to(refused)] if refused is not None else []

    def propose(self) -> list[Request]:
        """The role proposes what may be, in a turn that the test has; what is late is refused."""
        proposed = self.intake.take(self.now_ns)
        refusals = [answer_to(refused) for _, refused in self.intake.take_refused()]
        assert all(refused.code is RefusalCode.TOO_LATE for refused in map(_message, refusals))
        self.shell.take_turn(lambda driver, now_ns: refusals)
        return proposed


def _message(action: Action) -> Any:
    return action.envelope.message  # type: ignore[union-attr]


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.shell.end()


def test_a_request_of_which_all_copies_are_refused_was_certainly_not_applied(pair: Pair) -> None:
    told = pair.submit(22_000)
    for copies in range(1, 8):
        pair.send()
        pair.shell.wait_for_requests(copies)
        pair.wait_returned(copies - 1)
        if copies < 7:
            pair.time_passes(3_000)
            pair.time_passes(50)
    assert len({call.message.request_id for call in pair.sent}) == 1
    assert len({call.epoch for call in pair.sent}) == 7
    assert pair.intake.held_requests == 1, "one answer is for all"
    pair.time_passes(2_800)
    assert not told.is_settled
    assert pair.propose() == []
    pair.wait_returned(7)
    (error,) = told.errors.values()
    assert isinstance(error, OverloadedError)
    assert not error.may_have_applied
    assert pair.requests.is_idle


def test_a_request_of_which_one_copy_is_refused_and_another_comes_later_is_unknown(
    pair: Pair,
) -> None:
    told = pair.submit(6_000)
    pair.send()
    pair.shell.wait_for_requests(1)
    pair.time_passes(3_000)
    pair.time_passes(50)
    with pair.shell._turn:
        pair.send()
        pair.shell.wait_for_inbox(1)
        pair.wait_returned(1)
        pair.time_passes(2_450)
        assert pair.propose() == [], "the first copy is late"
        pair.wait_returned(2)
    assert not told.is_settled
    pair.shell.serve_inbox()
    (proposed,) = pair.propose()
    assert proposed.request_id == pair.sent[1].message.request_id
    pair.time_passes(600)
    (error,) = told.errors.values()
    assert isinstance(error, OutcomeUnknownError)
    assert error.may_have_applied
    pair.shell.take_turn(lambda driver, now_ns: [answer_to(Submitted(proposed.request_id, ()))])
    pair.wait_returned(3)
