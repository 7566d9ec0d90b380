"""The whole job on a cluster of this process: what passes, and that every check can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import chaos_account
import chaos_changes
import chaos_group
import chaos_options
import chaos_run
import chaos_waiting
from chaos import command_line
from chaos_notices import told_apart
from ray_paxos.config import ClusterConfiguration
from ray_paxos.errors import ClusterError, PlacementError
from ray_paxos.testing.check import main as check_main
from tests.jobs.chaos_fakes import STARTED, FakeChaosCluster, FakeEnvironment, Flaws, happened
from tests.jobs.pages import check_page

CHECKS = {
    "events",
    "healed",
    "clients",
    "exactly_once",
    "digests_equal",
    "logs_equal",
    "follower_reads",
    "linearizable",
    "gap",
    "restart_all_gap",
}
QUICK = [
    *("--seconds", "0.4", "--clients", "3", "--rate", "300"),
    *("--fault-interval-s", "0.1", "--command-timeout-s", "0.5", "--read-timeout-s", "0.5"),
]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (chaos_account, chaos_waiting):
        monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.05)
    monkeypatch.setattr(chaos_changes, "AGAIN_S", 0.01)
    monkeypatch.setattr(chaos_run, "SETTLE_S", 0.05)
    monkeypatch.setattr(chaos_run, "HEAL_S", 1.0)
    monkeypatch.setattr(chaos_group, "DIGESTS_S", 0.2)
    monkeypatch.setattr(chaos_group, "RETRY_S", 0.05)
    monkeypatch.setattr(chaos_run, "RETRY_S", 0.05)
    monkeypatch.setattr(chaos_run, "CLOSE_S", 5.0)
    monkeypatch.setattr(chaos_run, "FIRST_S", 2.0)


def run(environment: FakeEnvironment, *arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        command_line.main([*QUICK, *arguments], obj=environment)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def run_flawed(tmp_path: Path, flaws: Flaws, *arguments: str) -> tuple[int, dict[str, Any]]:
    path = tmp_path / "out.json"
    status = run(FakeEnvironment(flaws), "--json", str(path), *arguments)
    document: dict[str, Any] = json.loads(path.read_text())
    assert document["held"] is (status == 0)
    assert set(document["checks"]) == CHECKS
    return status, document


def run_long_enough(
    tmp_path: Path, flaws: Flaws, is_enough: Callable[[dict[str, Any]], bool], *arguments: str
) -> tuple[int, dict[str, Any]]:
    """Run for a moment; where the machine was too slow for what is to be seen, for longer."""
    for seconds in ("0.4", "4", "20"):
        status, document = run_flawed(tmp_path, flaws, *arguments, "--seconds", seconds)
        if is_enough(document):
            break
    return status, document


def failed(document: dict[str, Any]) -> set[str]:
    return {name for name, held in document["checks"].items() if not held}


def test_a_good_cluster_passes_and_everything_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, history = tmp_path / "out.json", tmp_path / "history.jsonl"
    environment = FakeEnvironment()
    assert run(environment, "--json", str(path), "--history", str(history), "--seed", "4") == 0
    document = json.loads(path.read_text())
    assert list(document) == [
        *("cluster", "group", "members", "seed", "clients", "seconds", "elapsed_s", "lease_ms"),
        *("faults", "refused", "injected", "operations", "errors", "acknowledged"),
        *("acknowledged_per_s", "longest_gap_s", "longest_gap_restart_all_s", "gap_limit_s"),
        *("restart_gap_limit_s", "gaps", "linearizability", "checked", "checks", "violations"),
        *("held", "load_average"),
    ]
    assert (document["cluster"], document["seed"], document["clients"]) == ("demo", 4, 3)
    assert document["checks"] == dict.fromkeys(CHECKS, True)
    assert document["violations"] == []
    assert (document["gap_limit_s"], document["restart_gap_limit_s"]) == (6, 12)
    assert sum(document["faults"].values()) == len(document["injected"]) >= 2
    assert set(document["operations"]) == {
        *("put", "cas", "delete", "get", "append", "linearizable", "lease", "follower"),
        "last read",
    }
    assert document["acknowledged"] > 10
    assert document["checked"] > document["acknowledged"]
    assert document["linearizability"]["verdict"] == "true"
    assert document["linearizability"]["slowest_keys"]
    assert len(document["gaps"]) == 10
    said = capsys.readouterr()
    assert said.out == ""
    assert "linearizable: true" in said.err
    assert "violations: 0; all held" in said.err
    assert environment.starts == [(None, False)]
    assert environment.cluster is not None
    assert environment.cluster.stopped == 1
    assert environment.processes is not None
    assert environment.processes.is_closed
    assert check_main([str(history), "--model", "kv"]) == 0


def test_faults_of_the_kinds_asked_for_are_injected(tmp_path: Path) -> None:
    kinds = "kill-role,restart-all,drop-master"
    status, document = run_long_enough(
        tmp_path, Flaws(), lambda document: len(document["faults"]) == 3, "--faults", kinds
    )
    assert status == 0
    assert set(document["faults"]) == set(kinds.split(","))
    assert document["longest_gap_restart_all_s"] is not None
    status, document = run_flawed(tmp_path, Flaws(), "--faults", "none")
    assert status == 0
    assert document["faults"] == {}
    assert document["longest_gap_restart_all_s"] is None


def test_refused_transfers_are_counted_apart_and_break_nothing(tmp_path: Path) -> None:
    flaws = Flaws(transfers_fail=True)
    status, document = run_long_enough(
        tmp_path,
        flaws,
        lambda document: document["refused"].get("drop-master", 0) >= 2,
        *("--faults", "drop-master"),
    )
    assert status == 0
    assert document["faults"] == {}
    assert document["refused"]["drop-master"] >= 2
    assert document["injected"][0]["refusal"] == "it is too far behind"


def test_unknown_and_refused_commands_and_failed_reads_break_nothing(tmp_path: Path) -> None:
    flaws = Flaws(unknown_every=10, refused_every=7, failed_read_every=5)
    status, document = run_flawed(tmp_path, flaws)
    assert status == 0
    assert document["operations"]["put"]["unknown"] > 0
    assert document["operations"]["put"]["failed"] > 0
    assert document["operations"]["linearizable"]["failed"] > 0
    assert set(document["errors"]) == {"OutcomeUnknownError", "NotAppliedError", "QueryError"}


def flaw_name(flaws: Flaws) -> str:
    """What is wrong, in short."""
    changed = {n: v for n, v in vars(flaws).items() if v != getattr(Flaws(), n)}
    kinds = [record.kind for record in changed.pop("events", ())]
    return (
        ",".join([*(f"{name}={value}" for name, value in changed.items()), *kinds]) or "no events"
    )


@pytest.mark.parametrize(
    ("flaws", "checks"),
    [
        (Flaws(lost_append=8), {"exactly_once"}),
        (Flaws(doubled_append=8), {"exactly_once"}),
        (Flaws(refused_but_applied=8), {"exactly_once"}),
        (Flaws(doubled_put=8), {"linearizable"}),
        (Flaws(stale_read=8), {"linearizable"}),
        (Flaws(stale_follower=8), {"follower_reads"}),
        (Flaws(other_digest=True), {"digests_equal"}),
        (Flaws(other_row=True), {"logs_equal"}),
        (Flaws(short_log=True), {"logs_equal"}),
        (Flaws(damaged_log=True), {"logs_equal"}),
        (Flaws(never_back=True), {"healed"}),
        (Flaws(events=()), {"events"}),
        (Flaws(events=(STARTED, replace(STARTED, sequence=2))), {"events"}),
        (Flaws(events=(STARTED, happened("InvariantBroken"))), {"events"}),
        (Flaws(events=(STARTED, happened("StorageFailed"))), {"events"}),
        (Flaws(events=(STARTED, happened("ChainsDiffered"))), {"events"}),
        (Flaws(events=(STARTED, happened("GroupNotOpened"))), {"events"}),
        (Flaws(events=(replace(STARTED, at_ms=1_700_000_000_000),)), {"events"}),
        (Flaws(unread_events=("a file",)), {"events"}),
        (Flaws(refuses_command=20), {"clients"}),
        (Flaws(crash_at=20), {"clients"}),
    ],
    ids=lambda each: flaw_name(each) if isinstance(each, Flaws) else "-".join(sorted(each)),
)
def test_every_flaw_is_found(tmp_path: Path, flaws: Flaws, checks: set[str]) -> None:
    status, document = run_long_enough(
        tmp_path, flaws, lambda document: not document["held"], "--faults", "none"
    )
    assert status == 1
    # A lost or doubled append may show in other checks, too.
    assert checks <= failed(document)
    assert failed(document) <= checks | {"exactly_once", "linearizable", "follower_reads"}
    assert document["violations"]


def test_an_error_of_an_earlier_run_does_not_fail_this_one(tmp_path: Path) -> None:
    old = happened("StorageFailed", at_ms=1_700_000_000_000)
    status, document = run_flawed(tmp_path, Flaws(events=(old, STARTED)), "--faults", "none")
    assert status == 0, document["violations"]


def test_an_error_while_the_cluster_starts_is_one_of_the_run(tmp_path: Path) -> None:
    @dataclass
    class StartsBadly(FakeEnvironment):
        def start(
            self, configuration: ClusterConfiguration, *, address: str | None, keep: bool
        ) -> FakeChaosCluster:
            at_ms = time.time_ns() // 1_000_000
            time.sleep(0.05)
            failed_so = happened("GroupNotOpened", at_ms=at_ms)
            self.flaws = Flaws(events=(STARTED, failed_so))
            return super().start(configuration, address=address, keep=keep)

    path = tmp_path / "out.json"
    assert run(StartsBadly(), "--json", str(path), "--faults", "none") == 1
    assert failed(json.loads(path.read_text())) == {"events"}


def test_a_silence_over_the_limit_is_found(tmp_path: Path) -> None:
    flaws = Flaws(silent_at=30, silent_s=0.3)
    limit = ["--gap-limit-s", "0.2", "--faults", "none"]
    status, document = run_flawed(tmp_path, flaws, *limit)
    assert status == 1
    assert failed(document) == {"gap"}
    assert document["longest_gap_s"] >= 0.3
    status, document = run_flawed(tmp_path, Flaws(silent_at=30, silent_s=0.3), "--faults", "none")
    assert status == 0


def test_a_silence_around_a_restart_has_a_limit_of_its_own(tmp_path: Path) -> None:
    options = ["--faults", "restart-all", "--gap-limit-s", "5", "--restart-gap-limit-s", "0.00001"]
    status, document = run_flawed(tmp_path, Flaws(), *options)
    assert status == 1
    assert failed(document) == {"restart_all_gap"}


def test_a_verdict_that_was_not_reached_is_no_pass(tmp_path: Path) -> None:
    status, document = run_flawed(tmp_path, Flaws(), "--check-limit-s", "0.000001")
    assert status == 1
    assert failed(document) == {"linearizable"}
    assert document["linearizability"]["verdict"] == "unknown"
    assert "which is no pass" in document["violations"][0]


def test_limits_grow_with_the_lease(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "long.yaml"
    config.write_text("cluster: x\nproposer: {lease_ms: 5000}\n")
    options = ["--config", str(config), "--faults", "none"]
    _, document = run_flawed(tmp_path, Flaws(), *options)
    assert (document["gap_limit_s"], document["restart_gap_limit_s"]) == (9, 15)
    assert "the lease is 3 s longer than 2 s: so are limits of gaps" in capsys.readouterr().err
    _, document = run_flawed(tmp_path, Flaws(), *options, "--gap-limit-s", "4")
    assert (document["gap_limit_s"], document["restart_gap_limit_s"]) == (4, 15)


# Many groups, changes of members, and nodes of the job's own


FIVE = """
cluster: five
members: 5
groups: 3
"""


@pytest.fixture
def five(tmp_path: Path) -> str:
    path = tmp_path / "five.yaml"
    path.write_text(FIVE)
    return str(path)


def test_all_groups_are_worked_on_and_checked(tmp_path: Path, five: str) -> None:
    path, history = tmp_path / "out.json", tmp_path / "history.jsonl"
    options = ["--config", five, "--groups", "--clients", "4", "--json", str(path)]
    environment = FakeEnvironment()
    assert run(environment, *options, "--history", str(history)) == 0
    document = json.loads(path.read_text())
    assert document["group"] is None
    assert document["clients"] == 6
    assert document["checks"] == dict.fromkeys(CHECKS, True)
    assert [group["group"] for group in document["groups"]] == [1, 2, 3]
    # How many in 0.4 s depends on what else this machine has to do.
    assert all(group["acknowledged"] > 5 for group in document["groups"])
    assert document["acknowledged"] == sum(g["acknowledged"] for g in document["groups"])
    assert document["longest_gap_s"] == max(g["longest_gap_s"] for g in document["groups"])
    assert document["overall_longest_gap_s"] <= document["longest_gap_s"]
    assert {gap["group"] for gap in document["gaps"]} <= {1, 2, 3}
    assert all(group["linearizability"]["verdict"] == "true" for group in document["groups"])
    assert not history.exists()
    for group in (1, 2, 3):
        assert check_main([str(tmp_path / f"history-{group}.jsonl"), "--model", "kv"]) == 0


def test_a_group_has_clients_even_where_there_are_fewer_than_groups(five: str) -> None:
    environment = FakeEnvironment()
    assert run(environment, "--config", five, "--groups", "--clients", "1") == 0
    assert environment.cluster is not None
    assert all(group.rows for group in environment.cluster.groups.values())


@pytest.mark.parametrize(
    ("flaws", "check"),
    [
        (Flaws(lost_append=8, of_group=2), "exactly_once"),
        (Flaws(doubled_put=8, of_group=2), "linearizable"),
        (Flaws(stale_follower=8, of_group=2), "follower_reads"),
        (Flaws(other_digest=True, of_group=2), "digests_equal"),
        (Flaws(refuses_command=20, of_group=2), "clients"),
    ],
    ids=str,
)
def test_a_flaw_of_one_group_is_found_and_named(
    tmp_path: Path, five: str, flaws: Flaws, check: str
) -> None:
    options = ["--config", five, "--groups", "--faults", "none"]
    status, document = run_long_enough(
        tmp_path, flaws, lambda document: not document["held"], *options
    )
    assert status == 1
    assert check in failed(document)
    assert all("group 2: " in text for text in document["violations"])
    assert [g["group"] for g in document["groups"] if not all(g["checks"].values())] == [2]


def test_a_silence_of_one_group_is_a_gap_though_others_go_on(tmp_path: Path, five: str) -> None:
    flaws = Flaws(silent_at=20, silent_s=1.5, of_group=3)
    options = ["--config", five, "--groups", "--faults", "none", "--gap-limit-s", "1.4"]
    options += ["--seconds", "2", "--command-timeout-s", "5"]
    status, document = run_flawed(tmp_path, flaws, *options)
    assert status == 1
    assert failed(document) == {"gap"}
    assert document["violations"][0].startswith("gap: nothing was acknowledged in group 3 for 1.")
    assert document["longest_gap_s"] >= 1.5 > document["overall_longest_gap_s"]
    assert document["gaps"][0]["group"] == 3


def test_members_of_groups_are_changed(tmp_path: Path, five: str) -> None:
    kinds = "add-member,remove-member,move-group"
    path = tmp_path / "out.json"
    environment = FakeEnvironment()
    options = ["--config", five, "--groups", "--faults", kinds, "--json", str(path)]
    assert run(environment, *options, "--seconds", "1.5") == 0
    document = json.loads(path.read_text())
    assert set(document["faults"]) == set(kinds.split(","))
    assert environment.cluster is not None
    changes = environment.cluster.changes
    # Each group leaves another member first, so that there is one that it may be given to.
    assert changes.made[:3] == [(1, "remove", "m5"), (2, "remove", "m4"), (3, "remove", "m3")]
    assert all(len(voters) >= 3 for voters in changes.voters.values())


def test_a_wiped_member_stays_out(tmp_path: Path, five: str) -> None:
    path = tmp_path / "out.json"
    for flaws, held in ((Flaws(), True), (Flaws(votes_again=True), False)):
        options = ["--config", five, "--faults", "wipe-member", "--json", str(path)]
        assert run(FakeEnvironment(flaws), *options) == (0 if held else 1)
        document = json.loads(path.read_text())
        assert document["checks"] == {**dict.fromkeys(CHECKS, True), "stays_out": held}
        assert document["faults"]["wipe-member"] >= 1


def test_nodes_of_its_own_are_started_first_and_ended_last(tmp_path: Path, five: str) -> None:
    path = tmp_path / "out.json"
    environment = FakeEnvironment()
    kinds = "kill-node,kill-gcs"
    options = ["--config", five, "--nodes", "6", "--faults", kinds, "--json", str(path)]
    # The GCS is away for 2 s at least.
    assert run(environment, *options, "--seconds", "3") == 0
    assert environment.starts == [("fake:6379", False)]
    assert environment.own_nodes is not None
    assert environment.own_nodes.count == 6
    assert environment.own_nodes.did[-1] == "close"
    document = json.loads(path.read_text())
    assert set(document["faults"]) <= set(kinds.split(","))


def test_hosts_of_its_own_are_made_for_faults_of_links(
    tmp_path: Path, five: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_options, "missing_for_hosts", lambda: "")
    path, page = tmp_path / "out.json", tmp_path / "run.html"
    environment = FakeEnvironment()
    kinds = "partition,one-way,partial"
    options = ["--config", five, "--hosts", "--faults", kinds, "--json", str(path)]
    assert run(environment, *options, "--report", str(page), "--seconds", "2") == 0
    assert environment.own_nodes is not None
    # All links are whole in the end.
    assert environment.own_nodes.did[-2:] == ["lose 0", "close"]
    assert environment.configuration is not None
    pins = [(m.name, m.node_labels, m.resource) for m in environment.configuration.members]
    assert pins == [(f"m{n}", {"host": f"h{n}"}, None) for n in range(1, 6)]
    document = json.loads(path.read_text())
    assert set(document["faults"]) == set(kinds.split(","))
    assert all(kind in page.read_text() for kind in kinds.split(","))


def test_members_are_replaced_and_those_that_are_there_in_the_end_are_checked(
    tmp_path: Path, five: str
) -> None:
    path = tmp_path / "out.json"
    environment = FakeEnvironment()
    options = ["--config", five, "--groups", "--faults", "replace-member,kill-controller"]
    assert run(environment, *options, "--json", str(path), "--seconds", "1.5") == 0
    document = json.loads(path.read_text())
    assert environment.configuration is not None
    controller = environment.configuration.controller
    assert (controller.runs, controller.spreads, controller.grows) == (True, False, False)
    assert controller.replace_after_ms == 86_400_000
    assert document["checks"] == dict.fromkeys(CHECKS, True)
    replaced = [each for each in document["injected"] if each["kind"] == "replace-member"]
    assert len(replaced) >= 2
    left = {each["what"].split(" ")[0] for each in replaced}
    came = {each["what"].split(" by ")[1] for each in replaced}
    assert set(document["members"]) == ({"m1", "m2", "m3", "m4", "m5"} | came) - left
    assert "kill-controller" in document["faults"]
    assert environment.cluster is not None
    # Groups are told first to keep the voters that they have.
    everybody = "m1,m2,m3,m4,m5"
    assert environment.cluster.changes.made[:4] == [
        *((0, "place", everybody), (0, "place", "")),
        *((1, "place", everybody), (1, "place", "")),
    ]


def test_a_member_that_replaced_another_is_checked(tmp_path: Path, five: str) -> None:
    class Differing(FakeEnvironment):
        def start(self, *arguments: Any, **options: Any):
            cluster = super().start(*arguments, **options)
            digests = cluster.member_digests

            def differ(group: int, *, timeout_s: float) -> Any:
                found = digests(group, timeout_s=timeout_s)
                if "r1" in found:
                    found["r1"].digest = "cd"
                return found

            cluster.member_digests = differ  # type: ignore[method-assign]
            return cluster

    path = tmp_path / "out.json"
    options = ["--config", five, "--faults", "replace-member", "--json", str(path)]
    assert run(Differing(), *options, "--fault-interval-s", "0.2") == 1
    assert failed(json.loads(path.read_text())) == {"digests_equal"}


def test_a_cluster_that_runs_already_has_its_own_controller(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = FakeEnvironment(was_running=True)
    assert run(environment, "--faults", "kill-controller,kill-role") == 2
    said = capsys.readouterr().err
    assert "error: --faults: kill-controller: cluster demo runs already, and its" in said
    assert environment.processes is None


def test_a_controller_of_the_configuration_is_kept_from_undoing_anything(
    tmp_path: Path, five: str
) -> None:
    path = tmp_path / "controlled.yaml"
    path.write_text(Path(five).read_text() + "controller: {runs: true, grows: true}\n")
    environment = FakeEnvironment()
    assert run(environment, "--config", str(path), "--faults", "remove-member") == 0
    assert environment.configuration is not None
    assert not environment.configuration.controller.grows
    assert environment.cluster is not None
    assert {what for _, what, _ in environment.cluster.changes.made} == {"place"}


def test_members_that_left_before_the_run_are_not_looked_at(five: str) -> None:
    class Left(FakeEnvironment):
        def start(self, *arguments: Any, **options: Any):
            cluster = super().start(*arguments, **options)
            cluster.members_gone = lambda: frozenset({"m5"})  # type: ignore[method-assign]
            for voters in cluster.changes.voters.values():
                voters.discard("m5")
            return cluster

    environment = Left()
    assert run(environment, "--config", five, "--faults", "kill-member") == 0
    assert environment.processes is not None
    assert "m5" not in {place[0] for place in environment.processes.places}


def test_a_page_and_its_charts_are_written(tmp_path: Path) -> None:
    path, figures = tmp_path / "run.html", tmp_path / "figures"
    options = ["--report", str(path), "--figures", str(figures), "--seed", "41"]
    assert run(FakeEnvironment(), *options, "--faults", "kill-role") == 0
    text = path.read_text()
    for part in ("Everything held.", "kill-role", "seed 41", "lease_ms"):
        assert part in text
    page = check_page(text)
    for name in ("began", "ended", "load average at the beginning", "load average at the end"):
        assert page.texts[page.texts.index(name) + 1][0].isdigit()
    assert "ab" in page.texts[page.texts.index("digest") :]
    assert [chart.name for chart in figures.iterdir()] == ["timeline.svg"]


def test_what_did_not_hold_stands_first_in_the_page(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    options = ["--report", str(path), "--faults", "none", "--seconds", "1"]
    assert run(FakeEnvironment(Flaws(other_digest=True)), *options) == 1
    text = path.read_text()
    assert "Did not hold: digests_equal." in text
    assert text.index("digests_equal: members differ: m1 ab") < text.index("<section>")


def test_a_file_that_cannot_be_written_keeps_no_other_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, figures = tmp_path / "run.html", tmp_path / "figures"
    # Found only in the end: a device that is full is no folder that can be asked.
    options = ["--json", "/dev/full", "--report", str(path), "--figures", str(figures)]
    assert run(FakeEnvironment(), *options, "--faults", "none") == 1
    assert "error: /dev/full: cannot be written: No space left" in capsys.readouterr().err
    assert "Everything held." in path.read_text()
    assert (figures / "timeline.svg").exists()


# How it ends


def test_a_cluster_that_ran_before_or_is_kept_is_not_stopped() -> None:
    found = FakeEnvironment(was_running=True)
    assert run(found) == 0
    kept = FakeEnvironment()
    assert run(kept, "--keep", "--address", "auto") == 0
    assert kept.starts == [("auto", True)]
    for environment in (found, kept):
        assert environment.cluster is not None
        assert environment.cluster.stopped == 0


def test_a_cluster_that_cannot_be_started_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    class Nowhere(FakeEnvironment):
        def start(self, *_arguments: object, **_options: object):
            raise PlacementError("3 nodes are needed, 1 is there")

    assert run(Nowhere()) == 3
    assert capsys.readouterr().err == "error: 3 nodes are needed, 1 is there\n"


def test_a_cluster_that_acknowledges_nothing_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    environment = FakeEnvironment(Flaws(refused_every=1))
    assert run(environment) == 3
    assert "the cluster does not serve: client-1 had no command" in capsys.readouterr().err
    assert environment.cluster is not None
    assert environment.cluster.stopped == 1


def test_an_interrupt_leaves_nothing_stopped_and_exits_130(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupted(FakeEnvironment):
        def members(self, cluster, groups):
            processes = super().members(cluster, groups)

            def interrupt(lives):
                raise KeyboardInterrupt

            processes.kill = interrupt  # type: ignore[method-assign]
            return processes

    environment = Interrupted()
    assert run(environment, "--faults", "kill-role") == 130
    assert environment.cluster is not None
    assert environment.cluster.stopped == 1
    assert environment.processes is not None
    assert environment.processes.is_closed
    assert "interrupted" in capsys.readouterr().err


def test_what_cannot_be_signalled_ends_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    class Lost(FakeEnvironment):
        def members(self, cluster, groups):
            processes = super().members(cluster, groups)

            def fail(lives):
                raise ClusterError("the node is gone")

            processes.kill = fail  # type: ignore[method-assign]
            return processes

    assert run(Lost(), "--faults", "kill-role") == 3
    assert "error: the node is gone" in capsys.readouterr().err


def test_data_can_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FakeEnvironment(), "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["held"] is True


def test_what_ray_says_of_killed_processes_stays_off_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with told_apart():
        print("(raylet) A worker died or was killed while executing a task")
        print("(raylet) The node with node id: ab has been marked dead because of it")
        print("(raylet) Something else")
    print("data")
    said = capsys.readouterr()
    assert said.out == "data\n"
    assert said.err == "(raylet) Something else\n"


# What is found before anything starts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "kill"], "--faults: found 'kill'; allowed: kill-role, kill-member, "),
        (["--faults", ""], "--faults: found ''; allowed: kill-role, "),
        (["--seconds", "inf"], "--seconds: found inf"),
        (["--rate", "nan"], "--rate: found nan"),
        (["--config", "missing.yaml"], "missing.yaml: cannot be read"),
        (["--config", "two.yaml"], "--faults: kill-role, kill-member, pause-member leave a quorum"),
        (["--config", "no_log.yaml"], "a chaos run needs a machine of kind log"),
        (["--group", "9"], "--group: found 9; allowed: 1"),
        (["--json", "no/out.json"], "--json no/out.json: there is no folder no"),
        (["--history", "."], "--history .: is a directory"),
        (["--history", "-"], "--history: a file is needed"),
        (["--report", "x.pdf"], "--report x.pdf: allowed: a file whose name ends in .html"),
        (["--report", "no/x.html"], "--report no/x.html: there is no folder no"),
        (["--figures", "no/such"], "--figures no/such: no is no folder"),
        (["--figures", "two.yaml"], "--figures two.yaml: two.yaml is no folder"),
        (["--groups", "--group", "1"], "--groups and --group: give one of them"),
        (["--faults", "move-group"], "--faults: move-group: a group keeps 3 voters, so it takes"),
        (["--faults", "wipe-member"], "--faults: wipe-member: a group keeps 3 voters, so it"),
        (["--faults", "kill-gcs"], "--faults: kill-gcs: only where the job starts the nodes"),
        (["--faults", "full-disk"], "--faults: full-disk: only where the job starts the nodes"),
        (["--nodes", "2"], "--nodes: found 2; allowed: one for each of the 3 members, to 15"),
        (["--nodes", "3", "--keep"], "--nodes: that Ray cluster is the job's own and ends with"),
        (["--nodes", "3", "--address", "auto"], "--nodes: that Ray cluster is the job's own"),
        (["--faults", "one-way,partial"], "--faults: one-way, partial: only between hosts of"),
        (["--nodes", "3", "--faults", "partition"], "--faults: partition: only between hosts"),
        (["--nodes", "3", "--hosts"], "--nodes and --hosts: give one of them"),
        (["--hosts", "--keep"], "--hosts: that Ray cluster is the job's own and ends with"),
    ],
)
def test_bad_options_exit_2_before_anything_starts(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.yaml").write_text("cluster: x\nmembers: 2")
    Path("no_log.yaml").write_text("cluster: x\ngroups: [{group: 1, machines: {kv: kv}}]")
    environment = FakeEnvironment()
    assert run(environment, *arguments) == 2
    said = capsys.readouterr().err
    assert f"error: {message}" in said
    assert "Traceback" not in said
    assert environment.starts == []


def test_disks_that_this_machine_cannot_have_exit_2_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    environment = FakeEnvironment()
    assert run(environment, "--nodes", "3", "--faults", "slow-disk") == 2
    assert "here is missing: the rights of root" in capsys.readouterr().err
    assert environment.starts == []
    assert environment.own_nodes is None


def test_hosts_that_this_machine_cannot_have_exit_2_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    environment = FakeEnvironment()
    assert run(environment, "--hosts", "--faults", "partition") == 2
    said = capsys.readouterr().err
    assert "--hosts: they cannot be made here: only root makes network namespaces" in said
    assert environment.starts == []
    assert environment.own_nodes is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--clients", "0"],
        ["--seconds", "-1"],
        ["--seconds", "0"],
        ["--rate", "0"],
        ["--gap-limit-s", "-3"],
        ["--seed", "x"],
        ["--nonsense"],
    ],
)
def test_a_wrong_command_line_exits_2(arguments: list[str]) -> None:
    assert run(FakeEnvironment(), *arguments) == 2


def test_bad_input_is_one_message_and_loads_no_ray(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "jobs/chaos.py", "--faults", "kill"],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2
    assert len(said) == 1
    assert said[0].startswith("error: --faults: found 'kill'")
    assert not imported & {"ray", "pyarrow"}
