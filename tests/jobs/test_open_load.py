"""The open load, and what the jobs that use it make of samples and latencies."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from open_load import Latencies, OpenLoad, Tick
from ray_paxos.config import parse_configuration
from ray_paxos.config.disk_bound import disk_bound
from soak import Samples, Series


class PlayedClient:
    """Settles in order, each after a pause."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.commands: list[bytes] = []
        self.executor = ThreadPoolExecutor(1)

    def propose_many_async(
        self, commands: Any, machine: str, *, timeout_s: float, on_progress: Any
    ) -> Future[Any]:
        return self.executor.submit(self.settle, list(commands))

    def settle(self, commands: list[bytes]) -> Any:
        threading.Event().wait(self.pause_s)
        self.commands += commands
        return type("Results", (), {"errors": {}})()


def test_commands_go_at_their_rate_and_once_each() -> None:
    client = PlayedClient()
    started = time.monotonic()
    load = OpenLoad(client, "kv", 2_000.0, lambda number: b"%d" % number)
    threading.Event().wait(0.5)
    load.stop()
    measured = load.between(started, time.monotonic())
    assert client.commands == [b"%d" % number for number in range(len(client.commands))]
    assert measured.acknowledged == len(client.commands)
    assert measured.failed == 0
    assert 500 < measured.acknowledged < 2_000


def test_latency_counts_from_when_a_command_was_due() -> None:
    """A client that takes 50 ms for each 10 ms falls behind, and it shows."""
    client = PlayedClient(pause_s=0.05)
    started = time.monotonic()
    load = OpenLoad(client, "kv", 1_000.0, lambda number: b"x")
    threading.Event().wait(0.3)
    load.stop()
    measured = load.between(started, time.monotonic())
    assert measured.percentile_ms(1.0) > 500
    assert measured.percentile_ms(0.01) < 200


def test_commands_without_a_result_are_not_acknowledged() -> None:
    latencies = Latencies([Tick(0.0, 10, 5.0, 2), Tick(1.0, 30, 1.0, 0)], 2.0)
    assert (latencies.acknowledged, latencies.failed, latencies.rate) == (38, 2, 19.0)
    # Of 40 commands 30 took 1 ms.
    assert (latencies.percentile_ms(0.75), latencies.percentile_ms(0.8)) == (1.0, 5.0)


@pytest.mark.parametrize(
    ("values", "grew"),
    [
        ([0, 50, 100, 100, 100, 100, 100, 100, 100], False),
        ([0, 0, 0, 100, 120, 140, 160, 180, 200], True),
        # A saw's teeth are no growth.
        ([0, 0, 0, 100, 10, 100, 10, 100, 10], False),
    ],
)
def test_only_what_goes_on_growing_is_told(values: list[int], grew: bool) -> None:
    assert Series(values).grew(margin=5) is grew


def test_what_is_over_the_bound_is_told() -> None:
    samples = Samples(
        disk={
            ("m1", "log"): Series([50, 100, 50, 50]),
            ("m1", "checkpoints"): Series([50, 100, 50, 50]),
            ("m1", "journal"): Series([150, 100, 150, 150]),
        }
    )
    assert samples.problems(bound=250) == ["m1: 300 bytes on disk; the bound is 250"]
    assert samples.problems(bound=300) == []


def test_the_bound_follows_the_configuration() -> None:
    def bound(**sections: dict[str, int]) -> Any:
        text = "\n".join(f"{name}: {fields}" for name, fields in sections.items())
        return disk_bound(parse_configuration(f"cluster: demo\n{text}\n"), 1_000_000)

    usual = bound()
    assert usual.total == usual.log + usual.merging + usual.checkpoints + usual.journal
    assert bound(checkpointer={"checkpoints_kept": 5}).checkpoints > usual.checkpoints
    assert bound(learner={"log_bytes_max": 1_000_000_000}).log < usual.log
    assert bound(learner={"hold_count": 10}).log < usual.log
    assert bound(checkpointer={"merge_bytes_max": 1_000_000}).merging < usual.merging
    assert bound(proposer={"retained_bytes_max": 64_000_000}).journal < usual.journal
