"""Exactly once, in order: what becomes of every number a client sends (R7)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.values import CommandBatch, SessionId, SessionOpen
from ray_paxos.machines.sessions import (
    LABEL_CHARACTERS_MAX,
    RESULT_OVERHEAD_BYTES,
    SessionLimits,
    SessionTable,
)
from tests.unit.group_log import GroupLog


@pytest.fixture
def log() -> GroupLog:
    return GroupLog()


@pytest.fixture
def session(log: GroupLog) -> SessionId:
    """Opened at instance 2."""
    return log.open_session()


def codes(result: EntryResult) -> list[NoteCode | None]:
    return [
        result.notes[offset].code if offset in result.notes else None
        for offset in range(len(result.results))
    ]


def test_a_repeated_number_gets_the_kept_result_and_its_first_place(
    log: GroupLog, session: SessionId
) -> None:
    log.submit(session, 1, b"ab", b"cd")
    log.append(SessionOpen("filler"), CommandBatch(session, 1, 3, "recorder", (b"ef",)))
    again = log.submit(session, 1, b"ab", b"cd", b"ef")
    assert again.results == (b"ba", b"dc", b"fe")
    assert again.notes == {
        0: Note(NoteCode.KEPT, "", 3, 0),
        1: Note(NoteCode.KEPT, "", 3, 1),
        2: Note(NoteCode.KEPT, "", 4, 1),
    }
    assert log.applied == [b"ab", b"cd", b"ef"]


def test_the_kept_result_is_that_of_the_number_whatever_comes_with_it(
    log: GroupLog, session: SessionId
) -> None:
    log.submit(session, 1, b"first")
    assert log.submit(session, 1, b"other").results == (b"tsrif",)
    assert log.applied == [b"first"]


def test_an_error_is_kept_too(log: GroupLog, session: SessionId) -> None:
    log.submit(session, 1, b"ok", b"refuse me", b"none")
    again = log.submit(session, 1, b"ok", b"refuse me", b"none")
    assert again.results == (b"ko", None, None)
    assert codes(again) == [NoteCode.KEPT, NoteCode.KEPT_ERROR, NoteCode.KEPT]
    assert again.notes[1] == Note(NoteCode.KEPT_ERROR, "refused: refuse me", 3, 1)
    assert len(log.applied) == 3


def test_schedule_14_a_delayed_copy_is_applied_once_and_in_order(
    log: GroupLog, session: SessionId
) -> None:
    assert codes(log.submit(session, 1, b"one")) == [None]
    # 2 is lost; 3 is refused for the gap and leaves no trace.
    refused = log.submit(session, 3, b"three")
    assert codes(refused) == [NoteCode.GAP]
    assert refused.results == (None,)
    assert refused.notes[0].instance_id == 0
    # 2 is sent again; then the delayed copy of 3 arrives, and what the client sends again of it.
    assert codes(log.submit(session, 2, b"two")) == [None]
    assert codes(log.submit(session, 3, b"three")) == [None]
    again = log.submit(session, 3, b"three")
    assert codes(again) == [NoteCode.KEPT]
    assert (again.notes[0].instance_id, again.notes[0].index) == (6, 0)
    assert log.applied == [b"one", b"two", b"three"]


def test_a_gap_within_one_instance_is_filled_by_a_later_entry(
    log: GroupLog, session: SessionId
) -> None:
    results = log.append(
        CommandBatch(session, 1, 2, "recorder", (b"b", b"c")),
        CommandBatch(session, 1, 1, "recorder", (b"a",)),
        CommandBatch(session, 1, 2, "recorder", (b"b", b"c")),
    )
    assert [codes(result) for result in results] == [
        [NoteCode.GAP, NoteCode.GAP],
        [None],
        [None, None],
    ]
    assert log.applied == [b"a", b"b", b"c"]


def test_a_closed_number_is_refused_whether_it_was_applied_or_not(
    log: GroupLog, session: SessionId
) -> None:
    log.submit(session, 1, b"a", b"b")
    # The client gives 3 up and goes on with 4: the jump is allowed, and 3 is a gap for ever.
    assert codes(log.submit(session, 4, b"d", lowest_open=4)) == [None]
    late = log.submit(session, 1, b"a", b"b", b"c", b"d")
    assert codes(late) == [NoteCode.CLOSED] * 3 + [NoteCode.KEPT]
    assert late.results == (None, None, None, b"d")
    assert log.applied == [b"a", b"b", b"d"]


def test_a_batch_closes_before_it_is_applied(log: GroupLog, session: SessionId) -> None:
    result = log.submit(session, 1, b"a", b"b", b"c", lowest_open=3)
    assert codes(result) == [NoteCode.CLOSED, NoteCode.CLOSED, None]
    assert log.applied == [b"c"]
    # Only numbers that are closed may be gaps.
    assert codes(log.submit(session, 5, b"e", lowest_open=3)) == [NoteCode.GAP]


def test_lowest_open_never_falls(log: GroupLog, session: SessionId) -> None:
    log.submit(session, 1, b"a", b"b", b"c")
    log.submit(session, 4, b"d", lowest_open=3)
    assert codes(log.submit(session, 2, b"b", b"c", lowest_open=1)) == [
        NoteCode.CLOSED,
        NoteCode.KEPT,
    ]


def test_a_batch_without_commands_confirms(log: GroupLog, session: SessionId) -> None:
    log.submit(session, 1, b"a", b"b")
    assert log.submit(session, 3, lowest_open=3).results == ()
    assert codes(log.submit(session, 2, b"b", b"c", lowest_open=3)) == [NoteCode.CLOSED, None]


def test_numbers_below_one_are_closed(log: GroupLog, session: SessionId) -> None:
    result = log.submit(session, -1, b"x", b"y", b"a", lowest_open=-5)
    assert codes(result) == [NoteCode.CLOSED, NoteCode.CLOSED, None]
    assert log.applied == [b"a"]


def test_one_batch_of_all_kinds() -> None:
    log = GroupLog(limits=SessionLimits(open_numbers_max=4))
    session = log.open_session()
    log.submit(session, 1, b"a", b"refuse b", b"c")
    commands = (b"a", b"refuse b", b"c", b"d", b"refuse e", b"f", b"g")
    result = log.submit(session, 1, *commands, lowest_open=2)
    assert codes(result) == [
        NoteCode.CLOSED,
        NoteCode.KEPT_ERROR,
        NoteCode.KEPT,
        None,
        NoteCode.ERROR,
        NoteCode.GAP,
        NoteCode.GAP,
    ]
    assert list(result.notes) == sorted(result.notes)
    assert result.notes[4] == Note(NoteCode.ERROR, "refused: refuse e", 4, 4)
    assert result.results == (None, None, b"c", b"d", None, None, None)
    assert log.applied == [b"a", b"refuse b", b"c", b"d", b"refuse e"]


def test_a_session_that_was_never_opened_gets_nothing(log: GroupLog, session: SessionId) -> None:
    for unknown in (SessionId(2, 1), SessionId(1, 0), SessionId(99, 0)):
        result = log.submit(unknown, 1, b"a", b"b")
        assert result.results == (None, None)
        assert codes(result) == [NoteCode.SESSION_UNKNOWN] * 2
    assert log.applied == []
    assert log.host.session_count == 1


def test_schedule_24_two_sessions_of_one_instance_are_two(log: GroupLog) -> None:
    results = log.append(SessionOpen("one"), SessionOpen("two"))
    one, two = (SessionId(result.instance_id, result.index) for result in results)
    assert one != two
    assert codes(log.submit(one, 1, b"a")) == [None]
    # Were they one session, this would be a repeated number.
    assert codes(log.submit(two, 1, b"a")) == [None]
    assert log.applied == [b"a", b"a"]


def test_sessions_number_across_machines(log: GroupLog, session: SessionId) -> None:
    assert codes(log.submit(session, 1, b"a")) == [None]
    assert codes(log.submit(session, 1, b"a", machine="other")) == [NoteCode.KEPT]
    assert codes(log.submit(session, 2, b"b", machine="other")) == [NoteCode.ERROR]
    assert codes(log.submit(session, 3, b"c")) == [None]


# Bounds.


def test_open_numbers_are_bounded_and_confirming_goes_on() -> None:
    log = GroupLog(limits=SessionLimits(open_numbers_max=3))
    session = log.open_session()
    result = log.submit(session, 1, *(b"abcdef"[i : i + 1] for i in range(6)))
    assert codes(result) == [None] * 3 + [NoteCode.GAP] * 3
    assert "3 numbers are not confirmed" in result.notes[3].message
    assert codes(log.submit(session, 4, b"d")) == [NoteCode.GAP]
    assert codes(log.submit(session, 4, b"d", b"e", b"f", lowest_open=3)) == [
        None,
        None,
        NoteCode.GAP,
    ]
    assert log.applied == [b"a", b"b", b"c", b"d", b"e"]


def test_kept_bytes_are_bounded_and_confirming_frees_them() -> None:
    log = GroupLog(limits=SessionLimits(session_bytes_max=42))
    session = log.open_session()
    for number in (1, 2):
        assert codes(log.submit(session, number, b"12345")) == [None]
    refused = log.submit(session, 3, b"x")
    assert codes(refused) == [NoteCode.GAP]
    assert "42 bytes of results" in refused.notes[0].message
    # What is kept is still answered.
    assert codes(log.submit(session, 2, b"12345")) == [NoteCode.KEPT]
    assert codes(log.submit(session, 3, b"x", lowest_open=2)) == [None]


def test_confirmed_results_are_dropped(log: GroupLog, session: SessionId) -> None:
    for number in range(1, 2_001):
        log.submit(session, number, b"abc", lowest_open=max(1, number - 5))
        log.submit(session, number + 1, lowest_open=max(1, number - 5))
    (state,) = log.host._sessions.export()
    assert sum(len(run.results) for run in state.kept) == 6
    assert len(state.kept) == 6
    held = 6 * (3 + RESULT_OVERHEAD_BYTES)
    assert log.host._sessions.use(session, 0).kept_bytes == held  # type: ignore[union-attr]
    assert log.host._sessions.kept_bytes == held


def test_a_label_is_cut(log: GroupLog) -> None:
    log.append(SessionOpen("x" * 10_000))
    (state,) = log.host._sessions.export()
    assert state.label == "x" * LABEL_CHARACTERS_MAX


# The table as a checkpoint carries it.


def test_the_table_comes_back_as_it_was(log: GroupLog, session: SessionId) -> None:
    other = log.open_session()
    log.submit(session, 1, b"a", b"refuse", b"c")
    log.submit(session, 4, b"d", lowest_open=2)
    log.submit(other, 7, b"x", lowest_open=7)
    table = log.host._sessions
    restored = SessionTable.restore(table.state, table.export())
    assert restored.kept_bytes == table.kept_bytes > 0
    assert list(restored.export()) == list(table.export())
    assert restored.digest() == table.digest()
    for each in (session, other):
        mine, its = table.use(each, 0), restored.use(each, 0)
        assert mine == its
    # It goes on the same, too: answers, bounds and the order of use.
    log.host._sessions = restored
    again = log.submit(session, 1, b"a", b"refuse", b"c", b"d", b"e")
    assert codes(again) == [
        NoteCode.CLOSED,
        NoteCode.KEPT_ERROR,
        NoteCode.KEPT,
        NoteCode.KEPT,
        None,
    ]
    assert [state.session for state in restored.export()] == [other, session]
    assert log.host.session_count == 2


def test_sessions_stand_in_the_order_of_their_last_use(log: GroupLog) -> None:
    first, second, third = (log.open_session() for _ in range(3))
    log.append(CommandBatch(first, 1, 1, "recorder", (b"a",)), log_time_ns=5)
    # A refused batch is a use as well: the client is alive.
    log.append(CommandBatch(second, 1, 9, "recorder", (b"a",)), log_time_ns=6)
    states = list(log.host._sessions.export())
    assert [(state.session, state.used_at_ns) for state in states] == [
        (third, 0),
        (first, 5),
        (second, 6),
    ]


# Any order of delivery.

BATCHES = st.lists(
    st.tuples(
        st.integers(0, 1),  # session
        st.integers(1, 12),  # first number
        st.integers(0, 5),  # how many
        st.integers(1, 12),  # lowest_open
    ),
    max_size=40,
)


def model_outcome(
    number: int, lowest_open: int, next_number: int, first_seen: dict[int, tuple[int, int]]
) -> tuple[NoteCode | None, bool]:
    """Design section 7, word for word, one number at a time: (code, whether it is applied now)."""
    if number < lowest_open:
        return NoteCode.CLOSED, False
    if number in first_seen:
        return NoteCode.KEPT, False
    if number == next_number:
        return None, True
    return NoteCode.GAP, False


@settings(max_examples=300, deadline=None)
@given(BATCHES)
def test_any_delivery_applies_each_number_at_most_once_and_in_order(
    deliveries: list[tuple[int, int, int, int]],
) -> None:
    log = GroupLog()
    results = log.append(SessionOpen("0"), SessionOpen("1"))
    ids = [SessionId(result.instance_id, result.index) for result in results]
    lowest = [1, 1]
    following = [1, 1]
    places: list[dict[int, tuple[int, int]]] = [{}, {}]
    expected_applied = []
    for which, first, count, lowest_open in deliveries:
        numbers = range(first, first + count)
        commands = tuple(b"%d:%d" % (which, number) for number in numbers)
        result = log.submit(ids[which], first, *commands, lowest_open=lowest_open)
        lowest[which] = max(lowest[which], lowest_open)
        following[which] = max(following[which], lowest[which])
        expected: list[NoteCode | None] = []
        for offset, number in enumerate(numbers):
            code, applied = model_outcome(number, lowest[which], following[which], places[which])
            expected.append(code)
            if applied:
                following[which] += 1
                places[which][number] = (result.instance_id, result.index + offset)
                expected_applied.append(commands[offset])
            if code in (None, NoteCode.KEPT):
                assert result.results[offset] == commands[offset][::-1]
            else:
                assert result.results[offset] is None
            if code is NoteCode.KEPT:
                note = result.notes[offset]
                assert (note.instance_id, note.index) == places[which][number]
        assert codes(result) == expected
    assert log.applied == expected_applied
    assert len(set(log.applied)) == len(log.applied)
    for which in (0, 1):
        own = [int(line[2:]) for line in log.applied if line.startswith(b"%d:" % which)]
        assert own == sorted(own)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_a_client_that_resends_gets_everything_applied_once_whatever_arrives(
    sizes: list[int], random: Random
) -> None:
    # Batches are lost, repeated and reordered; then the client sends all of them again in order.
    log = GroupLog()
    session = log.open_session()
    commands = [b"%d" % number for number in range(1, sum(sizes) + 1)]
    batches = []
    first = 1
    for size in sizes:
        batches.append((first, tuple(commands[first - 1 : first - 1 + size])))
        first += size
    in_flight = [batch for batch in batches for _ in range(random.randint(0, 3))]
    random.shuffle(in_flight)
    for batch_first, batch_commands in in_flight:
        log.submit(session, batch_first, *batch_commands)
    for batch_first, batch_commands in batches:
        result = log.submit(session, batch_first, *batch_commands)
        assert result.results == tuple(command[::-1] for command in batch_commands)
    assert log.applied == commands
