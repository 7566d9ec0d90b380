"""The queues machine against schedules made to break its rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_paxos.errors import CommandError, NotYetError
from ray_paxos.machines import queue_messages as messages
from ray_paxos.machines import queues
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.queue_messages import (
    Acknowledged,
    Discarded,
    Extended,
    PutIn,
    Requeued,
    Returned,
    Taken,
    TakenItem,
    WaitOver,
)
from ray_paxos.machines.queues import QueuesMachine, topic_of
from tests.unit.queue_group import MS, Group, kill, only, topics


@pytest.fixture
def group() -> Group:
    return Group()


def test_a_ticket_is_asked_after_the_lease_has_ended(group: Group) -> None:
    """Somebody else has the item by then; the one who slept learns that it has nothing."""
    (slow,) = group.line_of(500)
    group.put(b"a")
    old = only(group.awaited(slow))
    assert group.at(100).awaited(slow) == WaitOver()
    new = group.taken()
    assert group.awaited(slow) == WaitOver(), "it does not see the hand-out of another"
    assert group.leave(slow) == WaitOver()
    assert new.receipt > old.receipt
    assert group.acknowledge(old.receipt) == Acknowledged(0, (old.receipt,))
    assert group.acknowledge(new.receipt) == Acknowledged(1, ())


def test_a_ticket_is_asked_where_it_is_not_known_yet(group: Group) -> None:
    """A member that lags must not tell a consumer that its wait is over."""
    with pytest.raises(NotYetError) as raised:
        group.awaited(1)
    (ticket,) = group.line_of(500)
    group.put(b"a")
    assert group.topics == {raised.value.topic}, "it is told when the member has come there"
    assert only(group.awaited(ticket)).payload == b"a"


def test_a_ticket_of_another_queue_says_nothing(group: Group) -> None:
    (ticket,) = group.line_of(500)
    group.configure("r")
    assert group.awaited(ticket, "r") == WaitOver()
    assert group.leave(ticket, "r") == WaitOver()
    assert group.look().in_line == 1
    group.put(b"a")
    assert group.leave(ticket, "r") == WaitOver()
    assert only(group.awaited(ticket)).payload == b"a"


def test_one_leaves_in_the_instance_of_its_hand_out(group: Group) -> None:
    """Either order of the two commands: it has the item, or another one has."""
    first, second = group.line_of(500, 500)
    group.put(b"a")
    assert only(group.leave(first)).item_id == 1
    group.leave(second)
    group.put(b"b")
    assert group.awaited(second) == WaitOver()
    assert group.taken().payload == b"b"


@pytest.mark.parametrize("lease_ms", [99, 100])
def test_a_lease_and_a_wait_end_in_one_instance(group: Group, lease_ms: int) -> None:
    """Whose wait is over gets nothing, whichever ended first: nobody asks for it any more."""
    group.put(b"a")
    group.taken(lease_ms=lease_ms)
    over, waits = group.line_of(100, 500)
    group.at(100)
    assert group.topics == topics(over, waits)
    assert group.awaited(over) == WaitOver()
    assert only(group.awaited(waits)).attempt == 2


def test_a_wait_that_is_over_gets_nothing_though_its_end_comes_late(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So much ends in one instance that its place is still there when something comes in."""
    monkeypatch.setattr(queues, "ENDS_MAX", 1)
    group.put(b"a", queue="other")
    group.take(queue="other", lease_ms=5)
    over, waits = group.line_of(10, 500)
    group.now_ms = 50
    group.machine.on_due(ApplyContext(2, 0, 50 * MS))
    assert group.look().in_line == 2
    group.put(b"a")
    assert group.topics == topics(over, waits)
    assert group.awaited(over) == WaitOver()
    assert only(group.awaited(waits)).payload == b"a"


