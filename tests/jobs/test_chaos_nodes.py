"""What surrounds the Ray nodes of a run's own; the nodes themselves are in test_chaos_on_ray."""

from __future__ import annotations

import os
import subprocess
import sys

from chaos_nodes import environment, pinned_configuration, with_descendants
from ray_paxos.config import parse_configuration

PARENT = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
    "print(child.pid, flush=True)\n"
    "input()\n"
)


def test_members_go_to_the_nodes_that_are_started_for_them() -> None:
    given = parse_configuration(
        "cluster: x\ndata_dir: /somewhere\nroles: fused\n"
        "members: [{name: a, priority: 3}, {name: b, node_labels: {disk: b}}, c]\n"
        "groups: [{group: 4, machines: {kv: kv}}]\n"
    )
    pinned = pinned_configuration(given)
    assert [member.resource for member in pinned.members] == ["member-a", "member-b", "member-c"]
    assert not any(member.node_labels for member in pinned.members)
    assert pinned.data_dir is None
    assert (pinned.cluster, pinned.roles, pinned.groups) == ("x", "fused", given.groups)
    assert pinned.members[0].priority == 3


def test_a_process_is_found_with_all_below_it() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert with_descendants(parent.pid) == [parent.pid, child]
    assert parent.pid in with_descendants(os.getpid())
    parent.communicate("\n")


def test_variables_are_there_for_a_time(monkeypatch) -> None:
    monkeypatch.setenv("CHAOS_TEST_A", "before")
    monkeypatch.delenv("CHAOS_TEST_B", raising=False)
    with environment({"CHAOS_TEST_A": "1", "CHAOS_TEST_B": "2"}):
        assert (os.environ["CHAOS_TEST_A"], os.environ["CHAOS_TEST_B"]) == ("1", "2")
    assert os.environ["CHAOS_TEST_A"] == "before"
    assert "CHAOS_TEST_B" not in os.environ
