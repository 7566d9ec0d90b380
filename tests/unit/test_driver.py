"""The driver holds R3: nothing vouches for what is not durable, and a failed write ends it all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState, GroupVotes
from ray_paxos.core.client_messages import Flush
from ray_paxos.core.driver import Action, Driver, Observe, Run, Transmit, Write
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import MessageRefused, PromiseGranted, StorageFailed
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    CreateGroup,
    Envelope,
    Message,
    OrderDone,
    Prepare,
    Promise,
    RemoveGroup,
)
from ray_paxos.core.records import PromiseMade, Record
from ray_paxos.core.settings import AcceptorSettings
from ray_paxos.core.tasks import (
    ChainRead,
    DropCheckpoint,
    Outcome,
    ReadChain,
    Task,
    TaskDone,
    TaskFailed,
)
from tests.unit.core_helpers import (
    CONFIGURATION,
    GENESIS,
    GROUP,
    acceptor_of,
    ballot,
    client,
    envelope,
    learner_of,
    proposer_of,
)

FLUSH = envelope(client(), Flush())


class ScriptedRole:
    """Does what the test puts into `script`, call by call, and notes the calls."""

    def __init__(self) -> None:
        self.script: list[Effects] = []
        self.calls: list[tuple[str, object]] = []
        self.identity = (12, 0)
        self.deadline_ns: int | None = 7

    def _next(self, name: str, what: object) -> Effects:
        self.calls.append((name, what))
        return self.script.pop(0) if self.script else Effects()

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        return self._next("handle", envelope)

    def on_deadline(self, now_ns: int) -> Effects:
        return self._next("on_deadline", now_ns)

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        return self._next("on_durable", list(records))

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        return self._next("on_outcome", (task, outcome))

    def stamp(self, group: int) -> tuple[int, int]:
        return self.identity


@pytest.fixture
def role() -> ScriptedRole:
    return ScriptedRole()


@pytest.fixture
def driver(role: ScriptedRole) -> Driver:
    return Driver(role, genesis=GENESIS, sender=acceptor_of(2), incarnation=6)


def record(round: int) -> Record:
    return PromiseMade(GROUP, ballot(round))


def send(request_id: int) -> Send:
    return Send(client(), GROUP, OrderDone(request_id, ""))


def left(actions: Sequence[Action]) -> list[int]:
    """Which of the numbered messages left."""
    return [
        action.envelope.message.replica_id
        for action in actions
        if isinstance(action, Transmit) and isinstance(action.envelope.message, OrderDone)
    ]


def written(actions: Sequence[Action]) -> list[tuple[int, int]]:
    """(number, how many records) of each write."""
    return [(a.number, len(a.records)) for a in actions if isinstance(a, Write)]


def test_what_vouches_waits_for_its_records_the_rest_does_not(
    driver: Driver, role: ScriptedRole
) -> None:
    role.script = [Effects(records=[record(1)], sends_after_sync=[send(1)], sends_now=[send(2)])]
    actions = driver.receive(FLUSH, 0)
    assert written(actions) == [(1, 1)]
    assert left(actions) == [2]
    assert left(driver.on_durable(1, 0)) == [1]
    assert left(driver.on_durable(1, 0)) == [], "once"


def test_an_answer_without_a_record_waits_for_the_records_before_it(
    driver: Driver, role: ScriptedRole
) -> None:
    # Schedule 9: the promise is in memory, its record is still in fsync.
    role.script = [
        Effects(records=[record(1)], sends_after_sync=[send(1)]),
        Effects(sends_after_sync=[send(2)]),
    ]
    driver.receive(FLUSH, 0)
    assert left(driver.receive(FLUSH, 0)) == []
    assert left(driver.on_durable(1, 0)) == [1, 2]
    role.script = [Effects(sends_after_sync=[send(3)])]
    assert left(driver.receive(FLUSH, 0)) == [3], "nothing to wait for"


def test_a_repeated_prepare_and_accept_wait_for_the_first_ones_sync() -> None:
    state = AcceptorState({GROUP: GroupVotes(12, CONFIGURATION, 1)})
    acceptor = Acceptor(state, member_id=2, settings=AcceptorSettings(), now_ns=0)
    driver = Driver(acceptor, genesis=GENESIS, sender=acceptor_of(2), incarnation=1)

    def transmitted(message: Message) -> list[Action]:
        actions = driver.receive(envelope(proposer_of(1), message), 0)
        return [action for action in actions if isinstance(action, Transmit)]

    at = ballot(3)
    assert transmitted(Prepare(at, 1)) == []
    assert transmitted(Prepare(at, 1)) == []
    assert transmitted(Accept(at, 1, b"v")) == []
    assert transmitted(Accept(at, 1, b"v")) == []
    assert transmitted(Prepare(ballot(2), 1)) == [], "a nack tells a promise: it waits, too"
    first = [a.envelope.message for a in driver.on_durable(1, 0) if isinstance(a, Transmit)]
    assert [type(message) for message in first] == [Promise, Promise]
    second = [a.envelope.message for a in driver.on_durable(2, 0) if isinstance(a, Transmit)]
    assert [type(message).__name__ for message in second] == ["Accepted", "Accepted", "Nack"]


def test_writes_are_numbered_one_by_one_and_durable_in_order(
    driver: Driver, role: ScriptedRole
) -> None:
    role.script = [
        Effects(records=[record(n), record(n)], sends_after_sync=[send(n)]) for n in (1, 2, 3)
    ]
    actions = [action for _ in range(3) for action in driver.receive(FLUSH, 0)]
    assert written(actions) == [(1, 2), (2, 2), (3, 2)]
    assert left(driver.on_durable(2, 0)) == [1, 2], "2 durable means 1 durable"
    assert role.calls[-1] == ("on_durable", [record(1)] * 2 + [record(2)] * 2)
    assert left(driver.on_durable(3, 0)) == [3]
    assert role.calls[-1] == ("on_durable", [record(3)] * 2)


def test_a_number_that_was_never_written_is_our_own_bug(driver: Driver) -> None:
    with pytest.raises(AssertionError):
        driver.on_durable(1, 0)


def test_what_the_role_does_on_durable_is_done_too(driver: Driver, role: ScriptedRole) -> None:
    role.script = [
        Effects(records=[record(1)]),
        Effects(records=[record(2)], sends_after_sync=[send(2)], sends_now=[send(1)]),
    ]
    driver.receive(FLUSH, 0)
    actions = driver.on_durable(1, 0)
    assert written(actions) == [(2, 1)]
    assert left(actions) == [1]
    assert left(driver.on_durable(2, 0)) == [2]


def test_a_write_comes_before_what_its_handler_sends_and_events_come_first(
    driver: Driver, role: ScriptedRole
) -> None:
    event = PromiseGranted(GROUP, ballot(1), 1, 0)
    tasks: list[Task] = [ReadChain(GROUP, learner_of(1), 10), DropCheckpoint(GROUP, 7)]
    role.script = [Effects([record(1)], [send(1)], [send(2)], tasks, [event])]
    actions = driver.receive(FLUSH, 0)
    assert [type(action) for action in actions] == [Observe, Write, Transmit, Run, Run]
    assert actions[0] == Observe(event)
    assert actions[3:] == [Run(task) for task in tasks]


def test_every_envelope_says_whose_it_is(driver: Driver, role: ScriptedRole) -> None:
    role.identity = (44, 10)
    role.script = [Effects(sends_now=[send(1)])]
    (action,) = driver.receive(FLUSH, 0)
    assert action == Transmit(
        client(), Envelope(GENESIS, GROUP, acceptor_of(2), 44, 6, 10, OrderDone(1, ""))
    )


def test_an_answer_is_stamped_with_what_its_sender_was_when_it_gave_it(
    driver: Driver, role: ScriptedRole
) -> None:
    # R5: a promise counts under the configuration it was given under, not under one that was
    # taken while it waited for its sync.
    role.script = [Effects(records=[record(1)], sends_after_sync=[send(1)])]
    driver.receive(FLUSH, 0)
    role.identity = (44, 10)
    (action,) = driver.on_durable(1, 0)
    assert isinstance(action, Transmit)
    assert (action.envelope.replica_id, action.envelope.config_id) == (12, 0)


def test_a_new_replica_does_not_sign_the_votes_of_the_one_removed() -> None:
    state = AcceptorState({GROUP: GroupVotes(12, CONFIGURATION, 1)})
    acceptor = Acceptor(state, member_id=2, settings=AcceptorSettings(), now_ns=0)
    driver = Driver(acceptor, genesis=GENESIS, sender=acceptor_of(2), incarnation=1)
    later = Configuration(0, (Voter(1, 11), Voter(2, 20), Voter(3, 13)))
    driver.receive(envelope(proposer_of(1), Accept(ballot(1), 1, b"v")), 0)
    driver.receive(envelope(client(), RemoveGroup(12)), 0)
    driver.receive(envelope(client(), CreateGroup(20, later, 1)), 0)
    actions = driver.on_durable(3, 0)
    signed = [
        action.envelope.replica_id
        for action in actions
        if isinstance(action, Transmit) and isinstance(action.envelope.message, Accepted)
    ]
    assert signed == [12]


def test_another_clusters_message_never_reaches_the_role(
    driver: Driver, role: ScriptedRole
) -> None:
    for genesis in (b"another genesis!", b"", GENESIS[:-1]):
        foreign = envelope(proposer_of(1), Prepare(ballot(9), 1), genesis=genesis)
        (action,) = driver.receive(foreign, 0)
        assert isinstance(action, Observe)
        assert isinstance(action.event, MessageRefused)
    assert role.calls == []


@pytest.mark.parametrize("why", ["acceptor/journal/7.journal: EIO", ""])
def test_after_a_failed_write_nothing_leaves_and_nothing_is_handled(
    driver: Driver, role: ScriptedRole, why: str
) -> None:
    role.script = [
        Effects(records=[record(1)], sends_after_sync=[send(1)]),
        Effects(records=[record(2)], sends_after_sync=[send(2)]),
    ]
    driver.receive(FLUSH, 0)
    driver.receive(FLUSH, 0)
    actions = driver.on_storage_failed(why)
    assert [type(action) for action in actions] == [Observe]
    assert isinstance(actions[0], Observe)
    assert isinstance(actions[0].event, StorageFailed)
    assert driver.stopped
    assert why in driver.stopped
    calls = len(role.calls)
    # R3: a second fsync that succeeds proves nothing about what the first one lost.
    assert driver.on_durable(1, 0) == []
    assert driver.on_durable(2, 0) == []
    assert driver.receive(FLUSH, 0) == []
    assert driver.on_deadline(99) == []
    assert driver.on_outcome(DropCheckpoint(GROUP, 1), TaskDone(), 0) == []
    assert driver.deadline_ns is None
    assert driver.on_storage_failed("again") == []
    assert why in driver.stopped, "the first reason stays"
    assert len(role.calls) == calls


def test_deadlines_and_outcomes_go_to_the_role(driver: Driver, role: ScriptedRole) -> None:
    assert driver.deadline_ns == 7
    role.script = [Effects(sends_now=[send(1)]), Effects(sends_now=[send(2)])]
    assert left(driver.on_deadline(9)) == [1]
    task, outcome = ReadChain(GROUP, learner_of(1), 10), ChainRead(b"chain")
    assert left(driver.on_outcome(task, outcome, 0)) == [2]
    assert role.calls == [("on_deadline", 9), ("on_outcome", (task, outcome))]


def test_a_task_waits_for_no_record_and_what_comes_of_it_does(
    driver: Driver, role: ScriptedRole
) -> None:
    task = DropCheckpoint(GROUP, 7)
    role.script = [Effects(records=[record(1)], tasks=[task])]
    assert Run(task) in driver.receive(FLUSH, 0)
    role.script = [Effects(sends_now=[send(1)], sends_after_sync=[send(2)], tasks=[task])]
    actions = driver.on_outcome(task, TaskDone(), 0)
    assert left(actions) == [1], "the record before it is not durable yet"
    assert Run(task) in actions
    assert left(driver.on_durable(1, 0)) == [2]


def test_a_task_that_failed_stops_nothing(driver: Driver, role: ScriptedRole) -> None:
    failed = TaskFailed("checkpointer/group=1/7: EIO", is_damage=True)
    role.script = [Effects(sends_now=[send(1)])]
    assert left(driver.on_outcome(DropCheckpoint(GROUP, 7), failed, 0)) == [1]
    assert not driver.stopped
    role.script = [Effects(sends_now=[send(2)])]
    assert left(driver.receive(FLUSH, 0)) == [2]


def test_a_role_needs_an_incarnation_a_client_does_not(role: ScriptedRole) -> None:
    with pytest.raises(AssertionError):
        Driver(role, genesis=GENESIS, sender=acceptor_of(2), incarnation=0)
    Driver(role, genesis=GENESIS, sender=client(), incarnation=0)


steps = st.one_of(
    st.tuples(st.just("handle"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("durable"), st.integers(1, 3), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=30), st.integers(0, 40))
def test_nothing_leaves_before_all_records_emitted_up_to_it_are_durable(
    steps: list[tuple[str, int, int]], fails_at: int
) -> None:
    role = ScriptedRole()
    driver = Driver(role, genesis=GENESIS, sender=acceptor_of(2), incarnation=1)
    records = writes = durable = messages = 0
    needs: dict[int, int] = {}
    gone: list[int] = []
    for at, (step, one, two) in enumerate(steps):
        if at == fails_at:
            driver.on_storage_failed("EIO")
        if step == "handle":
            role.script = [Effects(records=[record(1)] * one)]
            records += one
            writes += one > 0
            for _ in range(two):
                messages += 1
                needs[messages] = writes
                role.script[0].sends_after_sync.append(send(messages))
            actions = driver.receive(FLUSH, 0)
        elif durable < writes and not driver.stopped:
            durable = min(writes, durable + one)
            actions = driver.on_durable(durable, 0)
        else:
            actions = []
        gone += left(actions)
        assert gone == sorted(gone), "in the order in which the role gave them"
        assert all(needs[number] <= durable for number in gone)
        if not driver.stopped:
            assert set(gone) == {n for n, need in needs.items() if need <= durable}
