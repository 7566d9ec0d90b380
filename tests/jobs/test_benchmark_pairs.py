"""Two configurations compared, run by run in turn: options, arithmetic, turns and the verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

import benchmark_pairs
import benchmark_watcher
from benchmark_pairs import Run, Sides, changes, configurations, pair_of, run_pairs
from benchmark_run import Measured, Setting, Subject
from benchmark_watcher import Watcher
from job_console import JobConsole
from ray_paxos.errors import ClusterError, ConfigurationError

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "local.yaml")
SETTING = Setting(100, None, 1.0, 0.5)
SUBJECTS = tuple(cast(Subject, name) for name in benchmark_pairs.NAMES)
CPU = {"us_per_operation": {"member": 50.0, "learner": 10.0, "driver": 500.0, "ray": 300.0}}


def measured(acknowledged: int, load_s: float, cpu: dict[str, Any] = CPU) -> Measured:
    return Measured(SETTING, acknowledged, 0, "", load_s, 9.0, {}, None, cpu=cpu)


class Turns:
    """What is measured instead of a cluster, in the order in which it is asked for."""

    def __init__(self, *rates: int) -> None:
        self.rates = dict(zip(benchmark_pairs.NAMES, rates, strict=True))
        self.order: list[str] = []
        self.settings: list[Setting] = []
        self.takes_s = 0.0
        self.under_way = ""

    def measure(self, subject: Subject, setting: Setting, bar: object) -> Measured:
        name = cast(str, subject)
        self.order.append(name)
        self.settings.append(setting)
        self.under_way = name
        time.sleep(self.takes_s)
        self.under_way = ""
        return measured(self.rates[name], 1.0)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    made = Turns(900, 1_000)
    monkeypatch.setattr(benchmark_pairs, "measure", made.measure)
    return made


# Options.


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(benchmark_pairs.main, ["--config", CONFIG, *arguments])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "--set or --switched"),
        ("--switched --set observability.enabled=false", "--switched: found with --set"),
        ("--switched --fresh", "--switched: found with --fresh"),
        ("--switched --pairs 1", "--pairs"),
        ("--set observability", "--set: found 'observability'"),
        ("--set observability.enabled", "SECTION.FIELD=VALUE"),
        ("--set enabled=false", "SECTION.FIELD=VALUE"),
        ("--set .enabled=false", "SECTION.FIELD=VALUE"),
        ("--set observability.=false", "SECTION.FIELD=VALUE"),
        ("--set =false", "SECTION.FIELD=VALUE"),
        ("--set observability.enabled=[", "a value of YAML"),
        ("--set nothing.enabled=false", "nothing: a configuration has no section of that name"),
        ("--set cluster.enabled=false", "cluster: a configuration has no section of that name"),
        ("--set observability.nothing=1", "nothing"),
        ("--set observability.slow_ms=fast", "slow_ms"),
        ("--pairs 1", "--pairs"),
        ("--slices 0", "--slices"),
        ("--seconds 0", "--seconds"),
        ("--seconds nan", "--seconds: found nan"),
        ("--at-least nan", "--at-least: found nan"),
        ("--in-flight 99999", "--in-flight"),
        ("--roles apart", "--roles"),
        ("--json no/such/folder/out.json", "there is no folder"),
    ],
)
def test_wrong_input_ends_with_two_before_anything_is_started(
    arguments: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("nothing is started")

    monkeypatch.setattr(benchmark_pairs, "started", refuse)
    given = arguments.split()
    if given and not {"--set", "--switched"} & set(given):
        given += ["--set", "observability.enabled=false"]
    done = invoke(*given)
    assert done.exit_code == 2, done.output
    assert told in done.output.replace("\n", " ")


def test_what_is_changed_is_by_section_with_values_as_in_yaml() -> None:
    given = ["a.b=false", "a.c=1.5", "d.e=x=y", "d.f.g=", "a.b=true"]
    assert changes(given) == {"a": {"b": True, "c": 1.5}, "d": {"e": "x=y", "f.g": None}}
    with pytest.raises(ConfigurationError, match=r"SECTION\.FIELD=VALUE"):
        changes(["a.b=1", "c"])


def test_both_are_alike_but_for_what_is_changed(tmp_path: Path) -> None:
    both = configurations(CONFIG, "fused", str(tmp_path), {"observability": {"enabled": False}})
    first, second = (each.model_dump(mode="json") for each in both)
    assert (first["cluster"], second["cluster"]) == benchmark_pairs.NAMES
    # The second one goes to the Ray cluster that the first one has started.
    assert (first["ray"]["address"], second["ray"]["address"]) == ("local", "auto")
    assert (first["observability"]["enabled"], second["observability"]["enabled"]) == (True, False)
    first["observability"]["enabled"] = False
    first["cluster"], first["ray"]["address"] = second["cluster"], "auto"
    assert first == second
    assert (first["roles"], first["data_dir"]) == ("fused", str(tmp_path))


# Arithmetic.


def test_slices_of_a_run_come_to_rates_over_all_of_it() -> None:
    run = Run()
    run.add(measured(1_000, 1.0))
    run.add(measured(3_000, 3.0, {"us_per_operation": {"member": 100.0, "driver": 7.0}}))
    run.add(measured(0, 1.0, {"us_per_operation": {}}))
    assert (run.acknowledged, run.seconds) == (4_000, 5.0)
    assert run.per_s == 800
    # Members alone: 1,000 of 60 us each, and 3,000 of 100 us.
    assert run.cpu_us == pytest.approx(90)


def test_a_pair_has_the_rates_and_times_of_both() -> None:
    first, second = Run(100, 2.0, 0.01), Run(300, 3.0, 0.06)
    assert astuple(pair_of(first, second)) == pytest.approx((50, 100, 100, 200))


def test_a_run_that_came_to_nothing_is_an_error_that_says_why() -> None:
    nothing = Run()
    nothing.add(replace(measured(0, 1.0), failure="no master"))
    with pytest.raises(ClusterError, match=r"the changed cluster .*: no master"):
        pair_of(Run(1, 1.0), nothing)


# Turns.


@pytest.mark.parametrize(
    ("pairs", "slices", "order"), [(3, 1, "uc cu uc"), (2, 3, "uccuuc cuuccu"), (1, 2, "uccu")]
)
def test_slices_take_turns_and_who_begins_changes(
    pairs: int, slices: int, order: str, turns: Turns
) -> None:
    found = run_pairs(Sides(SUBJECTS, None), SETTING, range(pairs), slices, console=JobConsole())
    assert [name[0] for name in turns.order] == list(order.replace(" ", ""))
    assert len(found) == pairs
    assert all(astuple(each) == pytest.approx((900, 1_000, 60, 60)) for each in found)


def test_only_the_first_cluster_is_watched_and_short_slices_add_up(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_watcher, "WATCH_S", 0.25)
    turns.takes_s = 0.1
    seen: list[str] = []
    watcher = Watcher(lambda: seen.append(turns.under_way))
    run_pairs(Sides(SUBJECTS, watcher), SETTING, range(2), 10, console=JobConsole())
    # Two seconds of it in twenty slices, each shorter than what lies between two looks.
    assert len(seen) >= 2
    assert "changed" not in seen


def test_a_look_that_fails_ends_the_job_for_nobody_looks_any_more(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_watcher, "WATCH_S", 0.0)
    turns.takes_s = 0.05

    def look() -> None:
        raise ClusterError("it is gone")

    sides = Sides(SUBJECTS, Watcher(look))
    with pytest.raises(ClusterError, match="it is gone"):
        run_pairs(sides, SETTING, range(1), 1, console=JobConsole())
    assert turns.order == ["unchanged"]


# The verdict.


@contextmanager
def started(configuration: Any, _rng: object) -> Iterator[tuple[object, str]]:
    yield object(), configuration.cluster


def run_fakes(monkeypatch: pytest.MonkeyPatch, *arguments: str, started: Any = started) -> Result:
    monkeypatch.setattr(benchmark_pairs, "started", started)
    return invoke("--set", "observability.enabled=false", "--pairs", "3", *arguments)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 0), (["--at-least", "0.89"], 0), (["--at-least", "0.91"], 1)],
)
def test_the_status_tells_whether_the_lower_bound_is_high_enough(
    arguments: Sequence[str], status: int, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_fakes(monkeypatch, *arguments)
    assert done.exit_code == status, done.output
    assert "unchanged / changed, commands a second: 0.9000" in done.output
    assert ("the lower bound 0.9000 is below 0.91" in done.output) is (status == 1)


def test_it_is_the_lower_bound_that_counts_and_not_the_mean(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uneven(subject: Subject, setting: Setting, bar: object) -> Measured:
        found = turns.measure(subject, setting, bar)
        return replace(found, acknowledged=found.acknowledged + 40 * len(turns.order))

    monkeypatch.setattr(benchmark_pairs, "measure", uneven)
    done = run_fakes(monkeypatch, "--at-least", "0.88")
    assert "commands a second: 0.90" in done.output
    assert done.exit_code == 1, done.output


def test_everything_is_in_the_document(
    turns: Turns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    done = run_fakes(monkeypatch, "--json", str(path), "--slices", "4", "--seconds", "8")
    assert done.exit_code == 0, done.output
    document = json.loads(path.read_text())
    assert list(document) == [
        *("machine", "changed", "roles", "in_flight", "seconds", "slices", "fresh"),
        *("switched", "pairs", "ratio", "cpu_ratio"),
    ]
    assert document["changed"] == {"observability": {"enabled": False}}
    assert (document["fresh"], document["switched"]) == (False, False)
    assert document["pairs"][0]["first"] == 900
    assert document["ratio"]["pairs"] == 3
    assert document["cpu_ratio"]["ratio"] == pytest.approx(1)
    assert {setting.seconds for setting in turns.settings} == {2.0}


@pytest.mark.parametrize("is_fresh", [False, True])
def test_both_are_started_once_or_anew_for_each_pair_in_turn(
    is_fresh: bool, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    @contextmanager
    def noted(configuration: Any, _rng: object) -> Iterator[tuple[object, str]]:
        order.append(f"{configuration.cluster} {configuration.ray.address}")
        yield object(), configuration.cluster
        order.append(f"end of {configuration.cluster}")

    done = run_fakes(monkeypatch, *["--fresh"] * is_fresh, started=noted)
    assert done.exit_code == 0, done.output
    as_given = ["unchanged local", "changed auto", "end of changed", "end of unchanged"]
    reversed_ = ["changed local", "unchanged auto", "end of unchanged", "end of changed"]
    assert order == (as_given + reversed_ + as_given if is_fresh else as_given)
    assert [name[0] for name in turns.order] == list("uccuuc")


def test_the_first_cluster_is_looked_at_as_a_status_page_does(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[object] = []
    looks: list[object] = []
    closed: list[object] = []

    @contextmanager
    def fake_watcher_of(cluster: object) -> Iterator[Watcher]:
        looked_at.append(cluster)
        yield Watcher(lambda: looks.append(cluster))
        closed.append(cluster)

    monkeypatch.setattr(benchmark_pairs, "watcher_of", fake_watcher_of)
    monkeypatch.setattr(benchmark_watcher, "WATCH_S", 0.01)
    turns.takes_s = 0.05
    assert run_fakes(monkeypatch, "--watched").exit_code == 0
    assert len(looked_at) == len(closed) == 1, "one process for all pairs"
    assert len(looks) >= 3
    assert len(set(map(id, looks))) == 1


# Switched.


class Switched:
    """A cluster of which observing is switched.

    Attributes:
        is_on: Whether it observes; None before it was told.
        measured: Whether it did, of each slice.
        looked: Likewise, of each look.
        orders: So many times it was told.
        lives: So many times it was started.
    """

    def __init__(self) -> None:
        self.name = "switched"
        self.is_on: bool | None = None
        self.measured: list[bool | None] = []
        self.looked: list[bool | None] = []
        self.orders = 0
        self.lives = 0
        self.configuration: Any = None

    @property
    def operations(self) -> Switched:
        return self

    def observe(self, is_on: bool) -> tuple[str, ...]:
        self.orders += 1
        self.is_on = is_on
        return ("m1",)

    @contextmanager
    def start(self, configuration: Any, _rng: object) -> Iterator[tuple[object, str]]:
        self.configuration = configuration
        self.lives += 1
        yield self, "unchanged"

    def measure(self, subject: Subject, setting: Setting, bar: object) -> Measured:
        assert cast(str, subject) == "unchanged", "there is one"
        assert setting.warmup_seconds > 0, "it is switched, and then warmed up"
        self.measured.append(self.is_on)
        time.sleep(0.02)
        return measured(960 if self.is_on else 1_000, 1.0)


@pytest.fixture
def switched(monkeypatch: pytest.MonkeyPatch) -> Switched:
    made = Switched()

    @contextmanager
    def watcher_of(cluster: object) -> Iterator[Watcher]:
        assert cluster is made
        yield Watcher(lambda: made.looked.append(made.is_on))

    monkeypatch.setattr(benchmark_pairs, "started", made.start)
    monkeypatch.setattr(benchmark_pairs, "measure", made.measure)
    monkeypatch.setattr(benchmark_pairs, "watcher_of", watcher_of)
    monkeypatch.setattr(benchmark_watcher, "WATCH_S", 0.005)
    return made


def test_one_cluster_is_switched_before_each_slice(switched: Switched) -> None:
    done = invoke("--switched", "--pairs", "2", "--slices", "3")
    assert done.exit_code == 0, done.output
    assert "".join("+" if is_on else "-" for is_on in switched.measured) == "+--++--++--+"
    assert (switched.lives, switched.orders) == (1, 12)
    assert switched.looked == []
    assert "switched on / switched off, commands a second: 0.9600" in done.output
    assert "switched on / switched off, processor time" in done.output


def test_it_is_the_configuration_as_it_is_on_a_ray_of_its_own(switched: Switched) -> None:
    assert invoke("--switched", "--pairs", "2", "--roles", "separate").exit_code == 0
    made = switched.configuration
    assert (made.cluster, made.ray.address, made.roles) == ("switched", "local", "separate")
    assert made.observability.enabled


def test_it_is_watched_while_it_observes(switched: Switched) -> None:
    assert invoke("--switched", "--pairs", "2", "--watched").exit_code == 0
    assert switched.looked
    assert all(switched.looked)


@pytest.mark.parametrize(("at_least", "status"), [("0.95", 0), ("0.97", 1)])
def test_its_verdict_and_document_are_as_those_of_two(
    switched: Switched, at_least: str, status: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.json"
    done = invoke("--switched", "--pairs", "3", "--at-least", at_least, "--json", str(path))
    assert done.exit_code == status, done.output
    document = json.loads(path.read_text())
    assert (document["switched"], document["changed"], document["fresh"]) == (True, {}, False)
    assert document["pairs"][2]["first"] == 960
    assert document["ratio"]["ratio"] == pytest.approx(0.96)


def test_a_member_that_cannot_be_switched_ends_the_job(
    switched: Switched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def observe(is_on: bool) -> None:
        raise ClusterError("m3: no such actor")

    monkeypatch.setattr(switched, "observe", observe)
    done = invoke("--switched", "--pairs", "2")
    assert done.exit_code != 0
    assert "m3: no such actor" in done.output
    assert switched.measured == []


def test_a_run_that_came_to_nothing_is_named_by_how_it_was_switched(
    switched: Switched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_pairs, "measure", lambda *_arguments: measured(0, 1.0))
    assert "the switched on cluster acknowledged nothing" in invoke("--switched").output
