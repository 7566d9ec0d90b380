"""Users' traces change nothing: the same seed chooses, applies and answers the same."""

from __future__ import annotations

import pytest

from ray_paxos.core.client_messages import Submit
from ray_paxos.core.values import CommandBatch
from ray_paxos.testing import client
from ray_paxos.testing.simulate import run_seed

EVENTS = ("InstanceChosen(", "InstanceApplied(", "MasterStarted(", "AcceptRejected(", "fault: ")


def traced(request_id: int, batches: tuple[CommandBatch, ...]) -> Submit:
    text = f"00-{request_id:032x}-{request_id:016x}-01"
    return Submit(request_id, batches, trace=" ".join([text] * (request_id % 4)))


@pytest.mark.parametrize("seed", [3, 8])
def test_a_seed_comes_to_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for submit in (Submit, traced):
        monkeypatch.setattr(client, "Submit", submit)
        lines: list[str] = []
        result = run_seed(seed, 3, lines.append)
        assert result.violation == ""
        told = [line for line in lines if any(event in line for event in EVENTS)]
        has_traces = any("Accept(" in line and "trace=00-" in line for line in lines)
        runs.append((result.steps, told, has_traces))
    (steps, told, has_traces), traced_run = runs
    assert not has_traces
    assert len(told) > 100
    assert traced_run == (steps, told, True)
