"""The Grafana dashboard: what Grafana demands of its JSON, and that Prometheus has what it asks."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from ray_paxos.cli.main import main
from ray_paxos.observability.alert_rules import rule_file
from ray_paxos.observability.alerting import AlertLimits
from ray_paxos.observability.catalogue import METRICS, PREFIX, Kind
from ray_paxos.observability.grafana import SCHEMA_VERSION, UID, dashboard, dashboard_file, rows
from ray_paxos.observability.histogram import Histogram
from ray_paxos.observability.report import HistogramCounts
from ray_paxos.observability.samples import Sample
from ray_paxos.observability.settings import ObservingSettings
from tests.prometheus_server import needs_prometheus, prometheus
from tests.unit.alert_cases import MEMBERS, Series, gone, healthy, then
from tests.unit.alert_cases import selector as series_of
from tests.unit.observed_roles import member_samples

DASHBOARD = dashboard()
PANELS: list[dict[str, Any]] = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
ROWS: list[dict[str, Any]] = [p for p in DASHBOARD["panels"] if p["type"] == "row"]
EXPRESSIONS = [
    (f"{panel['title']}: {target['refId']}", target["expr"])
    for panel in PANELS
    for target in panel["targets"]
]
UNITS = {"short", "s", "ops", "bytes", "Bps"}
"""Ids that Grafana's list of units has; one that it has not is shown as text behind the number."""
VARIABLES = {"datasource", "cluster", "member", "group"}


def test_it_is_what_the_command_prints_and_always_the_same() -> None:
    printed = CliRunner().invoke(main, ["grafana"])
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert printed.stdout == dashboard_file() == dashboard_file()
    assert json.loads(printed.stdout) == DASHBOARD
    assert CliRunner().invoke(main, ["grafana", "--json"]).stdout == printed.stdout


def test_it_can_be_imported() -> None:
    # Grafana takes a dashboard for a new one where it has no id, and for this one by its uid.
    assert DASHBOARD["id"] is None
    assert DASHBOARD["uid"] == UID
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", UID)
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] == SCHEMA_VERSION >= 39
    assert "__inputs" not in DASHBOARD, "nothing has to be filled in: the source is a variable"
    assert re.fullmatch(r"now-\d+m", DASHBOARD["time"]["from"])
    assert DASHBOARD["time"]["to"] == "now"


def test_panels_have_all_that_grafana_reads() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    for panel in DASHBOARD["panels"]:
        assert set(panel["gridPos"]) == {"x", "y", "w", "h"}
        assert all(isinstance(each, int) for each in panel["gridPos"].values())
        assert panel["title"]
    for row in ROWS:
        assert row["collapsed"] is False
        assert row["panels"] == []
    for panel in PANELS:
        assert panel["type"] in ("timeseries", "stat", "state-timeline", "table")
        assert panel["description"].endswith(".")
        assert set(panel["fieldConfig"]) == {"defaults", "overrides"}
        assert panel["fieldConfig"]["defaults"].get("unit", "short") in UNITS
        assert panel["options"]
        assert panel["targets"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == [chr(ord("A") + position) for position in range(len(letters))]
        for source in (panel, *panel["targets"]):
            assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["instant"] != target["range"]
        for threshold in (
            panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])[1:]
        ):
            assert isinstance(threshold["value"], (int, float))


def test_panels_lie_side_by_side_and_rows_below_each_other() -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                taken[x, y] += 1
    assert max(taken.values()) == 1, "nothing covers anything"
    tops = [row["gridPos"]["y"] for row in ROWS]
    assert tops == sorted(tops)
    assert [row["title"] for row in ROWS] == [row.title for row in rows()]
    for words in ("Overview", "Throughput", "Latency", "Fsync", "Lag", "Disk", "Checkpoints"):
        assert any(words in row["title"] for row in ROWS)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)


def test_variables() -> None:
    found = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(found) == VARIABLES
    assert next(iter(found)) == "datasource", "the others ask it"
    assert found["datasource"]["type"] == "datasource"
    assert found["datasource"]["query"] == "prometheus"
    for name in ("cluster", "member", "group"):
        assert found[name]["type"] == "query"
        assert found[name]["query"]["query"] == found[name]["definition"]
        assert re.fullmatch(r"label_values\((.*), \w+\)", found[name]["definition"])
    for name in ("member", "group"):
        assert found[name]["multi"]
        assert found[name]["includeAll"]
        assert found[name]["allValue"] == ".*"


