"""The checker: known histories, every small history against a dumb checker, and what it costs."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence

import pytest

from ray_paxos.testing.history import History, HistoryRecorder, Outcome
from ray_paxos.testing.linearizability.budget import CONFIGURATIONS_MAX, Budget
from ray_paxos.testing.linearizability.history_check import CheckResult, check_history
from ray_paxos.testing.linearizability.model import UnsupportedOperationError
from ray_paxos.testing.linearizability.models import MODELS
from ray_paxos.testing.linearizability.report import state_text
from ray_paxos.testing.linearizability.search import Verdict
from tests.unit.linearizability_reference import random_history, shortest_bad_prefix

LIMIT_NS = 30 * 10**9
"""Nothing here comes near it; a search that ran away would end."""


def check(
    history: History, model: str, configurations_max: int = CONFIGURATIONS_MAX
) -> CheckResult:
    return check_history(
        history, MODELS[model], Budget(time.monotonic_ns, LIMIT_NS, configurations_max)
    )


def written(text: str) -> History:
    """A history as one writes it down: calls `1 put a x`, then their results `1 = ...`.

    A word is a number, text, null, true, false, or values in brackets with commas. A result is
    `failed`, `unknown`, or what the answer said; `ok` says nothing. The key is left out where it
    is `-`.
    """
    recorder = HistoryRecorder()
    open_ids: dict[int, int] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        process_word, what, *words = line.split()
        process = int(process_word)
        if what != "=":
            key = None if words[0] == "-" else words[0]
            argument = value(words[1]) if len(words) > 1 else None
            open_ids[process] = recorder.invoke(process, what, key, argument, now_ns=0)
        elif words[0] in ("failed", "unknown"):
            getattr(recorder, words[0])(open_ids.pop(process), now_ns=0)
        else:
            result = None if words[0] == "ok" else value(words[0])
            recorder.ok(open_ids.pop(process), result, now_ns=0)
    return recorder.history()


def value(word: str) -> object:
    if word.startswith("["):
        return [value(part) for part in word[1:-1].split(",")]
    if word.lstrip("-").isdecimal():
        return int(word)
    return {"null": None, "true": True, "false": False, '""': ""}.get(word, word)


TRUE_HISTORIES = {
    "nothing happened": ("cas-register", ""),
    "a register holds null at first": ("cas-register", "1 read -\n1 = null"),
    "two calls at a time take any order": (
        "cas-register",
        "1 write - 1\n2 write - 2\n1 = ok\n2 = ok\n3 read -\n3 = 1",
    ),
    "a read beside a write sees either": (
        "cas-register",
        "1 write - 1\n2 read -\n2 = 1\n3 read -\n3 = 1\n1 = ok",
    ),
    "a write of unknown outcome takes effect late": (
        "cas-register",
        "1 write - 1\n1 = unknown\n2 write - 2\n2 = ok\n3 read -\n3 = 2\n3 read -\n3 = 1",
    ),
    "a write of unknown outcome never takes effect": (
        "cas-register",
        "1 write - 1\n1 = unknown\n2 read -\n2 = null",
    ),
    "a call without an answer takes effect": (
        "cas-register",
        "1 write - 1\n2 read -\n2 = 1",
    ),
    "a failed cas may not have reached the register": (
        "cas-register",
        "1 write - 1\n1 = ok\n2 cas - [1,2]\n2 = failed\n3 read -\n3 = 1",
    ),
    "a cas that compared unequal": (
        "cas-register",
        "1 write - 1\n1 = ok\n2 cas - [3,2]\n2 = false\n2 cas - [1,2]\n2 = true\n1 read -\n1 = 2",
    ),
    "a chain of cas in the only order": (
        "cas-register",
        "1 cas - [2,3]\n2 cas - [1,2]\n3 cas - [null,1]\n1 = ok\n2 = ok\n3 = ok\n1 read -\n1 = 3",
    ),
    "appends in the order that a get tells": (
        "append-kv",
        "1 append k x\n2 append k y\n3 append k z\n1 = ok\n2 = ok\n3 = ok\n1 get k\n1 = zxy",
    ),
    "an empty key tells null": ("append-kv", "1 get k\n1 = null\n1 get k\n1 = \"\""),
    "keys have nothing in common": (
        "append-kv",
        "1 put a x\n1 = ok\n1 get b\n1 = null\n1 get a\n1 = x",
    ),
    "a put brings back what was appended to": (
        "append-kv",
        "1 put k x\n2 append k y\n1 = ok\n2 = ok\n1 get k\n1 = x",
    ),
    "versions count puts, deletes and cas": (
        "kv",
        "1 put k x\n1 = [written,1,false]\n1 cas k [y,1]\n1 = [written,2,true]\n"
        "1 delete k\n1 = [written,3,true]\n1 delete k\n1 = [written,4,false]\n"
        "1 cas k [z,1]\n1 = [conflict,4]\n1 get k\n1 = [read,false,4,null]\n"
        "1 cas k [z,4]\n1 = [written,5,false]\n1 get k\n1 = [read,true,5,z]",
    ),
    "a put whose version nobody saw": (
        "kv",
        "1 put k x\n1 = ok\n2 put k y\n2 = unknown\n1 put k z\n1 = [written,3,true]",
    ),
    "a value that was put twice": (
        "kv",
        "1 put k x\n1 = [written,1,false]\n1 get k\n1 = [read,true,1,x]\n"
        "1 put k x\n1 = [written,2,true]\n1 get k\n1 = [read,true,2,x]",
    ),
    "a lock passes on with rising tokens": (
        "lock",
        "1 acquire k\n2 acquire k\n1 = 3\n2 = false\n1 release k\n1 = true\n"
        "2 acquire k\n2 = 7\n1 release k\n1 = false",
    ),
    "an acquire of unknown outcome holds the lock": (
        "lock",
        "1 acquire k\n1 = unknown\n2 acquire k\n2 = false\n2 acquire k\n2 = false",
    ),
    "calls without an answer are not used up before they must be": (
        "lock",
        "2 release k\n1 acquire k\n3 release k\n1 release k\n2 = unknown\n2 acquire k\n1 = true\n"
        "2 release k\n2 = true",
    ),
    "a lease may have run out": (
        "lock",
        "1 acquire k\n1 = 1\n1 release k\n1 = unknown\n2 acquire k\n2 = 2",
    ),
}  # fmt: skip

# With the length of the shortest prefix that cannot be ordered.
FALSE_HISTORIES = {
    "a stale read": (
        5 + 1,
        "cas-register",
        "1 write - 1\n1 = ok\n2 write - 2\n2 = ok\n3 read -\n3 = 1\n3 read -\n3 = 2",
    ),
    "reads see a write and then not": (
        5,
        "cas-register",
        "1 write - 1\n2 read -\n2 = 1\n3 read -\n3 = null\n1 = ok",
    ),
    "a failed write is seen": (
        4,
        "cas-register",
        "1 write - 1\n1 = failed\n2 read -\n2 = 1",
    ),
    "a write that is seen fails only later": (
        4,
        "cas-register",
        "1 write - 1\n2 read -\n2 = 1\n1 = failed\n2 read -\n2 = null",
    ),
    "a write of unknown outcome takes effect before it was called": (
        2,
        "cas-register",
        "1 read -\n1 = 1\n2 write - 1\n2 = unknown",
    ),
    "a write of unknown outcome takes effect twice": (
        10,
        "cas-register",
        "1 write - 1\n1 = unknown\n2 read -\n2 = 1\n2 write - 2\n2 = ok\n2 read -\n2 = 2\n"
        "2 read -\n2 = 1",
    ),
    "two cas from one value": (
        6,
        "cas-register",
        "1 write - 1\n1 = ok\n1 cas - [1,2]\n2 cas - [1,3]\n1 = ok\n2 = ok",
    ),
    "a cas compared unequal with what was there": (
        4,
        "cas-register",
        "1 write - 1\n1 = ok\n2 cas - [1,2]\n2 = false",
    ),
    "a lost append": (
        6,
        "append-kv",
        "1 append k x\n1 = ok\n2 append k y\n2 = ok\n1 get k\n1 = y",
    ),
    "gets disagree on the order of appends": (
        8,
        "append-kv",
        "1 append k x\n2 append k y\n1 = ok\n2 = ok\n1 get k\n1 = xy\n2 get k\n2 = yx",
    ),
    "a version was used twice": (
        4,
        "kv",
        "1 put k x\n2 put k y\n1 = [written,1,false]\n2 = [written,1,false]",
    ),
    "a get does not see an acknowledged put": (
        4,
        "kv",
        "1 put k x\n1 = [written,1,false]\n2 get k\n2 = [read,false,0,null]",
    ),
    "a delete lowered the version": (
        6,
        "kv",
        "1 put k x\n1 = [written,1,false]\n1 delete k\n1 = [written,2,true]\n"
        "1 put k y\n1 = [written,1,false]",
    ),
    "a cas conflicted with the expected version": (
        2,
        "kv",
        "1 cas k [x,0]\n1 = [conflict,0]",
    ),
    "a value that two unknown puts wrote at three versions": (
        12,
        "kv",
        "1 put k x\n1 = unknown\n2 put k x\n2 = unknown\n3 get k\n3 = [read,true,1,x]\n"
        "3 put k y\n3 = [written,3,true]\n3 put k z\n3 = [written,4,true]\n"
        "3 get k\n3 = [read,true,5,x]",
    ),
    "two owners": (
        4,
        "lock",
        "1 acquire k\n1 = true\n2 acquire k\n2 = true",
    ),
    "a token that fell": (
        6,
        "lock",
        "1 acquire k\n1 = 2\n1 release k\n1 = true\n2 acquire k\n2 = 2",
    ),
    "a token that fell after grants without one": (
        14,
        "lock",
        "1 acquire k\n1 = 5\n1 release k\n1 = true\n2 acquire k\n2 = true\n2 release k\n"
        "2 = true\n2 acquire k\n2 = true\n2 release k\n2 = true\n1 acquire k\n1 = 3",
    ),
    "a value seen at two versions and written once": (
        6,
        "kv",
        "1 put k x\n1 = ok\n2 get k\n2 = [read,true,1,x]\n2 get k\n2 = [read,true,2,x]",
    ),
    "somebody else released": (
        4,
        "lock",
        "1 acquire k\n1 = true\n2 release k\n2 = true",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE_HISTORIES)
def test_a_history_that_can_be_ordered(name: str) -> None:
    model, text = TRUE_HISTORIES[name]
    history = written(text)
    assert check(history, model).verdict is Verdict.TRUE
    assert shortest_bad_prefix(history, model) is None


@pytest.mark.parametrize("name", FALSE_HISTORIES)
def test_a_history_that_cannot_be_ordered(name: str) -> None:
    events, model, text = FALSE_HISTORIES[name]
    history = written(text)
    result = check(history, model)
    assert result.verdict is Verdict.FALSE
    assert result.bad_prefix is not None
    assert (result.bad_prefix.events, result.bad_prefix.is_shortest) == (events, True)
    assert shortest_bad_prefix(history, model) == events


# Against the dumb checker.


@pytest.mark.parametrize("model", MODELS)
def test_every_small_history_has_the_verdict_and_the_prefix_of_the_dumb_checker(
    model: str,
) -> None:
    bad = 0
    for seed in range(1_500):
        draw = random.Random(f"{model}/{seed}")
        history = random_history(model, draw, operations=draw.randint(2, 7))
        expected = shortest_bad_prefix(history, model)
        result = check(history, model)
        found = result.bad_prefix.events if result.bad_prefix is not None else None
        assert found == expected, f"seed {seed}: {history.events}"
        assert (result.verdict is Verdict.FALSE) == (expected is not None)
        bad += expected is not None
    # Both verdicts must have been put to the test.
    assert 150 <= bad <= 1_000


def test_what_a_prefix_shows_is_what_was_known_then() -> None:
    history = written("1 write a 5\n2 write b 1\n2 = ok\n3 read b\n1 = ok\n3 = 2\n2 read b\n2 = 1")
    bad = check(history, "cas-register").bad_prefix
    assert bad is not None
    assert (bad.key, bad.events, [state_text(state) for state in bad.states]) == ("b", 6, ["1"])
    assert [(o.function, o.outcome) for o in bad.operations] == [
        ("write", Outcome.OK),
        ("read", Outcome.OK),
    ]


def test_the_shortest_prefix_of_all_keys_is_found() -> None:
    # The larger key is searched last and goes wrong first.
    history = written("1 read b\n1 = 1\n1 read b\n1 = null\n1 read b\n1 = null\n1 read a\n1 = 1")
    bad = check(history, "cas-register").bad_prefix
    assert bad is not None
    assert (bad.key, bad.events) == ("b", 2)


# What is refused.


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        ("cas-register", "1 get k", "get by process 1: no such function; it has read, write, cas"),
        ("cas-register", "1 cas k 3", r"argument 3 is not \[expected, new\]"),
        ("cas-register", "1 cas k [1,2,3]\n1 = failed", r"is not \[expected, new\]"),
        ("append-kv", "1 cas k [1,2]", "no such function; it has put, append, get"),
        ("append-kv", "1 append k", "no text to write"),
        ("append-kv", "1 put k 3", "3 is no text"),
        ("append-kv", "1 get k\n1 = 3", "3 is no text"),
        ("kv", "1 read k", "no such function; it has put, get, delete, cas"),
        ("kv", "1 cas k x", "argument 'x' is not"),
        ("kv", "1 cas k [x,-1]", "-1 is no version"),
        ("kv", "1 cas k [x,true]", "True is no version"),
        ("kv", "1 get k\n1 = x", "result 'x' is not"),
        ("kv", "1 get k\n1 = ok", "result None is not"),
        ("kv", "1 put k x\n1 = [conflict,1]", "is not .*written"),
        ("kv", "1 put k x\n1 = [written,x,true]", "'x' is no version"),
        ("lock", "1 lock k", "no such function; it has acquire, release"),
        ("lock", "1 acquire k\n1 = x", "result 'x' is no bool and no token"),
        ("lock", "1 release k\n1 = 7", "result 7 is no bool"),
    ],
)
def test_an_operation_that_the_model_does_not_know(model: str, text: str, message: str) -> None:
    with pytest.raises(UnsupportedOperationError, match=f"model {model}: .*{message}"):
        check(written(text), model)


# What it costs.


def concurrent(
    calls: Sequence[tuple[str, object]], *, known: bool = True, key: object = None
) -> HistoryRecorder:
    """All calls at once, and then, where they are known, their results."""
    recorder = HistoryRecorder()
    numbers = [
        recorder.invoke(process, function, key, argument, now_ns=0)
        for process, (function, argument) in enumerate(calls)
    ]
    for number in numbers if known else ():
        recorder.ok(number, now_ns=1)
    return recorder


def then(recorder: HistoryRecorder, function: str, result: object, key: object = None) -> History:
    """What was recorded, and one more operation after all of it."""
    recorder.ok(recorder.invoke(-1, function, key, now_ns=2), result, now_ns=3)
    return recorder.history()


MANY = 40
COSTS: dict[str, Callable[[], tuple[str, History]]] = {
    "reads beside each other": lambda: (
        "cas-register",
        then(concurrent([("read", None)] * MANY), "read", 1),
    ),
    "equal writes of unknown outcome": lambda: (
        "cas-register",
        then(concurrent([("write", 1)] * MANY, known=False), "read", 2),
    ),
    "different writes of unknown outcome": lambda: (
        "cas-register",
        then(concurrent([("write", n) for n in range(MANY)], known=False), "read", -1),
    ),
    "cas of unknown outcome between many values": lambda: (
        "cas-register",
        then(
            concurrent(
                [(f, a) for n in range(MANY) for f, a in (("write", n), ("cas", [n, 0]))],
                known=False,
            ),
            "read",
            -1,
        ),
    ),
    "appends in the order of a text": lambda: (
        "append-kv",
        then(
            concurrent([("append", f"{n:02}") for n in range(MANY)]),
            "get",
            "".join(f"{n:02}" for n in reversed(range(MANY - 1))),
        ),
    ),
    "appends of unknown outcome": lambda: (
        "append-kv",
        then(concurrent([("append", f"{n:02}") for n in range(MANY)], known=False),
             "get", "0305x"),
    ),
    "puts of unknown outcome that nobody saw": lambda: (
        "kv",
        then(concurrent([("put", n) for n in range(MANY)], known=False),
             "get", ("read", True, 3, -1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTS)
def test_what_makes_no_difference_is_not_tried_in_all_orders(name: str) -> None:
    model, history = COSTS[name]()
    result = check(history, model, configurations_max=2_000)
    assert result.verdict is Verdict.FALSE
    assert result.bad_prefix is not None
    assert result.bad_prefix.events == len(history.events)


def test_a_long_history_does_not_recurse() -> None:
    recorder = HistoryRecorder()
    for turn in range(3 * sys.getrecursionlimit()):
        number = recorder.invoke(1, "write", argument=turn % 5, now_ns=turn)
        recorder.ok(number, now_ns=turn)
    assert check(recorder.history(), "cas-register").verdict is Verdict.TRUE


def hard_history(key: object = None) -> tuple[HistoryRecorder, History]:
    """Many calls that must all be ordered, and a read that none of the orders explains."""
    calls: list[tuple[str, object]] = [("write", n) for n in range(20)]
    calls += [("cas", [n, n + 1]) for n in range(20)]
    recorder = concurrent(calls, key=key)
    return recorder, then(recorder, "read", 50, key)


def test_a_search_that_needs_too_many_configurations_does_not_know() -> None:
    result = check(hard_history()[1], "cas-register", configurations_max=5_000)
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason == "5000 configurations were not enough"
    assert result.undecided == (None,)
    assert result.configurations <= 5_001


def test_a_search_that_takes_too_long_does_not_know() -> None:
    looks = 0

    def clock_ns() -> int:
        nonlocal looks
        looks += 1
        return looks

    budget = Budget(clock_ns, 10)
    result = check_history(hard_history()[1], MODELS["cas-register"], budget)
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason == "the time limit of 1e-08 s passed"
    assert result.configurations < 20_000


def test_a_fault_is_found_though_another_key_is_too_hard() -> None:
    recorder, _ = hard_history("hard")
    history = then(recorder, "read", 7, "bad")
    result = check(history, "cas-register", configurations_max=2_000)
    assert (result.verdict, result.undecided) == (Verdict.FALSE, ("hard",))
    assert result.bad_prefix is not None
    # The other key may have gone wrong before.
    assert (result.bad_prefix.key, result.bad_prefix.is_shortest) == ("bad", False)
