"""README's Python runs as it stands there: every block, in order, against a cluster.

Blocks that take what they do not make (a client, some keys) find it under the name that they use.
The one about operations needs several Ray nodes, so its calls are only held against what they call;
what they do is played in `test_six_raylets`.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ray_paxos
from ray_paxos import errors
from ray_paxos.config import parse_configuration
from ray_paxos.machines import kv
from ray_paxos.operations import Operations

TEXT = (
    "cluster: readme\nmembers: 4\nroles: fused\ngroups: {count: 2, voters: 3}\n"
    "logging: {level: WARNING}\n"
)
ELSEWHERE = {
    "In Python": "it makes a cluster of its own",
    "Members and groups that come and go": "it needs several nodes",
    "The chosen log as a table": "it reads a folder",
    "Testing your own machines": "it is a test",
}
"""Sections whose blocks have tests of their own below."""


def blocks() -> Iterator[tuple[str, str]]:
    """(section, block) of README's Python, in order."""
    text = (Path(__file__).parent.parent.parent / "README.md").read_text()
    section, inside, lines = "", False, list[str]()
    for line in text.splitlines():
        if line.startswith(("## ", "### ")):
            section = line.lstrip("# ")
        elif line == "```python":
            inside, lines = True, []
        elif line == "```" and inside:
            inside = False
            yield section, "\n".join(lines)
        elif inside:
            lines.append(line)


def block_of(section: str) -> str:
    """The only block of a section."""
    (block,) = (code for name, code in blocks() if name == section)
    return block


def run(block: str, names: dict[str, Any]) -> None:
    exec(compile(block, "README.md", "exec"), names)


@pytest.fixture(scope="module")
def shown(local_ray: None) -> Iterator[ray_paxos.Cluster]:
    """A cluster of four members, with two groups of three voters."""
    started = ray_paxos.start(parse_configuration(TEXT))
    yield started
    started.stop(delete_data=True)


def test_every_block_runs_one_after_the_other(
    shown: ray_paxos.Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.ExitStack() as end:
        names: dict[str, Any] = {
            "cluster": shown,
            "client": end.enter_context(shown.client()),
            "command": kv.encode_put("a", b"b"),
            "OutcomeUnknownError": errors.OutcomeUnknownError,
            "keys": ["a", "b"],
        }
        for section, block in blocks():
            if section == "Reads":
                names["kv"] = kv
            if section not in ELSEWHERE:
                run(block, names)
        printed = capsys.readouterr().out
    assert "\n6 6\n" in printed, "a ledger"
    assert "\n7 7\n" in printed, "an object"
    assert "ui/dark b'on' 1\n" in printed
    assert "color b'blue' 2\n" in printed
    assert names["stock"].count("bolt") == 7


def test_the_first_block_makes_a_cluster_and_stops_it(
    local_ray: None, repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(repository)
    run(block_of("In Python"), {})
    printed = capsys.readouterr().out
    assert "Read(found=True, version=1, value=b'green')" in printed


def test_the_calls_of_operations_are_as_they_are_called() -> None:
    calls = 0
    for node in ast.walk(ast.parse(block_of("Members and groups that come and go"))):
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Attribute)
            values = [ast.literal_eval(each) for each in node.args]
            named = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
            inspect.signature(getattr(Operations, node.func.attr)).bind(None, *values, **named)
            calls += 1
    assert calls > 5


def test_the_log_is_read_as_a_table(shown: ray_paxos.Cluster) -> None:
    with shown.client() as client:
        client.propose(kv.encode_put("read", b"as a table"))
    shown.flush()
    block = block_of("The chosen log as a table").replace("/path/of/log_dir", shown.log_dir())
    names: dict[str, Any] = {}
    run(block, names)
    assert names["log"].num_rows > 0


class Ledger(ray_paxos.StateMachine):
    """Tells of a line whether it was there before."""

    kind = "ledger"

    def __init__(self) -> None:
        self._lines: dict[bytes, None] = {}

    def apply(self, command: bytes, context: ray_paxos.ApplyContext) -> bytes:
        was_there = command in self._lines
        self._lines[command] = None
        return b"known" if was_there else b"new"

    def query(self, request: bytes) -> bytes:
        return b"%d" % len(self._lines)


def test_the_test_of_ones_own_machine_passes(ray_paxos_cluster: Any) -> None:
    names: dict[str, Any] = {"Ledger": Ledger}
    run(block_of("Testing your own machines"), names)
    names["test_ledger"](ray_paxos_cluster)


def test_no_section_is_named_in_vain() -> None:
    assert {section for section, _ in blocks()} >= ELSEWHERE.keys()
    assert all(not re.search(r"^\s*\.\.\.\s*$", code) for _, code in blocks())
