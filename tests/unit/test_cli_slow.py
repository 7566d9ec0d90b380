"""`ray-paxos slow`: what is typed, what a person and a program see."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli import running_cluster
from ray_paxos.cli import slow as module
from ray_paxos.cli.main import main
from ray_paxos.errors import ClusterNotFoundError
from ray_paxos.observability.settings import ObservingSettings
from tests.unit.slow_bench import AT_MS, MEMBERS, answers, slow, step


class Running:
    """A cluster whose roles tell what the test says."""

    def __init__(self, told: Any, settings: ObservingSettings) -> None:
        self.told = told
        self.spec = SimpleNamespace(observing=settings)
        self.member_ids = MEMBERS
        self.asked: list[dict[str, Any]] = []

    def reports(self, **options: Any) -> Any:
        self.asked.append(options)
        return self.told


TOLD = answers(
    slow(8, accept=48, votes={1: 1.0, 2: 48.0}, at_ms=AT_MS - 900),
    slow(12_345, queue=2, chosen=305, commands=1, byte_count=12_000, at_ms=AT_MS + 900),
    fsync={"m2": (step("fsync", 45, (1, 8)), step("fsync", 77, (3, 4), (3, 5), at=AT_MS + 9_000))},
    apply={"m1": (step("apply", 300, (1, 12_345)),)},
)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Running:
    found = Running(TOLD, ObservingSettings())
    monkeypatch.setattr(running_cluster, "open_to_watch", lambda cluster, address: found)
    monkeypatch.setattr(module, "wall_ms", lambda: AT_MS)
    return found


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["slow", "demo", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def at(at_ms: int) -> str:
    """By the clock of whoever looks."""
    return time.strftime("%H:%M:%S", time.localtime(at_ms // 1_000)) + f".{at_ms % 1_000:03d}"


def test_a_person_sees_each_hop_and_what_held_it_up(running: Running) -> None:
    assert run().stdout.splitlines() == [
        "cluster demo: 2 slow commands, the newest first",
        "",
        f"{at(AT_MS + 900)}  308 ms  group 1, instance 12,345, master m1",
        "    1 command, 12 kB, machine kv",
        "    queue 2 ms > accept 1 ms (m1 0.5 ms, m2 1 ms) > apply and answer 305 ms "
        "(applying: m1 300 ms)",
        "    the machine kv of m1 took 300 ms to apply it",
        "",
        f"{at(AT_MS - 900)}  49 ms  group 1, instance 8, master m1",
        "    4 commands, 200 B, machine kv",
        "    queue 0 ms > accept 48 ms (m1 1 ms, m2 48 ms, disk 45 ms) > apply and answer 1 ms",
        "    m2 answered after 48 ms; m2's disk took 45 ms of them; m3 had not answered by then",
        "",
        "slow steps that belong to no command that is remembered:",
        f"{at(AT_MS + 9_000)}  fsync 77 ms at m2: instance 4 of group 3 and 1 other",
    ]
    assert running.asked == [{"with_slow": True}]


def test_a_program_gets_one_document(running: Running) -> None:
    document = json.loads(run("--json", "--over", "60ms").stdout)
    assert (document["cluster"], document["slow_ms"], document["over_ms"]) == ("demo", 50, 60)
    (command,) = document["commands"]
    assert (command["instance_id"], command["total_ms"]) == (12_345, 308)
    assert [each["duration_ms"] for each in document["steps"]] == [77]
    assert document["notes"] == []


@pytest.mark.parametrize(
    ("given", "over_ms"),
    [("50ms", 50), ("0.2s", 200), ("1s", 1_000), ("0ms", 0), ("0.5ms", 0.5), ("1500ms", 1_500)],
)
def test_a_length_of_time_is_taken_with_its_unit(
    running: Running, given: str, over_ms: float
) -> None:
    assert json.loads(run("--json", "--over", given).stdout)["over_ms"] == over_ms


@pytest.mark.parametrize(
    "given",
    ["50", "50 ms", "ms", "-5ms", "1m", "1e3ms", "nan", "infs", ".5s", "5s5", "", "\u0665ms"],
)
def test_anything_else_is_refused(running: Running, given: str) -> None:
    result = run(f"--over={given}", status=2)
    assert "write it with its unit: 50ms, 0.2s or 1s" in " ".join(result.stderr.split())
    assert running.asked == [], "nobody was disturbed"


@pytest.mark.parametrize("arguments", [("--count", "0"), ("--count", "x"), ("--group", "one")])
def test_wrong_options_are_refused(running: Running, arguments: tuple[str, ...]) -> None:
    run(*arguments, status=2)


def test_what_is_asked_for_is_told(running: Running) -> None:
    assert "instance 8" in run("--group", "1", "--over", "0ms").stdout
    assert "1 slow command, the newest first" in run("--count", "1").stdout
    assert "instance 12,345" in run("--count", "1").stdout
    assert "no slow command" in run("--over", "1s").stdout


def test_a_group_that_nobody_has_is_refused(running: Running) -> None:
    result = run("--group", "9", status=2)
    assert "cluster demo has no group 9; groups: 1" in result.stderr
    running.told = dict.fromkeys(TOLD, "gone")
    assert "no role of cluster demo answered" in run("--group", "9", status=1).stderr


def test_what_is_too_fast_to_be_remembered_is_said(running: Running) -> None:
    said = (
        "commands faster than 50 ms are not remembered: for those set observability.slow_ms to 5 "
        "in the cluster's configuration, and start it again by `ray-paxos down` and `up`"
    )
    assert f"  ! {said}" in run("--over", "5ms").stdout.splitlines()
    assert json.loads(run("--over", "5ms", "--json").stdout)["notes"] == [said]
    for enough in ((), ("--over", "50ms"), ("--over", "1s")):
        assert "not remembered" not in run(*enough).stdout


def test_a_cluster_that_observes_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Running(switched_off(*TOLD), ObservingSettings(is_on=False))
    monkeypatch.setattr(running_cluster, "open_to_watch", lambda cluster, address: found)
    said = (
        "  ! the cluster remembers nothing now: `ray-paxos observe on demo` has it begin; for "
        "good, set observability.enabled to true in the cluster's configuration, and start it "
        "again by `ray-paxos down` and `up`"
    )
    assert said in run("--over", "5ms").stdout.splitlines()
    assert "not remembered" not in run("--over", "5ms").stdout


def switched_off(*keys: tuple[str, str]) -> Any:
    """What is told where these roles do not observe."""
    changed = {}
    for key in keys:
        told = TOLD[key]
        assert not isinstance(told, str)
        changed[key] = (told[0], msgspec.structs.replace(told[1], is_observing=False))
    return TOLD | changed


def test_roles_that_were_switched_off_are_named_however_they_were_configured(
    running: Running,
) -> None:
    begins = "nothing now: `ray-paxos observe on demo` has it begin"
    running.told = switched_off(*TOLD)
    document = json.loads(run("--json").stdout)
    assert document["notes"] == [f"the cluster remembers {begins}"]
    assert document["commands"], "what was remembered before is told"
    running.told = switched_off(("m2", "acceptor"))
    assert f"  ! m2/acceptor remembers {begins}" in run().stdout.splitlines()
    running.told = switched_off(("m2", "acceptor"), ("m2", "learner"))
    lines = run("--over", "5ms").stdout.splitlines()
    assert f"  ! m2/acceptor and m2/learner remember {begins}" in lines
    assert "not remembered" in lines[2], "that of the others is told, too"
    running.spec = SimpleNamespace(observing=ObservingSettings(is_on=False))
    running.told = TOLD
    assert json.loads(run("--json").stdout)["notes"] == [], "all of them were switched on"


def test_who_tells_nothing_is_named(running: Running) -> None:
    running.told = {**TOLD, ("m3", "acceptor"): "no such actor lives"}
    assert "  ! m3/acceptor told nothing: no such actor lives" in run().stdout.splitlines()


def test_nothing_gives_orders_to_the_terminal(running: Running) -> None:
    odd = "\x1b[2J\nkv"
    running.told = answers(slow(8, accept=48, machine=odd)) | {("m3", "learner"): odd}
    shown = run().output
    assert "machine ?[2J?kv" in shown
    assert "learner told nothing: ?[2J?kv" in shown
    assert "\x1b" not in shown


def test_where_nobody_answers_that_is_an_error(running: Running) -> None:
    running.told = dict.fromkeys(TOLD, "gone")
    result = run(status=1)
    assert "no role of cluster demo answered" in result.stderr


def test_where_no_cluster_runs_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(cluster: str, address: str | None) -> Any:
        raise ClusterNotFoundError(f"no cluster {cluster} runs")

    monkeypatch.setattr(running_cluster, "open_to_watch", watched)
    assert "no cluster demo runs" in run(status=1).stderr
