"""The router: one actor's role made of many groups that do not disturb each other (R12)."""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.client_messages import (
    Consistency,
    Flush,
    Query,
    QueryFailed,
    QueryMany,
    QueryProblem,
)
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import MessageRefused
from ray_paxos.core.messages import Envelope, OrderDone
from ray_paxos.core.records import PromiseMade, Record
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.tasks import DropCheckpoint, Outcome, ReadChain, Task, TaskDone, TaskFailed
from tests.unit.core_helpers import ballot, client, envelope, happened


class NotingRole:
    """Answers every call with one message of its group, and notes it."""

    def __init__(self, group: int, deadline_ns: int | None = None) -> None:
        self.group = group
        self.deadline_ns = deadline_ns
        self.calls: list[object] = []

    def _note(self, call: object) -> Effects:
        self.calls.append(call)
        return Effects(sends_now=[Send(client(), self.group, OrderDone(len(self.calls), ""))])

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        return self._note(envelope)

    def on_deadline(self, now_ns: int) -> Effects:
        return self._note(now_ns)

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        return self._note(list(records))

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        return self._note((task, outcome))

    def stamp(self, group: int) -> tuple[int, int]:
        return self.group * 10, 0


def router(*deadlines: int | None) -> tuple[GroupRouter, list[NotingRole]]:
    """Groups 1, 2, 3, ... with these deadlines."""
    roles = [NotingRole(group, deadline) for group, deadline in enumerate(deadlines, 1)]
    return GroupRouter({role.group: role for role in roles}), roles


def groups(effects: Effects) -> list[int]:
    return [send.group for send in effects.sends_now]


def test_a_message_goes_to_its_group_alone() -> None:
    routed, roles = router(None, None)
    message = envelope(client(), Flush(), group=2)
    assert groups(routed.handle(message, 0)) == [2]
    assert [role.calls for role in roles] == [[], [message]]


def test_a_message_for_a_group_that_is_not_here_makes_nothing() -> None:
    routed, roles = router(None)
    effects = routed.handle(envelope(client(), Flush(), group=9), 0)
    (refused,) = happened(effects, MessageRefused)
    assert refused.group == 9
    assert not effects.sends_now
    assert not roles[0].calls
    assert set(routed.roles) == {1}
    assert routed.stamp(9) == (0, 0)
    assert routed.stamp(1) == (10, 0)


def test_each_deadline_is_its_groups_own() -> None:
    routed, roles = router(30, None, 10, 20)
    assert routed.deadline_ns == 10
    assert groups(routed.on_deadline(20)) == [3, 4]
    assert [role.calls for role in roles] == [[], [], [20], [20]]
    assert router(None, None)[0].deadline_ns is None
    assert router()[0].deadline_ns is None


def test_a_call_to_a_group_may_change_its_deadline_and_asks_no_other_group() -> None:
    calls: list[tuple[int, int | None]] = []

    class Asked(NotingRole):
        @property
        def deadline_ns(self) -> int | None:
            calls.append((self.group, 10 - len(self.calls) if self.calls else None))
            return calls[-1][1]

        @deadline_ns.setter
        def deadline_ns(self, deadline_ns: int | None) -> None:
            pass

    one, other = Asked(1), Asked(2)
    routed = GroupRouter({1: one, 2: other})
    assert routed.deadline_ns is None
    calls.clear()
    routed.handle(envelope(client(), Flush(), group=2), 0)
    assert routed.deadline_ns == 9
    routed.on_durable([PromiseMade(2, ballot(1))], 0)
    assert routed.deadline_ns == 8
    routed.on_outcome(DropCheckpoint(2, 7), TaskDone(), 0)
    assert routed.deadline_ns == 7
    assert groups(routed.on_deadline(7)) == [2]
    assert routed.deadline_ns == 6
    assert {group for group, _ in calls} == {2}
    other.calls.clear()
    routed.on_deadline(6)
    assert routed.deadline_ns == 9


