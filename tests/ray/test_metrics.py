"""A real Prometheus scrapes a real cluster: all metrics are there, and each alert that a real fault
can raise is raised by it.

What is played goes from faults that mend themselves to those that end the cluster; the order of the
tests matters. Alerts hold for a hundredth of their time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ray_paxos.observability.alert_rules import rule_file
from ray_paxos.observability.alerting import AlertLimits
from ray_paxos.observability.catalogue import METRICS, Kind
from ray_paxos.observability.grafana import dashboard
from tests.prometheus_server import Prometheus, free_port, needs_prometheus, prometheus
from tests.ray.subprocesses import ROOT, Sandbox, sandbox
from tests.ray.watched_cluster import OF_ITS_OWN
from tests.unit.test_grafana import filled_in

pytestmark = [pytest.mark.fused_by_default, needs_prometheus]

MEMBERS = ("m1", "m2", "m3")
ROLES = ("proposer", "acceptor", "learner", "checkpointer")
WITHIN_S = 120.0
"""A busy machine is no fault of ours."""
LIMITS = AlertLimits(
    hold_scale=0.01,
    count_window_s=30,
    election_window_s=30,
    elections_max=3,
    lag_instances=20,
    disk_free_bytes=20_000_000,
    fsync_s=0.06,
    fsync_window_s=8,
)
HAS_DISKS = os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which("mkfs.ext4")


class Watched:
    """The program with the cluster, and the Prometheus that scrapes it."""

    def __init__(self, program: subprocess.Popen[str], server: Prometheus) -> None:
        self._program = program
        self.server = server

    def do(self, command: str, *arguments: object) -> Any:
        """Have the program do something, and wait until it has."""
        assert self._program.stdin is not None
        self._program.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._program.stdin.flush()
        answer = read_line(self._program)
        assert "value" in answer, f"{command} {arguments}: {answer}"
        return answer["value"]

    def firing(self, alert: str, **labels: str) -> bool:
        """Whether an alert fires with these labels."""
        wanted = {"alertname": alert, "cluster": "watched", **labels}
        return any(wanted.items() <= found.items() for found in self.server.firing())

    def expect(self, alert: str, **labels: str) -> None:
        """Wait for an alert."""
        what = f"{alert} {labels} fires"
        self.server.wait_for(what, lambda: self.firing(alert, **labels), WITHIN_S)

    def expect_no_more(self, alert: str) -> None:
        """Wait until it has ended."""
        self.server.wait_for(f"{alert} ends", lambda: not self.firing(alert), WITHIN_S)


def read_line(program: subprocess.Popen[str]) -> Any:
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line, f"the program ended with status {program.wait(timeout=60)}"
    return json.loads(line)


@contextmanager
def running(box: Sandbox, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The program, from when its cluster serves."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ray.watched_cluster", *map(str, arguments)],
        cwd=ROOT,
        env={**box.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'jobs'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert read_line(process) == "ready"
        yield process
    finally:
        with suppress(subprocess.TimeoutExpired):
            # It ends with its input.
            process.communicate(timeout=60)
        process.kill()


@pytest.fixture(scope="module")
def watched(arrangement: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    port = free_port()
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        sandbox() as box,
        running(box, port, arrangement, "disk" if HAS_DISKS else "none") as program,
        prometheus(folder, [f"127.0.0.1:{port}"], rule_file(LIMITS), "2s") as server,
    ):
        yield Watched(program, server)


@pytest.mark.timeout(600)
def test_a_prometheus_has_all_metrics_of_all_members_with_their_labels(watched: Watched) -> None:
    watched.do("write", 60)
    watched.do("write", 5, 2)
    server = watched.server
    for metric in METRICS:
        name = metric.exported_name
        name = f"{name}_count" if metric.kind is Kind.HISTOGRAM else name
        found = server.wait_for(name, partial(server.labels_of, name))
        for series in found:
            labels = dict(series)
            assert set(metric.labels) <= labels.keys(), name
            assert labels["cluster"] == "watched"
            assert labels["member"] in MEMBERS
            assert all(labels[label] for label in metric.labels), name
        groups = {dict(series).get("group") for series in found}
        assert groups == ({"0", "1", "2"} if metric.is_of_group else {None}), name


def test_what_prometheus_has_is_what_there_is(watched: Watched) -> None:
    server = watched.server
    serving = server.query("sum by (member) (ray_paxos_role_serving)")
    assert {s["metric"]["member"]: float(s["value"][1]) for s in serving} == dict.fromkeys(
        MEMBERS, len(ROLES)
    )
    (leads,) = server.query('max by (member) (ray_paxos_is_master{group="1"}) == 1')
    assert leads["metric"]["member"] == watched.do("master", 1)
    last = watched.do("write", 40)

    def number(expression: str) -> float:
        found = server.query(expression)
        return float(found[0]["value"][1]) if found else 0.0

    server.wait_for(
        "all members have applied it",
        lambda: number('min(ray_paxos_applied_instance{group="1"})') >= last,
    )
    server.wait_for(
        "all commands are counted, once",
        lambda: number('sum(ray_paxos_commands_total{group="1"})') == 100,
    )
    assert number("max(ray_paxos_groups_without_master)") == 0
    assert number('max(ray_paxos_fsync_seconds_bucket{le="+Inf"})') > 20


def test_nothing_is_told_of_a_cluster_that_is_well_and_every_panel_is_answered(
    watched: Watched,
) -> None:
    watched.do("write", 10)
    # A scrape that came too late on a busy machine may have told of members that are gone.
    watched.server.wait_for("nothing fires", lambda: not watched.server.firing(), WITHIN_S)
    assert watched.server.rule_errors() == []
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    empty = []
    for panel in panels:
        for target in panel["targets"]:
            expression = filled_in(target["expr"]).replace('"demo"', '"watched"')
            if not watched.server.query(expression):
                empty.append(panel["title"])
    assert set(empty) <= {
        "Alerts that fire",
        "What has stopped",
        "Who knows no master",
        "Behind the furthest member",
    }


def test_masters_that_change_too_often(watched: Watched) -> None:
    watched.do("change_masters", 6)
    watched.expect("PaxosElectionsTooOften", group="1")


def test_damage_on_a_disk(watched: Watched) -> None:
    watched.do("write", 30)
    watched.do("damage", "m2")
    watched.expect("PaxosDamageFound", member="m2", group="1")


def test_a_machine_whose_state_cannot_be_saved(watched: Watched) -> None:
    watched.do("tell_odd", "unsavable")
    watched.do("write", 50, 2)
    for member in MEMBERS:
        watched.expect("PaxosCheckpointsFail", member=member, group="2")
    assert not watched.firing("PaxosCheckpointsFail", group="1")


@pytest.mark.skipif(not HAS_DISKS, reason="disks of a test's own need root and loop devices")
def test_a_disk_that_is_slow_and_then_full(watched: Watched) -> None:
    watched.do("slow_disk", 0.3, 20.0)
    server = watched.server

    def is_told() -> bool:
        watched.do("write", 5)
        return watched.firing("PaxosSlowFsync", member=OF_ITS_OWN)

    server.wait_for("PaxosSlowFsync fires", is_told, WITHIN_S)
    watched.do("heal_disk")
    watched.do("fill_disk", 120.0)

    def is_told_to_be_full() -> bool:
        watched.do("write", 5)
        return watched.firing("PaxosDiskFull", member=OF_ITS_OWN)

    server.wait_for("PaxosDiskFull fires", is_told_to_be_full, WITHIN_S)
    # Enough to go on with, and too little to be at ease; see the next test but one.
    watched.do("leave_room", LIMITS.disk_free_bytes // 2)
    watched.expect_no_more("PaxosDiskFull")


def expect_lag(watched: Watched, member: str) -> None:
    """Wait until a member is told to stay behind, as it does where the others go on."""

    def is_told() -> bool:
        watched.do("write", 20, 2)
        return watched.firing("PaxosLag", member=member, group="2")

    watched.server.wait_for(f"PaxosLag of {member} fires", is_told, WITHIN_S)


def test_a_machine_that_is_not_deterministic_and_members_that_stay_behind(
    watched: Watched,
) -> None:
    watched.do("tell_odd", "odd")
    master = watched.do("master", 2)
    # Chains are compared at instances that come after it.
    watched.do("write", 40, 2)
    for member in MEMBERS:
        if member != master:
            watched.expect("PaxosApplyingStopped", member=member, group="2")
            watched.expect("PaxosChecksumsDiffer", member=member, group="2")
            expect_lag(watched, member)
    assert not watched.firing("PaxosApplyingStopped", member=master)
    assert not watched.firing("PaxosLag", group="1")


@pytest.mark.skipif(not HAS_DISKS, reason="disks of a test's own need root and loop devices")
def test_a_disk_with_little_room(watched: Watched) -> None:
    # Its room is looked at every 30 s, of which most are over.
    watched.expect("PaxosDiskNearlyFull", member=OF_ITS_OWN)
    watched.do("heal_disk")


def test_a_member_that_does_not_vote_and_members_that_are_gone(
    watched: Watched, arrangement: str
) -> None:
    watched.do("damage_journal", "m2")
    watched.expect("PaxosRoleNotServing", member="m2", role="acceptor")
    watched.expect_no_more("PaxosMemberGone")
    if arrangement == "separate":
        watched.do("end_role", "m1", "checkpointer")
        watched.expect("PaxosRoleGone", member="m1", role="checkpointer")
    # With it two of three acceptors are gone: no group has a majority.
    watched.do("end", "m1")
    watched.expect("PaxosMemberGone", member="m1")
    for group in ("0", "1", "2"):
        watched.expect("PaxosGroupWithoutMaster", group=group)
    watched.expect_no_more("PaxosClusterGone")


def test_a_cluster_that_is_gone(watched: Watched) -> None:
    watched.do("stop")
    watched.expect("PaxosClusterGone")
    watched.expect_no_more("PaxosGroupWithoutMaster")
