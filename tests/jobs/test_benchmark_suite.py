"""What the benchmark makes of its measurements: medians, tables, processes, calls."""

from __future__ import annotations

import io
import itertools
import json
import random
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import benchmark_suite
from benchmark_cluster import BenchmarkCluster
from benchmark_etcd import decode_whole_fields, encode_field, encode_put, encode_varint
from benchmark_latency import Summary, Window, summarize
from benchmark_processes import Process, cpu_document, cpu_seconds, member_processes, pss_bytes
from benchmark_report import runs_table, suite_table
from benchmark_run import Measured, NoBar, Setting, Subject, measure, median_of
from benchmark_stability import BEFORE_S, BURST_S, WINDOW_S, recovery_s
from benchmark_suite import FULL, QUICK, REQUIREMENTS, Suite
from benchmark_table import Line, Requirement
from benchmark_target import Calls, ClientTarget, make_batches, make_calls
from benchmark_workload import Kind, Operation, load_workload
from ray_paxos.cluster import MemberStatus
from ray_paxos.errors import ClusterError, NotAppliedError
from ray_paxos.machines import kv
from ray_paxos.observability.status import ClusterStatus, GroupStatus, MemberPosition, RoleStatus
from report_machine import machine, machine_text

LATENCY = summarize([1_000_000, 2_000_000, 9_000_000])


def measured(per_s: float, in_flight: int = 1_000, latency: Summary | None = LATENCY) -> Measured:
    return Measured(
        setting=Setting(in_flight),
        acknowledged=int(per_s * 10),
        failed=0,
        failure="",
        load_s=8.0,
        whole_s=10.0,
        settled={"applied": 0.5, "durable": 1.0, "checkpointed": 2.0},
        latency=latency,
        cpu={"us_per_operation": {"learner": 3.25, "driver": 12.5}},
        windows=[Window(0.0, 1.0, latency), Window(1.0, 1.0, None)],
    )


