"""The queues machine: what is handed out to whom, until when, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines import queue_messages as messages
from ray_paxos.machines import queue_state, queues
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.queue_messages import (
    Acknowledged,
    Configured,
    Counts,
    DeadPage,
    Discarded,
    Dropped,
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


# Hand-outs.


def test_items_go_out_in_order_and_each_to_one(group: Group) -> None:
    assert group.put(b"a", b"b") == PutIn(1)
    assert group.put(b"c") == PutIn(3)
    assert group.take(count_max=2) == Taken((TakenItem(1, 1, 1, b"a"), TakenItem(2, 2, 1, b"b")))
    assert group.take(count_max=2) == Taken((TakenItem(3, 3, 1, b"c"),))
    assert group.take() == Taken(())
    assert group.acknowledge(2, 3) == Acknowledged(2, ())
    assert group.look() == Counts(
        taken=1, put_in_all=3, acknowledged_in_all=2, payload_bytes=1, attempts_max=5,
        items_max=1_000_000,
    )  # fmt: skip


def test_what_comes_back_comes_first_with_a_new_receipt(group: Group) -> None:
    group.put(b"a", b"b", b"c", b"d")
    group.take(count_max=3)
    assert group.give_back(3, 1) == Returned(2, ())
    group.put(b"e")
    assert group.take(count_max=9) == Taken(
        (
            TakenItem(1, 4, 2, b"a"),
            TakenItem(3, 5, 2, b"c"),
            TakenItem(4, 6, 1, b"d"),
            TakenItem(5, 7, 1, b"e"),
        )
    )
    assert group.acknowledge(1, 3, 2) == Acknowledged(1, (1, 3)), "an old receipt does nothing"
    assert group.look().taken == 4


def test_a_lease_ends_by_log_time(group: Group) -> None:
    group.put(b"a")
    assert group.taken(lease_ms=100).receipt == 1
    assert group.at(99).take() == Taken(())
    assert group.at(100).take() == Taken((TakenItem(1, 2, 2, b"a"),))
    for lost in (group.acknowledge(1), group.give_back(1), group.extend(1)):
        assert (lost.count, lost.lost) == (0, (1,))  # type: ignore[union-attr]
    assert group.at(199).look().taken == 1
    assert group.at(200).look().ready == 1


def test_an_extension_counts_from_its_own_time(group: Group) -> None:
    group.put(b"a")
    group.taken(lease_ms=100)
    assert group.at(60).extend(1, lease_ms=100) == Extended(1, ())
    assert group.at(159).look().taken == 1
    assert group.at(160).look().taken == 0
    assert group.extend(1) == Extended(0, (1,))


def test_a_receipt_named_twice_counts_once(group: Group) -> None:
    group.put(b"a")
    group.take()
    assert group.extend(1, 1, 9, 9) == Extended(1, (9,))
    assert group.acknowledge(1, 1, 9, 9) == Acknowledged(1, (9,))


def test_what_is_given_back_with_a_delay_is_ready_after_it(group: Group) -> None:
    group.put(b"a", b"b")
    group.take(lease_ms=100)
    assert group.give_back(1, delay_ms=500) == Returned(1, ())
    assert group.at(499).look() == Counts(1, 0, 1, 0, 0, 2, 0, 0, 2, 5, 1_000_000)
    assert group.acknowledge(1) == Acknowledged(0, (1,))
    assert group.at(500).look().ready == 2
    assert group.taken() == TakenItem(1, 2, 2, b"a")


# Dead letters.


def test_an_item_is_a_dead_letter_after_its_last_attempt(group: Group) -> None:
    assert group.configure(attempts_max=3) == Configured()
    group.put(b"a")
    for attempt in (1, 2, 3):
        assert group.look().dead == 0
        item = group.taken(f"c{attempt}")
        assert item.attempt == attempt
        if attempt == 2:
            group.give_back(item.receipt)
        else:
            group.at(attempt * 100)
    assert group.take() == Taken(())
    (letter,) = group.dead().letters
    assert letter == messages.DeadLetter(1, 3, "c3", b"a")
    assert group.machine.due_ns is None


def test_a_delay_does_not_save_from_it(group: Group) -> None:
    group.configure(attempts_max=1)
    group.put(b"a")
    group.taken()
    group.give_back(1, delay_ms=50)
    assert group.look().dead == 1


def test_a_requeued_item_has_all_its_attempts_again(group: Group) -> None:
    kill(group, 3)
    assert group.requeue(2, 2, 7, 1) == Requeued(2, (7,))
    assert [item.item_id for item in group.dead().letters] == [3]
    assert group.taken() == TakenItem(1, 4, 1, b"0")
    assert group.discard(3, 1) == Discarded(1, (1,))
    counts = group.look()
    assert (counts.dead, counts.discarded_in_all, counts.payload_bytes) == (0, 1, 2)


def test_dead_letters_are_read_in_pages(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(group, 7)
    group.requeue(3)
    page = group.dead(count_max=2)
    assert [item.item_id for item in page.letters] == [1, 2]
    assert page.next_after == 2
    page = group.dead(start_after=2, count_max=4)
    assert [item.item_id for item in page.letters] == [4, 5, 6, 7]
    assert page.next_after is None
    monkeypatch.setattr(queue_state, "PAGE_BYTES_MAX", 3)
    page = group.dead()
    assert [item.item_id for item in page.letters] == [1, 2, 4]
    assert page.next_after == 4
    monkeypatch.setattr(queues, "COUNT_MAX", 1)
    assert group.dead().next_after == 1
    assert group.dead("other") == DeadPage((), None)


def test_a_letter_that_dies_later_is_in_the_next_page(group: Group) -> None:
    kill(group, 2)
    assert len(group.dead().letters) == 2
    kill(group, 1)
    assert [item.item_id for item in group.dead().letters] == [1, 2, 3]


def test_dead_letters_take_room_and_do_not_go_by_themselves(group: Group) -> None:
    kill(group, 3)
    group.configure(items_max=3)
    with pytest.raises(CommandError, match="3 items, of which 3 are dead letters"):
        group.put(b"a")
    group.discard(1)
    assert group.put(b"a") == PutIn(4)


# The line.


def test_who_waits_is_served_first_come_first_served(group: Group) -> None:
    first, second, third = group.line_of(500, 500, 500)
    group.at(40)
    assert group.put(b"a", b"b") == PutIn(1)
    assert group.topics == topics(first, second)
    assert only(group.awaited(first)).payload == b"a"
    assert only(group.awaited(second)).payload == b"b"
    with pytest.raises(NotYetError) as raised:
        group.awaited(third)
    assert raised.value.topic == topic_of("q", third)
    assert group.at(139).look().taken == 2, "the lease began with the hand-out"
    group.at(140)
    assert group.topics == topics(third), "what comes back goes to the next one"
    assert only(group.awaited(third)).item_id == 1
    assert group.awaited(first) == WaitOver()
    assert group.look().ready == 1


def test_who_waits_for_many_gets_what_there_is(group: Group) -> None:
    group.take(count_max=3, wait_ms=50)
    group.put(b"a", b"b")
    assert [item.payload for item in group.awaited(1).items] == [b"a", b"b"]  # type: ignore[union-attr]
    assert group.acknowledge(2) == Acknowledged(1, ())
    assert only(group.awaited(1)).receipt == 3
    group.acknowledge(3)
    assert group.awaited(1) == WaitOver()


def test_a_wait_ends_by_log_time(group: Group) -> None:
    first, second = group.line_of(50, 60)
    group.at(49)
    assert group.topics == set()
    group.at(50)
    assert group.topics == topics(first)
    assert group.awaited(first) == WaitOver()
    group.put(b"a")
    assert only(group.awaited(second)).payload == b"a"


def test_what_is_ready_again_goes_to_the_line(group: Group) -> None:
    kill(group, 1)
    group.configure(attempts_max=5)
    (one, two, three) = group.line_of(500, 500, 500)
    group.requeue(1)
    assert group.topics == topics(one)
    group.give_back(only(group.awaited(one)).receipt)
    assert group.topics == topics(two)
    group.give_back(only(group.awaited(two)).receipt, delay_ms=30)
    assert group.topics == set()
    group.at(30)
    assert group.topics == topics(three)
    assert only(group.awaited(three)).attempt == 3


@pytest.mark.parametrize("is_delayed", [False, True])
def test_what_ends_at_once_goes_out_in_order(group: Group, is_delayed: bool) -> None:
    """The later item's lease or delay ended first, but both in one instance."""
    group.put(b"a", b"b")
    group.take(lease_ms=90)
    group.take(lease_ms=80)
    if is_delayed:
        group.give_back(1, delay_ms=90)
        group.give_back(2, delay_ms=80)
    group.take(count_max=2, wait_ms=500)
    group.take(count_max=2, wait_ms=500)
    group.at(100)
    assert [item.item_id for item in group.awaited(3).items] == [1, 2]  # type: ignore[union-attr]
    assert group.topics == topics(3)


