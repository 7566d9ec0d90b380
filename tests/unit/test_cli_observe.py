"""`ray-paxos observe`: what is typed, what a person and a program see."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli import running_cluster
from ray_paxos.cli.main import main
from ray_paxos.errors import ClusterError
from ray_paxos.observability.settings import ObservingSettings


class Running:
    """A cluster, and what it was told."""

    def __init__(self) -> None:
        self.spec = SimpleNamespace(observing=ObservingSettings())
        self.operations = self
        self.told: list[bool] = []
        self.problem = ""
        self.address: str | None = None

    def observe(self, is_on: bool) -> tuple[str, ...]:
        self.told.append(is_on)
        if self.problem:
            raise ClusterError(self.problem)
        return ("m1", "m2")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Running:
    found = Running()

    def open_to_watch(cluster: str, address: str | None) -> Running:
        found.address = address
        return found

    monkeypatch.setattr(running_cluster, "open_to_watch", open_to_watch)
    return found


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["observe", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def test_off_says_whom_it_reached_and_what_starts_again(running: Running) -> None:
    assert run("off", "demo").stdout.splitlines() == [
        "cluster demo: m1, m2 observe nothing from now on",
        "  what starts again does as its configuration says: observability.enabled is true",
    ]
    assert running.told == [False]


def test_on_says_no_more_where_it_is_configured_so(running: Running) -> None:
    assert run("on", "demo").stdout == "cluster demo: m1, m2 observe from now on\n"
    assert running.told == [True]
    running.spec.observing = ObservingSettings(is_on=False)
    assert "observability.enabled is false" in run("on", "demo").stdout
    assert "observability.enabled" not in run("off", "demo").stdout


def test_a_program_gets_one_document(running: Running) -> None:
    assert json.loads(run("off", "demo", "--json", "--address", "head:6379").stdout) == {
        "cluster": "demo",
        "observing": False,
        "members": ["m1", "m2"],
        "enabled": True,
    }
    assert running.address == "head:6379"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("of", "demo"), "'of' is not one of 'on', 'off'"),
        (("demo", "on"), "'demo' is not one of 'on', 'off'"),
        (("on",), "Missing argument 'CLUSTER'"),
        ((), "Missing argument 'on|off'"),
        (("on", "demo", "more"), "unexpected extra argument"),
    ],
)
def test_anything_else_is_refused(running: Running, arguments: tuple[str, ...], told: str) -> None:
    assert told in " ".join(run(*arguments, status=2).stderr.split())
    assert running.told == [], "nobody was disturbed"


def test_who_was_not_reached_is_told_with_status_one(running: Running) -> None:
    running.problem = "observing was switched off, but not everywhere: m3: gone"
    result = run("off", "demo", status=1)
    assert "m3: gone" in result.stderr
    assert result.stdout == ""