def exported_names() -> set[str]:
    names = {m.exported_name for m in METRICS if m.kind is not Kind.HISTOGRAM}
    histograms = [m.exported_name for m in METRICS if m.kind is Kind.HISTOGRAM]
    return names | {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}


def test_every_metric_is_shown_and_nothing_else_is_asked_for() -> None:
    text = json.dumps(DASHBOARD)
    asked = set(re.findall(rf"\b{PREFIX}paxos_\w+", text))
    assert asked <= exported_names()
    for metric in METRICS:
        name = metric.exported_name
        assert name in asked or f"{name}_bucket" in asked, f"{name} is on no panel"
    # Ray's histograms are given a sample of what there was: their counts are no rates.
    assert not [name for name in asked if name.endswith(("_seconds_count", "_seconds_sum"))]


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_every_expression_is_of_what_is_chosen(name: str, expression: str) -> None:
    for selector in re.findall(rf"{PREFIX}paxos_\w+({{[^}}]*}})?", expression):
        assert 'cluster="$cluster"' in selector
        assert 'member=~"$member"' in selector
    used = set(re.findall(r"\$(?!__)(\w+)", expression))
    assert used <= VARIABLES
    by_name = {metric.exported_name: metric for metric in METRICS}
    for metric_name, selector in re.findall(rf"({PREFIX}paxos_\w+)({{[^}}]*}})", expression):
        metric = by_name.get(metric_name) or by_name[metric_name.removesuffix("_bucket")]
        assert ('group=~"$group"' in selector) == metric.is_of_group
        if metric.kind is Kind.COUNTER:
            assert re.search(rf"(rate|increase)\({metric_name}", expression)


def test_legends_name_labels_that_the_expressions_keep() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                kept = {
                    each
                    for labels in re.findall(r"by \(([^)]*)\)", target["expr"])
                    for each in labels.split(", ")
                }
                assert label in kept, panel["title"]


# What the first numbers say of members that are gone, by `promtool`.

