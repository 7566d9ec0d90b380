"""Events in the simulator: what they say of answered commands is true, and nothing depends on them.

A whole run of a seed is played: members crash, disks fail, members come and go.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from ray_paxos.core.client_messages import Submitted
from ray_paxos.core.driver import Action, Driver, Observe
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import CommandsAnswered, Event
from ray_paxos.core.messages import Address, Envelope
from ray_paxos.core.records import Record
from ray_paxos.testing.checker import Checker
from ray_paxos.testing.in_process import InProcessCluster
from ray_paxos.testing.process import SimulatedProcess
from ray_paxos.testing.simulate import run_seed
from tests.unit.in_process_machines import Notes

Answer = tuple[Address, int, Address, int]
"""By whom, of which group, to which client, for which request."""


class AnswerWatch:
    """Notes which commands proposers tell events of, and which they answer."""

    def __init__(self) -> None:
        self.told: Counter[Answer] = Counter()
        self.answered: Counter[Answer] = Counter()
        self.instances: Counter[tuple[int, int]] = Counter()
        self.voters: set[int] = set()

    def event(self, checker: Checker, process: Address, event: Event) -> None:
        if not isinstance(event, CommandsAnswered):
            return
        assert event.requests, "no-ops, ticks and master records have nobody to answer"
        self.instances[event.group, event.instance_id] += 1
        for request in event.requests:
            assert 0 <= request.arrived_ns <= event.opened_ns
            self.told[process, event.group, request.client, request.request_id] += 1
        times = [at_ns for _, at_ns in event.votes]
        assert times == sorted(times)
        assert event.opened_ns <= times[0]
        assert times[-1] == event.chosen_ns <= event.answered_ns
        members = [member for member, _ in event.votes]
        assert len(set(members)) == len(members), "a member votes once"
        known = checker.ledgers[event.group].configurations.known()
        fitting = [c for c in known if c.majority == len(members)]
        assert any(all(c.voter(m) is not None for m in members) for c in fitting), members
        self.voters |= set(members)

    def sending(self, sender: Address, to: Address, envelope: Envelope) -> None:
        if isinstance(envelope.message, Submitted):
            self.answered[sender, envelope.group, to, envelope.message.request_id] += 1


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> AnswerWatch:
    watch = AnswerWatch()
    event_before, sending_before = Checker.event, Checker.sending

    def event(self: Checker, process: Address, event: Event) -> None:
        watch.event(self, process, event)
        event_before(self, process, event)

    def sending(self: Checker, sender: Address, to: Address, life: int, e: Envelope) -> None:
        watch.sending(sender, to, e)
        sending_before(self, sender, to, life, e)

    monkeypatch.setattr(Checker, "event", event)
    monkeypatch.setattr(Checker, "sending", sending)
    return watch


@pytest.mark.parametrize(("seed", "members"), [(1, 3), (2, 3), (3, 3), (4, 5)])
def test_what_is_told_as_answered_was_answered(watch: AnswerWatch, seed: int, members: int) -> None:
    result = run_seed(seed, members)
    assert not result.violation, result.violation
    assert watch.told == watch.answered, "an event for every answer, and no other"
    assert set(watch.instances.values()) == {1}, "an instance is answered once"
    assert len(watch.voters) >= 2
    assert result.coverage.commands > 10


# Nothing depends on events.


class Unreadable(list[Any]):
    """Events that their role cannot read again: as if it had emitted none."""

    def __init__(self) -> None:
        super().__init__()
        self.emitted: list[Event] = []

    def append(self, event: Event) -> None:
        self.emitted.append(event)

    def extend(self, events: Any) -> None:
        self.emitted.extend(events.emitted if isinstance(events, Unreadable) else events)

    def __iadd__(self, events: Any) -> Unreadable:  # type: ignore[misc]
        self.extend(events)
        return self


class Account:
    """A hash of all that leaves and all that is written, in their order."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self.sent = self.written = self.events = 0

    def actions(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Observe):
                self.events += 1
            else:
                self.hash.update(_text(action))

    def sending(self, sender: Address, to: Address, envelope: Envelope) -> None:
        self.sent += 1
        self.hash.update(msgspec.msgpack.encode((sender, to, envelope)))

    def writing(self, process: Address, records: Sequence[Record]) -> None:
        self.written += len(records)
        self.hash.update(_text((process, records)))


