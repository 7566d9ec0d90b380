"""The page of a benchmark, made of its document: what it tells, and what stands beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import benchmark
import benchmark_suite
from benchmark_charts import WINDOWS_MAX, drawn_windows, lines_chart, reached, throughput_chart
from benchmark_latency import Window, summarize
from benchmark_options import Options
from benchmark_page import benchmark_page, load_beside
from benchmark_run import Measured, NoBar, Setting, median_of
from benchmark_stability import Burst
from benchmark_suite import BURST, IDLE, QUICK, READS, SEPARATE, Suite
from benchmark_table import Line, Requirement
from ray_paxos.errors import ClusterError, ConfigurationError
from report_machine import machine
from tests.jobs.pages import BAD_TEXT, Page, check_page

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "local.yaml")
LATENCY = summarize([1_000_000, 2_000_000, 9_000_000])
WINDOWS = [Window(0.0, 1.0, LATENCY), Window(1.0, 1.0, None), Window(2.0, 1.0, LATENCY)]


def measured(per_s: float, in_flight: int = 1_000, failed: int = 0, failure: str = "") -> Measured:
    return Measured(
        setting=Setting(in_flight),
        acknowledged=int(per_s * 10),
        failed=failed,
        failure=failure,
        load_s=8.0,
        whole_s=10.0,
        settled={"applied": 0.5, "durable": 1.0, "checkpointed": 2.0},
        latency=LATENCY,
        cpu={"us_per_operation": {"learner": 3.25, "driver": 6.5}},
        windows=WINDOWS,
    )


def document(
    runs: Mapping[str, Sequence[Measured]] | None = None,
    *,
    suite: Suite | None = None,
    peer: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """As the job writes it, through JSON and back."""
    options = Options(CONFIG, peer=peer, suite="readme" if suite is not None else None)
    made: dict[str, Any] = {
        "machine": machine() | {"load_average_at_end": [2.5]},
        "options": asdict(options),
        "command": "python jobs/benchmark.py",
        "began_at": "2026-01-01",
        "ended_at": "2026-01-02",
        "configuration": "cluster: demo\n",
        **more,
    }
    if suite is not None:
        made["suite"] = suite.document()
    else:
        runs = {"1,000 in flight": [measured(30_000.0)]} if runs is None else runs
        made["runs"] = {name: [run.document() for run in each] for name, each in runs.items()}
        made["median"] = {name: median_of(each).document() for name, each in runs.items()}
    if peer is not None:
        made["peer"] = {"name": peer, "about": f"{peer} on loopback"}
    read: dict[str, Any] = json.loads(json.dumps(made))
    return read


def suite_of(*lines: Line) -> Suite:
    suite = Suite(CONFIG, QUICK, 1, NoBar(), lambda text: None)
    suite.lines.extend(lines)
    suite.runs[SEPARATE.what] = [measured(30_000.0), measured(10_000.0), measured(20_000.0)]
    suite.floors[100] = {"separate": 2.5, "fused": 1.25, "read": 0.6}
    suite.details[BURST.what] = Burst(3_000.0, 5.0, 90.0, 0.4, WINDOWS).document()
    suite.details[IDLE.what] = {"members": {"pss_mb": 950.0}}
    return suite


def page_of(told: dict[str, Any], *beside: dict[str, Any]) -> Page:
    return check_page(benchmark_page(told, beside).html())


def cells(page: Page, first: str, count: int) -> list[str]:
    start = page.texts.index(first)
    return page.texts[start : start + count]


# Loads.


def test_each_load_has_a_line_and_a_place_in_every_chart() -> None:
    runs = {
        "1 in flight": [measured(150.0, 1)],
        "100 in flight": [measured(9_000.0, 100), measured(8_000.0, 100), measured(8_500.0, 100)],
    }
    page = page_of(document(runs, floor_ms={"separate": 1.5, "fused": 1.0, "read": 0.5}))
    assert "Measured; no operation failed." in page.texts
    loads = page.texts[page.texts.index("acknowledged/s") :]
    assert loads[loads.index("100 in flight") :][:8] == [
        *("100 in flight", "3", "8,500", "8,000", "9,000", "10,625", "2.00", "9.00"),
    ]
    assert "100 in flight: 8,500 commands a second, p50 2.00 ms, p99 9.00 ms" in page.texts
    assert "100 in flight, ms" in page.texts
    assert "9.75 us a command" in page.texts
    assert any("One at a time: p50 2.00 ms, the floor 1.50 ms." in text for text in page.texts)
    assert {"2026-01-01", "cluster: demo\n", "2.5"} <= set(page.texts)


def test_operations_that_failed_are_told_first() -> None:
    run = measured(100.0, failed=7, failure="no master")
    page = page_of(document({"1,000 in flight": [run]}))
    assert "1,000 in flight: 7 of 1,007 operations failed: no master" in page.texts
    (banner,) = page.of_class("verdict")
    assert "bad" in (banner[1]["class"] or "")


def test_a_floor_alone_is_a_page() -> None:
    told = document(floor_ms={"separate": 2.5, "fused": 1.25, "read": 0.6})
    del told["runs"], told["median"]
    page = page_of(told)
    assert "Benchmark, the floor" in page.texts
    assert cells(page, "2.50", 3) == ["2.50", "1.25", "0.60"]


def test_a_run_without_latencies_is_a_page() -> None:
    told = document()
    for run in (told["median"]["1,000 in flight"], *told["runs"]["1,000 in flight"]):
        run["latency"], run["windows"], run["cpu"] = None, [], {}
    page = page_of(told)
    assert "Throughput against latency" not in page.texts
    assert "1,000 in flight" in page.texts


# Suites.


def test_lines_of_a_suite_say_what_is_asked_for_and_what_was_reached() -> None:
    suite = suite_of(Line(SEPARATE, 20_000.0, "a floor", "a note"), Line(READS, 120_000.0))
    page = page_of(document(suite=suite))
    assert "1 of 2 lines hold." in page.texts
    assert any(
        text.startswith(f"{SEPARATE.what}: 20,000/s (at least 70,000/s") for text in page.texts
    )
    start = page.texts.index("asked for")
    assert page.texts[start + 5 :][:6] == [
        *(SEPARATE.what, "at least 70,000/s", "20,000/s", "no", "a floor", "a note"),
    ]
    # The median run of a line.
    assert f"{SEPARATE.what}: 20,000 commands a second, p50 2.00 ms, p99 9.00 ms" in page.texts
    assert {"A burst", IDLE.what, "2.50"} <= set(page.texts)
    good = page_of(document(suite=suite_of(Line(READS, 120_000.0))))
    assert "1 of 1 lines hold." in good.texts
    assert [tag for tag, _ in good.of_class("bad")] == []


@pytest.mark.parametrize(
    ("bound", "is_most", "number", "percent"),
    [
        (100, False, 50, 50),
        (100, False, 500, 200),
        (100, True, 200, 50),
        (100, True, 80, 125),
        (100, True, 0, 200),
        (100, False, None, 0),
    ],
)
def test_how_much_of_a_line_was_reached(
    bound: float, is_most: bool, number: float | None, percent: float
) -> None:
    assert reached(Line(Requirement("x", bound, "/s", is_most), number)) == percent


def test_a_line_is_read_as_it_was_written() -> None:
    for requirement in benchmark_suite.REQUIREMENTS.values():
        for number in (None, 12.5):
            line = Line(requirement, number, "floor", "note")
            read = Line.read(json.loads(json.dumps(line.document())))
            assert (read.text(), read.holds) == (line.text(), line.holds)
    lines_chart([Line(SEPARATE, None)])


# Beside others.


def test_a_peer_stands_beside_a_run(tmp_path: Path) -> None:
    path = tmp_path / "etcd.json"
    path.write_text(json.dumps(document({"1,000 in flight": [measured(9_000.0)]}, peer="etcd")))
    (beside,) = load_beside([str(path)])
    page = page_of(document(), beside)
    start = page.texts.index("system")
    assert cells(page, "etcd: etcd on loopback", 1)
    rows = page.texts[start:]
    assert rows[rows.index("etcd") :][:5] == ["etcd", "put", "100", "1,000 in flight", "9,000"]
    assert "1,000 in flight: etcd: 9,000/s" in page.texts
    assert "etcd: 1,000 in flight: 9,000 commands a second, p50 2.00 ms, p99 9.00 ms" in page.texts
    assert "Beside others" not in page_of(document()).texts


def test_two_runs_of_the_same_system_are_told_apart() -> None:
    page = page_of(document(), document({"1,000 in flight": [measured(9_000.0)]}))
    assert "1,000 in flight: ray_paxos, separate: 30,000/s" in page.texts
    assert "1,000 in flight: ray_paxos, separate (2): 9,000/s" in page.texts
    # Loads of the one are not connected with those of the other.
    paths = [e["d"] or "" for tag, e in page.elements if tag == "path" and "stroke-opacity" in e]
    assert [path.count("L") for path in paths] == [0, 0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no JSON document"),
        ("[]", "allowed: a file that --json wrote for a load or a peer"),
        ('{"machine": {}, "options": {}, "suite": {}}', "allowed: a file that --json wrote"),
    ],
)
def test_what_cannot_stand_beside_is_refused(
    tmp_path: Path, content: str | None, told: str
) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"^--beside {path}: {told}"):
        load_beside([str(path)])


# All of them.


def test_windows_of_a_long_run_become_few_that_hide_no_peak() -> None:
    windows = [
        {"start_s": float(n), "calls_per_s": 10.0, "p50_ms": 1.0, "p99_ms": 99.0 if n == 777 else 2}
        for n in range(3_600)
    ]
    drawn = drawn_windows(windows)
    assert len(drawn) <= WINDOWS_MAX
    assert [p99 for *_, p99 in drawn].count(99.0) == 1
    assert drawn[0][:2] == (0.0, 12.0)
    assert drawn[-1][1] == 3_600
    assert {per_s for _, _, per_s, _, _ in drawn} == {10.0}
    assert drawn_windows([]) == []


def test_nothing_that_is_told_becomes_markup() -> None:
    bad = Line(Requirement(BAD_TEXT, 1, BAD_TEXT), 0.5, BAD_TEXT, BAD_TEXT)
    suite = suite_of(bad)
    suite.runs = {BAD_TEXT: [measured(1.0)]}
    suite.details[BAD_TEXT] = {BAD_TEXT: BAD_TEXT}
    of_suite = document(suite=suite, command=BAD_TEXT, configuration=BAD_TEXT)
    run = measured(1.0, failed=1, failure=BAD_TEXT)
    of_load = document({BAD_TEXT: [run]}, command=BAD_TEXT)
    peer = document({BAD_TEXT: [run]}, peer=BAD_TEXT)
    peer["options"]["workload"] = peer["began_at"] = BAD_TEXT
    for told, beside in ((of_suite, []), (of_load, [peer]), (peer, [of_load])):
        assert page_of(told, *beside).text.count("<script>") > 5


def test_a_full_suite_is_a_small_page() -> None:
    suite = suite_of(*(Line(each, 1.0) for each in benchmark_suite.REQUIREMENTS.values()))
    windows = [Window(float(n), 1.0, LATENCY) for n in range(600)]
    for number in range(20):
        run = measured(1_000.0 * number + 1)
        suite.runs[f"line {number}"] = [Measured(**(vars(run) | {"windows": windows}))] * 5
    html = benchmark_page(document(suite=suite)).html()
    assert len(html.encode()) < 2_000_000
    check_page(html)


def test_a_chart_of_nothing_is_left_out() -> None:
    told = document({})
    assert throughput_chart([told]) is None
    assert "Latency over time" not in page_of(told).texts


# The job.


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite of which no line comes about."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise ClusterError(f"no Ray here {BAD_TEXT}")

    monkeypatch.setattr(benchmark_suite, "benchmark_cluster", refuse)
    monkeypatch.setattr(benchmark_suite, "measure_startup", refuse)


def test_the_job_writes_page_charts_and_document(tmp_path: Path, no_ray: None) -> None:
    path, page, figures = tmp_path / "out.json", tmp_path / "out.html", tmp_path / "figures"
    options = ["--suite", "readme", "--quick", "--json", str(path), "--report", str(page)]
    done = CliRunner().invoke(benchmark.main, [*options, "--figures", str(figures)])
    assert done.exit_code == 1, done.output
    told = json.loads(path.read_text())
    assert told["configuration"].startswith("cluster: demo\n")
    assert told["ended_at"] >= told["began_at"]
    assert len(told["machine"]["load_average_at_end"]) == 3
    read = check_page(page.read_text())
    assert "0 of 18 lines hold." in read.texts
    assert any("no Ray here" in text for text in read.texts)
    assert [each.name for each in figures.iterdir()] == ["suite_lines.svg"]


def test_a_page_that_cannot_be_written_loses_nothing_else(tmp_path: Path, no_ray: None) -> None:
    figures, page = tmp_path / "figures", tmp_path / "out.html"
    options = ["--suite", "readme", "--quick", "--json", "/dev/full", "--report", str(page)]
    done = CliRunner().invoke(benchmark.main, [*options, "--figures", str(figures)])
    assert done.exit_code == 1
    assert "/dev/full: cannot be written: No space left" in done.output
    check_page(page.read_text())
    assert (figures / "suite_lines.svg").exists()


def test_a_suite_stands_beside_nothing(tmp_path: Path, no_ray: None) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(document()))
    done = CliRunner().invoke(benchmark.main, ["--suite", "readme", "--beside", str(path)])
    assert done.exit_code == 2
    assert "--beside with --suite" in done.output
