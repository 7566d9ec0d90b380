"""Clusters in this process: what tests of users' machines stand on."""

from __future__ import annotations

import contextlib
import itertools
import time

import pytest

from ray_paxos.actors.outcomes import Result
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    NoMasterError,
    NotYetError,
    OutcomeUnknownError,
    QueryError,
    StaleReadError,
)
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.testing.in_process import InProcessCluster
from ray_paxos.testing.in_process_client import InProcessClient
from tests.unit.in_process_machines import Notes, all_notes

LEASE_NS = 10_000 * MILLISECOND_NS


class Leases(StateMachine):
    """One lease, for ten seconds."""

    kind = "leases"

    def __init__(self) -> None:
        self.holder = b""
        self.until_ns: int | None = None

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.holder, self.until_ns = command, context.log_time_ns + LEASE_NS
        return None

    @property
    def due_ns(self) -> int | None:
        return self.until_ns

    def on_due(self, context: ApplyContext) -> None:
        self.holder, self.until_ns = b"", None
        context.notify("free")

    def query(self, request: bytes) -> bytes:
        if request == b"free" and self.holder:
            raise NotYetError("free")
        return self.holder


@pytest.fixture
def cluster() -> InProcessCluster:
    return InProcessCluster({"notes": Notes})


@pytest.fixture
def client(cluster: InProcessCluster) -> InProcessClient:
    return cluster.client()


# What a client is told.


def test_results_are_those_of_a_real_client(client: InProcessClient) -> None:
    first, second = client.propose(b"a"), client.propose(b"b")
    assert isinstance(first, Result)
    assert (first.value, second.value) == (b"1", b"2")
    assert (first.instance_id, first.index) < (second.instance_id, second.index)
    with pytest.raises(CommandError, match="questions are refused"):
        client.propose(b"?")
    many = client.propose_many([b"c", b"?", b"d"])
    assert many.values == [b"3", None, b"4"]
    assert isinstance(many.errors[1], CommandError)
    assert client.propose_many([]).values == []
    assert all_notes(client) == [b"a", b"b", b"c", b"d"]
    assert client.query_many([b"a", b"d"]) == [b"0", b"3"]
    assert client.query_many([]) == []


@pytest.mark.parametrize("consistency", ["linearizable", "lease", "follower", "stale"])
def test_reads_of_each_consistency(
    cluster: InProcessCluster, client: InProcessClient, consistency: str
) -> None:
    at = client.propose(b"a").instance_id
    cluster.advance(1)
    assert client.query(b"all", consistency=consistency, at_least=at) == b"a"


def test_a_read_that_cannot_be_fresh_enough_ends_in_simulated_time(
    cluster: InProcessCluster, client: InProcessClient
) -> None:
    client.propose(b"a")
    before_s = cluster.now_s
    with pytest.raises(StaleReadError, match="no answer"):
        client.query(b"all", consistency="follower", at_least=1_000, timeout_s=7)
    assert 7 <= cluster.now_s - before_s < 8


def test_futures_are_settled_while_somebody_waits(
    cluster: InProcessCluster, client: InProcessClient
) -> None:
    futures = [client.propose_async(b"%d" % n) for n in range(10)]
    read = client.query_async(b"all")
    assert not any(future.done() for future in futures)
    assert futures[-1].result().value == b"10"
    assert all(future.done() for future in futures)
    assert futures[3].exception() is None
    assert read.result() is not None
    cluster.advance(1)
    assert client.propose_async(b"x").result(timeout=5).value == b"11"


def test_a_future_may_time_out_before_its_command(
    cluster: InProcessCluster, client: InProcessClient
) -> None:
    client.propose(b"a")
    for member in cluster.members[:2]:
        cluster.crash(member)
    future = client.propose_async(b"b")
    before_s = cluster.now_s
    with pytest.raises(TimeoutError):
        future.result(timeout=0.5)
    assert cluster.now_s - before_s == pytest.approx(0.5)
    cluster.restart()
    assert future.result().value == b"2"