ALL_WELL, ONE_OF_THREE = healthy(), gone(gone(healthy(), "m2", 5), "m3", 5)
ACCEPTOR_STOPPED: Series = {
    **ALL_WELL,
    series_of("paxos_role_serving", "m2", role="acceptor"): then(1, 5, 0),
}
LEARNER_GONE: Series = {
    **ALL_WELL,
    series_of("paxos_role_serving", "m2", role="learner"): then(1, 5, None),
}
ALL_GONE = gone(ONE_OF_THREE, "m1", 5)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (of Prometheus) is not installed"
)
@pytest.mark.parametrize(
    ("series", "serving_members", "missing_roles"),
    [
        (ALL_WELL, len(MEMBERS), 0),
        (ONE_OF_THREE, 1, 8),
        (ACCEPTOR_STOPPED, 2, 1),
        # What is left of its member serves.
        (LEARNER_GONE, 3, 1),
        (ALL_GONE, 0, 12),
    ],
    ids=["all well", "one of three", "an acceptor stopped", "a learner gone", "all gone"],
)
def test_roles_that_are_gone_are_not_shown_as_well(
    series: Series, serving_members: int, missing_roles: int, tmp_path: Path
) -> None:
    numbers = {"Members serving: A": serving_members, "Roles not serving: A": missing_roles}
    asked = [
        {
            "expr": filled_in(expression),
            "eval_time": "9m",
            "exp_samples": [{"labels": "{}", "value": numbers[name]}],
        }
        for name, expression in EXPRESSIONS
        if name in numbers
    ]
    assert len(asked) == len(numbers)
    inputs = [{"series": key, "values": values} for key, values in series.items()]
    test = {"interval": "15s", "input_series": inputs, "promql_expr_test": asked}
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": [test]}))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_role_that_does_not_serve_is_red_and_how_many_members_serve_is_no_colour() -> None:
    by_title = {panel["title"]: panel for panel in PANELS}
    steps = by_title["Roles not serving"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    (green, red) = steps
    assert (green["color"], green["value"], red["color"]) == ("green", None, "red")
    assert 0 < red["value"] < 1
    serving = by_title["Members serving"]
    assert "red" not in json.dumps(serving["fieldConfig"]), "of how many it does not know"
    places = [panel["gridPos"] for panel in (serving, by_title["Roles not serving"])]
    assert places[0]["y"] == places[1]["y"]
    assert places[0]["x"] + places[0]["w"] == places[1]["x"], "beside each other"


# Against a real Prometheus, which scrapes what three members would export.


class Exposition:
    """What Ray's agent would show: more at each scrape."""

    def __init__(self) -> None:
        self.scrapes = 0

    def text(self) -> str:
        self.scrapes += 1
        settings = ObservingSettings()
        lines: list[str] = []
        for number, member in enumerate(("m1", "m2", "m3")):
            samples = member_samples(2, settings, 1 + self.scrapes)
            # Two lives of a process: gauges of one only, counters of both.
            for worker in ("w-old", f"w-{member}"):
                for sample in samples:
                    if worker != "w-old" or sample.metric.kind is not Kind.GAUGE:
                        lines += self._lines(sample, member, worker, number)
        return "\n".join(dict.fromkeys(lines)) + "\n"

    def _lines(self, sample: Sample, member: str, worker: str, number: int) -> Iterator[str]:
        metric = sample.metric
        labels = {"cluster": "demo", "member": member, "WorkerId": worker}
        if metric.is_of_group:
            labels["group"] = sample.group
        if metric.label:
            labels[metric.label] = sample.label
        name = metric.exported_name
        if isinstance(sample.value, HistogramCounts):
            total = 0
            bounds = [*(str(bound) for bound in metric.bounds), "+Inf"]
            for bound, count in zip(bounds, sample.value.counts, strict=True):
                total += count
                yield f"{name}_bucket{_written(labels | {'le': bound})} {total}"
            histogram = Histogram(metric.bounds, sample.value.counts, sample.value.total)
            yield f"{name}_count{_written(labels)} {histogram.count}"
            yield f"{name}_sum{_written(labels)} {histogram.total}"
        else:
            rising = self.scrapes if metric.kind is Kind.COUNTER else 0
            behind = number if metric.name == "paxos_applied_instance" else 0
            yield f"{name}{_written(labels)} {sample.value + rising - behind}"


def _written(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


@contextmanager
def serving(exposition: Exposition) -> Iterator[str]:
    """The address of a server that shows it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def filled_in(expression: str, member: str = ".*") -> str:
    """As Grafana asks it."""
    values = {"cluster": "demo", "member": member, "group": ".*", "__rate_interval": "30s"}
    for name, value in values.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    return expression


ONLY_WHEN_SOMETHING_IS_WRONG = {
    "What has stopped: B",
    "Who knows no master: A",
}


@needs_prometheus
def test_a_prometheus_answers_every_expression(tmp_path: Path) -> None:
    exposition = Exposition()
    # Some alert has to fire for the panels of alerts.
    rules = rule_file(AlertLimits(hold_scale=0.001, disk_free_bytes=10**12))
    with serving(exposition) as address, prometheus(tmp_path, [address], rules, "500ms") as server:
        server.wait_for("some scrapes", lambda: exposition.scrapes > 5)
        server.wait_for("an alert fires", server.firing)
        for name, expression in EXPRESSIONS:
            found = server.query(filled_in(expression))
            assert (found == []) == (name in ONLY_WHEN_SOMETHING_IS_WRONG), name
            values = [float(each["value"][1]) for each in found]
            assert all(value == value for value in values), f"{name}: no number"
        annotation = DASHBOARD["annotations"]["list"][1]["expr"]
        assert server.query(filled_in(annotation))
        for variable in DASHBOARD["templating"]["list"][1:]:
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            assert match is not None
            selector, label = match.groups()
            found = server.query(f"count by ({label}) ({filled_in(selector)})")
            expected = {"cluster": 1, "member": 3, "group": 2}[variable["name"]]
            assert len(found) == expected
        check_numbers(server)
        assert server.rule_errors() == []


def check_numbers(server: Any) -> None:
    """What single panels say of three members with two groups each, of two lives."""

    def number(name: str, member: str = ".*") -> float:
        (expression,) = (e for n, e in EXPRESSIONS if n == name)
        (found,) = server.query(filled_in(expression, member))
        return float(found["value"][1])

    assert number("Members serving: A") == 3
    assert number("Members serving: A", "m2|m3") == 2
    assert number("Members serving: A", "nobody") == 0
    assert number("Roles not serving: A") == 0
    assert number("Groups without a master: A") == 0
    assert number("Latency, p99: A") == pytest.approx(0.0005, rel=0.1)
    (behind,) = (e for n, e in EXPRESSIONS if n == "Behind the furthest member: A")
    lag = {
        (each["metric"]["member"], each["metric"]["group"]): float(each["value"][1])
        for each in server.query(filled_in(behind))
    }
    assert lag == {("m2", "0"): 1, ("m2", "1"): 1, ("m3", "0"): 2, ("m3", "1"): 2}
    assert len(server.firing()) >= 3
