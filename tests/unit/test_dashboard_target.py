"""What a watcher's process asks of a cluster, without one."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from ray_paxos.actors import administration, roster
from ray_paxos.dashboard import target as target_module
from ray_paxos.dashboard.target import ANSWER_TIMEOUT_S, READ_TIMEOUT_S, ClusterTarget
from ray_paxos.errors import ClusterError


def test_members_that_stand_still_are_waited_for_together_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    asked: list[str] = []

    def stand_still(calls: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        nonlocal now_s
        assert timeout_s <= ANSWER_TIMEOUT_S
        now_s += timeout_s
        asked.extend(calls)
        return {member: TimeoutError("no answer") for member in calls}

    def machines(group: int) -> dict[str, str]:
        nonlocal now_s
        now_s += 1.0
        return {}

    monkeypatch.setattr(administration, "ask_all", stand_still)
    monkeypatch.setattr(administration, "Administration", lambda *_, **__: None)
    monkeypatch.setattr(roster, "roster_of", lambda spec: None)
    monkeypatch.setattr(target_module, "time", SimpleNamespace(monotonic=lambda: now_s))
    target = object.__new__(ClusterTarget)
    target._kinds = {}
    target._cluster = SimpleNamespace(  # type: ignore[assignment]
        spec=SimpleNamespace(is_fused=True), machines=machines
    )
    with pytest.raises(ClusterError, match="no learner gave the log within 8 s"):
        target.read_log(1, ("m1", "m2", "m3", "m4", "m5"), 50)
    assert now_s == 100.0 + READ_TIMEOUT_S
    assert asked == ["m1", "m2", "m3"]
