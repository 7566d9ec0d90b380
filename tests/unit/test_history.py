"""What clients saw: recording, merging, and what is no history."""

from __future__ import annotations

import threading

import pytest

from ray_paxos.testing.history import (
    DEPTH_MAX,
    Event,
    History,
    HistoryBuilder,
    HistoryRecorder,
    Invocation,
    Operation,
    Outcome,
    Response,
    freeze,
    merge_histories,
)


def asked(number: int, at_ns: int = 0) -> Invocation:
    return Invocation(number, 1, "read", None, None, at_ns)


def answered(number: int, at_ns: int = 0) -> Response:
    return Response(number, Outcome.OK, None, at_ns)


def test_a_recorder_keeps_what_its_clients_do_in_the_order_of_its_calls() -> None:
    recorder = HistoryRecorder()
    put = recorder.invoke("client-1", "put", "a", ["x", [1]], now_ns=10)
    get = recorder.invoke(2, "get", "a", now_ns=5)
    recorder.ok(put, ["written", 1, False], now_ns=20)
    recorder.failed(get, now_ns=30)
    lost = recorder.invoke(2, "delete", "a", now_ns=40)
    recorder.unknown(lost, now_ns=50)
    recorder.invoke(2, "get", "b", now_ns=60)
    assert recorder.history().operations() == [
        Operation(0, "client-1", "put", "a", ("x", (1,)), Outcome.OK, ("written", 1, False), 0, 2),
        Operation(1, 2, "get", "a", None, Outcome.FAILED, None, 1, 3),
        Operation(2, 2, "delete", "a", None, Outcome.UNKNOWN, None, 4, 5),
        Operation(3, 2, "get", "b", None, Outcome.UNKNOWN, None, 6, None),
    ]


def test_an_operation_is_answered_once_and_only_if_it_was_invoked() -> None:
    recorder = HistoryRecorder()
    number = recorder.invoke(1, "read", now_ns=1)
    recorder.ok(number, 3, now_ns=2)
    with pytest.raises(ValueError, match="operation 0 is answered twice"):
        recorder.unknown(number, now_ns=3)
    with pytest.raises(ValueError, match="operation 7 is answered and was never invoked"):
        recorder.ok(7, now_ns=4)
    assert len(recorder.history().events) == 2
    builder = HistoryBuilder()
    builder.add(asked(1))
    with pytest.raises(ValueError, match="operation 1 is invoked twice"):
        builder.add(asked(1))


def test_the_sink_has_each_event_before_the_call_returns() -> None:
    seen: list[Event] = []
    recorder = HistoryRecorder(seen.append)
    number = recorder.invoke(1, "read", now_ns=1)
    assert [type(event) for event in seen] == [Invocation]
    recorder.ok(number, now_ns=2)
    assert tuple(seen) == recorder.history().events


def test_threads_share_a_recorder() -> None:
    recorder = HistoryRecorder()

    def work(process: int) -> None:
        for turn in range(200):
            number = recorder.invoke(process, "write", argument=turn, now_ns=turn)
            recorder.ok(number, now_ns=turn)

    threads = [threading.Thread(target=work, args=(process,)) for process in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    operations = recorder.history().operations()
    assert len({operation.operation_id for operation in operations}) == 800
    for process in range(4):
        own = [operation for operation in operations if operation.process == process]
        assert [operation.argument for operation in own] == list(range(200))
        assert all(o.responded_at is not None for o in own)


@pytest.mark.parametrize("value", [b"x", {"a": 1}, {1}, object(), [b"x"], float("nan")])
def test_a_value_that_json_has_no_word_for_is_refused(value: object) -> None:
    recorder = HistoryRecorder()
    with pytest.raises(TypeError, match="is no value of a history"):
        recorder.invoke(1, "put", "a", value, now_ns=1)
    assert recorder.history().events == ()


def test_lists_may_be_nested_but_not_without_end() -> None:
    nested: object = 1
    for _ in range(DEPTH_MAX):
        nested = [nested]
    assert isinstance(freeze(nested), tuple)
    with pytest.raises(TypeError, match="lists in more than"):
        freeze([nested])


def test_histories_of_several_processes_are_merged_by_time() -> None:
    first = History((asked(0, 10), answered(0, 40)))
    second = History((asked(0, 20), answered(0, 30), asked(1, 50)))
    merged = merge_histories([first, second])
    assert [(event.time_ns, event.operation_id) for event in merged.events] == [
        (10, 0),
        (20, 1),
        (30, 1),
        (40, 0),
        (50, 2),
    ]


def test_at_equal_times_neither_of_two_operations_comes_before_the_other() -> None:
    # Whether the answer or the next question came first, nobody can tell.
    first = History((asked(0, 10), answered(0, 20)))
    second = History((asked(0, 20), answered(0, 30)))
    for histories in ([first, second], [second, first]):
        kinds = [type(event) for event in merge_histories(histories).events]
        assert kinds == [Invocation, Invocation, Response, Response]


def test_a_prefix_knows_no_response_that_comes_later() -> None:
    operation = Operation(0, 1, "read", None, None, Outcome.OK, 3, 2, 5)
    assert operation.within(6) is operation
    early = operation.within(5)
    assert (early.outcome, early.result, early.responded_at) == (Outcome.UNKNOWN, None, None)
