"""The alerts: that Prometheus takes them, and when each is raised and when not (`promtool`)."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from ray_paxos.cli.main import main
from ray_paxos.observability.alert_rules import alerts, rule_file
from ray_paxos.observability.alerting import CRITICAL, WARNING, AlertLimits, duration
from ray_paxos.observability.catalogue import BY_NAME, METRICS, PREFIX, Kind
from tests.unit.alert_cases import CASES, Case

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (of Prometheus) is not installed"
)
ALERTS = {alert.name: alert for alert in alerts()}


@promtool
def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(rule_file())
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


@promtool
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_alert_fires_when_it_should_and_no_other_does(case: Case, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rule_file())
    firing = 'count by (alertname, cluster, member, group, role) (ALERTS{alertstate="firing"})'
    told: dict[str, Any] = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": key, "values": value}
                    for key, value in (case.base | case.changes).items()
                ],
                "promql_expr_test": [
                    {
                        "expr": firing,
                        "eval_time": case.at,
                        "exp_samples": [{"labels": each, "value": 1} for each in case.fires],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_played() -> None:
    played = {re.search(r'alertname="(\w+)"', each)[1] for case in CASES for each in case.fires}  # type: ignore[index]
    assert played == set(ALERTS)
    assert len(ALERTS) == len(alerts()), "names are unique"


def test_alerts_ask_for_what_is_exported_and_nothing_else() -> None:
    exported = {metric.exported_name for metric in METRICS if metric.kind is not Kind.HISTOGRAM}
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            exported |= {f"{metric.exported_name}_{part}" for part in ("bucket", "count", "sum")}
    for alert in ALERTS.values():
        asked = set(re.findall(rf"{PREFIX}paxos_\w+", alert.expression))
        assert asked
        assert asked <= exported, alert.name


def test_labels_of_texts_are_those_of_the_expression() -> None:
    known = {"cluster", "member", *(label for metric in METRICS for label in metric.labels)}
    for alert in ALERTS.values():
        labels = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))
        assert "cluster" in labels
        assert labels <= known
        for kept in re.findall(r"^\w+ by \(([\w, ]+)\)", alert.expression, re.MULTILINE):
            assert {"cluster"} <= set(kept.split(", ")), alert.name
        fired = [each for case in CASES for each in case.fires if f'"{alert.name}"' in each]
        for each in fired:
            assert labels <= set(re.findall(r'(\w+)="', each)), f"{alert.name}: {each}"


def test_each_alert_says_what_to_do_in_plain_words() -> None:
    for alert in ALERTS.values():
        assert alert.severity in (CRITICAL, WARNING)
        assert len(alert.summary) < 110
        assert 80 < len(alert.description) < 700
        assert alert.description.rstrip().endswith((".", "this."))
        for command in re.findall(r"`ray-paxos ([^`]+)`", alert.description):
            check_command(command)


def check_command(text: str) -> None:
    """There is such a command, and it takes what is given to it."""
    words = [
        w if w.startswith("-") else w.replace("$", "")
        for w in shlex.split(re.sub(r"\{\{[^}]*\}\}", "x", text))
    ]
    command: click.Command = main
    while isinstance(command, click.Group):
        assert words[0] in command.commands, text
        command = command.commands[words.pop(0)]
    if words:
        command.make_context("x", words)


def test_limits_are_in_the_rules() -> None:
    limits = AlertLimits(
        hold_scale=0.05,
        gone_window_s=120,
        count_window_s=77,
        elections_max=9,
        lag_instances=4_321,
        disk_free_bytes=1_234,
        fsync_s=0.025,
        fsync_window_s=33,
    )
    rules = yaml.safe_load(rule_file(limits))["groups"][0]["rules"]
    text = "\n".join(rule["expr"] for rule in rules)
    for part in ("[120s]", "[77s]", "> 9", "> 4321", "< 1234", "> 0.025", "[33s]"):
        assert part in text
    holds = {rule["alert"]: rule["for"] for rule in rules}
    assert (holds["PaxosGroupWithoutMaster"], holds["PaxosMemberGone"]) == ("1500ms", "3s")


def test_the_command_prints_the_rules() -> None:
    printed = CliRunner().invoke(main, ["alerts"])
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert printed.stdout == rule_file()
    as_json = CliRunner().invoke(main, ["alerts", "--json"])
    assert json.loads(as_json.stdout) == {"rules": rule_file()}
    options = {
        ("--lag-instances", "77"): AlertLimits(lag_instances=77),
        ("--disk-free-bytes", "88"): AlertLimits(disk_free_bytes=88),
        ("--fsync-ms", "20"): AlertLimits(fsync_s=0.02),
        ("--elections", "9"): AlertLimits(elections_max=9),
        ("--hold-scale", "2"): AlertLimits(hold_scale=2.0),
    }
    for option, limits in options.items():
        changed = CliRunner().invoke(main, ["alerts", *option])
        assert changed.stdout == rule_file(limits) != rule_file()


@pytest.mark.parametrize(
    "options",
    [
        ("--lag-instances", "0"),
        ("--lag-instances", "many"),
        ("--disk-free-bytes", "-1"),
        ("--fsync-ms", "0"),
        ("--fsync-ms", "nan"),
        ("--fsync-ms", "inf"),
        ("--hold-scale", "0"),
        ("--hold-scale", "nan"),
        ("--elections", "-1"),
        ("demo",),
    ],
)
def test_wrong_use_is_told_and_prints_no_rules(options: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(main, ["alerts", *options])
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert "Error: " in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["alerts", "grafana"])
def test_a_file_that_cannot_be_written_is_told(command: str) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    with full.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "ray_paxos.cli", command],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: No space left on device\n"


def test_durations_are_as_prometheus_reads_them() -> None:
    assert [duration(s) for s in (0, 0.25, 1, 90)] == ["0s", "250ms", "1s", "90s"]
    assert BY_NAME, "the catalogue is there"