def test_a_lease_whose_end_comes_late_is_held_by_one(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is ended it is current, and can be acknowledged; then it cannot."""
    monkeypatch.setattr(queues, "ENDS_MAX", 1)
    group.put(b"a", b"b", b"c")
    group.take(count_max=3, lease_ms=10)
    group.now_ms = 50
    context = ApplyContext(2, 0, 50 * MS)
    group.machine.on_due(context)
    assert group.acknowledge(1, 2) == Acknowledged(1, (1,))
    assert group.extend(3, lease_ms=100) == Extended(1, ())
    assert group.machine.due_ns == 150 * MS
    assert group.take(count_max=3) == Taken((TakenItem(1, 4, 2, b"a"),))


def test_log_time_jumps(group: Group) -> None:
    """A year passes between two instances: each thing ends once."""
    group.configure(attempts_max=3)
    group.put(b"a", b"b", b"c")
    group.take(count_max=2, lease_ms=50)
    group.give_back(1, delay_ms=70)
    group.taken(lease_ms=10)
    group.at(365 * 86_400_000)
    assert [group.taken().attempt for _ in range(3)] == [2, 2, 2]
    assert group.machine.due_ns == (group.now_ms + 100) * MS


def test_the_longest_times_of_all_can_be_saved(group: Group, tmp_path: Path) -> None:
    group.at(queues.TIME_MS_MAX)
    group.put(b"a", b"b")
    group.take(lease_ms=queues.TIME_MS_MAX)
    group.take(lease_ms=1)
    group.give_back(2, delay_ms=queues.TIME_MS_MAX)
    group.line_of(queues.TIME_MS_MAX)
    group.machine.save(tmp_path)
    loaded = QueuesMachine()
    loaded.load(tmp_path)
    assert loaded.due_ns == group.machine.due_ns == 2 * queues.TIME_MS_MAX * MS
    assert loaded.digest() == group.machine.digest()


def test_an_item_that_is_not_dead_is_requeued_and_discarded(group: Group) -> None:
    """Taken, delayed, ready, done and unknown ones stay what they are."""
    group.put(b"a", b"b", b"c", b"d")
    group.take(count_max=3)
    group.give_back(2, delay_ms=500)
    group.acknowledge(3)
    before = group.machine.digest()
    everything = (1, 2, 3, 4, 5, 0, -1)
    assert group.requeue(*everything) == Requeued(0, everything)
    assert group.discard(*everything) == Discarded(0, everything)
    assert group.machine.digest() == before


def test_receipts_of_another_queue_and_tickets_are_no_receipts(group: Group) -> None:
    group.put(b"a")
    group.put(b"b", queue="r")
    mine, other = group.taken(), only(group.take(queue="r"))
    (ticket,) = group.line_of(500)
    before = group.machine.digest()
    wrong = (other.receipt, ticket, 0, -1, (1 << 64) - 1)
    assert group.acknowledge(*wrong) == Acknowledged(0, wrong)
    assert group.give_back(*wrong, delay_ms=5) == Returned(0, wrong)
    assert group.extend(*wrong) == Extended(0, wrong)
    assert group.acknowledge(*wrong, queue="nothing") == Acknowledged(0, wrong)
    assert group.machine.digest() == before
    assert group.acknowledge(mine.receipt) == Acknowledged(1, ())


def test_a_receipt_is_used_while_its_item_is_delayed_dead_or_requeued(group: Group) -> None:
    """The number goes on in the state as that of the delay."""
    group.configure(attempts_max=2)
    group.put(b"a")
    group.taken()
    group.give_back(1, delay_ms=50)
    for _ in range(2):
        assert group.extend(1) == Extended(0, (1,))
        assert group.give_back(1) == Returned(0, (1,))
    assert group.machine.due_ns == 50 * MS
    group.at(50).taken()
    group.give_back(2)
    assert group.look().dead == 1
    assert group.acknowledge(1, 2) == Acknowledged(0, (1, 2))
    group.requeue(1)
    assert group.acknowledge(1, 2) == Acknowledged(0, (1, 2))
    assert group.look().ready == 1


def test_a_queue_is_dropped_and_made_anew(group: Group) -> None:
    """Nothing of the old one means anything in the new one, nor ends there."""
    group.put(b"a", b"b", b"c")
    group.take(count_max=2, lease_ms=100)
    group.give_back(2, delay_ms=100)
    group.drop(force=True)
    assert group.put(b"new") == PutIn(4)
    assert group.taken(lease_ms=500).receipt == 3
    assert group.acknowledge(1, 2) == Acknowledged(0, (1, 2))
    (ticket,) = group.line_of(500)
    group.at(100)
    assert (group.look().taken, group.topics) == (1, set())
    group.drop(force=True)
    group.put(b"newer")
    assert group.awaited(ticket) == WaitOver()
    assert group.take(count_max=9) == Taken((TakenItem(5, 5, 1, b"newer"),))


def test_the_limit_of_attempts_is_lowered_while_items_are_about(group: Group) -> None:
    """One that is ready goes out once more; none goes out more often than any limit allowed."""
    group.put(b"ready", b"taken")
    group.take(count_max=2)
    group.give_back(1)
    group.configure(attempts_max=1)
    group.give_back(2)
    assert [letter.payload for letter in group.dead().letters] == [b"taken"]
    assert group.taken() == TakenItem(1, 3, 2, b"ready")
    group.give_back(3)
    assert group.look().dead == 2


def test_a_refused_put_wakes_nobody_and_uses_no_id(group: Group) -> None:
    (ticket,) = group.line_of(500)
    group.configure(items_max=1)
    with pytest.raises(CommandError, match="no room for 2 more"):
        group.put(b"a", b"b")
    assert group.topics == set()
    assert group.put(b"a") == PutIn(1)
    assert only(group.awaited(ticket)).item_id == 1


def test_a_poisoned_item_holds_up_nobody_for_ever(group: Group) -> None:
    """Each consumer dies of it; it comes first each time, and then not any more."""
    group.put(b"poison", b"good")
    for attempt in range(1, 6):
        assert group.taken().attempt == attempt
        group.at(attempt * 100)
    assert group.taken().payload == b"good"


def test_dead_letters_are_requeued_between_two_pages(group: Group) -> None:
    """A page starts after an id, whether or not that one is still there."""
    kill(group, 4)
    assert group.dead(count_max=2).next_after == 2
    group.requeue(2, 3)
    assert [letter.item_id for letter in group.dead(start_after=2).letters] == [4]
    group.discard(4)
    assert group.dead(start_after=2) == messages.DeadPage((), None)


def test_what_is_asked_changes_nothing(group: Group) -> None:
    kill(group, 3)
    (ticket,) = group.line_of(500)
    before = group.machine.digest()
    for _ in range(2):
        group.dead()
        group.look()
        with pytest.raises(NotYetError) as raised:
            group.awaited(ticket)
        assert raised.value.topic == topic_of("q", ticket)
        assert group.machine.digest() == before