def test_durable_records_go_to_their_groups_in_their_order() -> None:
    routed, roles = router(None, None)
    records = [PromiseMade(group, ballot(n)) for n, group in enumerate((2, 1, 2, 7), 1)]
    assert sorted(groups(routed.on_durable(records, 0))) == [1, 2]
    assert roles[0].calls == [[records[1]]]
    assert roles[1].calls == [[records[0], records[2]]]


def test_what_a_task_came_to_goes_to_its_group() -> None:
    routed, roles = router(None, None)
    task = DropCheckpoint(2, 7)
    for outcome in (TaskDone(), TaskFailed("EIO")):
        assert groups(routed.on_outcome(task, outcome, 0)) == [2]
    assert roles[0].calls == []
    assert roles[1].calls == [(task, TaskDone()), (task, TaskFailed("EIO"))]
    assert routed.on_outcome(DropCheckpoint(9, 7), TaskDone(), 0) == Effects()


def test_effects_of_several_roles_keep_their_order() -> None:
    one = Effects(
        records=[PromiseMade(1, ballot(1))], sends_after_sync=[Send(client(), 1, Flush())]
    )
    other = Effects(records=[PromiseMade(2, ballot(1))], sends_now=[Send(client(), 2, Flush())])
    one.tasks.append(ReadChain(1, client(), 1))
    other.tasks.append(ReadChain(2, client(), 2))
    other.events.append(MessageRefused(2, "x"))
    one.extend(other)
    assert one == Effects(
        [PromiseMade(1, ballot(1)), PromiseMade(2, ballot(1))],
        [Send(client(), 1, Flush())],
        [Send(client(), 2, Flush())],
        [ReadChain(1, client(), 1), ReadChain(2, client(), 2)],
        [MessageRefused(2, "x")],
    )


class MovingRole(NotingRole):
    """Puts its deadline off with every call, and counts how often it is asked for it."""

    asked = 0

    @property
    def deadline_ns(self) -> int | None:
        self.asked += 1
        return self.next_ns

    @deadline_ns.setter
    def deadline_ns(self, deadline_ns: int | None) -> None:
        self.next_ns = deadline_ns

    def _note(self, call: object) -> Effects:
        if self.next_ns is not None:
            self.next_ns += 100
        return super()._note(call)


def test_an_event_of_one_group_looks_at_no_other_groups_deadline() -> None:
    roles = {group: MovingRole(group, 1_000 + group) for group in range(1, 101)}
    routed = GroupRouter(dict(roles))
    assert routed.deadline_ns == 1_001
    for _ in range(3):
        routed.handle(envelope(client(), Flush(), group=1), 0)
        routed.on_durable([PromiseMade(1, ballot(1))], 0)
        routed.on_outcome(ReadChain(1, client(), 5), TaskDone(), 0)
        assert routed.deadline_ns == 1_002
    assert roles[1].asked == 4
    assert sum(role.asked for role in roles.values()) == 103


def test_a_deadline_that_is_given_up_and_taken_up_again() -> None:
    routed, roles = router(10, 20)
    assert routed.deadline_ns == 10
    roles[0].deadline_ns = None
    routed.handle(envelope(client(), Flush(), group=1), 0)
    assert routed.deadline_ns == 20
    roles[0].deadline_ns = 10
    routed.handle(envelope(client(), Flush(), group=1), 0)
    assert routed.deadline_ns == 10
    assert groups(routed.on_deadline(15)) == [1]


def test_who_reads_a_group_that_is_not_here_is_told() -> None:
    routed, _ = router(None)
    for query in (
        Query(7, "kv", b"", 0),
        QueryMany(7, "kv", (b"",), 0, Consistency.STALE, None, 0, 90),
    ):
        effects = routed.handle(envelope(client(), query, group=9), 0)
        (send,) = effects.sends_now
        assert send.to == client()
        assert isinstance(send.message, QueryFailed)
        assert (send.message.request_id, send.message.problem) == (7, QueryProblem.NO_GROUP)
    assert not routed.handle(envelope(client(), Flush(), group=9), 0).sends_now