def _text(what: object) -> bytes:
    """As Python shows it, without places in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(what)).encode()


def _count(monkeypatch: pytest.MonkeyPatch, *checkers: type[Checker]) -> Account:
    account = Account()
    interpret_before = Driver._interpret

    def interpret(self: Driver, effects: Effects) -> list[Action]:
        actions = interpret_before(self, effects)
        account.actions(actions)
        return actions

    monkeypatch.setattr(Driver, "_interpret", interpret)
    for checker in checkers:
        _count_checker(monkeypatch, checker, account)
    return account


def _count_checker(
    monkeypatch: pytest.MonkeyPatch, checker: type[Checker], account: Account
) -> None:
    sending_before, writing_before = checker.sending, checker.writing

    def sending(self: Checker, sender: Address, to: Address, life: int, e: Envelope) -> None:
        account.sending(sender, to, e)
        sending_before(self, sender, to, life, e)

    def writing(self: Checker, process: Address, records: Sequence[Record]) -> None:
        account.writing(process, records)
        writing_before(self, process, records)

    monkeypatch.setattr(checker, "sending", sending)
    monkeypatch.setattr(checker, "writing", writing)


def _hide_events(monkeypatch: pytest.MonkeyPatch, *, from_all: bool) -> None:
    """Roles emit events that they cannot read; the driver drops them, or tells the judge alone."""
    made_before, interpret_before = Effects.__init__, Driver._interpret

    def made(self: Effects, *arguments: Any, **options: Any) -> None:
        made_before(self, *arguments, **options)
        hidden = Unreadable()
        hidden.extend(self.events)
        self.events = hidden

    def interpret(self: Driver, effects: Effects) -> list[Action]:
        assert isinstance(effects.events, Unreadable)
        assert not list(effects.events)
        actions = interpret_before(self, effects)
        if from_all:
            return actions
        return [*map(Observe, effects.events.emitted), *actions]

    monkeypatch.setattr(Effects, "__init__", made)
    monkeypatch.setattr(Driver, "_interpret", interpret)


def _play_seed(seed: int, *, hidden: bool) -> tuple[str, str, Account]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        account = _count(monkeypatch, Checker)
        if hidden:
            _hide_events(monkeypatch, from_all=False)
        result = run_seed(seed, 3)
        assert not result.violation, result.violation
        return result.digest, account.hash.hexdigest(), account


@pytest.mark.parametrize("seed", [5, 11])
def test_a_role_that_cannot_see_its_events_does_the_same(seed: int) -> None:
    """The judge of the simulator needs events, and alone is told them."""
    digest, hashed, account = _play_seed(seed, hidden=False)
    assert account.sent > 1_000
    assert account.written > 100
    assert account.events > 100
    other_digest, other_hashed, other = _play_seed(seed, hidden=True)
    assert (other.sent, other.written) == (account.sent, account.written)
    assert (other_digest, other_hashed) == (digest, hashed)


def _play_notes(seed: int, *, hidden: bool) -> tuple[list[bytes | None], str, Account]:
    """Commands, a crash of the master, a cut, a checkpoint, and a restart of all."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        account = _count(monkeypatch)
        _watch_processes(monkeypatch, account)
        if hidden:
            _hide_events(monkeypatch, from_all=True)
        cluster = InProcessCluster({"notes": Notes}, seed=seed)
        client = cluster.client()
        results = [client.propose(b"%d" % number).value for number in range(10)]
        cluster.crash(_master(cluster))
        results += [client.propose(b"%d" % number).value for number in range(10, 20)]
        cluster.restart()
        cluster.advance(1)
        cluster.partition(_master(cluster))
        results += [client.propose(b"%d" % number).value for number in range(20, 30)]
        cluster.heal()
        cluster.advance(5)
        return results, cluster.trace_digest, account


def _master(cluster: InProcessCluster) -> str:
    master = cluster.master
    assert master is not None
    return master


def _watch_processes(monkeypatch: pytest.MonkeyPatch, account: Account) -> None:
    do_before: Callable[..., None] = SimulatedProcess._do

    def do(self: SimulatedProcess, actions: Sequence[Action]) -> None:
        seen = [action for action in actions if isinstance(action, Observe)]
        account.events += len(seen)
        do_before(self, actions)

    monkeypatch.setattr(SimulatedProcess, "_do", do)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_cluster_whose_drivers_drop_all_events_does_the_same(seed: int) -> None:
    results, digest, account = _play_notes(seed, hidden=False)
    assert results == [b"%d" % (number + 1) for number in range(30)]
    assert account.events > 100
    other_results, other_digest, other = _play_notes(seed, hidden=True)
    assert other.events == 0
    assert other_results == results
    assert (other_digest, other.hash.hexdigest()) == (digest, account.hash.hexdigest())
