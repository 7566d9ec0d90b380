"""The judges of a chaos run's recipes: each finds what is planted, and lets pass what is right."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from chaos import command_line
from chaos_checks import check_linearizability
from chaos_judge_counter import check_barrier, check_counter, check_ids
from chaos_judge_keys import CLOSED, OPENED, Bank, check_totals, check_watch
from chaos_judge_ledger import check_ledger
from chaos_judge_order import highest_before
from chaos_judge_permits import (
    check_capacity,
    check_epochs_of_watches,
    check_leaders,
    check_tokens,
    check_writes,
    hand_overs_ns,
    history_of_locks,
)
from chaos_judge_queue import check_queue, redelivered
from chaos_recipe_records import (
    Addition,
    ChangeSeen,
    CounterLook,
    Delivery,
    FencedStore,
    Holding,
    IdsTaken,
    KeyLook,
    KeyWritten,
    LeaderSeen,
    PutCall,
    RecipeRecords,
    RoundPassed,
    StoreWrite,
    Tried,
    percentiles_ms,
)
from ray_paxos.testing.history import History, HistoryRecorder
from ray_paxos.testing.linearizability.lock import Lock
from ray_paxos.testing.linearizability.search import Verdict
from tests.jobs.chaos_fakes import FakeEnvironment


def only(problems: list[str], what: str) -> None:
    """There is this one problem, and no other."""
    assert len(problems) == 1, problems
    assert problems[0].startswith(what), problems


def test_what_was_told_before_a_call_is_what_counts() -> None:
    told = [(30, 7), (10, 5), (20, 3)]
    asked = [(40, "d"), (10, "a"), (11, "b"), (25, "c")]
    assert list(highest_before(told, asked)) == [("a", 0), ("b", 5), ("c", 5), ("d", 7)]


# Locks, semaphores, leads


def holding(token: int, start: int, until: int, **more: Any) -> Holding:
    fields: dict[str, Any] = {
        "client": f"c{token}", "resource": "r", "units": 1, "token": token,
        "asked_ns": start - 5, "granted_ns": start, "known_until_ns": until,
        "end_asked_ns": until, "was_held": True, **more,
    }  # fmt: skip
    return Holding(**fields)


def test_holders_one_after_the_other_are_as_many_as_may_be() -> None:
    held = [holding(1, 10, 20), holding(2, 20, 30), holding(3, 15, 25, resource="other")]
    assert check_capacity(held, {}) == []
    # Whoever never knew to hold it is not counted.
    assert check_capacity([*held, holding(4, 12, 0)], {}) == []


def test_two_holders_at_one_time_are_found() -> None:
    what = "held at one time by more than may hold it"
    only(check_capacity([holding(1, 10, 20), holding(2, 19, 30)], {}), what)
    # Also one that began before another and outlasts it.
    only(check_capacity([holding(1, 10, 40), holding(2, 20, 30)], {}), what)


def test_units_are_counted_together() -> None:
    two = [holding(1, 10, 20, units=2), holding(2, 15, 30, units=1)]
    assert check_capacity(two, {"r": 3}) == []
    more = [*two, holding(3, 16, 18, units=1)]
    only(check_capacity(more, {"r": 3}), "held at one time by more than may hold it: 1")


def test_tokens_rise_with_each_grant_and_are_given_once() -> None:
    right = [holding(1, 10, 20), holding(2, 30, 40), holding(3, 50, 60, resource="other")]
    assert check_tokens(right) == []
    # Asked for before the other was told of: no order between them.
    assert check_tokens([holding(2, 10, 20), holding(1, 12, 20, asked_ns=9)]) == []
    only(check_tokens([holding(5, 10, 20), holding(4, 30, 40, resource="x")]), "tokens that fell")
    same = [holding(5, 10, 20), holding(5, 11, 20, client="another", asked_ns=1)]
    only(check_tokens(same), "tokens given twice")


def test_a_store_takes_no_token_below_one_that_it_has_seen() -> None:
    store = FencedStore(iter(range(10, 20)).__next__)
    assert store.write("r", 2, 20)
    assert not store.write("r", 1, 0, is_late=True)
    assert store.write("r", 2, 20)
    assert store.write("other", 1, 20)
    assert store.writes[1] == StoreWrite("r", 1, 11, False, 0, is_late=True)
    assert check_writes(store.writes) == []


def test_a_writer_that_was_to_be_alone_and_is_refused_is_found() -> None:
    writes = [StoreWrite("r", 2, 10, True, 20), StoreWrite("r", 1, 11, False, 15)]
    only(check_writes(writes), "refused by token, and their writer was to be alone")
    # After its time, that is what the token is for.
    assert check_writes([writes[0], StoreWrite("r", 1, 16, False, 15)]) == []


def test_a_late_write_that_is_taken_is_found() -> None:
    writes = [StoreWrite("r", 2, 10, True, 20), StoreWrite("r", 1, 30, True, 0, is_late=True)]
    only(check_writes(writes), "taken, after a higher token")


def verdict_of_locks(*held: Holding) -> Verdict:
    return check_linearizability(history_of_locks(held), 10, model=Lock()).verdict


def test_a_history_of_grants_is_that_of_a_lock() -> None:
    assert verdict_of_locks(holding(1, 10, 20), holding(2, 30, 40)) is Verdict.TRUE
    # A lease that ended by itself may have ended at any time after it was known to run.
    lost = holding(1, 10, 20, was_held=False, end_asked_ns=90)
    assert verdict_of_locks(lost, holding(2, 30, 40)) is Verdict.TRUE
    assert verdict_of_locks(lost, holding(2, 15, 18)) is Verdict.FALSE
    # Held until its release, as the answer says, whatever its holder knew.
    kept = holding(1, 10, 20, end_asked_ns=90)
    assert verdict_of_locks(kept, holding(2, 30, 40)) is Verdict.FALSE
    assert verdict_of_locks(holding(2, 10, 20), holding(1, 30, 40)) is Verdict.FALSE


def test_a_hand_over_is_from_a_release_to_who_waited() -> None:
    waited = holding(2, 27, 40, asked_ns=12)
    assert hand_overs_ns([waited, holding(1, 10, 20)]) == [7]
    assert hand_overs_ns([holding(1, 10, 20), holding(2, 40, 50)]) == []
    assert hand_overs_ns([holding(1, 10, 20, was_held=False), waited]) == []


def seen(epoch: int, candidate: str | None, at: int) -> LeaderSeen:
    return LeaderSeen("r", candidate, epoch, at, at + 1)


def test_an_epoch_has_one_leader() -> None:
    leads = [holding(1, 10, 20), holding(2, 30, 40)]
    right = [seen(1, "c1", 12), seen(0, None, 25), seen(2, "c2", 31), seen(2, "c2", 50)]
    assert check_leaders(leads, right) == []
    only(check_leaders(leads, [seen(2, "c1", 50)]), "epochs with two leaders")
    twice = [holding(1, 10, 20), holding(1, 30, 40, client="another")]
    only(check_leaders(twice, []), "epochs with two leaders")


def test_epochs_that_are_told_never_fall() -> None:
    only(check_leaders([], [seen(2, "b", 10), seen(1, "a", 20)]), "epochs that fell")
    overlapping = [LeaderSeen("r", "b", 2, 10, 20), LeaderSeen("r", "a", 1, 15, 25)]
    assert check_leaders([], overlapping) == []


@pytest.mark.parametrize("told", [seen(0, None, 15), seen(1, "c1", 15)])
def test_who_leads_all_that_time_is_who_is_told(told: LeaderSeen) -> None:
    leads = [holding(1, 2, 5), holding(2, 10, 40)]
    only(check_leaders(leads, [told]), "leaders that nobody was told of")
    # While it is not known to lead, nothing is said.
    assert check_leaders([leads[0], holding(2, 10, 12)], [told]) == []


def test_a_watch_tells_of_epochs_in_order() -> None:
    right = [seen(0, None, 1), seen(1, "a", 2), seen(0, None, 3), seen(4, "b", 4)]
    assert check_epochs_of_watches({"w": right}) == []
    only(check_epochs_of_watches({"w": [*right, seen(3, "c", 5)]}), "epochs that a watch")
    only(check_epochs_of_watches({"w": [*right, seen(4, "b", 5)]}), "epochs that a watch")


# Queues


def put(number: int, **more: Any) -> PutCall:
    start = number * 10
    fields: dict[str, Any] = {
        "payload": f"p{number}", "asked_ns": start, "told_ns": start + 5, "item_id": number, **more
    }  # fmt: skip
    return PutCall(**fields)


def delivery(number: int, receipt: int, start: int, **more: Any) -> Delivery:
    fields: dict[str, Any] = {
        "client": f"c{receipt}", "item_id": number, "payload": f"p{number}", "attempt": 1,
        "receipt": receipt, "asked_ns": start, "told_ns": start + 5, "known_until_ns": start + 20,
        "settled": "acknowledged", "settled_ns": start + 25, **more,
    }  # fmt: skip
    return Delivery(**fields)


def test_a_queue_that_hands_out_and_takes_back_is_right() -> None:
    puts = [put(1), put(2), put(3, item_id=None), put(4, item_id=None, is_refused=True), put(5)]
    handed = [
        delivery(1, 10, 100),
        delivery(2, 11, 100, settled="lost"),
        delivery(2, 13, 200, attempt=2),
        delivery(3, 12, 100, settled="acknowledging"),
    ]
    assert check_queue(puts, handed, dead=[5]) == []
    assert redelivered(handed) == 1


@pytest.mark.parametrize("settled", ["", "returned", "returning", "lost"])
def test_an_item_that_is_nowhere_is_found(settled: str) -> None:
    only(check_queue([put(1)], [], []), "acknowledged and lost")
    only(check_queue([put(1)], [delivery(1, 10, 100, settled=settled)], []), "acknowledged and")


def test_an_item_that_is_in_twice_is_found() -> None:
    handed = [delivery(1, 10, 100), delivery(7, 11, 200, payload="p1")]
    only(check_queue([put(1)], handed, []), "put in twice")
    unknown = put(1, item_id=None)
    only(check_queue([unknown], handed, []), "put in twice")


def test_items_that_nobody_put_in_are_found() -> None:
    only(check_queue([], [delivery(1, 10, 100)], []), "handed out, and never put in")
    refused = put(1, item_id=None, is_refused=True)
    only(check_queue([refused], [delivery(1, 10, 100)], []), "put in, and reported as certainly")


def test_ids_of_two_items_and_ids_that_fall_are_found() -> None:
    problems = check_queue([put(1), put(2, item_id=1)], [delivery(1, 10, 100)], [])
    assert [problem.split(":")[0] for problem in problems] == ["ids of two items", "ids that fell"]
    puts = [put(1, item_id=9), put(2, item_id=8)]
    handed = [delivery(9, 10, 100, payload="p1"), delivery(8, 11, 100, payload="p2")]
    only(check_queue(puts, handed, []), "ids that fell")


def test_an_item_that_comes_again_says_so() -> None:
    first = delivery(1, 10, 100, settled="lost")
    only(check_queue([put(1)], [first, delivery(1, 11, 200)], []), "handed out again, and not said")
    assert check_queue([put(1)], [first, delivery(1, 11, 200, attempt=3)], []) == []
    same = [delivery(1, 10, 100), delivery(2, 10, 100)]
    only(check_queue([put(1), put(2)], same, []), "receipts given twice")


def test_an_item_that_two_have_at_one_time_is_found() -> None:
    first = delivery(1, 10, 100, settled="lost", known_until_ns=150)
    again = delivery(1, 11, 120, attempt=2)
    only(check_queue([put(1)], [first, again], []), "handed out while somebody had it")


def test_an_item_that_is_done_never_comes_again() -> None:
    done, again = delivery(1, 10, 100), delivery(1, 11, 200, attempt=2, settled="lost")
    only(check_queue([put(1)], [done, again], []), "acknowledged, and handed out again")
    twice = check_queue([put(1)], [done, delivery(1, 11, 200, attempt=2)], [])
    assert [each.split(":")[0] for each in twice] == [
        "acknowledged twice",
        "acknowledged, and handed out again",
    ]


# Ledgers


def look(outcome: str | None, at: int, token: int = 0, how: str = "look") -> KeyLook:
    return KeyLook("k", how, outcome, token, at, at + 5)


def test_a_key_with_one_outcome_is_right() -> None:
    looks = [look(None, 10), look("a", 20, 3), look("a", 30), look(None, 22), look("a", 40, 3)]
    tried = [Tried("k", "a"), Tried("k", "b"), Tried("k", "b", is_lost=True)]
    claims = [holding(3, 10, 20, resource="k"), holding(4, 30, 40, resource="x")]
    assert check_ledger(looks, tried, claims) == []


def test_a_key_with_two_outcomes_is_found() -> None:
    tried = [Tried("k", "a"), Tried("k", "b")]
    only(check_ledger([look("a", 10), look("b", 20)], tried, []), "keys with two outcomes")
    only(check_ledger([look("a", 10, 3), look("a", 20, 4)], tried, []), "keys with two outcomes")


def test_outcomes_that_were_never_committed_are_found() -> None:
    only(check_ledger([look("a", 10)], [Tried("other", "a")], []), "outcomes that nobody committed")
    lost = [Tried("k", "a"), Tried("k", "a", is_lost=True)]
    only(check_ledger([look("a", 10)], lost, []), "outcomes of which it was said")


def test_an_outcome_that_is_forgotten_is_found() -> None:
    looks = [look("a", 10), look(None, 20, how="begin")]
    only(check_ledger(looks, [Tried("k", "a")], []), "told to be not done, after")


def test_two_at_one_key_and_tokens_that_fall_are_found() -> None:
    claims = [holding(1, 10, 20, resource="k"), holding(2, 15, 30, resource="k")]
    only(check_ledger([], [], claims), "held at one time")
    only(check_ledger([], [], [holding(2, 10, 12), holding(1, 30, 40)]), "tokens that fell")


# Counters and ids


def added(amount: int, value: int | None, at: int, **more: Any) -> Addition:
    return Addition("c", amount, value, at, at + 5, **more)


def read(value: int, at: int) -> CounterLook:
    return CounterLook("c", value, at, at + 5)


def test_a_counter_that_counts_is_right() -> None:
    additions = [added(2, 2, 10), added(3, None, 20), added(1, 6, 30), added(9, None, 31)]
    refused = dataclasses.replace(additions[3], is_refused=True)
    looks = [read(0, 1), read(2, 16), read(5, 26), read(6, 50)]
    assert check_counter([*additions[:3], refused], looks) == []
    assert check_counter([*additions[:3], refused], [*looks[:2], read(6, 50)]) == []


@pytest.mark.parametrize(
    "additions",
    [
        [added(2, 2, 10), added(3, 4, 11)],
        [added(2, 2, 10), added(2, 2, 11)],
        [added(2, 1, 10)],
    ],
    ids=["overlapping", "the same", "lost"],
)
def test_additions_that_have_something_in_common_are_found(additions: list[Addition]) -> None:
    only(check_counter(additions, []), "c: additions that overlap")


def test_an_addition_below_what_was_told_before_is_found() -> None:
    only(check_counter([added(1, 9, 10), added(1, 5, 30)], []), "c: additions that overlap")


@pytest.mark.parametrize("value", [4, 9])
def test_reads_that_leave_out_or_invent_are_found(value: int) -> None:
    additions = [added(5, 5, 10), added(3, None, 20), added(7, None, 21, is_refused=True)]
    assert check_counter(additions, [read(5, 50), read(8, 60)]) == []
    only(check_counter(additions, [read(value, 50)]), "c: reads that are wrong")


def test_reads_that_go_back_are_found() -> None:
    additions = [added(5, 5, 10), added(3, None, 20)]
    only(check_counter(additions, [read(8, 50), read(5, 60)]), "c: reads that are wrong")


def test_an_id_that_is_given_twice_is_found() -> None:
    right = [IdsTaken("i", 1, 3, 10, 15), IdsTaken("i", 4, 1, 20, 25), IdsTaken("j", 1, 1, 5, 9)]
    assert check_ids(right) == []
    twice = [IdsTaken("i", 1, 3, 10, 15, True), IdsTaken("i", 3, 1, 20, 25, True)]
    only(check_ids(twice), "i: ids given twice")
    only(check_ids([IdsTaken("i", 0, 1, 10, 15, True)]), "i: ids below 1")


def test_ids_that_fall_are_found_unless_they_are_of_a_block() -> None:
    fallen = [IdsTaken("i", 10, 3, 10, 15), IdsTaken("i", 4, 1, 20, 25)]
    only(check_ids(fallen), "i: ids that fell")
    assert check_ids([dataclasses.replace(each, is_of_block=True) for each in fallen]) == []


# Barriers


def passed(party: str, number: int, place: int | None, start: int, end: int) -> RoundPassed:
    return RoundPassed(party, number, place, start, end)


def test_rounds_of_a_barrier_are_whole() -> None:
    right = [
        *(passed("a", 1, 1, 10, 20), passed("b", 1, 0, 11, 21)),
        *(passed("a", 2, 0, 30, 40), passed("b", 2, 1, 31, 41), passed("b", 2, None, 50, 51)),
    ]
    assert check_barrier(right, 2) == []
    only(check_barrier([*right[:1], passed("b", 1, 1, 11, 21)], 2), "rounds with wrong places")
    only(check_barrier([passed("a", 1, 2, 10, 20)], 2), "rounds with wrong places")
    early = [passed("a", 1, 1, 10, 20), passed("b", 1, 0, 25, 30)]
    assert [each.split(":")[0] for each in check_barrier(early, 2)] == [
        "rounds passed before all were there",
        "rounds come to after they were passed",
    ]


def test_a_party_that_comes_to_a_round_of_before_is_found() -> None:
    late = [passed("a", 2, 1, 10, 20), passed("b", 1, 0, 25, 30)]
    only(check_barrier(late, 2), "rounds come to after they were passed")


# Transactions


class Bankers:
    """Records what happens to one bank."""

    def __init__(self) -> None:
        self._recorder = HistoryRecorder()
        self._now = 0

    def did(self, function: str, argument: object = None, result: object = None) -> None:
        number = self.began(function, argument)
        self.ended(number, result)

    def began(self, function: str, argument: object = None) -> int:
        self._now += 1
        return self._recorder.invoke(f"p{self._now}", function, "b", argument, now_ns=self._now)

    def ended(self, number: int, result: object) -> None:
        self._now += 1
        self._recorder.ok(number, result, now_ns=self._now)

    @property
    def history(self) -> History:
        return self._recorder.history()

    def verdict(self) -> Verdict:
        return check_linearizability(self.history, 10, model=Bank()).verdict


AFTER = ((2, 90), (2, 110), (1, 100), (1, 100))
MOVE = [0, 1, 1, 1, 90, 110]


def test_a_bank_whose_transactions_are_one_step_is_right() -> None:
    bank = Bankers()
    bank.did("read", result=CLOSED)
    bank.did("open", result=True)
    bank.did("open", result=False)
    bank.did("read", result=OPENED)
    bank.did("transfer", MOVE, True)
    bank.did("transfer", MOVE, [[2, 90], [2, 110]])
    bank.began("transfer", [2, 3, 1, 1, 95, 105])
    bank.did("read", result=AFTER)
    bank.did("read", result=((2, 90), (2, 110), (2, 95), (2, 105)))
    assert bank.verdict() is Verdict.TRUE


@pytest.mark.parametrize(
    ("function", "argument", "result"),
    [
        ("open", None, True),
        ("read", None, OPENED),
        ("read", None, ((2, 90), (1, 100), (1, 100), (1, 100))),
        ("transfer", MOVE, True),
        ("transfer", MOVE, [[1, 100], [2, 110]]),
        ("transfer", [0, 1, 2, 2, 80, 120], [[2, 90], [2, 110]]),
    ],
    ids=["opened twice", "stale", "half", "twice", "wrong answer", "refused without reason"],
)
def test_a_transaction_that_is_not_one_step_is_found(
    function: str, argument: object, result: object
) -> None:
    bank = Bankers()
    bank.did("open", result=True)
    bank.did("transfer", MOVE, True)
    assert bank.verdict() is Verdict.TRUE
    bank.did(function, argument, result)
    assert bank.verdict() is Verdict.FALSE


def test_a_bank_that_nobody_opened_opens() -> None:
    bank = Bankers()
    bank.did("open", result=False)
    assert bank.verdict() is Verdict.FALSE


def test_a_bank_with_another_total_is_found() -> None:
    assert check_totals([("b", CLOSED), ("b", OPENED), ("b", AFTER)]) == []
    only(check_totals([("b", ((2, 90), (1, 100), (1, 100), (1, 100)))]), "banks with another total")


# Watches


def change(version: int, value: str | None = "v", **more: Any) -> ChangeSeen:
    return ChangeSeen("k", version, value, **more)


FOUND: dict[str, tuple[int, str | None]] = {"k": (3, "v"), "never": (0, None)}


def test_a_watch_without_gaps_is_right() -> None:
    written = [KeyWritten("k", 2, None, 5)]
    told = [change(1), change(2, None), change(3)]
    assert check_watch("w", told, written, FOUND) == []
    assert check_watch("w", [change(1), change(3, is_after_gap=True)], written, FOUND) == []


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ([change(1), change(3)], "w: versions left out"),
        ([change(2), change(3)], "w: versions left out"),
        ([change(1), change(2), change(2), change(3)], "w: versions left out"),
        ([change(1), change(2), change(3, is_after_gap=True), change(3)], "w: versions left"),
        ([change(1), change(2, "other"), change(3)], "w: told otherwise"),
        ([change(1), change(2)], "w: not what is there"),
        ([change(1), change(2), change(3, "other")], "w: not what is there"),
        ([], "w: not what is there"),
    ],
    ids=["middle", "first", "again", "again at the end", "value", "late", "end", "silent"],
)
def test_what_a_watch_leaves_out_is_found(told: list[ChangeSeen], what: str) -> None:
    only(check_watch("w", told, [KeyWritten("k", 2, "v", 5)], FOUND), what)


# What is told of all of them


def test_percentiles() -> None:
    assert percentiles_ms([]) == {"count": 0}
    found = percentiles_ms([n * 1_000_000 for n in range(1, 101)])
    assert found == {"count": 100, "p50": 50.0, "p99": 99.0, "longest": 100.0}


def test_calls_are_counted_by_kind_and_error() -> None:
    records = RecipeRecords()
    assert (records.last_acknowledged_ns, records.operations) == (0, 0)
    records.count("add", "ok")
    records.count("add", "unknown", ValueError("x"))
    assert records.outcomes == {("add", "ok"): 1, ("add", "unknown"): 1}
    assert (records.errors, records.operations) == ({"ValueError": 1}, 2)


# The command line

TWO_GROUPS = "cluster: two\nmembers: 3\ngroups: 2\n"
BARE = "cluster: bare\nmembers: 3\ngroups: [{group: 1, machines: {kv: kv, permits: log}}]\n"


@pytest.mark.parametrize(
    ("configuration", "arguments", "said"),
    [
        ("", "--workload lock --groups", "--workload lock and --groups: give one of them"),
        ("", "--workload queue --history h", "--workload queue and --history: it has none"),
        ("", "--workload barrier --clients 1", "--workload barrier: found --clients 1; allowed: 2"),
        ("", "--workload watch --clients 1", "--workload watch: found --clients 1; allowed: 2"),
        ("", "--workload nothing", "'nothing' is not one of 'kv', 'lock'"),
        (TWO_GROUPS, "--workload object", "--workload object: found 2 groups; allowed"),
        (BARE, "--workload lock", "--workload lock needs a machine permits of that kind"),
        (BARE, "--workload queue", "--workload queue needs a machine queues of that kind"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    configuration: str,
    arguments: str,
    said: str,
) -> None:
    options = arguments.split()
    if "--history" in options:
        options[-1] = str(tmp_path / "history.jsonl")
    if configuration:
        path = tmp_path / "configuration.yaml"
        path.write_text(configuration)
        options += ["--config", str(path)]
    environment = FakeEnvironment()
    with pytest.raises(SystemExit) as caught:
        command_line.main(options, obj=environment)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert environment.starts == []
