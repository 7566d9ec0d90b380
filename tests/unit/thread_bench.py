"""Stands for what the thread of a cluster's clients works with, and helps to look at it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest
from ray.exceptions import ActorDiedError

from ray_paxos import client as client_module
from ray_paxos.actors import sender
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.command_thread import CommandThread, join_thread
from ray_paxos.actors.line_answers import ClientAnswer, encode_answers
from ray_paxos.actors.spec import make_spec
from ray_paxos.client import Client
from ray_paxos.config import parse_configuration
from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.client_messages import OpenSession, Submit, Submitted
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.pending import Outcomes
from ray_paxos.core.results import EntryResult
from ray_paxos.core.wire import decode_envelopes, encode_envelope, encode_envelopes
from tests.unit.core_helpers import client as client_at
from tests.unit.core_helpers import envelope, submit

T = TypeVar("T")

GENESIS = b"g" * 16


def some_spec() -> bytes:
    """Of a cluster of its own, with one member: all requests go by one line."""
    configuration = parse_configuration("cluster: demo\nmembers: 1\n")
    return make_spec(make_genesis(configuration), configuration).encoded()


class Reference(Future[bytes]):
    """Stands for Ray's reference of a call's answer."""

    def future(self) -> Future[bytes]:
        return self


class Group:
    """A proposer that turns every command round, at once or not at all.

    Attributes:
        is_keeping: Requests are taken, and not answered.
        calls: Released with each call of a line.
        carried: Clients and requests that each call of a line brought.
        lone_error: What the next lone call fails with.
        refusing_alone: What making a lone call raises,
        refusing: what making a call of a line raises,
        refusing_once: and what making the next one of a line raises.
        finds: How often a proposer was looked up,
        found: and whose.
        members: Who is known,
        looked: and who is found where somebody looks.
    """

    def __init__(self) -> None:
        self.is_keeping = False
        self.calls = threading.Semaphore(0)
        self.carried: list[list[tuple[int, Submit | OpenSession]]] = []
        self.lone_error: Exception | None = None
        self.refusing_alone: Exception | None = None
        self.refusing: Exception | None = None
        self.refusing_once: Exception | None = None
        self.finds = 0
        self.found: list[int] = []
        self.members: list[int] = []
        self.looked: Sequence[int] = ()
        self._answers: dict[int, list[ClientAnswer]] = {}
        self._open: dict[int, Reference] = {}

    def known(self) -> Sequence[int]:
        return self.members

    def look(self) -> Sequence[int]:
        assert self.looked, "nobody looks for members here"
        self.members = list(self.looked)
        return self.looked

    def find(self, member_id: int, role: RoleName) -> Any:
        self.finds += 1
        self.found.append(member_id)
        return member_id

    def call(self, proposer: Any, batch: bytes) -> Reference:
        if self.refusing_alone is not None:
            raise self.refusing_alone
        reference = Reference()
        if self.lone_error is not None:
            error, self.lone_error = self.lone_error, None
            reference.set_exception(error)
        elif not self.is_keeping:
            replies = [self._reply(each) for each in decode_envelopes(batch)]
            reference.set_result(encode_envelopes(replies))
        return reference

    def exchange(self, proposer: Any, role: RoleName, line: int, batch: bytes) -> Reference:
        if self.refusing is not None:
            raise self.refusing
        if self.refusing_once is not None:
            error, self.refusing_once = self.refusing_once, None
            raise error
        envelopes = decode_envelopes(batch)
        carried = []
        for each in envelopes:
            assert isinstance(each.message, Submit | OpenSession)
            carried.append((each.sender.member_id, each.message))
        self.carried.append(carried)
        answers = self._answers.setdefault(line, [])
        if not self.is_keeping:
            answers += [(each.sender.member_id, 1, self._reply(each)) for each in envelopes]
        if (earlier := self._open.pop(line, None)) is not None:
            earlier.set_result(encode_answers(()))
        reference = Reference()
        if answers:
            self._answers[line] = []
            reference.set_result(encode_answers(answers))
        else:
            self._open[line] = reference
        self.calls.release()
        return reference

    def fail_open(self) -> None:
        """The calls that wait for answers fail."""
        for reference in self._open.values():
            reference.set_exception(ActorDiedError())
        self._open.clear()

    def _reply(self, asked: Envelope) -> Envelope:
        message = asked.message
        assert isinstance(message, Submit | OpenSession)
        results = [EntryResult(3, 1, (None,), {})]
        if isinstance(message, Submit):
            results = [
                EntryResult(9, 0, tuple(command[::-1] for command in batch.commands), {})
                for batch in message.batches
            ]
        submitted = Submitted(message.request_id, tuple(results))
        sender = Address(1, RoleName.PROPOSER)
        return Envelope(asked.genesis, 1, sender, 0, 1, 0, submitted)


class FakeRay:
    """As much of Ray as a lone command uses."""

    @staticmethod
    def get(reference: Reference, timeout: float) -> bytes:
        return reference.result(timeout)


class Clients:
    """Makes clients whose calls one group answers, and closes them in the end."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.spec = some_spec()
        self.made: list[Client] = []

    def make(self, spec: bytes | None = None) -> Client:
        self.made.append(Client(spec or self.spec, 1, "test"))
        return self.made[-1]

    def open(self, spec: bytes | None = None) -> Client:
        """One whose session is open."""
        client = self.make(spec)
        assert client.propose(b"ab").value == b"ba"
        return client


