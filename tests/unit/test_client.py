"""The client that users hold, with its threads, against a group in this process."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError

from ray_paxos import client as client_module
from ray_paxos.actors import sender
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.line_answers import ClientAnswer, encode_answers
from ray_paxos.actors.sender import WAIT_MAX_S
from ray_paxos.actors.spec import make_spec
from ray_paxos.client import Client
from ray_paxos.config import parse_configuration
from ray_paxos.core.client_calls import ClientSettings
from ray_paxos.core.client_messages import (
    OpenSession,
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    Submitted,
)
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.values import SessionOpen
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.errors import (
    ClientClosedError,
    CommandError,
    CommandTooLargeError,
    ConfigurationError,
    MachineStoppedError,
    NoMasterError,
    OutcomeUnknownError,
    OverloadedError,
)
from tests.unit.group_log import GroupLog
from tests.unit.thread_bench import has_ended

HELD_MAX = ClientSettings().held_commands_max


class Reference(Future[bytes]):
    """Stands for Ray's reference of a call's answer."""

    def future(self) -> Future[bytes]:
        return self


class Line:
    """What a proposer has for one line, and the calls that wait there: the last one only."""

    def __init__(self) -> None:
        self.answers: list[ClientAnswer] = []
        self.open: deque[Reference] = deque()

    def take(self) -> None:
        """Let the call that has waited longest return with what there is."""
        reference = self.open.popleft()
        answers, self.answers = self.answers, []
        reference.set_result(encode_answers(answers))

    def put(self, answer: ClientAnswer) -> None:
        self.answers.append(answer)
        if self.open:
            self.take()


class Group:
    """Answers calls at once, from the caller's thread, or keeps them until it is told to.

    Attributes:
        mode: What becomes of a request: it is applied; applied and not answered; kept unseen; or
            answered with what the name says.
    """

    def __init__(self) -> None:
        self.mode = "apply"
        self.log = GroupLog()
        self.kept: list[tuple[Envelope, int, Reference | Line]] = []
        self.submits: list[Submit] = []
        self._lines: dict[tuple[int, int], Line] = {}
        self._lock = threading.Lock()

    def known(self) -> tuple[int, ...]:
        return ()

    def look(self) -> tuple[int, ...]:
        return ()

    def find(self, member_id: int, role: RoleName) -> Any:
        return member_id

    def call(self, proposer: Any, batch: bytes) -> Reference:
        reference = Reference()
        with self._lock:
            self._take_in(proposer, batch, reference)
        return reference

    def exchange(self, proposer: Any, role: RoleName, line: int, batch: bytes) -> Reference:
        reference = Reference()
        with self._lock:
            waiting = self._lines.setdefault((proposer, line), Line())
            waiting.open.append(reference)
            if len(waiting.open) > 1:
                waiting.take()
            self._take_in(proposer, batch, waiting)
        return reference

    def release(self) -> None:
        """Apply what was kept, and go on."""
        with self._lock:
            self.mode = "apply"
            self._handle_kept()

    def _take_in(self, member_id: int, batch: bytes, answer_to: Reference | Line) -> None:
        self.kept += [(envelope, member_id, answer_to) for envelope in decode_envelopes(batch)]
        if self.mode != "keep":
            self._handle_kept()

    def _handle_kept(self) -> None:
        while self.kept:
            self._handle(*self.kept.pop(0))

    def _handle(self, envelope: Envelope, member_id: int, answer_to: Reference | Line) -> None:
        message = envelope.message
        assert isinstance(message, Submit | OpenSession)
        answer: Submitted | Redirected | Refused
        match self.mode:
            case "no master":
                answer = Redirected(message.request_id, None, 5, untouched=True)
            case "stopped":
                code = RefusalCode.APPLY_STOPPED
                answer = Refused(message.request_id, code, "machine 'x' failed", 5)
            case "overloaded":
                answer = Refused(message.request_id, RefusalCode.OVERLOADED, "full", 5)
            case _:
                if isinstance(message, OpenSession):
                    results = self.log.append(SessionOpen(message.label))
                else:
                    self.submits.append(message)
                    results = self.log.append(*message.batches)
                answer = Submitted(message.request_id, results)
        if self.mode == "lose":
            return
        address = Address(member_id, RoleName.PROPOSER)
        reply = Envelope(envelope.genesis, 1, address, 0, 1, 0, answer)
        if isinstance(answer_to, Line):
            answer_to.put((envelope.sender.member_id, 1, reply))
        else:
            answer_to.set_result(encode_envelopes((reply,)))


class FakeRay:
    """As much of Ray as the sender uses."""

    @staticmethod
    def get(reference: Reference, timeout: float) -> bytes:
        try:
            return reference.result(timeout)
        except TimeoutError as error:
            raise GetTimeoutError from error


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    group = Group()
    monkeypatch.setattr(client_module, "FoundRoles", lambda roster, is_fused: group)
    monkeypatch.setattr(sender, "ray", FakeRay)
    return group


@pytest.fixture
def client(group: Group) -> Iterator[Client]:
    configuration = parse_configuration("cluster: demo\nproposer: {command_bytes_max: 1000}\n")
    spec = make_spec(make_genesis(configuration), configuration).encoded()
    client = Client(spec, 1, "test")
    yield client
    client.close(timeout_s=0)


def propose(client: Client, command: bytes, timeout_s: float = 10) -> bytes | None:
    return client.propose(command, "recorder", timeout_s=timeout_s).value


def test_commands_one_by_one_and_together(client: Client, group: Group) -> None:
    assert propose(client, b"ab") == b"ba"
    assert propose(client, b"ab") == b"ba", "equal bytes are another command"
    future = client.propose_async(b"cd", "recorder")
    assert future.result(10).value == b"dc"
    results = client.propose_many([b"1", b"refuse", b"3"], "recorder")
    assert [type(error) for error in results.errors.values()] == [CommandError]
    assert group.log.applied == [b"ab", b"ab", b"cd", b"1", b"refuse", b"3"]
    with pytest.raises(CommandError, match="no machine") as caught:
        client.propose(b"x", "nowhere")
    assert caught.value.may_have_applied


def test_a_list_that_goes_on_changing_changes_nothing(client: Client, group: Group) -> None:
    propose(client, b"x")
    group.mode = "keep"
    blocking = client.propose_async(b"first", "recorder")
    commands = [b"a", b"b"]
    future = client.propose_many_async(commands, "recorder")
    commands[:] = [b"z"]
    group.release()
    blocking.result(10)
    assert [result.value for result in future.result(10)] == [b"a", b"b"]


def test_room_that_time_outs_make_is_given_at_once_to_who_waits(
    client: Client, group: Group
) -> None:
    propose(client, b"x")
    group.mode = "no master"
    # All the room there is, for a moment.
    full = client.propose_many_async([b"y"] * HELD_MAX, "recorder", timeout_s=0.3)
    started = time.monotonic()
    client.propose_async(b"z", "recorder", timeout_s=30)
    assert time.monotonic() - started < 10, "not the whole time that it might wait"
    assert len(full.result(10).errors) == HELD_MAX


# Bad input.


@pytest.mark.parametrize("timeout_s", [-1, -0.001, math.nan, "5", None, b"", [1]])
def test_a_time_that_means_nothing(client: Client, group: Group, timeout_s: Any) -> None:
    propose(client, b"x")
    for call in (
        lambda: client.propose(b"a", "recorder", timeout_s=timeout_s),
        lambda: client.propose_async(b"a", "recorder", timeout_s=timeout_s),
        lambda: client.propose_many([b"a"], "recorder", timeout_s=timeout_s),
        lambda: client.propose_many_async([], "recorder", timeout_s=timeout_s),
        lambda: client.outcome(1, timeout_s=timeout_s),
        lambda: client.abandon(1, timeout_s=timeout_s),
        lambda: client.close(timeout_s=timeout_s),
    ):
        with pytest.raises(ConfigurationError, match="timeout_s: found"):
            call()
    assert propose(client, b"y") == b"y", "it is still open"
    assert group.log.applied == [b"x", b"y"]


def test_for_ever_is_a_time(client: Client) -> None:
    assert propose(client, b"ab", math.inf) == b"ba"
    assert client.propose_async(b"ab", "recorder", timeout_s=math.inf).result(10).value == b"ba"
    assert client.propose_many([b"a"], "recorder", timeout_s=1e300)[0].value == b"a"
    client.close(timeout_s=math.inf)
    assert WAIT_MAX_S < threading.TIMEOUT_MAX


@pytest.mark.parametrize("command", ["text", bytearray(b"x"), memoryview(b"x"), None, 7, [b"x"]])
def test_what_is_no_command(client: Client, group: Group, command: Any) -> None:
    kind = type(command).__name__
    with pytest.raises(ConfigurationError, match=f"command 0: found {kind}; allowed: bytes"):
        client.propose(command, "recorder")
    with pytest.raises(ConfigurationError, match=f"command 1: found {kind}"):
        client.propose_many([b"fine", command], "recorder")
    assert group.log.applied == []


@pytest.mark.parametrize("commands", [b"bytes", "text", iter([b"x"]), {b"x"}, 7, None])
def test_what_is_no_sequence_of_commands(client: Client, commands: Any) -> None:
    with pytest.raises(ConfigurationError, match="commands: found"):
        client.propose_many(commands, "recorder")


@pytest.mark.parametrize("machine", ["", None, b"kv", 7, "\ud800"])
def test_what_is_no_name_of_a_machine(client: Client, group: Group, machine: Any) -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="machine: found"):
            client.propose(b"x", machine)
    assert group.submits == []


def test_a_label_that_cannot_be_sent() -> None:
    with pytest.raises(ConfigurationError, match="label"):
        Client(b"", 1, "\ud800")


@pytest.mark.parametrize("number", [0, 1, -5, 10**20, True, "1", None])
def test_a_number_that_was_never_told(client: Client, number: Any) -> None:
    propose(client, b"x")
    for ask in (client.outcome, client.abandon):
        with pytest.raises(ConfigurationError, match="number: found"):
            ask(number, timeout_s=0)


def test_a_command_over_the_limit(client: Client, group: Group) -> None:
    for call in (
        lambda: client.propose(b"x" * 1_001, "recorder"),
        lambda: client.propose_many([b"fine", b"x" * 1_001], "recorder"),
    ):
        with pytest.raises(CommandTooLargeError, match="1,001 bytes") as caught:
            call()
        assert not caught.value.may_have_applied
    assert group.log.applied == []


def test_a_closed_client(client: Client, group: Group) -> None:
    propose(client, b"x")
    client.close()
    client.close()
    with pytest.raises(ClientClosedError):
        propose(client, b"y")
    with pytest.raises(ClientClosedError):
        client.propose_async(b"y", "recorder")
    assert group.log.applied == [b"x"]


# Outcomes.


def test_an_unknown_outcome_is_asked_for_by_its_number(client: Client, group: Group) -> None:
    propose(client, b"x")
    group.mode = "keep"
    with pytest.raises(OutcomeUnknownError) as caught:
        propose(client, b"ab", 0.05)
    number = caught.value.number
    assert number == 2
    with pytest.raises(OutcomeUnknownError) as again:
        client.outcome(number, timeout_s=0.05)
    assert again.value.number == number
    threading.Timer(0.1, group.release).start()
    assert client.outcome(number, timeout_s=10).value == b"ba"
    assert client.outcome(number, timeout_s=0).value == b"ba", "whenever it is asked for"
    assert client.abandon(number, timeout_s=0) is not None
    assert group.log.applied == [b"x", b"ab"]


def test_an_abandoned_command_is_never_applied(client: Client, group: Group) -> None:
    propose(client, b"x")
    group.mode = "keep"
    with pytest.raises(OutcomeUnknownError) as caught:
        propose(client, b"ab", 0.05)
    number = caught.value.number
    assert number is not None
    lost, group.kept = group.kept, []
    threading.Timer(0.1, group.release).start()
    assert client.abandon(number, timeout_s=10) is None
    assert client.abandon(number, timeout_s=0) is None
    group.kept = lost
    group.release()
    assert propose(client, b"cd") == b"dc"
    assert group.log.applied == [b"x", b"cd"], "its delayed copy came, and was not applied"


def test_abandoning_what_was_applied_gives_its_result(client: Client, group: Group) -> None:
    propose(client, b"x")
    group.mode = "lose"
    with pytest.raises(OutcomeUnknownError) as caught:
        propose(client, b"ab", 0.05)
    assert caught.value.number is not None
    group.mode = "apply"
    result = client.abandon(caught.value.number, timeout_s=10)
    assert result is not None
    assert result.value == b"ba"
    assert group.log.applied == [b"x", b"ab"]


def test_a_lone_command_fails_when_its_time_is_over(client: Client, group: Group) -> None:
    propose(client, b"x")
    group.mode = "keep"
    began = time.monotonic()
    with pytest.raises(OutcomeUnknownError):
        propose(client, b"y", 0.1)
    assert time.monotonic() - began < 2


def test_a_lone_command_fails_in_time_though_a_callback_takes_long(
    client: Client, group: Group
) -> None:
    propose(client, b"x")
    group.mode = "keep"
    entered, may_go_on = threading.Event(), threading.Event()

    def linger(future: Future[Any]) -> None:
        entered.set()
        may_go_on.wait(10)

    future = client.propose_async(b"y", "recorder")
    future.add_done_callback(linger)
    threading.Timer(0.05, group.release).start()
    assert entered.wait(10)
    group.mode = "keep"
    began = time.monotonic()
    with pytest.raises((OutcomeUnknownError, OverloadedError)):
        propose(client, b"z", 0.1)
    assert time.monotonic() - began < 2
    may_go_on.set()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("no master", NoMasterError),
        ("overloaded", OverloadedError),
        ("stopped", MachineStoppedError),
    ],
)
def test_what_was_never_taken_is_certainly_not_applied(
    client: Client, group: Group, mode: str, kind: type[Exception]
) -> None:
    for before_first in (True, False):
        group.mode = mode
        with pytest.raises(kind) as caught:
            propose(client, b"never", 1.0)
        assert caught.value.may_have_applied is False  # type: ignore[attr-defined]
        assert caught.value.retry_after_s  # type: ignore[attr-defined]
        group.mode = "apply"
        assert propose(client, b"x%d" % before_first)
    assert b"never" not in group.log.applied


def test_a_full_client_waits_for_room_no_longer_than_it_may(
    client: Client, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose(client, b"x")
    group.mode = "keep"
    monkeypatch.setattr(client._sender._requests, "has_room", lambda *_: False)
    with pytest.raises(OverloadedError, match="no room") as caught:
        client.propose_async(b"y", "recorder", timeout_s=0.05)
    assert caught.value.retry_after_s


# The end.


def test_closing_ends_the_session_in_the_group(client: Client, group: Group) -> None:
    propose(client, b"x")
    assert group.log.host.session_count == 1
    client.close()
    assert group.log.host.session_count == 0
    assert group.log.applied == [b"x"]


def test_closing_with_open_commands_leaves_the_session(client: Client, group: Group) -> None:
    propose(client, b"x")
    group.mode = "keep"
    future = client.propose_async(b"y", "recorder")
    client.close(timeout_s=0)
    with pytest.raises((OutcomeUnknownError, ClientClosedError)):
        future.result(10)
    group.release()
    assert group.log.host.session_count == 1


def test_a_dropped_client_ends_its_thread(group: Group) -> None:
    configuration = parse_configuration("cluster: demo\n")
    spec = make_spec(make_genesis(configuration), configuration).encoded()
    dropped = Client(spec, 1, "test")
    propose(dropped, b"x")
    thread = dropped._sender._thread
    del dropped
    gc.collect()
    assert has_ended(thread)
