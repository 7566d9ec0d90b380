"""The queues machine against the obvious one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.errors import NotYetError
from ray_paxos.machines import queue_messages as messages
from ray_paxos.machines.queue_messages import (
    Acknowledged,
    Configured,
    Discarded,
    Extended,
    PutIn,
    QueueResult,
    Requeued,
    Returned,
    Taken,
    TakenItem,
    Waiting,
    WaitOver,
)
from ray_paxos.machines.queues import QueuesMachine
from tests.unit.queue_group import MS, Group, topics


@dataclass
class PlainItem:
    """An item, and where it is."""

    item_id: int
    payload: bytes
    state: str = "ready"
    attempts: int = 0
    receipt: int = 0
    ends_ms: int = 0
    ticket: int = 0

    def shown(self) -> TakenItem:
        return TakenItem(self.item_id, self.receipt, self.attempts, self.payload)


@dataclass
class Plain:
    """One queue, by lists that are gone through."""

    now_ms: int = 0
    number: int = 0
    attempts_max: int = 5
    items: list[PlainItem] = field(default_factory=list)
    line: list[tuple[int, int, int, int]] = field(default_factory=list)
    woken: set[str] = field(default_factory=set)

    def those(self, state: str) -> list[PlainItem]:
        return [item for item in self.items if item.state == state]

    def hand_out(self, count_max: int, lease_ms: int, ticket: int) -> Taken:
        handed = self.those("ready")[:count_max]
        for item in handed:
            self.number += 1
            item.state, item.receipt, item.ticket = "taken", self.number, ticket
            item.attempts += 1
            item.ends_ms = self.now_ms + lease_ms
        return Taken(tuple(item.shown() for item in handed))

    def serve(self) -> None:
        while self.line and self.those("ready"):
            ticket, count_max, lease_ms, _ = self.line.pop(0)
            self.woken |= topics(ticket)
            self.hand_out(count_max, lease_ms, ticket)

    def come_back(self, item: PlainItem, delay_ms: int) -> None:
        if item.attempts >= self.attempts_max:
            item.state = "dead"
        else:
            item.state = "delayed" if delay_ms else "ready"
            item.ends_ms = self.now_ms + delay_ms

    def pass_to(self, now_ms: int) -> None:
        self.now_ms = now_ms
        for place in list(self.line):
            if place[3] <= now_ms:
                self.line.remove(place)
                self.woken |= topics(place[0])
        for item in self.items:
            if item.state in ("taken", "delayed") and item.ends_ms <= now_ms:
                if item.state == "taken":
                    self.come_back(item, 0)
                else:
                    item.state = "ready"
        self.serve()

    def answer(self, ticket: int) -> Taken | WaitOver | None:
        if ticket > self.number or any(place[0] == ticket for place in self.line):
            return None
        handed = [item for item in self.those("taken") if item.ticket == ticket]
        handed.sort(key=lambda item: item.receipt)
        return Taken(tuple(item.shown() for item in handed)) if handed else WaitOver()

    def put(self, payloads: list[bytes]) -> PutIn:
        first_id = len(self.items) + 1
        self.items += [PlainItem(first_id + n, payload) for n, payload in enumerate(payloads)]
        self.serve()
        return PutIn(first_id)

    def take(self, count_max: int, lease_ms: int, wait_ms: int) -> QueueResult:
        if self.those("ready") or not wait_ms:
            return self.hand_out(count_max, lease_ms, 0)
        self.number += 1
        self.line.append((self.number, count_max, lease_ms, self.now_ms + wait_ms))
        return Waiting(self.number)

    def leave(self, ticket: int) -> QueueResult:
        if any(place[0] == ticket for place in self.line):
            self.line = [place for place in self.line if place[0] != ticket]
            self.woken |= topics(ticket)
        return self.answer(ticket) or WaitOver()

    def pick(
        self, numbers: list[int], state: str, by: str
    ) -> tuple[list[PlainItem], tuple[int, ...]]:
        there = {getattr(item, by): item for item in self.those(state)}
        once = list(dict.fromkeys(numbers))
        return [there[n] for n in once if n in there], tuple(n for n in once if n not in there)

    def act(self, step: tuple[Any, ...]) -> QueueResult:
        kind, *arguments = step
        match kind:
            case "put" | "take" | "leave":
                result: QueueResult = getattr(self, kind)(*arguments)
                return result
            case "configure":
                (self.attempts_max,) = arguments
                return Configured()
            case "requeue" | "discard":
                found, lost = self.pick(arguments[0], "dead", "item_id")
                for item in found:
                    item.state = "ready" if kind == "requeue" else "discarded"
                    item.attempts = 0
                self.serve()
                return (Requeued if kind == "requeue" else Discarded)(len(found), lost)
        found, lost = self.pick(arguments[0], "taken", "receipt")
        for item in found:
            if kind == "acknowledge":
                item.state = "acknowledged"
            elif kind == "extend":
                item.ends_ms = self.now_ms + arguments[1]
            else:
                self.come_back(item, arguments[1])
        self.serve()
        if kind == "acknowledge":
            return Acknowledged(len(found), lost)
        return (Extended if kind == "extend" else Returned)(len(found), lost)


def command_of(step: tuple[Any, ...]) -> bytes:
    match step:
        case ("put", payloads):
            return messages.encode_put("q", payloads)
        case ("take", count_max, lease_ms, wait_ms):
            return messages.encode_take(
                "q", "c", count_max=count_max, lease_ms=lease_ms, wait_ms=wait_ms
            )
        case ("leave", ticket):
            return messages.encode_leave("q", ticket)
        case ("configure", attempts_max):
            return messages.encode_configure("q", attempts_max=attempts_max)
        case ("extend", receipts, lease_ms):
            return messages.encode_extend("q", receipts, lease_ms=lease_ms)
        case ("return", receipts, delay_ms):
            return messages.encode_return("q", receipts, delay_ms=delay_ms)
    encoded: bytes = getattr(messages, f"encode_{step[0]}")("q", step[1])
    return encoded


def ids_of(group: Group) -> dict[str, list[int]]:
    """Where the machine has which items."""
    queue = group.machine._queues["q"]
    return {
        "ready": sorted([*queue.fresh, *queue.back]),
        "taken": sorted(queue.kept.taken.values()),
        "delayed": sorted(queue.kept.delayed.values()),
        "dead": sorted(queue.kept.dead),
    }


def check(group: Group, plain: Plain) -> None:
    """The machine has what the lists have, and each item in one place."""
    there = ids_of(group)
    for state, item_ids in there.items():
        assert item_ids == [item.item_id for item in plain.those(state)]
    done = [item.item_id for item in plain.items if item.state in ("acknowledged", "discarded")]
    in_all = sorted([*chain.from_iterable(there.values()), *done])
    assert in_all == list(range(1, len(plain.items) + 1)), "each in exactly one place"
    counts = group.look()
    assert counts.put_in_all == len(plain.items)
    assert counts.acknowledged_in_all == len(plain.those("acknowledged"))
    assert counts.discarded_in_all == len(plain.those("discarded"))
    assert counts.in_line == len(plain.line)
    assert not (counts.in_line and counts.ready)
    there_still = [item for item in plain.items if item.item_id not in done]
    assert counts.payload_bytes == sum(len(item.payload) for item in there_still)
    ends = [item.ends_ms for item in (*plain.those("taken"), *plain.those("delayed"))]
    ends += [place[3] for place in plain.line]
    assert group.machine.due_ns == min((each * MS for each in ends), default=None)
    for ticket in range(1, plain.number + 2):
        expected = plain.answer(ticket)
        if expected is None:
            with pytest.raises(NotYetError, match="not"):
                group.awaited(ticket)
        else:
            assert group.awaited(ticket) == expected


NUMBERS = st.lists(st.integers(1, 15), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.binary(max_size=2), min_size=1, max_size=4)),
        st.tuples(
            st.just("take"), st.integers(1, 3), st.integers(1, 9), st.sampled_from([0, 0, 3, 9])
        ),
        st.tuples(st.just("leave"), st.integers(1, 15)),
        st.tuples(st.just("acknowledge"), NUMBERS),
        st.tuples(st.just("return"), NUMBERS, st.sampled_from([0, 2, 5])),
        st.tuples(st.just("extend"), NUMBERS, st.integers(1, 9)),
        st.tuples(st.sampled_from(["requeue", "discard"]), NUMBERS),
        st.tuples(st.just("configure"), st.integers(1, 4)),
        st.tuples(st.just("pass"), st.integers(1, 6)),
        st.tuples(st.just("reload")),
    ),
    # Without a least size most of them are five steps long.
    min_size=25,
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_it_does_what_plain_lists_do(
    steps: Iterable[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    group, other, plain = Group(), Group(), Plain(attempts_max=2)
    for each in (group, other):
        each.configure(attempts_max=2)
    receipts: list[int] = []
    for step in steps:
        plain.woken = set()
        match step:
            case ("pass", milliseconds):
                plain.pass_to(plain.now_ms + milliseconds)
                for each in (group, other):
                    assert each.at(plain.now_ms).topics == plain.woken
            case ("reload",):
                directory = tmp_path_factory.mktemp("saved")
                other.machine.save(directory)
                other.machine = QueuesMachine()
                other.machine.load(directory)
            case _:
                expected = plain.act(step)
                for each in (group, other):
                    assert each.apply(command_of(step)) == expected
                    assert each.topics == plain.woken
        check(group, plain)
        check(other, plain)
        assert group.machine.digest() == other.machine.digest()
        new = [item.receipt for item in plain.those("taken") if item.receipt not in receipts]
        assert all(each > max(receipts, default=0) for each in new), "receipts rise"
        receipts += new