def test_without_a_majority_the_outcome_is_unknown_until_it_is_asked_for(
    cluster: InProcessCluster, client: InProcessClient
) -> None:
    client.propose(b"a")
    master = cluster.master
    assert master is not None
    cluster.partition(master, [m for m in cluster.members if m != master])
    for member in cluster.members:
        if member != master:
            cluster.crash(member)
    before_s = cluster.now_s
    with pytest.raises(OutcomeUnknownError) as caught:
        client.propose(b"b", timeout_s=3.1)
    assert cluster.now_s - before_s == pytest.approx(3.1, abs=0.05)
    number = caught.value.number
    assert number is not None
    with pytest.raises(OutcomeUnknownError, match="no answer within 1 s"):
        client.outcome(number, timeout_s=1)
    cluster.heal()
    cluster.restart()
    assert client.outcome(number).value == b"2"
    assert client.abandon(number) == client.outcome(number)
    cluster.check()


def test_nobody_is_there() -> None:
    cluster = InProcessCluster({"notes": Notes})
    for member in cluster.members:
        cluster.crash(member)
    assert cluster.master is None
    with pytest.raises(NoMasterError):
        cluster.client().propose(b"a", timeout_s=5)
    with pytest.raises(QueryError):
        cluster.client().query(b"all", timeout_s=5)
    with pytest.raises(ConfigurationError, match="member A is down: restart it first"):
        cluster.machine("notes", "A")


# Waiting, and time.


def test_a_wait_is_over_when_it_happens(client: InProcessClient) -> None:
    with pytest.raises(QueryError, match="there is no answer yet"):
        client.query(b"go")
    waiting = client.wait_for_async(b"go")
    client.propose(b"x")
    assert not waiting.done()
    client.propose(b"go")
    assert waiting.result().value == b"1"
    assert client.wait_for(b"x").value == b"0"


def test_what_does_not_happen_is_waited_for_in_simulated_time(
    cluster: InProcessCluster, client: InProcessClient
) -> None:
    before_s = cluster.now_s
    with pytest.raises(NotYetError):
        client.wait_for(b"never", timeout_s=120)
    assert 120 <= cluster.now_s - before_s < 123


def test_leases_end_as_time_passes() -> None:
    cluster = InProcessCluster({"leases": Leases})
    client = cluster.client()
    client.propose(b"me")
    cluster.advance(9)
    assert client.query(b"holder") == b"me"
    cluster.advance(2)
    assert client.query(b"holder") == b""
    client.propose(b"you")
    before_s = cluster.now_s
    assert client.wait_for(b"free").value == b""
    assert 9.9 < cluster.now_s - before_s < 11
    cluster.check()


def test_a_wait_that_is_given_up_is_cancelled(
    cluster: InProcessCluster, client: InProcessClient
) -> None:
    waiting = client.wait_for_async(b"go")
    with contextlib.suppress(TimeoutError):
        waiting.result(timeout=1)
    assert waiting.cancel()
    client.propose(b"go")
    assert waiting.cancelled()


@pytest.mark.parametrize("members", [1, 2, 5])
def test_other_sizes(members: int) -> None:
    cluster = InProcessCluster({"notes": Notes, "leases": Leases}, members=members)
    client = cluster.client()
    assert client.propose(b"a", "notes").value == b"1"
    assert client.propose(b"me", machine="leases").value is None
    assert len(cluster.members) == members
    with pytest.raises(ConfigurationError, match="machine: found ''"):
        client.propose(b"a")
    cluster.check(in_other_processes=False)


def test_several_clients_share_a_cluster(cluster: InProcessCluster) -> None:
    clients = [cluster.client() for _ in range(3)]
    futures = [c.propose_async(b"%d" % n) for n, c in itertools.product(range(5), clients)]
    values = {future.result().value for future in futures}
    assert values == {b"%d" % n for n in range(1, 16)}
    cluster.check(in_other_processes=False)


def test_a_thousand_commands_take_less_than_a_second() -> None:
    taken_s: list[float] = []
    # Beside others that keep the processor busy one try may take twice as long.
    while not taken_s or (min(taken_s) >= 1.0 and len(taken_s) < 5):
        client = InProcessCluster({"notes": Notes}).client()
        begin = time.process_time()
        for n in range(1_000):
            client.propose(b"%d" % n)
        taken_s.append(time.process_time() - begin)
    assert min(taken_s) < 1.0