def test_who_leaves_gets_nothing_or_what_it_was_handed(group: Group) -> None:
    first, second = group.line_of(500, 500)
    assert group.leave(first) == WaitOver()
    assert group.topics == topics(first)
    group.put(b"a")
    assert group.topics == topics(second)
    assert group.leave(second) == Taken((TakenItem(1, 3, 1, b"a"),))
    assert group.leave(second) == group.awaited(second), "as often as it asks"
    assert group.acknowledge(3) == Acknowledged(1, ())
    assert group.leave(second) == WaitOver()
    assert group.leave(1, "other") == WaitOver()


def test_a_thousand_who_wait_cost_one_wake_up_an_item(group: Group) -> None:
    tickets = group.line_of(*[500] * 1_000)
    for ticket in tickets:
        group.put(b"a")
        assert group.topics == topics(ticket)
        group.acknowledge(only(group.awaited(ticket)).receipt)
        assert group.topics == set()
    assert group.machine._queues["q"].given == {}


# Limits, and queues.


def test_a_line_is_bounded(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "LINE_MAX", 2)
    group.line_of(50, 50)
    with pytest.raises(CommandError, match="2 wait at the queue already"):
        group.take(wait_ms=50)
    assert group.take() == Taken(())


def test_queues_and_bytes_are_bounded(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "QUEUES_MAX", 2)
    monkeypatch.setattr(queues, "QUEUE_BYTES_MAX", 3)
    group.put(b"ab")
    before = group.machine.digest()
    with pytest.raises(CommandError, match="0 bytes and no room for 4"):
        group.put(b"abcd", queue="r")
    assert group.machine.digest() == before, "there is no such queue"
    group.configure("r")
    before = group.machine.digest()
    with pytest.raises(CommandError, match="there are 2 queues"):
        group.put(b"a", queue="s")
    with pytest.raises(CommandError, match="there are 2 queues"):
        group.take(queue="s", wait_ms=5)
    assert group.take(queue="s") == Taken(())
    assert group.acknowledge(1, queue="s") == Acknowledged(0, (1,))
    with pytest.raises(CommandError, match="2 bytes and no room for 2"):
        group.put(b"a", b"b")
    assert group.machine.digest() == before, "all items or none"
    assert group.put(b"a") == PutIn(2)


