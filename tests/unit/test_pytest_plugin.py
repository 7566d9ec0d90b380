"""The fixtures that users' tests get, in runs of pytest of their own."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from ray_paxos.testing import in_process_factories, pytest_plugin

pytest_plugins = ["pytester"]

# Runs within this process forget what they import: a second copy of a class is another class.
IMPORTED = (cloudpickle, in_process_factories)
STRICT = ("--strict-markers", "--strict-config", "-W", "error")
MACHINES = """
    import time
    import pytest
    import ray_paxos
    from ray_paxos import command, query, Replicated, StateMachine

    class Sum(StateMachine):
        kind = "sum"

        def __init__(self):
            self.total = 0

        def apply(self, command, context):
            self.total += int(command)
            return b"%d" % self.total

        def query(self, request):
            return b"%d" % self.total

    class Clock(Sum):
        def apply(self, command, context):
            self.total = time.time()

    class Tags(Replicated):
        def __init__(self, *tags):
            self._tags = set(tags)

        @command
        def add(self, tag: str) -> int:
            self._tags.add(tag)
            return len(self._tags)

        @command
        def first(self) -> str:
            return next(iter(self._tags))

        @query
        def count(self) -> int:
            return len(self._tags)

        @query
        def pop(self) -> str:
            return self._tags.pop()
"""


def run(pytester: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    """Run tests with the plugin alone; where the environment has its entry point, once only."""
    pytester.makepyfile(MACHINES + tests)
    return pytester.runpytest_inprocess(
        "-p", "no:ray_paxos", *STRICT, *arguments, plugins=[pytest_plugin]
    )


def test_a_machine_that_keeps_its_promises_passes(pytester: pytest.Pytester) -> None:
    tests = """
    def test_sum(ray_paxos_cluster):
        cluster = ray_paxos_cluster({"sum": Sum})
        client = cluster.client()
        assert client.propose(b"5").value == b"5"
        cluster.crash("A")
        assert client.propose(b"2").value == b"7"
        cluster.partition("B", "C")
        assert client.query(b"", consistency="follower") == b"7"

    def test_two_clusters(ray_paxos_cluster):
        one = ray_paxos_cluster(machines={"sum": Sum}, members=1)
        two = ray_paxos_cluster({"sum": Sum}, seed=7)
        one.client().propose(b"1")
        assert two.client().query(b"") == b"0"
    """
    run(pytester, tests).assert_outcomes(passed=2)


def test_each_test_is_checked_in_the_end(pytester: pytest.Pytester) -> None:
    tests = """
    def test_clock(ray_paxos_cluster):
        ray_paxos_cluster({"sum": Sum}).client().propose(b"1")
        ray_paxos_cluster({"clock": Clock}).client().propose(b"1")

    def test_clock_is_let_pass(ray_paxos_cluster):
        ray_paxos_cluster({"clock": Clock}, checks=False).client().propose(b"1")
    """
    result = run(pytester, tests)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*FaultyMachineError: machine 'clock' is not deterministic*"])


def test_members_that_are_down_or_cut_off_are_checked_too(pytester: pytest.Pytester) -> None:
    tests = """
    def test_writes(ray_paxos_cluster):
        cluster = ray_paxos_cluster({"sum": Sum})
        cluster.client().propose(b"1")
        cluster.advance(1)
        cluster.partition("A", "B", "C")
        for member in cluster.members:
            cluster.crash(member)

    def test_written(ray_paxos_cluster):
        cluster = ray_paxos_cluster({"sum": Sum})
        cluster.client().propose(b"1")
        cluster.advance(1)
        cluster.machine(member="C").total = 7
        cluster.partition("C")
    """
    result = run(pytester, tests)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*machine 'sum' has another state on member C*"])


def test_all_members_catch_up_before_they_are_checked(pytester: pytest.Pytester) -> None:
    tests = """
    kept = []

    def test_leaves_members_behind(ray_paxos_cluster):
        for leave in ("partition", "crash"):
            cluster = ray_paxos_cluster({"sum": Sum})
            getattr(cluster, leave)("C")
            cluster.client().propose(b"1")
            kept.append(cluster)

    def test_finds_them():
        for cluster in kept:
            assert [cluster.machine(member=m).total for m in cluster.members] == [1, 1, 1]
    """
    run(pytester, tests).assert_outcomes(passed=2)


def test_replicated_objects(pytester: pytest.Pytester) -> None:
    tests = """
    import asyncio

    def test_tags(ray_paxos_objects):
        tags = ray_paxos_objects.replicated(Tags, "tags", "a")
        assert tags.add("b") == 2
        assert tags.count() == 2
        assert tags.add.submit("c").result() == 3
        assert asyncio.run(read(tags)) == 3
        with pytest.raises(TypeError):
            tags.add()
        with pytest.raises(KeyError):
            ray_paxos_objects.replicated(Tags, "empty").pop.submit().result()
        ray_paxos_objects.cluster.crash("A")
        assert ray_paxos_objects.replicated(Tags, "tags").count() == 3
        ray_paxos_objects.cluster.restart_from_checkpoint()
        assert tags.count() == 3

    async def read(tags):
        return await tags.count.asynchronously()

    def test_both(ray_paxos_objects, ray_paxos_cluster):
        assert ray_paxos_objects.cluster is not ray_paxos_cluster({"sum": Sum})
    """
    run(pytester, tests, "-p", "no:asyncio").assert_outcomes(passed=2)


def test_objects_are_checked_in_the_end(pytester: pytest.Pytester) -> None:
    tests = """
    def test_order(ray_paxos_objects):
        ray_paxos_objects.replicated(Tags, "tags", *"abcdefgh").first()

    def test_pop(ray_paxos_objects):
        ray_paxos_objects.replicated(Tags, "tags", *"abcdefgh").pop()
    """
    result = run(pytester, tests)
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*FaultyMachineError: not deterministic: executed in another process*",
            "*FaultyMachineError: `query` of machine 'objects' has changed the state*pop*",
        ]
    )


def test_the_fixtures_say_what_they_are(pytester: pytest.Pytester) -> None:
    result = run(pytester, "", "--fixtures")
    result.stdout.fnmatch_lines(["ray_paxos_cluster*", "*Makes in-process clusters*"])
    result.stdout.fnmatch_lines(["ray_paxos_objects*", "*Makes replicated objects*"])


def test_importing_the_plugin_is_cheap() -> None:
    # Every run of pytest in an environment with ray_paxos does it.
    program = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        f"import {pytest_plugin.__name__}\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    ours = {"ray_paxos", "ray_paxos.testing", pytest_plugin.__name__}
    assert set(done.stdout.split()) <= ours


def test_the_package_registers_the_plugin(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text()
    found = re.search(r'\[project\.entry-points\.pytest11\]\nray_paxos = "([\w.]+)"\n', text)
    assert found is not None
    assert importlib.import_module(found[1]) is pytest_plugin
