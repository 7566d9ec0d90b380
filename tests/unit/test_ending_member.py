"""Where the reconciler looks for the folder of a member that it ends."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ray_paxos.actors import folders
from ray_paxos.actors import reconciler as module
from ray_paxos.actors.placement import RayNode
from ray_paxos.actors.reconciler import Reconciler
from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.wanted import MemberState, Wanted, WantedMember
from ray_paxos.core.wanted_changes import MemberLeft

NODES = [RayNode(f"node-{n}", f"host-{n}", is_head=False, labels={}) for n in (1, 2, 3)]
WANTED = Wanted(1, {"m1": WantedMember(MemberSpec("m1", 1), MemberState.ENDING)})


@pytest.mark.parametrize(
    ("lives_on", "asked"),
    [
        ({"m1": "node-2", "m2": "node-1"}, ["node-2"]),
        ({"m2": "node-1"}, ["node-1", "node-2", "node-3"]),
        ({"m1": "node-9"}, ["node-1", "node-2", "node-3"]),
    ],
    ids=["on its own node", "everywhere, as it does not answer", "everywhere, as its node left"],
)
def test_a_look_starts_a_process_on_every_node_that_it_needs_and_on_no_other(
    monkeypatch: pytest.MonkeyPatch, lives_on: dict[str, str], asked: list[str]
) -> None:
    looks: list[list[str]] = []
    deleted: list[object] = []

    def find(spec: object, names: Sequence[str], nodes: Sequence[RayNode]) -> dict[str, str]:
        looks.append([node.node_id for node in nodes])
        return {"m1": "node-2"}

    monkeypatch.setattr(module, "find_folders", find)
    monkeypatch.setattr(folders, "delete", lambda *arguments: deleted.append(arguments))
    changes: list[object] = []
    spec = SimpleNamespace(
        decoded_genesis=lambda: SimpleNamespace(cluster="demo"),
        data_dir=None,
        knowing=lambda joined: SimpleNamespace(under=lambda version: None),
    )
    administration = SimpleNamespace(
        roster=SimpleNamespace(joined=()), stop=lambda deadline, members: None
    )
    system, nothing = SimpleNamespace(change=changes.append), cast(Any, None)
    reconciler = Reconciler(
        cast(Any, spec), cast(Any, administration), nothing, cast(Any, system), nothing
    )
    reconciler._lives_on = lives_on
    reconciler._end(WANTED, "m1", NODES)
    assert looks == [asked]
    assert deleted == [("demo", None, {"m1": "node-2"})]
    assert changes == [MemberLeft("m1")]
