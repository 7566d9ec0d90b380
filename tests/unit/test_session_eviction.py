"""The table of sessions: bounded, evicted by log order, and what is known of what is gone (R7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from ray_paxos.core.results import EntryResult, NoteCode, encode_results
from ray_paxos.core.values import END_OF_SESSION, WITHDRAWAL, CommandBatch, SessionId, SessionOpen
from ray_paxos.machines.sessions import (
    LIMITS,
    RESULT_OVERHEAD_BYTES,
    SessionLimits,
    SessionTable,
)
from tests.unit.group_log import GroupLog

IDLE_NS = 100
LIMITS_OF_TEST = SessionLimits(sessions_max=4, sessions_spared=2, idle_ns=IDLE_NS)


@pytest.fixture
def log() -> GroupLog:
    return GroupLog(limits=LIMITS_OF_TEST)


def code(result: EntryResult, offset: int = 0) -> NoteCode | None:
    note = result.notes.get(offset)
    return note.code if note is not None else None


def is_open(log: GroupLog, session: SessionId) -> bool:
    return session in [state.session for state in log.host._sessions.export()]


def reloaded(log: GroupLog) -> None:
    """As from a checkpoint: nothing but what the table gives out."""
    table = log.host._sessions
    log.host._sessions = SessionTable.restore(table.state, list(table.export()))
    assert log.host._sessions.digest() == table.digest()


# Who goes.


def test_nobody_goes_while_there_is_room_however_idle(log: GroupLog) -> None:
    first, second = log.open_session(), log.open_session(log_time_ns=50)
    assert code(log.submit(first, 1, b"a", log_time_ns=10**9)) is None
    assert code(log.submit(second, 1, b"b", log_time_ns=10**9)) is None


def test_the_longest_unused_goes_when_another_opens(log: GroupLog) -> None:
    first, second = log.open_session(), log.open_session()
    log.submit(first, 1, b"a", log_time_ns=5)
    third = log.open_session(log_time_ns=IDLE_NS + 1)
    assert not is_open(log, second), "unused since 0"
    assert is_open(log, first), "opened earlier, used later"
    assert is_open(log, third)
    assert log.host.evicted_sessions == 1


def test_a_session_in_use_is_spared_and_the_opening_is_refused(log: GroupLog) -> None:
    sessions = [log.open_session() for _ in range(4)]
    log.submit(sessions[0], 1, b"a", log_time_ns=IDLE_NS)
    (refused,) = log.append(SessionOpen("one too many"), log_time_ns=IDLE_NS)
    assert code(refused) is NoteCode.OVERLOADED
    assert "4 sessions are open" in refused.notes[0].message
    assert all(is_open(log, session) for session in sessions)
    assert log.host.session_count == 4
    # What was refused was never opened.
    refused_id = SessionId(refused.instance_id, refused.index)
    assert code(log.submit(refused_id, 1, b"x")) is NoteCode.SESSION_UNKNOWN
    assert log.applied == [b"a"]
    # One moment later the others are idle.
    log.open_session(log_time_ns=IDLE_NS + 1)
    assert is_open(log, sessions[0])
    assert log.host.session_count == 3, "two at a time"


def test_a_refused_batch_is_a_use(log: GroupLog) -> None:
    first, second = log.open_session(), log.open_session()
    assert code(log.submit(first, 9, b"gap", log_time_ns=50)) is NoteCode.GAP
    log.open_session(log_time_ns=IDLE_NS + 1)
    assert is_open(log, first)
    assert not is_open(log, second)


def test_two_go_at_a_time_so_that_the_table_shrinks(log: GroupLog) -> None:
    for _ in range(4):
        log.open_session()
    counts = []
    for step in range(1, 4):
        log.open_session(log_time_ns=10 * IDLE_NS + step)
        counts.append(log.host.session_count)
    assert counts == [3, 2, 3], "evicted while more than two would be there, and idle"


def test_log_time_decides_and_it_never_falls(log: GroupLog) -> None:
    first = log.open_session(log_time_ns=1_000)
    log.open_session(log_time_ns=10)
    log.open_session(log_time_ns=1_000 + IDLE_NS)
    assert is_open(log, first)
    log.open_session(log_time_ns=1_001 + IDLE_NS)
    assert not is_open(log, first)


# What is known of a session that is not there.


def test_schedule_15_an_evicted_session_is_not_applied_again(log: GroupLog) -> None:
    evicted = log.open_session()
    log.submit(evicted, 1, b"once")
    log.open_session(log_time_ns=IDLE_NS)
    log.open_session(log_time_ns=IDLE_NS + 1)
    again = log.submit(evicted, 1, b"once")
    assert code(again) is NoteCode.SESSION_EXPIRED
    assert again.results == (None,)
    assert code(log.submit(evicted, 2, b"twice", lowest_open=2)) is NoteCode.SESSION_EXPIRED
    assert log.applied == [b"once"]


def test_expired_is_told_apart_from_never_opened(log: GroupLog) -> None:
    first, second = log.open_session(), log.open_session()
    log.open_session(log_time_ns=IDLE_NS + 1)
    assert not is_open(log, first)
    assert is_open(log, second)
    assert log.host._sessions.state.gone_through == first
    for unknown in (SessionId(first.instance_id, 1), SessionId(second.instance_id, 1)):
        assert code(log.submit(unknown, 1, b"x")) is NoteCode.SESSION_UNKNOWN
    assert code(log.submit(SessionId(10**6, 0), 1, b"x")) is NoteCode.SESSION_UNKNOWN
    for gone in (first, SessionId(1, 0)):
        assert code(log.submit(gone, 1, b"x")) is NoteCode.SESSION_EXPIRED
    assert log.applied == []


def test_an_opening_that_is_applied_once_takes_part_in_one_instance(log: GroupLog) -> None:
    """Schedule 24, with eviction between the two openings of one instance."""
    log.open_session()
    log.open_session()
    results = log.append(SessionOpen("a"), SessionOpen("b"), log_time_ns=IDLE_NS + 1)
    one, two = (SessionId(result.instance_id, result.index) for result in results)
    assert code(log.submit(one, 1, b"1")) is None
    assert code(log.submit(two, 1, b"2")) is None
    assert log.applied == [b"1", b"2"]


def test_what_is_known_of_the_gone_is_part_of_the_state(log: GroupLog) -> None:
    first, second = log.open_session(), log.open_session()
    before = log.host.digest()
    log.open_session(log_time_ns=IDLE_NS + 1)
    reloaded(log)
    assert log.host.digest() != before
    assert log.host.evicted_sessions == 1
    assert code(log.submit(first, 1, b"x")) is NoteCode.SESSION_EXPIRED
    assert code(log.submit(second, 1, b"x")) is None
    assert log.host._sessions.limits == LIMITS_OF_TEST


def test_members_with_other_limits_are_seen_to_differ() -> None:
    digests = {GroupLog(limits=limits).host.digest() for limits in (LIMITS, LIMITS_OF_TEST)}
    assert len(digests) == 2


# A client ends its session.


def test_an_ended_session_is_gone_and_its_room_is_free(log: GroupLog) -> None:
    sessions = [log.open_session() for _ in range(4)]
    log.submit(sessions[2], 1, b"a", b"b")
    ended = log.submit(sessions[2], 3, b"", lowest_open=END_OF_SESSION, machine=WITHDRAWAL)
    assert code(ended) is NoteCode.CLOSED
    assert not is_open(log, sessions[2])
    assert log.host._sessions.kept_bytes == 0
    log.open_session()
    assert code(log.submit(sessions[2], 1, b"a")) is NoteCode.SESSION_EXPIRED
    assert code(log.submit(sessions[1], 1, b"c")) is None, "opened earlier, and still there"
    assert log.applied == [b"a", b"b", b"c"]
    assert log.host.evicted_sessions == 0


# The results kept for all sessions.


def test_kept_results_of_all_sessions_are_bounded() -> None:
    each = 100 + RESULT_OVERHEAD_BYTES
    log = GroupLog(limits=SessionLimits(kept_bytes_max=2 * each, idle_ns=IDLE_NS))
    one, two, three = (log.open_session() for _ in range(3))
    for session in (one, two):
        assert code(log.submit(session, 1, b"x" * 100)) is None
    refused = log.submit(three, 1, b"y")
    assert code(refused) is NoteCode.OVERLOADED
    assert "results are kept" in refused.notes[0].message
    assert code(log.submit(one, 1, b"x" * 100)) is NoteCode.KEPT, "what is kept is answered"
    assert code(log.submit(three, 1, b"y")) is NoteCode.OVERLOADED, "no trace: not even a gap"
    # Confirming makes room, for oneself and for others.
    assert code(log.submit(one, 2, b"z", lowest_open=2)) is None
    assert code(log.submit(three, 1, b"y")) is None
    # So does eviction of who is idle, though the table has plenty of room for sessions.
    log.submit(one, 3, b"x" * 100, log_time_ns=IDLE_NS)
    assert code(log.submit(three, 2, b"v", log_time_ns=IDLE_NS)) is NoteCode.OVERLOADED
    assert code(log.submit(three, 2, b"v", log_time_ns=IDLE_NS + 1)) is None
    assert not is_open(log, two)
    assert is_open(log, one)
    total = sum(run.byte_count for state in log.host._sessions.export() for run in state.kept)
    assert log.host._sessions.kept_bytes == total


# Against a model that keeps everything.


@dataclass
class ModelSession:
    used_at: int
    lowest: int = 1
    following: int = 1
    kept: dict[int, tuple[bytes | None, int, int]] = field(default_factory=dict)


@dataclass
class Model:
    """Design section 7 and the rules of eviction, number by number, with nothing forgotten."""

    limits: SessionLimits
    log_time: int = 0
    instance_id: int = 1
    sessions: dict[SessionId, ModelSession] = field(default_factory=dict)
    gone: set[SessionId] = field(default_factory=set)
    applied: list[bytes] = field(default_factory=list)

    def open(self) -> NoteCode | None:
        for _ in range(2):
            idle = min(self.sessions, key=self._use, default=None)
            if len(self.sessions) < self.limits.sessions_spared or idle is None:
                break
            if self.log_time - self.sessions[idle].used_at <= self.limits.idle_ns:
                break
            self._drop(idle)
        if len(self.sessions) >= self.limits.sessions_max:
            return NoteCode.OVERLOADED
        self.sessions[SessionId(self.instance_id, 0)] = ModelSession(self.log_time)
        return None

    def _use(self, session: SessionId) -> tuple[int, int]:
        return self.sessions[session].used_at, list(self.sessions).index(session)

    def _drop(self, session: SessionId) -> None:
        del self.sessions[session]
        self.gone.add(session)

    def batch(self, batch: CommandBatch) -> list[tuple[NoteCode | None, bytes | None]]:
        state = self.sessions.pop(batch.session, None)
        if state is None:
            known = any(gone >= batch.session for gone in self.gone)
            missing = NoteCode.SESSION_EXPIRED if known else NoteCode.SESSION_UNKNOWN
            return [(missing, None)] * len(batch.commands)
        self.sessions[batch.session] = state
        state.used_at = self.log_time
        state.lowest = max(state.lowest, batch.lowest_open)
        state.following = max(state.following, state.lowest)
        outcomes = []
        for offset, command in enumerate(batch.commands):
            outcomes.append(self._command(state, batch, batch.first_number + offset, command))
        if batch.lowest_open >= END_OF_SESSION:
            self._drop(batch.session)
        return outcomes

    def _command(
        self, state: ModelSession, batch: CommandBatch, number: int, command: bytes
    ) -> tuple[NoteCode | None, bytes | None]:
        if number < state.lowest:
            return NoteCode.CLOSED, None
        if number in state.kept:
            result = state.kept[number][0]
            return NoteCode.WITHDRAWN if result is None else NoteCode.KEPT, result
        if number != state.following:
            return NoteCode.GAP, None
        state.following += 1
        if batch.machine == WITHDRAWAL:
            state.kept[number] = (None, self.instance_id, number)
            return NoteCode.WITHDRAWN, None
        self.applied.append(command)
        state.kept[number] = (command[::-1], self.instance_id, number)
        return None, command[::-1]


@pytest.mark.parametrize("seed", range(150))
def test_the_table_does_what_a_model_that_keeps_everything_does(seed: int) -> None:
    random = Random(seed)
    limits = SessionLimits(
        sessions_max=random.randint(1, 6), sessions_spared=random.randint(0, 5), idle_ns=30
    )
    log, model = GroupLog(limits=limits), Model(limits)
    ids = [SessionId(999, 0)]
    for _ in range(200):
        model.log_time = max(model.log_time, model.log_time + random.randint(-20, 25))
        model.instance_id += 1
        if random.random() < 0.15:
            (result,) = log.append(SessionOpen(""), log_time_ns=model.log_time)
            ids.append(SessionId(result.instance_id, result.index))
            assert code(result) == model.open()
            continue
        session, first = random.choice(ids[-6:]), random.randint(1, 12)
        numbers = range(first, first + random.randint(1, 4))
        is_withdrawn = random.random() < 0.2
        commands = tuple(
            b"" if is_withdrawn else b"%d.%d" % (session.instance_id, number) for number in numbers
        )
        lowest_open = END_OF_SESSION if random.random() < 0.02 else random.randint(1, 9)
        machine = WITHDRAWAL if is_withdrawn else "recorder"
        batch = CommandBatch(session, lowest_open, first, machine, commands)
        (result,) = log.append(batch, log_time_ns=model.log_time)
        expected = model.batch(batch)
        found = [(code(result, at), value) for at, value in enumerate(result.results)]
        assert found == expected, f"seed {seed}, {batch}"
        if random.random() < 0.1:
            reloaded(log)
    assert log.applied == model.applied
    assert len(set(log.applied)) == len(log.applied)
    assert [state.session for state in log.host._sessions.export()] == list(model.sessions)


def test_two_members_evict_alike_though_one_came_from_a_checkpoint() -> None:
    logs = [GroupLog(limits=LIMITS_OF_TEST), GroupLog(limits=LIMITS_OF_TEST)]
    random = Random(7)
    ids: list[SessionId] = []
    for step in range(300):
        log_time_ns = step * 9
        if random.random() < 0.3 or not ids:
            entry: SessionOpen | CommandBatch = SessionOpen("")
        else:
            entry = CommandBatch(random.choice(ids), 1, random.randint(1, 3), "recorder", (b"x",))
        results = [log.append(entry, log_time_ns=log_time_ns) for log in logs]
        assert encode_results(results[0]) == encode_results(results[1])
        if isinstance(entry, SessionOpen):
            ids.append(SessionId(results[0][0].instance_id, 0))
            del ids[:-8]
        reloaded(logs[1])
        assert logs[0].host.digest() == logs[1].host.digest()
    assert logs[0].host.evicted_sessions > 20
