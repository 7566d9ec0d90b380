"""A proposer's shell without Ray or a disk: its role answers when the test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from ray_paxos.actors.errands import Errand
from ray_paxos.actors.line_answers import decode_answers
from ray_paxos.actors.line_exchange import LineExchange
from ray_paxos.actors.mailbox import LineMailboxes
from ray_paxos.actors.proposer_shell import REQUESTS, ProposerShell
from ray_paxos.actors.shell import Arrival
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.actors.waiting_calls import WaitingCalls
from ray_paxos.core.client_messages import Submitted
from ray_paxos.core.driver import Action, Transmit
from ray_paxos.core.messages import Envelope, Message
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from tests.unit.core_helpers import GROUP, client, envelope, proposer_of, submit

PATIENCE_S = 5.0


class PlayedDriver:
    """Takes requests in, each in its turn.

    Attributes:
        received: What has come, in order.
        on_request: What the role does as it handles a request; nothing, unless told otherwise.
    """

    deadline_ns: int | None = None

    def __init__(self) -> None:
        self.received: list[Envelope] = []
        self.on_request: Callable[[Envelope], list[Action]] = lambda envelope: []

    def receive(self, envelope: Envelope, now_ns: int) -> list[Action]:
        actions = self.on_request(envelope)
        self.received.append(envelope)
        return actions


class PlayedProposer(ProposerShell):
    """The shell, and calls that run in threads."""

    def __init__(self) -> None:
        super().__init__(b"", "m1", Switchboard())
        self._genesis_hash = b""
        self._exchange = LineExchange(REQUESTS, self._refusal, self._bring)
        self._changed = threading.Condition()
        self._watchers = 0
        self._is_ending = False
        self.driver = PlayedDriver()
        self._opened: Any = SimpleNamespace(driver=self.driver)
        self.record = (1, 5)
        self.threads = ThreadPoolExecutor(8)

    def _has_group(self, opened: Any, group: int) -> bool:  # type: ignore[override]
        return group == GROUP

    def _proposer(self, opened: Any, group: int) -> Any:  # type: ignore[override]
        return SimpleNamespace(master_record=self.record)

    @property
    def waiting_calls(self) -> WaitingCalls:
        return self._exchange._calls

    @property
    def lines(self) -> LineMailboxes:
        return self._exchange._lines

    def end(self) -> None:
        self.threads.shutdown()
        self.background.close()

    # Calls.

    def call(self, *request_ids: int) -> Future[list[int]]:
        """One call of a client; the requests that it is answered."""
        batch = encode_envelopes([envelope(client(), submit(number)) for number in request_ids])

        def run() -> list[int]:
            answer = self.submit(batch)
            return [reply.message.request_id for reply in decode_envelopes(answer)]  # type: ignore[union-attr]

        return self.threads.submit(run)

    def call_of_line(self, *request_ids: int, line: int = 1, at: int = 900) -> Future[list[int]]:
        """One call of a line, with requests of one client; the requests that it is answered."""
        batch = encode_envelopes([envelope(client(at), submit(number)) for number in request_ids])

        def run() -> list[int]:
            answers = decode_answers(self.exchange(line, batch))
            return [reply.message.request_id for _, _, reply in answers]  # type: ignore[union-attr]

        return self.threads.submit(run)

    # What the test waits for.

    def wait_for_requests(self, count: int) -> None:
        """Until so many requests have been handled, which their calls wait for."""
        self.wait_until(lambda: len(self.driver.received) >= count)

    def wait_for_inbox(self, count: int) -> None:
        """Until so many requests wait for the turn, which the test has."""
        assert self._turn.locked()
        self.wait_until(lambda: len(self._inbox) >= count)

    def wait_for_line(self, *, line: int = 1, but_not: object = None) -> object:
        """Until a call of a line waits, which is another one than that; gives it."""
        waiting = self.lines.of(line, time.monotonic())[0]._waiting
        self.wait_until(lambda: bool(waiting) and waiting[-1] is not but_not)
        return waiting[-1]

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    # Turns.

    def answer(self, request_id: int, at: int = 900) -> None:
        """Answer a request of one client, in a turn of its own."""
        self.take_turn(lambda driver, now_ns: [answer_to(Submitted(request_id, ()), at)])

    def take_turn(self, *arrivals: Arrival) -> None:
        """Have these handled in one turn, before what waits in the inbox."""
        self._handle(self._opened, arrivals, Errand())

    def serve_inbox(self) -> None:
        """Handle what waits for the turn, all in one."""
        self.serve_now(Errand())


def answer_to(message: Message, at: int = 900) -> Action:
    """The role answers one client."""
    return Transmit(client(at), envelope(proposer_of(1), message))
