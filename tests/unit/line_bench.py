"""Stands for what a line to a proposer works with: the proposer, its clients, and their thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from ray_paxos.actors.answers import RolePhase, RoleState, encode_state
from ray_paxos.actors.line_answers import encode_answers
from ray_paxos.actors.role_line import Event, RoleLine
from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.client_messages import Submit, Submitted
from ray_paxos.core.messages import Envelope, RoleName
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.wire import decode_envelopes, encode_envelope
from tests.unit.core_helpers import client, envelope, proposer_of, submit

LINE = 77
Key = tuple[int, int]
"""Id of a client, number of its request."""


class Exchange(Future[bytes]):
    """One call that was made; the test answers it.

    Attributes:
        handle: Of which proposer.
        carried: The requests that it brings.
    """

    def __init__(self, handle: str, batch: bytes) -> None:
        super().__init__()
        self.handle = handle
        self.carried: list[Key] = [
            (each.sender.member_id, each.message.request_id)
            for each in decode_envelopes(batch)
            if isinstance(each.message, Submit)
        ]

    def future(self) -> Future[bytes]:
        return self

    def answers(self, *keys: Key, copies: int = 1) -> None:
        """The call returns with answers to so many copies of each of these requests."""
        self.set_result(
            encode_answers(
                [
                    (client_id, copies, envelope(proposer_of(1), Submitted(number, ())))
                    for client_id, number in keys
                ]
            )
        )

    def is_opening(self) -> None:
        """The call returns with the state of a role that does not serve."""
        self.set_result(encode_state(RoleState(RolePhase.OPENING, "held")))


class Lookup(Executor):
    """Looks up at once, or when the test says so."""

    def __init__(self) -> None:
        self.is_holding = False
        self._held: list[Callable[[], None]] = []

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function(*arguments, **options))
            except Exception as error:
                future.set_exception(error)

        self._held.append(run)
        if not self.is_holding:
            self.release()
        return future

    def release(self) -> None:
        self.is_holding = False
        held, self._held = self._held, []
        for run in held:
            run()


class Proposers:
    """Stands for the actors: writes down what is called, and fails if told so."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.refused = 0
        self.finds: list[int] = []
        self.missing: Exception | None = None
        self.refusing: Exception | None = None

    def known(self) -> Sequence[int]:
        return ()

    def look(self) -> Sequence[int]:
        raise AssertionError("nobody looks for members here")

    def find(self, member_id: int, role: RoleName) -> Any:
        assert role is RoleName.PROPOSER
        assert len(self.finds) < 100, "it is looked up in a loop"
        self.finds.append(member_id)
        if self.missing is not None:
            raise self.missing
        return f"handle {len(self.finds)}"

    def call(self, proposer: Any, batch: bytes) -> Any:
        raise AssertionError("a line makes no lone calls")

    def exchange(self, proposer: Any, role: RoleName, line: int, batch: bytes) -> Any:
        assert role is RoleName.PROPOSER
        if self.refusing is not None:
            self.refused += 1
            assert self.refused < 100, "calls are made in a loop"
            raise self.refusing
        assert line == LINE
        self.exchanges.append(Exchange(proposer, batch))
        return self.exchanges[-1]


class Writer:
    """A client that writes down what its line tells it: what, and of which call."""

    def __init__(self, line: RoleLine, client_id: int) -> None:
        self.client_id = client_id
        self.told: list[tuple[str, Call]] = []
        self.whys: list[str] = []
        self._line = line

    def put(self, *request_ids: int) -> list[Call]:
        """Have requests sent; gives their calls."""
        calls = [
            Call(submit(number), 1, 0, 0, ClientSettings().call_timeout_ns)
            for number in request_ids
        ]
        for call in calls:
            encoded = encode_envelope(envelope(client(self.client_id), call.message))
            self._line.put(self, call, encoded)
        return calls

    def on_answer(self, call: Call, envelope: Envelope, outcomes: Outcomes) -> None:
        assert isinstance(envelope.message, Submitted)
        assert envelope.message.request_id == call.message.request_id
        self.told.append(("answered", call))

    def on_not_taken(self, call: Call, what: str) -> None:
        self.told.append(("not taken", call))
        self.whys.append(what)

    def on_lost(self, call: Call, what: str) -> None:
        self.told.append(("lost", call))
        self.whys.append(what)

    @property
    def heard(self) -> list[tuple[str, int]]:
        """What was told, by the number of the request."""
        return [(what, call.message.request_id) for what, call in self.told]


class Harness:
    """A line, its clients 1 and 2, and rounds as their thread makes them."""

    def __init__(self, call_bytes_max: int = 100_000) -> None:
        self.now = 1_000.0
        self.proposers = Proposers()
        self.lookup = Lookup()
        self._events: list[Event] = []
        self.line = RoleLine(
            1,
            RoleName.PROPOSER,
            LINE,
            actors=self.proposers,
            lookup=self.lookup,
            post=self._events.append,
            clock=lambda: self.now,
            call_bytes_max=call_bytes_max,
        )
        self.one, self.two = (Writer(self.line, client_id) for client_id in (1, 2))

    def turn(self) -> list[Exchange]:
        """Take in what has happened, and send; gives the calls that are made by that."""
        made = len(self.proposers.exchanges)
        while True:
            events, self._events[:] = list(self._events), []
            for event in events:
                event(Outcomes())
            if self.line.due <= self.now:
                self.line.on_time()
            self.line.flush()
            if not self._events:
                return self.proposers.exchanges[made:]

    def send(self, *request_ids: int) -> Exchange:
        """Have requests of client 1 leave in a call of their own."""
        self.one.put(*request_ids)
        (exchange,) = self.turn()
        assert exchange.carried == [(1, number) for number in request_ids]
        return exchange

    def time_passes(self, seconds: float) -> list[Exchange]:
        self.now += seconds
        return self.turn()