def rendered(table: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


# Lines.


@pytest.mark.parametrize(
    ("bound", "is_most", "number", "holds"),
    [
        (70_000, False, 70_000, True),
        (70_000, False, 69_999, False),
        (1.25, True, 1.25, True),
        (1.25, True, 1.26, False),
        (8, True, None, False),
    ],
)
def test_a_line_holds_within_its_bound(
    bound: float, is_most: bool, number: float | None, holds: bool
) -> None:
    assert Line(Requirement("x", bound, "/s", is_most), number).holds is holds


def test_all_lines_of_the_table_are_asked_for() -> None:
    assert [(requirement.bound, requirement.is_most) for requirement in REQUIREMENTS.values()] == [
        *((70_000, False), (85_000, False), (125_000, False), (200_000, False)),
        *((300_000, False), (1.25, True), (1.25, True), (90, False), (90, False)),
        *((676, False), (100_000, False), (95, False), (1_000, True), (3, True)),
        *((400, True), (3, True), (8, True), (2, True)),
    ]


def test_the_table_shows_required_measured_and_floor() -> None:
    requirement = Requirement("after {commands} commands", 95.0, " %").of(commands="1,000")
    text = rendered(
        suite_table(
            [
                Line(requirement, 97.25, "the floor", "a note"),
                Line(Requirement("start", 8.0, " s", is_most=True), None, note="no Ray"),
            ]
        )
    )
    for part in ("after 1,000 commands", "at least 95 %", "97.2 %", "the floor", "a note", "yes"):
        assert part in text
    for part in ("at most 8 s", "no Ray", " no "):
        assert part in text


# Runs.


def test_the_run_in_the_middle_speaks_for_all() -> None:
    assert median_of([measured(rate) for rate in (5.0, 1.0, 3.0)]).per_s == 3.0
    assert median_of([measured(rate) for rate in (4.0, 1.0, 3.0, 2.0)]).per_s == 2.0


def test_the_runs_are_told_with_their_cpu_time() -> None:
    text = rendered(runs_table("put", [[measured(70_000.0)], [measured(50.0, 1, None)]]))
    for part in ("1,000 in flight", "70,000", "87,500", "2.00", "driver 12.5, learner 3.2"):
        assert part in text
    document = json.loads(json.dumps(measured(70_000.0).document()))
    assert document["commands_per_s"] == 70_000.0
    assert document["acknowledged_per_s"] == 87_500.0
    assert document["latency"]["p50_ms"] == 2.0
    assert document["windows"][1] == {
        "start_s": 1.0,
        "calls_per_s": 0.0,
        "p50_ms": None,
        "p99_ms": None,
    }


def done() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(None)
    return future


def test_the_clock_stops_when_everything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that acknowledges at once and then works on for two seconds is no faster."""
    settled: list[int] = []

    def settle() -> dict[str, int]:
        settled.append(1)
        # Told as a moment, so that nobody has to wait for it here.
        now_ns = time.monotonic_ns()
        return {"applied_ns": now_ns, "checkpointed_ns": now_ns + 2_000_000_000}

    calls = Calls(itertools.repeat(done), itertools.repeat(done))
    found = measure(Subject(calls, [], settle), Setting(10, seconds=0.1, warmup_seconds=0), NoBar())
    assert len(settled) == 2
    assert found.load_s == pytest.approx(0.1, abs=0.09)
    assert found.whole_s == pytest.approx(found.load_s + 2.0, abs=0.2)
    assert found.per_s < found.acknowledged_per_s / 5
    assert found.settled["checkpointed"] == pytest.approx(2.0, abs=0.2)
    assert found.failed == 0


class RecordingCluster:
    """Its learners take two looks to have applied everything."""

    members = ("m1", "m2")

    def __init__(self) -> None:
        self.done: list[object] = []

    def status(self) -> ClusterStatus:
        self.done.append("status")
        late = 5 if self.done.count("status") < 3 else 7
        positions = {
            "m1": MemberPosition(7, 7, 7, 1, 0, 0, ""),
            "m2": MemberPosition(late, late, late, 1, 0, 0, ""),
        }
        return ClusterStatus("x", "id", (), (GroupStatus(1, "m1", positions),))

    def flush(self, *, timeout_s: float) -> None:
        self.done.append("flush")

    def checkpoint(self, group: int, *, timeout_s: float) -> None:
        self.done.append(group)


@pytest.mark.parametrize(("groups", "checkpoints"), [(1, [1]), (3, [1, 2, 3]), (100, [])])
def test_a_run_ends_when_all_is_applied_durable_and_in_checkpoints(
    groups: int, checkpoints: list[int]
) -> None:
    played: Any = RecordingCluster()
    cluster = BenchmarkCluster(played, tuple(range(1, groups + 1)), 0.0)
    moments = cluster.settle()
    assert played.done[:4] == ["status", "status", "status", "flush"]
    assert sorted(played.done[4:]) == checkpoints
    assert list(moments.values()) == sorted(moments.values())
    assert ("checkpointed_ns" in moments) == bool(checkpoints)


def test_a_member_that_does_not_answer_has_not_applied_everything() -> None:
    played: Any = RecordingCluster()
    played.members = ("m1", "m2", "m3")
    assert BenchmarkCluster(played, (1,), 0.0).behind() == "m2 (group 1), m3 (group 1)"


def test_nothing_acknowledged_is_an_error() -> None:
    def refuse() -> Future[Any]:
        raise NotAppliedError("no master")

    calls = Calls(itertools.repeat(refuse), itertools.repeat(refuse))
    with pytest.raises(ClusterError, match="nothing was acknowledged: no master"):
        measure(Subject(calls, [], dict), Setting(2, seconds=0.01, warmup_seconds=0), NoBar())


# The suite.


def test_a_full_suite_is_within_its_time() -> None:
    """Seconds of load alone; starts and ends of clusters take a few minutes more."""

    def seconds(plan: benchmark_suite.Plan) -> float:
        throughput = 7 * plan.repeat * plan.seconds
        short = 3 * plan.repeat * plan.short_seconds
        best = 4 * plan.best_repeat * plan.best_seconds
        return throughput + short + best + plan.seconds + 4 * plan.idle_seconds

    assert seconds(FULL) < 32 * 60
    assert seconds(QUICK) < 4 * 60
    assert QUICK.repeat == 1
    assert (FULL.repeat, FULL.seconds, FULL.commands) == (5, 30.0, 1_000_000)


def test_lines_that_fail_are_told_and_the_next_ones_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise ClusterError("no Ray here")

    monkeypatch.setattr(benchmark_suite, "benchmark_cluster", refuse)
    monkeypatch.setattr(benchmark_suite, "measure_startup", refuse)
    monkeypatch.setattr(benchmark_suite, "has_roles", lambda roles: roles == "separate")
    said: list[str] = []
    suite = Suite("configs/local.yaml", QUICK, 1, NoBar(), said.append)
    suite.run()
    assert [line.requirement.what for line in suite.lines] == list(REQUIREMENTS)
    assert not any(line.holds for line in suite.lines)
    notes = {line.requirement.what: line.note for line in suite.lines}
    assert notes[benchmark_suite.SEPARATE.what] == "no Ray here"
    assert notes[benchmark_suite.FUSED.what] == "roles: fused is not in this version"
    assert "after 200,000 commands" in " ".join(said)
    json.dumps(suite.document())


def windows_of(p99: Sequence[float]) -> list[Window]:
    assert LATENCY is not None
    return [
        Window(number * WINDOW_S, WINDOW_S, replace(LATENCY, p99_ms=each))
        for number, each in enumerate(p99)
    ]


def test_a_burst_is_over_when_a_whole_second_is_normal() -> None:
    quiet = [10.0] * round((BEFORE_S + BURST_S) / WINDOW_S)
    assert recovery_s(windows_of([*quiet, *[900.0] * 7, *[11.0] * 20]), 10.0) == pytest.approx(0.7)
    # A moment's quiet is not the end.
    restless = [*[900.0] * 3, *[10.0] * 5, 900.0, *[10.0] * 20]
    assert recovery_s(windows_of([*quiet, *restless]), 10.0) == pytest.approx(0.9)
    assert recovery_s(windows_of([*quiet, *[900.0] * 50]), 10.0) is None
    assert recovery_s(windows_of([*quiet, *[10.0] * 20]), 10.0) == 0.0


# Calls.


class RecordingClient:
    """Answers at once and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def propose_async(self, command: bytes, machine: str, *, timeout_s: float) -> Future[Any]:
        self.asked.append(("propose", command))
        return done()

    def propose_many_async(
        self, commands: list[bytes], machine: str, *, timeout_s: float
    ) -> Future[Any]:
        self.asked.append(("many", commands))
        return done()

    def propose(self, command: bytes, machine: str, *, timeout_s: float) -> None:
        self.asked.append(("alone", command))

    def query(self, request: bytes, machine: str, *, consistency: str, timeout_s: float) -> bytes:
        self.asked.append((consistency, request))
        return b""


class AsyncReadingClient(RecordingClient):
    """One that can read without waiting."""

    def query_async(
        self, request: bytes, machine: str, *, consistency: str, timeout_s: float
    ) -> Future[Any]:
        self.asked.append((f"async {consistency}", request))
        return done()


def target_of(client: RecordingClient, readers: ThreadPoolExecutor | None = None) -> ClientTarget:
    any_client: Any = client
    return ClientTarget(any_client, "lease", readers)


PUT, GET = kv.encode_put("k", b"v"), kv.encode_get("k")


def test_operations_become_calls_of_the_client() -> None:
    client = AsyncReadingClient()
    target = target_of(client)
    assert target.reads_by == "query_async"
    for operation in (
        Operation(Kind.UPDATE, "k", b"v"),
        Operation(Kind.READ, "k"),
        Operation(Kind.SCAN, "k", length=5),
        Operation(Kind.READ_MODIFY_WRITE, "k", b"v"),
    ):
        assert target.call(operation)().result(1) is None
    assert client.asked == [
        ("propose", PUT),
        ("async lease", GET),
        ("async lease", kv.encode_dump("", "k", 5)),
        ("async lease", GET),
        ("propose", PUT),
    ]
    client.asked.clear()
    target.wait(Operation(Kind.READ_MODIFY_WRITE, "k", b"v"))()
    assert client.asked == [("lease", GET), ("alone", PUT)]


def test_a_client_that_waits_for_reads_is_given_threads() -> None:
    client = RecordingClient()
    with ThreadPoolExecutor(2) as readers:
        target = target_of(client, readers)
        assert target.reads_by == "threads"
        target.call(Operation(Kind.READ, "k"))().result(10)
    assert client.asked == [("lease", GET)]


def test_groups_take_turns() -> None:
    clients = [RecordingClient() for _ in range(3)]
    targets = [target_of(client) for client in clients]
    workload = load_workload("put", 10)
    calls = make_calls(targets, workload, 10, random.Random(1))
    for _ in range(30):
        next(calls.many)()
    assert [len(client.asked) for client in clients] == [10, 10, 10]
    batches = make_batches(targets, workload, 10, 50, random.Random(1))
    assert batches.weight == 50
    next(batches.many)()
    assert len(clients[0].asked[-1][1]) == 50


def test_inserted_keys_are_new_ones_each_time() -> None:
    client = AsyncReadingClient()
    calls = make_calls([target_of(client)], load_workload("ycsb-d", 10), 10, random.Random(1))
    for _ in range(2_000):
        next(calls.many)()
    inserted = [command for kind, command in client.asked if kind == "propose"]
    assert len(inserted) > 50
    assert len(set(inserted)) == len(inserted)


# Processes, the machine, the wire of etcd.


def test_a_process_that_holds_several_roles_is_counted_once() -> None:
    apart = MemberStatus("m1", 1, {"proposer": RoleStatus("serving", pid=10)})
    roles = ("proposer", "acceptor", "learner", "checkpointer")
    fused = MemberStatus("m2", 2, {role: RoleStatus("serving", pid=20) for role in roles})
    gone = MemberStatus("m3", 3, {"proposer": RoleStatus("gone")})
    assert member_processes([apart, fused, gone]) == [
        Process(10, "proposer", "m1/proposer"),
        Process(20, "fused", "m2/fused"),
    ]


def test_cpu_time_and_memory_are_read_from_proc(tmp_path: Path) -> None:
    folder = tmp_path / "42"
    folder.mkdir()
    fields = ["S", *["0"] * 10, "150", "50", *["0"] * 20]
    (folder / "stat").write_text(f"42 (a (strange) name) {' '.join(fields)}\n")
    (folder / "smaps_rollup").write_text(
        "x [rollup]\nRss: 900 kB\nPss:      500 kB\nPss_Dirty: 1\n"
    )
    processes = [Process(42, "learner", "m1/learner"), Process(43, "gone", "gone")]
    assert cpu_seconds(processes, tmp_path) == {42: 2.0}
    assert pss_bytes(42, tmp_path) == 500 * 1024
    assert pss_bytes(43, tmp_path) == 0
    told = cpu_document(processes, {42: 1.0}, {42: 2.0, 43: 9.0}, 100_000, 4.0)
    assert told["us_per_operation"] == {"learner": 10.0}
    assert told["by_process"] == {"m1/learner": {"cpu_s": 1.0, "us_per_operation": 10.0}}
    assert told["cores"] == 0.25


def test_the_machine_is_told() -> None:
    told = machine()
    assert told["cores"] >= 1
    assert told["memory_gb"] > 0
    assert len(told["load_average_at_begin"]) == 3
    assert told["libraries"]["ray"] in machine_text(told)
    json.dumps(told)


def test_messages_to_etcd_are_protocol_buffers() -> None:
    assert encode_varint(300) == b"\xac\x02"
    assert encode_put(Operation(Kind.UPDATE, "foo", b"bar")) == b"\x0a\x03foo\x12\x03bar"
    message = encode_field(1, b"skipped") + b"\x10\xac\x02" + b"\x20\x07"
    assert decode_whole_fields(message) == {2: 300, 4: 7}
