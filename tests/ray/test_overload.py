"""Ten times the load a group can take: bounded memory, truthful answers, and an end (F25)."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import NotAppliedError, OutcomeUnknownError, OverloadedError
from ray_paxos.machines import log
from tests.ray.helpers import PATIENCE_S, holds_once

pytestmark = pytest.mark.fused_by_default

# A group that takes little, so that one driver can offer ten times of it: one open instance, small
# values, and an intake that holds a few of them.
CONFIGURATION = """
cluster: overload
members: 3
proposer: {window_max: 1, batch_bytes_max: 1000, intake_requests_max: 16, intake_bytes_max: 1000000}
logging: {level: WARNING}
"""
CLIENTS = 24
USUAL_IN_FLIGHT = 40
TIMEOUT_S = 1.0
GROWTH_MAX = 200_000_000


@pytest.fixture(scope="module")
def slow(local_ray: None, arrangement: str) -> Iterator[ray_paxos.Cluster]:
    """A cluster with little room."""
    text = f"{CONFIGURATION}roles: {arrangement}\n"
    started = ray_paxos.start(parse_configuration(text))
    yield started
    started.stop(delete_data=True)


class Lines:
    """Clients that append lines of their own, and note what became of each."""

    def __init__(self, cluster: ray_paxos.Cluster) -> None:
        self.clients = [cluster.client(label=f"overload {i}") for i in range(CLIENTS)]
        self.outcomes: Counter[str] = Counter()
        self.acknowledged: list[bytes] = []
        self.lock = threading.Lock()
        self.numbers = itertools.count()

    def submit(self, client: ray_paxos.Client, done: threading.Semaphore) -> None:
        line = b"%08d" % next(self.numbers)
        try:
            future = client.propose_async(line, machine="log", timeout_s=TIMEOUT_S)
        except OverloadedError:
            self.count("no room at the client")
            done.release()
            return
        future.add_done_callback(functools.partial(self.note, line, done))

    def note(
        self, line: bytes, done: threading.Semaphore, future: Future[ray_paxos.Result]
    ) -> None:
        error = future.exception()
        if error is None:
            with self.lock:
                self.acknowledged.append(line)
        assert error is None or isinstance(error, NotAppliedError | OutcomeUnknownError), error
        self.count(type(error).__name__ if error is not None else "acknowledged")
        done.release()

    def count(self, outcome: str) -> None:
        with self.lock:
            self.outcomes[outcome] += 1

    def run(self, seconds: float, in_flight: int) -> tuple[int, int]:
        """Keep so many of each client's commands in flight: (offered, acknowledged) meanwhile."""
        before, first = self.outcomes["acknowledged"], next(self.numbers)
        end = time.monotonic() + seconds

        def one(client: ray_paxos.Client) -> None:
            room = threading.Semaphore(in_flight)
            while time.monotonic() < end:
                room.acquire()
                self.submit(client, room)

        threads = [threading.Thread(target=one, args=(client,)) for client in self.clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return next(self.numbers) - first - 1, self.outcomes["acknowledged"] - before

    def close(self) -> None:
        for client in self.clients:
            client.close(timeout_s=PATIENCE_S)


def resident_bytes(cluster: ray_paxos.Cluster) -> dict[str, int]:
    """Memory of every role's process."""
    found = {}
    for member in cluster.status().members:
        for name, role in member.roles.items():
            for line in Path(f"/proc/{role.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    found[f"{member.name}/{name}"] = int(line.split()[1]) * 1024
    return found


def applied_lines(cluster: ray_paxos.Cluster) -> list[bytes]:
    lines: list[bytes] = []
    with cluster.client() as client:
        first = 1
        while True:
            request = log.encode_lines(first)
            page = log.decode_page(client.query(request, machine="log", timeout_s=PATIENCE_S))
            lines += page.lines
            if not page.lines:
                return lines
            first = len(lines) + 1


def play(cluster: ray_paxos.Cluster, seconds: float) -> None:
    lines = Lines(cluster)
    per_client = max(1, USUAL_IN_FLIGHT // CLIENTS)
    lines.run(0.5, per_client)
    _, usual = lines.run(2.0, per_client)
    before = resident_bytes(cluster)
    offered, _ = lines.run(seconds, 100 * per_client)
    after = resident_bytes(cluster)
    # What was refused is gone, but the queues of a busy machine empty when they do.
    recovered: list[int] = []

    def is_as_before() -> bool:
        recovered.append(lines.run(2.0, per_client)[1])
        return recovered[-1] > usual / 2

    holds_once(is_as_before)
    lines.close()
    print(f"{usual / 2:.0f}/s, offered {offered / seconds:.0f}/s for {seconds:g} s, ", end="")
    print(f"then in 2 s each {recovered}; {dict(lines.outcomes)}")
    refused = sum(lines.outcomes.values()) - lines.outcomes["acknowledged"]
    assert refused > 0, "it was no overload"
    growth = {role: after[role] - before[role] for role in before}
    assert max(growth.values()) < GROWTH_MAX, growth
    assert recovered[-1] > usual / 2, (usual, recovered)
    applied = Counter(applied_lines(cluster))
    assert max(applied.values()) == 1, "applied once"
    assert not set(lines.acknowledged) - set(applied), "what was acknowledged is applied"


def test_an_overload_ends_in_answers_not_in_memory(slow: ray_paxos.Cluster) -> None:
    play(slow, 4.0)


@pytest.mark.nightly
def test_an_overload_of_half_a_minute(slow: ray_paxos.Cluster) -> None:
    play(slow, 30.0)