def test_a_hand_out_is_bounded_in_bytes(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "PAGE_BYTES_MAX", 3)
    group.put(b"ab", b"cd", b"ef")
    assert [item.payload for item in group.take(count_max=9).items] == [b"ab", b"cd"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (messages.encode_put("q", ()), "the number of items is 1 to"),
        (messages.encode_put("q", [b""] * (queues.PUT_ITEMS_MAX + 1)), "the number of items"),
        (messages.encode_put("q", [bytes(queues.ITEM_BYTES_MAX + 1)]), "an item has at most"),
        (messages.encode_put("", [b""]), "the name of a queue has 1 to"),
        (messages.encode_put("q" * 513, [b""]), "the name of a queue has 1 to"),
        (messages.encode_take("q", "c", lease_ms=0), "lease_ms is 1 to"),
        (messages.encode_take("q", "c", lease_ms=1 << 43), "lease_ms is 1 to"),
        (messages.encode_take("q", "c", lease_ms=1, wait_ms=-1), "wait_ms is 0 to"),
        (messages.encode_take("q", "c", lease_ms=1, wait_ms=1 << 43), "wait_ms is 0 to"),
        (messages.encode_take("q", "c", lease_ms=1, count_max=0), "count_max is 1 to"),
        (messages.encode_take("q", "c", lease_ms=1, count_max=1_001), "count_max is 1 to"),
        (messages.encode_take("q", "c" * 513, lease_ms=1), "the name of a consumer"),
        (messages.encode_acknowledge("q", ()), "the number of receipts"),
        (messages.encode_acknowledge("q", range(1_001)), "the number of receipts"),
        (messages.encode_return("q", [1], delay_ms=-1), "delay_ms is 0 to"),
        (messages.encode_extend("q", [1], lease_ms=0), "lease_ms is 1 to"),
        (messages.encode_requeue("q", ()), "the number of ids"),
        (messages.encode_discard("q", range(1_001)), "the number of ids"),
        (messages.encode_configure("q", attempts_max=0), "attempts_max is 1 to"),
        (messages.encode_configure("q", items_max=0), "items_max is 1 to"),
        (b"junk", "not a command"),
        (msgspec.msgpack.encode(["take", "q"]), "not a command"),
        (b"\x93\xa4drop\xa1\xff\xc3", "not a command"),
    ],
)
def test_what_means_nothing_changes_nothing(group: Group, command: bytes, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        group.apply(command)
    assert group.machine.digest() == QueuesMachine().digest()


def test_a_query_that_means_nothing_is_refused(group: Group) -> None:
    for wrong in (b"", b"junk", messages.encode_put("q", [b"a"])):
        with pytest.raises(QueryError, match="not a query of the queues machine"):
            group.query(wrong)
    with pytest.raises(QueryError, match="a page holds at least 1"):
        group.dead(count_max=0)


def test_a_queue_is_dropped_where_nothing_is_taken(group: Group) -> None:
    group.put(b"a", queue="older")
    group.put(b"a", b"b")
    group.take()
    with pytest.raises(CommandError, match="1 items of the queue are handed out"):
        group.drop()
    group.give_back(1, delay_ms=50)
    assert group.drop() == Dropped(2)
    assert group.drop() == Dropped(0)
    assert group.machine.due_ns is None
    assert group.look() == Counts()
    group.drop("older")
    assert group.put(b"a") == PutIn(3), "an id means one item for ever"


def test_who_waits_at_a_queue_that_is_dropped_waits_no_longer(group: Group) -> None:
    group.put(b"a")
    group.taken()
    tickets = group.line_of(500, 500)
    assert group.drop(force=True) == Dropped(1)
    assert group.topics == topics(*tickets)
    assert [group.awaited(ticket) for ticket in tickets] == [WaitOver(), WaitOver()]
    assert group.machine.due_ns is None
    assert group.acknowledge(1) == Acknowledged(0, (1,))


def test_many_that_end_at_once_end_in_parts(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "ENDS_MAX", 16)
    group.put(*[b"a"] * 18)
    group.take(count_max=18, lease_ms=10)
    context = ApplyContext(2, 0, 50 * MS)
    group.machine.on_due(context)
    assert (group.look().ready, group.look().taken, group.machine.due_ns) == (16, 2, 10 * MS)
    assert group.acknowledge(*range(1, 19)).lost == tuple(range(1, 17)), "the first ones first"  # type: ignore[union-attr]
    assert group.machine.due_ns is None
    group.machine.on_due(context)
    assert group.look().ready == 16


def test_a_saved_state_goes_on_as_the_other(group: Group, tmp_path: Path) -> None:
    kill(group, 2)
    group.configure(attempts_max=3)
    group.put(b"x", b"y", b"z", b"w")
    group.take(count_max=2, lease_ms=70)
    group.give_back(3, delay_ms=40)
    group.take(lease_ms=90)
    group.take(lease_ms=90)
    (ticket,) = group.line_of(500)
    group.put(b"v", b"other", queue="r")
    group.drop("r")
    group.machine.save(tmp_path)
    loaded = Group()
    loaded.put(b"something", queue="else")
    loaded.machine.load(tmp_path)
    for each in (group, loaded):
        assert each.machine.due_ns == 40 * MS
        assert only(each.at(40).awaited(ticket)).item_id == 3
        assert each.at(70).look().ready == 1
        assert [letter.item_id for letter in each.dead().letters] == [1, 2]
        assert each.at(90).take(count_max=9).items[0].item_id == 4  # type: ignore[union-attr]
        assert each.put(b"n") == PutIn(7)
        assert each.put(b"n", queue="new") == PutIn(3)
    assert loaded.machine.digest() == group.machine.digest()