def thread_of(client: Client) -> CommandThread:
    return client._sender._thread


def hold(thread: CommandThread) -> threading.Event:
    """Have the thread wait until this is set."""
    entered, may_go_on = threading.Event(), threading.Event()

    def wait(outcomes: Outcomes) -> None:
        entered.set()
        may_go_on.wait(10)

    thread.post(wait)
    assert entered.wait(10)
    return may_go_on


def let_pass(thread: CommandThread, events: int) -> None:
    """Have so many events taken in, in which nothing happens."""
    for _ in range(events):
        thread.post(lambda outcomes: None)


class FakeSender:
    """A client without a session, of which the thread sends what the test wants.

    Attributes:
        to_send: Numbers of requests.
        due: As of `due_ns`.
        looked: Released whenever the thread has the client look at the time.
        asked: How often the thread has asked for what to send.
        told: What the line has told, by request.
        ended: Set at the end.
        error: Raised instead of looking at the time,
        end_error: and at the end, once it is noted.
    """

    def __init__(self, client_id: int, *to_send: int) -> None:
        self.client_id = client_id
        self.to_send = deque(to_send)
        self.due: int | None = None
        self.looked = threading.Semaphore(0)
        self.asked = 0
        self.told: list[tuple[str, int]] = []
        self.ended = threading.Event()
        self.error: Exception | None = None
        self.end_error: Exception | None = None

    def next_request(self, now_ns: int) -> tuple[Call, bytes] | None:
        self.asked += 1
        if not self.to_send:
            return None
        message = submit(self.to_send.popleft())
        encoded = encode_envelope(envelope(client_at(self.client_id), message))
        return Call(message, 1, 0, now_ns, ClientSettings().call_timeout_ns), encoded

    def on_time(self, now_ns: int, outcomes: Outcomes) -> None:
        if self.error is not None:
            raise self.error
        if self.due is not None and self.due <= now_ns:
            self.due = None
        self.looked.release()

    def due_ns(self, now_ns: int) -> int | None:
        return self.due

    def on_answer(self, call: Call, envelope: Envelope, outcomes: Outcomes) -> None:
        self.told.append(("answered", call.message.request_id))

    def on_not_taken(self, call: Call, what: str) -> None:
        self.told.append(("not taken", call.message.request_id))

    def on_lost(self, call: Call, what: str) -> None:
        self.told.append(("lost", call.message.request_id))

    def on_members(self, members: Sequence[int], outcomes: Outcomes) -> None:
        self.told.append(("members", len(members)))

    def end(self, outcomes: Outcomes) -> None:
        assert not self.ended.is_set(), "a client ends once"
        self.ended.set()
        if self.end_error is not None:
            raise self.end_error


class Joined:
    """Clients that have joined a thread, and leave it in the end."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._all: list[tuple[CommandThread, FakeSender]] = []

    def join(self, fake: FakeSender, genesis: bytes = GENESIS) -> CommandThread:
        thread = join_thread(fake, genesis, self._group)
        self._all.append((thread, fake))
        return thread

    def leave(self) -> None:
        for thread, fake in self._all:
            thread.leave(fake)
        for thread, _ in self._all:
            assert has_ended(thread)


def done_in_a_callback(future: Future[Any], do: Callable[[], T]) -> Future[T]:
    """Have this done in a callback of a future; gives what comes of it."""
    outcome: Future[T] = Future()

    def run(future: Future[Any]) -> None:
        try:
            outcome.set_result(do())
        except BaseException as error:
            outcome.set_exception(error)

    future.add_done_callback(run)
    return outcome


def in_a_callback(client: Client, do: Callable[[], object]) -> None:
    """Have this done in a callback of a command, and wait for it."""
    # While it is held the command is not done: the callback is run by the thread.
    may_go_on = hold(thread_of(client))
    outcome = done_in_a_callback(client.propose_async(b"x"), do)
    may_go_on.set()
    outcome.result(10)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def clients_of(group: Group, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """Clients of a group in this process; all are closed and their threads over in the end."""
    monkeypatch.setattr(client_module, "FoundRoles", lambda roster, is_fused: group)
    monkeypatch.setattr(sender, "ray", FakeRay)
    clients = Clients(group)
    yield clients
    for client in clients.made:
        client.close(timeout_s=0)
    for client in clients.made:
        assert has_ended(thread_of(client))


def has_ended(thread: CommandThread) -> bool:
    """Whether the thread ends by itself, which it may take some time for."""
    thread._thread.join(10)
    return not thread._thread.is_alive()
