"""Each check, with what is right and with what is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chaos_checks import (
    check_appends,
    check_digests,
    check_follower_reads,
    check_linearizability,
    split_by_key,
)
from chaos_cluster import MemberLog
from chaos_logs import check_logs
from chaos_records import AcknowledgedCommand, Append, FollowerRead, Write
from ray_paxos.testing.history import History, HistoryRecorder
from ray_paxos.testing.linearizability.search import Verdict
from tests.jobs.chaos_fakes import log_table

# Exactly once


def appends() -> list[Append]:
    return [
        Append(b"r a.1", "a", position=8),
        Append(b"r b.1", "b", position=9),
        Append(b"r a.2", "a"),
        Append(b"r b.2", "b", is_refused=True),
        Append(b"r a.3", "a", position=12),
    ]


def check(*lines: bytes) -> list[str]:
    return check_appends(list(lines), appends(), first=8, prefix=b"r ")


def test_ids_that_are_there_once_are_right() -> None:
    # Lines of others do not matter; an unknown one may be there or not.
    assert check(b"r a.1", b"r b.1", b"q x.1", b"r a.2", b"r a.3") == []
    assert check(b"r a.1", b"r b.1", b"q x.1", b"q x.1", b"r a.3") == []


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([b"r a.1", b"-", b"-", b"-", b"r a.3"], "acknowledged and lost: 1 (r b.1)"),
        ([b"r a.1", b"r b.1", b"r a.2", b"r a.2", b"r a.3"], "applied twice: 1 (r a.2)"),
        (
            [b"r b.1", b"r a.1", b"-", b"-", b"r a.3"],
            "not where it was acknowledged: 2 (r a.1 at 9, not 8, r b.1 at 8, not 9)",
        ),
        (
            [b"r a.1", b"r b.1", b"-", b"r b.2", b"r a.3"],
            "applied, and reported as certainly not applied: 1 (r b.2)",
        ),
        ([b"r a.1", b"r b.1", b"-", b"r c.1", b"r a.3"], "applied, and never submitted: 1 (r c.1)"),
        (
            [b"r a.1", b"r b.1", b"-", b"-", b"r a.3", b"r a.2"],
            "applied out of their client's order: 1 (r a.3)",
        ),
    ],
)
def test_what_is_wrong_with_ids_is_found(lines: list[bytes], problem: str) -> None:
    assert check(*lines) == [problem]


def test_only_a_few_of_many_are_named() -> None:
    lost = [Append(b"r %d" % number, "a", position=number) for number in range(1, 9)]
    (problem,) = check_appends([], lost, first=1, prefix=b"r ")
    assert problem == "acknowledged and lost: 8 (r 1, r 2, r 3, r 4, r 5, ...)"


# Reads of followers

MS = 1_000_000


def read(version: int, value: str | None, **fields: object) -> FollowerRead:
    defaults = {
        "client": "a",
        "key": "k",
        "asked_ns": 1_000 * MS,
        "version_min": 0,
        "promise": "own writes",
        "max_staleness_ms": None,
    }
    return FollowerRead(version=version, value=value, **{**defaults, **fields})  # type: ignore[arg-type]


WRITES = [
    Write("k", 2, None, 700 * MS),
    Write("k", 1, "x", 500 * MS),
    Write("k", 3, "z", 900 * MS),
    Write("other", 9, "o", 100 * MS),
]


@pytest.mark.parametrize(
    "good",
    [
        read(0, None),
        read(1, "x", version_min=1),
        read(2, None, version_min=2),
        read(7, "of a write whose outcome nobody knows", version_min=3),
        read(1, "x", max_staleness_ms=301),
        read(2, None, max_staleness_ms=300),
        read(0, None, max_staleness_ms=501),
    ],
)
def test_reads_that_are_fresh_enough_are_right(good: FollowerRead) -> None:
    assert check_follower_reads([good], WRITES) == []


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (
            read(1, "x", version_min=2, promise="at_least"),
            "older than promised: 1 (a saw version 1 of k, not 2 (at_least))",
        ),
        (
            read(1, "x", max_staleness_ms=300, promise="max_staleness_ms"),
            "older than promised: 1 (a saw version 1 of k, not 2 (max_staleness_ms))",
        ),
        (
            read(1, "y"),
            "a state that never was: 1 (a saw version 1 of k as 'y', not 'x')",
        ),
        (
            read(2, "x"),
            "a state that never was: 1 (a saw version 2 of k as 'x', not None)",
        ),
    ],
)
def test_reads_that_are_wrong_are_found(bad: FollowerRead, problem: str) -> None:
    assert check_follower_reads([read(3, "z"), bad], WRITES) == [problem]


# States


def digest(instance: int, text: str) -> SimpleNamespace:
    return SimpleNamespace(applied_instance_id=instance, digest=text)


def test_digests_are_compared_at_one_instance_on_all_members() -> None:
    members = ("m1", "m2")
    assert check_digests(members, {"m1": digest(7, "aa"), "m2": digest(7, "aa")}) == []
    (problem,) = check_digests(members, {"m1": digest(7, "aa"), "m2": digest(7, "ab")})
    assert problem == "members differ: m1 aa after instance 7, m2 ab after instance 7"
    (problem,) = check_digests(members, {"m1": digest(7, "aa")})
    assert problem == "members without an answer: 1 (m2)"


# Linearizability


def history_of(*, is_stale: bool) -> History:
    recorder = HistoryRecorder()
    now_ns = iter(range(1_000))
    for key in ("k1", "k2"):
        for number in (1, 2):
            put = recorder.invoke("a", "put", key, f"v{number}", now_ns=next(now_ns))
            recorder.ok(put, ["written", number, number > 1], now_ns=next(now_ns))
        get = recorder.invoke("b", "get", key, now_ns=next(now_ns))
        seen = 1 if is_stale and key == "k2" else 2
        recorder.ok(get, ["read", True, seen, f"v{seen}"], now_ns=next(now_ns))
    return recorder.history()


def test_a_history_is_checked_key_by_key() -> None:
    verdict = check_linearizability(history_of(is_stale=False), 60.0)
    assert verdict.verdict is Verdict.TRUE
    assert verdict.problems == ()
    assert (verdict.operations, verdict.keys, verdict.operations_max) == (6, 2, 3)
    assert {key for key, _, _ in verdict.slowest} == {"k1", "k2"}


def test_a_stale_read_is_found_and_shown() -> None:
    verdict = check_linearizability(history_of(is_stale=True), 60.0)
    assert verdict.verdict is Verdict.FALSE
    (problem,) = verdict.problems
    assert problem.startswith("key k2 is not linearizable\n  the first 6 of 6 events cannot be")
    assert "the key's 3 operations in it:" in problem


def test_a_verdict_that_is_not_reached_is_a_problem() -> None:
    verdict = check_linearizability(history_of(is_stale=False), 0.0)
    assert verdict.verdict is Verdict.UNKNOWN
    (problem,) = verdict.problems
    assert problem.startswith("not decided, which is no pass: 2 (k1 with 3 operations: the time")


def test_the_parts_of_a_history_are_all_of_it() -> None:
    history = history_of(is_stale=False)
    parts = split_by_key(history)
    assert sorted(e.time_ns for part in parts.values() for e in part.events) == [
        event.time_ns for event in history.events
    ]


# Logs


def rows(*changes: tuple[int, int, object], first: int = 5) -> list[tuple[object, ...]]:
    """Three instances, the second of two rows; then changes: row, column, value."""
    places = [(first, 0), (first + 1, 0), (first + 1, 1), (first + 2, 0)]
    table: list[list[object]] = [
        [instance, index, "command", "kv", "1.0", number, b"c%d" % number, b"%016d" % instance]
        for number, (instance, index) in enumerate(places, 1)
    ]
    for row, column, value in changes:
        table[row][column] = value
    return [tuple(row) for row in table]


ACKNOWLEDGED = [
    AcknowledgedCommand("kv", b"c1", 5, 0, 0, 0),
    AcknowledgedCommand("kv", b"c3", 6, 1, 0, 0),
]


def compare(third: list[tuple[object, ...]], **problems: str) -> list[str]:
    tables = {"m1": rows(), "m2": rows(), "m3": third}
    logs = {
        name: MemberLog(log_table(table), problems.get(name, "")) for name, table in tables.items()
    }
    return check_logs(logs, ACKNOWLEDGED, 5)


def test_equal_logs_are_right() -> None:
    assert compare(rows()) == []
    # One that is behind what nobody was told of.
    assert compare(rows()[:3]) == []


@pytest.mark.parametrize(
    ("third", "problem"),
    [
        (
            rows((1, 6, b"other")),
            "m1 and m3 differ at instance 6, row 0: command b'c2' and b'other'",
        ),
        (rows((3, 5, 9)), "m1 and m3 differ at instance 7, row 0: number 4 and 9"),
        (
            rows((0, 7, b"f" * 16)),
            f"m1 and m3 differ at instance 5, row 0: chain {b'%016d' % 5!r} and {b'f' * 16!r}",
        ),
        (rows((0, 4, "2.0")), "m1 and m3 differ at instance 5, row 0: session '1.0' and '2.0'"),
        (
            [rows()[0], rows()[1], rows()[3]],
            "m1 and m3 differ at instance 6, row 1: instance_id 6 and 7",
        ),
        (rows()[:2], "m1 has 3 rows through instance 6, m3 2"),
    ],
)
def test_logs_that_differ_are_found(third: list[tuple[object, ...]], problem: str) -> None:
    assert problem in compare(third)


@pytest.mark.parametrize(
    ("third", "problem"),
    [
        (rows()[:1], "m3: the log ends at instance 5; instance 6 was acknowledged"),
        (rows()[1:], "m3: instance 6, row 0 follows the beginning"),
        ([rows()[0], rows()[3]], "m3: instance 7, row 0 follows instance 5, row 0"),
        ([rows()[0], *rows()[2:]], "m3: instance 6, row 1 follows instance 5, row 0"),
        ([rows()[0], *rows()], "m3: instance 5, row 0 follows instance 5, row 0"),
        ([], "m3: the log ends at instance 0; instance 6 was acknowledged"),
    ],
)
def test_logs_that_are_not_whole_are_found(third: list[tuple[object, ...]], problem: str) -> None:
    assert problem in compare(third)


def test_what_is_wrong_with_a_log_by_itself_is_told() -> None:
    assert compare(rows(), m2="DamageError: wrong checksum") == ["m2: DamageError: wrong checksum"]
    assert check_logs({"m1": MemberLog(None, "it is gone")}, [], 5) == ["m1: it is gone"]
    assert check_logs({"m1": MemberLog(None)}, [], 5) == ["logs that could not be read: 1 (m1)"]


def test_a_command_that_is_not_where_it_was_acknowledged_is_found() -> None:
    logs = {"m1": MemberLog(log_table(rows()))}
    for wrong in (
        AcknowledgedCommand("kv", b"c3", 6, 0, 0, 0),
        AcknowledgedCommand("log", b"c3", 6, 1, 0, 0),
        AcknowledgedCommand("kv", b"c3", 6, 2, 0, 0),
    ):
        (problem,) = check_logs(logs, [ACKNOWLEDGED[0], wrong], 5)
        assert problem.startswith("acknowledged, and not in the log where it was said to be: 1 ")


def test_a_command_that_was_proposed_twice_is_right_and_a_number_used_twice_is_not() -> None:
    again = rows((3, 5, 1), (3, 6, b"c1"))
    assert check_logs({"m1": MemberLog(log_table(again))}, ACKNOWLEDGED, 5) == []
    reused = rows((3, 5, 1))
    assert check_logs({"m1": MemberLog(log_table(reused))}, ACKNOWLEDGED, 5) == [
        "numbers that stand for two commands: 1 (1 of session 1.0)"
    ]
    withdrawn = rows((3, 5, 1), (3, 3, ""), (3, 6, b""))
    assert check_logs({"m1": MemberLog(log_table(withdrawn))}, ACKNOWLEDGED, 5) == []
