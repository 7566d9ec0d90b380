"""What the examples do without a cluster: refusals, endings, and what they check by."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import example_job
import example_job_ledger
import example_scheduler
import phx_echo_machine
import phx_election
from example_job import Example, check_modules, example
from example_sharded_counter import ShardedCounter
from job_exit import BAD_INPUT, GOOD, NO_CLUSTER, NOT_HELD
from ray_paxos import ApplyContext, Master
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ClusterNotFoundError, ConfigurationError
from tests.jobs.play_examples import PLAYED

WRONG = {
    "example_sharded_counter": (["--tasks", "0"], "0 is not in the range"),
    "example_feature_flags": (["--limit-ms", "soon"], "'soon' is not a valid float"),
    "example_scheduler": (["--schedulers", "2"], "2 is not in the range"),
    "example_job_ledger": (["--rows", "x"], "'x' is not a valid integer"),
    "phx_election": (["--seconds", "0"], "0.0 is not in the range"),
    "phx_echo": (["--group", "one"], "'one' is not a valid integer"),
    "phx_kv": (["put", "key", "value"], "found put key value; allowed: put KEY VALUE VERSION"),
}


def invoke(name: str, arguments: list[str]) -> tuple[int, str]:
    done = CliRunner().invoke(importlib.import_module(name).main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stderr


@pytest.mark.parametrize("name", PLAYED)
def test_wrong_arguments_are_refused_in_one_line(name: str) -> None:
    arguments, reason = WRONG[name]
    status, said = invoke(name, arguments)
    assert status == BAD_INPUT
    assert reason in said
    assert said.count("\n") == 1
    status, said = invoke(name, ["--no-such-option"])
    assert (status, said.count("\n")) == (BAD_INPUT, 1)


@pytest.mark.parametrize("name", PLAYED)
def test_an_output_that_cannot_be_is_refused_before_anything_starts(name: str) -> None:
    status, said = invoke(name, ["--json", "/no/such/folder/out.json"])
    assert status == BAD_INPUT
    assert said == "error: --json /no/such/folder/out.json: there is no folder /no/such/folder\n"


@pytest.mark.parametrize("name", PLAYED)
def test_the_help_says_what_it_is_and_how_it_is_called(name: str) -> None:
    done = CliRunner().invoke(importlib.import_module(name).main, ["--help"])
    assert done.exit_code == 0
    assert f"python jobs/{name}.py" in done.output
    assert "--cluster NAME" in done.output


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (["get", "k"], "found get; allowed: put, delete, getlocal, getglobal"),
        (["delete", "k", "-1x"], "VERSION: found -1x; allowed: a whole number from 0"),
        (["getlocal"], "found getlocal; allowed: getlocal KEY"),
    ],
)
def test_calls_of_phx_kv_that_are_none_are_refused(call: list[str], reason: str) -> None:
    status, said = invoke("phx_kv", ["--", *call])
    assert (status, said.count("\n")) == (BAD_INPUT, 1)
    assert reason in said


def test_phx_kv_prints_a_configuration_that_is_one() -> None:
    done = CliRunner().invoke(importlib.import_module("phx_kv").main, ["--print-config"])
    configuration = parse_configuration(done.output)
    assert [group.group for group in configuration.groups] == [1, 2, 3]
    (spec,) = configuration.groups[0].machine_specs()
    assert spec.kind == "phx_kv_machine:PhxKvMachine"


def test_a_module_that_is_missing_is_refused_with_its_remedy() -> None:
    check_modules({"json": "nothing to install"})
    with pytest.raises(ConfigurationError, match=r"needs no_such_module.*`pip install it`"):
        check_modules({"json": "", "no_such_module": "pip install it"})


class Named:
    """Stands for a cluster."""

    name = "played"


@pytest.fixture
def without_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened(cluster: str | None, own: dict[str, Any]) -> Iterator[tuple[Any, None]]:
        if cluster is not None:
            raise ClusterNotFoundError(f"no cluster {cluster} runs")
        yield Named(), None

    monkeypatch.setattr(example_job, "open_cluster", opened)


def job_that_checks(*held: bool) -> click.Command:
    @example(cluster="played")
    def main(job: Example) -> None:
        for each in held:
            job.check("what is promised", each)
        job.facts["tried"] = len(held)

    return main


@pytest.mark.parametrize(
    ("held", "status"),
    [((True,), GOOD), ((True, False, True), NOT_HELD), ((False,), NOT_HELD), ((), NOT_HELD)],
)
def test_it_ends_well_only_if_all_held(
    without_cluster: None, held: tuple[bool, ...], status: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.json"
    done = CliRunner().invoke(job_that_checks(*held), ["--json", str(path)])
    assert done.exit_code == status
    document = json.loads(path.read_text())
    assert document["cluster"] == "played"
    assert document["facts"] == {"tried": len(held)}
    assert document["promises"] == ({"what is promised": all(held)} if held else {})


def test_a_cluster_that_does_not_run_is_said_in_one_line(without_cluster: None) -> None:
    done = CliRunner().invoke(job_that_checks(True), ["--cluster", "nobody"])
    assert done.exit_code == NO_CLUSTER
    assert done.stderr == "error: no cluster nobody runs\n"


def test_what_does_not_come_to_be_in_time_did_not_hold(
    without_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_job, "POLL_S", 0.001)

    @example(cluster="played")
    def main(job: Example) -> None:
        job.wait_for("it comes", lambda: False, timeout_s=0.01)

    done = CliRunner().invoke(main, [])
    assert done.exit_code == NOT_HELD
    assert "did not hold: it comes" in done.stderr


# The scheduler.


def test_the_tick_log_refuses_earlier_epochs_and_gaps() -> None:
    log = example_scheduler.TickLog()
    assert log.take_over(2) == 0
    assert log.append(2, 1, "b")
    assert not log.append(1, 2, "a"), "an earlier epoch"
    assert not log.append(2, 3, "b"), "a gap"
    assert not log.append(2, 1, "b"), "twice"
    assert log.take_over(5) == 1
    assert not log.append(2, 2, "b"), "another has taken over, and handed out nothing yet"
    assert log.append(5, 2, "c")
    assert log.take_over(4) == 2
    assert not log.append(4, 3, "a"), "who takes over late raises nothing"
    assert log.last() == 2
    assert log.everything() == (
        [(1, 2, "b"), (2, 5, "c")],
        [(1, "a"), (2, "b"), (2, "b"), (2, "b"), (4, "a")],
    )


def test_the_tick_log_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_scheduler, "KEPT", 3)
    log = example_scheduler.TickLog()
    for tick in range(1, 6):
        assert log.append(1, tick, "a")
        assert not log.append(0, tick, "b")
    ticks, refused = log.everything()
    assert [tick for tick, _, _ in ticks] == [3, 4, 5]
    assert len(refused) == 3


@pytest.mark.parametrize(
    ("ticks", "broken"),
    [
        ([(1, 1, "a"), (2, 1, "a"), (3, 4, "b")], ""),
        ([(1, 1, "a"), (3, 1, "a")], "numbered"),
        ([(1, 1, "a"), (1, 2, "b")], "numbered"),
        ([(1, 2, "a"), (2, 1, "b")], "never fall"),
        ([(1, 1, "a"), (2, 1, "b")], "one scheduler's"),
    ],
)
def test_what_a_log_of_ticks_has_to_show(ticks: list[tuple[int, int, str]], broken: str) -> None:
    failed = [text for text, held in example_scheduler.promises(ticks).items() if not held]
    assert len(failed) == bool(broken)
    assert all(broken in text for text in failed)


# PhxElection and PhxEcho.


@pytest.mark.parametrize(
    ("told", "seen", "broken"),
    [
        ([("m1", 3), ("m2", 7)], [("m1", 3), ("m1", 3), ("m2", 7)], ""),
        ([("m2", 7), ("m1", 3)], [], "rise"),
        ([("m1", 3), ("m1", 3)], [], "rise"),
        ([], [("m2", 7), ("m1", 3)], "rise"),
        ([], [("m1", 3), ("m2", 3)], "one member's"),
        ([("m1", 3)], [("m2", 3)], "one member's"),
    ],
)
def test_what_masters_have_to_show(
    told: list[tuple[str, int]], seen: list[tuple[str, int]], broken: str
) -> None:
    found = phx_election.promises(
        [Master(*each) for each in told], [Master(*each) for each in seen]
    )
    failed = [text for text, held in found.items() if not held]
    assert len(failed) == bool(broken)
    assert all(broken in text for text in failed)


def test_the_echo_machine_gives_back_and_keeps_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phx_echo_machine, "LINES_KEPT", 2)
    machine = phx_echo_machine.Echo()
    for number in range(1, 4):
        line = f"line {number}".encode()
        assert machine.apply(line, ApplyContext(instance_id=number)) == line
    kept = phx_echo_machine.decode_lines(machine.query(b""))
    assert kept == [(2, b"line 2"), (3, b"line 3")]


# The pipeline with a ledger.


class Rows(list[int]):
    """Stands for a column of a block."""

    def sum(self) -> int:
        return sum(self)


class Outcomes:
    """Stands for a ledger."""

    def __init__(self) -> None:
        self.by_key: dict[str, int] = {}

    def run_once(self, key: str, function: Any, *arguments: Any) -> int:
        if key not in self.by_key:
            self.by_key[key] = function(*arguments)
        return self.by_key[key]


class Executions:
    """Stands for a counter."""

    count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


def test_a_block_fails_once_and_is_worked_on_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_job_ledger, "WORK_S", 0.0)
    first, second = example_job_ledger.key_of(0), example_job_ledger.key_of(2)
    executions: Any = {first: Executions(), second: Executions()}
    ledger: Any = Outcomes()
    processing = example_job_ledger.Processing(ledger, executions, fails=second, dies="none")
    blocks = [{"id": Rows([0, 1])}, {"id": Rows([2, 3])}]
    assert processing.of_block(blocks[0]) == {"key": [first], "total": [1]}
    with pytest.raises(RuntimeError, match="cannot be read"):
        processing.of_block(blocks[1])
    for _ in range(2):
        assert [processing.of_block(block)["total"] for block in blocks] == [[1], [5]]
    assert [each.count for each in executions.values()] == [1, 2]


# The sharded counter.


class Shards:
    """Stands for a cluster and its counters."""

    def __init__(self) -> None:
        self.by_name: dict[str, Shard] = {}

    def counter(self, name: str) -> Shard:
        return self.by_name.setdefault(name, Shard(1 + len(self.by_name) % 2))


class Shard:
    """Stands for a counter."""

    def __init__(self, group: int) -> None:
        self.group = group
        self.value = 0

    def add(self, amount: int) -> None:
        self.value += amount

    async def get_async(self) -> int:
        return self.value


def test_a_sharded_counter_adds_by_key_and_sums_all_shards() -> None:
    shards: Any = Shards()
    counter = ShardedCounter(shards, "views", 4)
    assert counter.groups == [1, 2]
    for number in range(100):
        counter.add(f"user-{number}", 2)
    assert counter.sum() == 200
    values = {name: shard.value for name, shard in shards.by_name.items()}
    assert all(values.values()), "all shards are used"
    ShardedCounter(shards, "views", 4).add("user-1", 5)
    (changed,) = [n for n, shard in shards.by_name.items() if shard.value != values[n]]
    ShardedCounter(shards, "views", 4).add("user-1", 5)
    assert shards.by_name[changed].value == values[changed] + 10, "a key stays with its shard"
