"""Reads of each consistency on real actors, by a lease and by rounds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import ray

import ray_paxos
from ray_paxos.actors import quorum_reader
from ray_paxos.actors.names import NAMESPACE, actor_name
from ray_paxos.actors.spec import decode_spec
from ray_paxos.config import parse_configuration
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import QuorumRead, QuorumReadAnswer
from ray_paxos.core.messages import Address, Envelope, Message, Prepare, RemoveGroup, RoleName
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.errors import LeaseError, QueryError, StaleReadError
from ray_paxos.machines import kv
from tests.ray.helpers import PATIENCE_S, holds_once, put, read

ONE_ANSWER_S = 3.0
"""Long enough for one answer, which says what was missing."""
NO_LEASE = "cluster: rounds\nmembers: 3\nproposer: {lease_ms: 0}\nlogging: {level: WARNING}\n"


@pytest.fixture(scope="module")
def leaseless(local_ray: None, arrangement: str) -> Iterator[ray_paxos.Cluster]:
    """A cluster whose masters hold no lease."""
    started = ray_paxos.start(parse_configuration(f"{NO_LEASE}roles: {arrangement}\n"))
    yield started
    started.stop(delete_data=True)


@dataclass(frozen=True)
class Counts:
    """What linearizable reads have cost, over all members.

    Attributes:
        quorum_answers: Of acceptors, to reads by a quorum.
        indexes: Given by masters.
        index_rounds: Of heartbeats, begun for them.
    """

    quorum_answers: int
    indexes: int
    index_rounds: int

    def __sub__(self, before: Counts) -> Counts:
        return Counts(
            self.quorum_answers - before.quorum_answers,
            self.indexes - before.indexes,
            self.index_rounds - before.index_rounds,
        )


def counts(cluster: ray_paxos.Cluster) -> Counts:
    members = cluster.status().members

    def count(role: str, name: str) -> int:
        return sum((m.roles[role].groups or {}).get(1, {}).get(name, 0) for m in members)

    return Counts(
        count("acceptor", "quorum_reads"),
        count("proposer", "reads"),
        count("proposer", "read_rounds"),
    )


@pytest.mark.parametrize("consistency", ["linearizable", "lease", "follower"])
def test_a_client_reads_its_own_writes(client: ray_paxos.Client, consistency: str) -> None:
    for number in range(20):
        put(client, f"own/{consistency}", b"%d" % number)
        assert read(client, f"own/{consistency}", consistency).value == b"%d" % number


@pytest.mark.parametrize("consistency", ["linearizable", "lease"])
def test_what_anybody_was_acknowledged_is_seen(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client, consistency: str
) -> None:
    with cluster.client() as other:
        for number in range(20):
            put(other, f"other/{consistency}", b"%d" % number)
            assert read(client, f"other/{consistency}", consistency).value == b"%d" % number


def test_a_lease_costs_no_round(cluster: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    put(client, "leased", b"1")

    def is_free() -> bool:
        assert read(client, "leased", "lease").value == b"1"
        before = counts(cluster)
        for _ in range(50):
            read(client, "leased")
        return counts(cluster) == before

    # Of a master that stood still for longer than its lease, the next read costs one.
    assert holds_once(is_free)


def test_at_least_waits_for_an_instance(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client
) -> None:
    with cluster.client() as other:
        written = put(other, "at_least", b"1")
    answer = client.query(
        kv.encode_get("at_least"), consistency="follower", at_least=written.instance_id
    )
    found = kv.decode_result(answer)
    assert isinstance(found, kv.Read)
    assert found.value == b"1"
    with pytest.raises(StaleReadError, match="applied through"):
        client.query(b"x", consistency="stale", at_least=10**9, timeout_s=ONE_ANSWER_S)


def test_staleness_is_bounded(cluster: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    put(client, "fresh", b"1")
    query = kv.encode_get("fresh")
    # Two rounds of heartbeats, and some time on a busy machine.
    answer = client.query(query, consistency="follower", max_staleness_ms=2_000, at_least=0)
    assert isinstance(kv.decode_result(answer), kv.Read)
    with pytest.raises(StaleReadError, match="ms old"):
        client.query(query, consistency="follower", max_staleness_ms=0, timeout_s=ONE_ANSWER_S)


def test_reads_add_nothing_to_the_log(cluster: ray_paxos.Cluster, client: ray_paxos.Client) -> None:
    put(client, "quiet", b"1")
    before = {d.applied_instance_id for d in cluster.member_digests().values()}
    for consistency in ("linearizable", "lease", "follower", "stale"):
        for _ in range(5):
            read(client, "quiet", consistency)
    assert {d.applied_instance_id for d in cluster.member_digests().values()} == before


def test_without_a_lease_a_lone_read_takes_one_hop_to_a_majority(
    leaseless: ray_paxos.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, too, it goes no other way.
    monkeypatch.setattr(quorum_reader, "TRY_S", PATIENCE_S)
    with leaseless.client() as client, leaseless.client() as other:
        put(other, "lone", b"0")
        read(client, "lone")
        before = counts(leaseless)
        for number in range(20):
            put(other, "lone", b"%d" % number)
            assert read(client, "lone").value == b"%d" % number
        cost = counts(leaseless) - before
        assert cost == Counts(quorum_answers=2 * 20, indexes=0, index_rounds=0)
        # As while a read of any client of this handle is under way.
        turn = leaseless._turns[1]
        assert turn.take()
        before = counts(leaseless)
        for each in (client, other):
            assert read(each, "lone").value == b"19"
        turn.give_back()
        assert counts(leaseless) - before == Counts(quorum_answers=0, indexes=2, index_rounds=2)


def test_without_a_lease_reads_take_rounds_and_share_them(leaseless: ray_paxos.Cluster) -> None:
    with leaseless.client() as client, leaseless.client() as other:
        put(client, "shared", b"1")
        for each in (client, other):
            read(each, "shared")
        alone = counts(leaseless)
        readers = 16
        barrier = threading.Barrier(readers)

        def one(number: int) -> bytes | None:
            barrier.wait()
            of = client if number % 2 else other
            return [read(of, "shared").value for _ in range(10)][-1]

        with ThreadPoolExecutor(readers) as pool:
            assert set(pool.map(one, range(readers))) == {b"1"}
        cost = counts(leaseless) - alone
        by_quorum, reads = cost.quorum_answers // 2, 10 * readers
        assert by_quorum + cost.indexes >= reads
        assert by_quorum + cost.index_rounds < reads / 2
        with pytest.raises(LeaseError):
            client.query(b"x", consistency="lease", timeout_s=1.5)


def test_a_client_cannot_have_an_acceptor_do_more_than_answer_reads(
    leaseless: ray_paxos.Cluster, arrangement: str
) -> None:
    with leaseless.client() as client:
        put(client, "acceptor", b"1")
        name = actor_name(
            leaseless.name,
            leaseless.members[0],
            RoleName.ACCEPTOR,
            is_fused=arrangement == "fused",
        )
        acceptor = ray.get_actor(name, namespace=NAMESPACE)
        genesis = decode_spec(ray.get(acceptor.describe.remote())).decoded_genesis()
        voter = genesis.groups[1].voters[0]
        usurper = Ballot(1_000, voter.member_id, 1)
        sender = Address(voter.member_id, RoleName.PROPOSER)

        def asked(message: Message) -> Envelope:
            replica_id = voter.replica_id
            return Envelope(genesis.hash(), 1, sender, replica_id, 1, 0, message)

        batch = [asked(Prepare(usurper, 1)), asked(RemoveGroup(9)), asked(QuorumRead(5))]
        (answer,) = decode_envelopes(ray.get(acceptor.read.remote(encode_envelopes(batch))))
        assert isinstance(answer.message, QuorumReadAnswer)
        assert answer.message.request_id == 5
        assert answer.message.voters == genesis.groups[1].voters
        assert answer.message.accepted_through >= 3, "master record, session and command"
        put(client, "acceptor", b"2")


def test_a_master_that_cannot_ask_anybody_serves_no_linearizable_read(
    leaseless: ray_paxos.Cluster,
) -> None:
    """The other members' acceptors are stopped in their tracks (SIGSTOP)."""
    with leaseless.client() as client:
        put(client, "alone", b"1")
        status = leaseless.status()
        master = status.groups[-1].master
        pids = [m.roles["acceptor"].pid for m in status.members if m.name != master]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(QueryError):
                read_for(client, "alone", 0.6)
            assert read(client, "alone", "stale").value == b"1"
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert read_for(client, "alone", PATIENCE_S) is not None


def read_for(client: ray_paxos.Client, key: str, timeout_s: float) -> bytes:
    return client.query(kv.encode_get(key), timeout_s=timeout_s)
