"""Many reads at a time on real actors: each terms' own answers, and a master that is killed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import cycle

import pytest
import ray

import ray_paxos
from ray_paxos.actors.names import NAMESPACE, actor_name
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import QueryError, StaleReadError
from ray_paxos.machines import kv
from tests.ray.helpers import PATIENCE_S, put

READS = 500
MIXED: tuple[dict[str, object], ...] = (
    {"consistency": "linearizable"},
    {"consistency": "lease"},
    {"consistency": "follower"},
    {"consistency": "follower", "max_staleness_ms": 5_000, "at_least": 0},
    {"consistency": "stale"},
)


def found(future: Future[bytes]) -> kv.Read:
    read = kv.decode_result(future.result(PATIENCE_S))
    assert isinstance(read, kv.Read)
    return read


def test_reads_of_all_kinds_at_once(client: ray_paxos.Client) -> None:
    keys = [f"async/{number}" for number in range(100)]
    last = client.propose_many([kv.encode_put(key, key.encode()) for key in keys])[-1]
    ask: Callable[..., Future[bytes]] = client.query_async
    mixed = (*MIXED, {"consistency": "stale", "at_least": last.instance_id})
    futures = [
        (key, terms, ask(kv.encode_get(key), **terms))
        for _, key, terms in zip(range(3 * READS), cycle(keys), cycle(mixed), strict=False)
    ]
    for key, terms, future in futures:
        read = found(future)
        if terms["consistency"] in ("linearizable", "lease") or "max_staleness_ms" not in terms:
            is_any = terms == {"consistency": "stale"}
            assert read.value == key.encode() or is_any, f"{key} by {terms}"
    answers = client.query_many([kv.encode_get(key) for key in keys])
    assert [kv.decode_result(answer) for answer in answers] == [
        kv.Read(True, 1, key.encode()) for key in keys
    ]


def test_a_bad_request_among_good_ones(client: ray_paxos.Client) -> None:
    put(client, "good", b"1")
    requests = [kv.encode_get("good"), b"nonsense", kv.encode_dump(limit=0)] * 50
    futures = [client.query_async(request) for request in requests]
    for position, future in enumerate(futures):
        if position % 3 == 0:
            assert found(future).value == b"1"
        else:
            with pytest.raises(QueryError, match=r"not a query|at least 1 key"):
                future.result(PATIENCE_S)
    with pytest.raises(QueryError, match="no machine 'nowhere'"):
        client.query_async(b"x", "nowhere").result(PATIENCE_S)
    far = client.query_async(b"x", consistency="stale", at_least=10**9, timeout_s=1.0)
    with pytest.raises(StaleReadError, match="applied through"):
        far.result(PATIENCE_S)


def test_answers_that_take_several_replies(client: ray_paxos.Client) -> None:
    put(client, "large", b"x" * 300_000)
    answers = client.query_many([kv.encode_get("large")] * 20)
    assert {len(answer) for answer in answers} == {len(answers[0])}
    assert len(answers[0]) > 300_000


def test_each_read_sees_what_was_written_before_it(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client
) -> None:
    """While reads are on their way all the time, so that every read could share another's round."""
    with cluster.client() as writer:
        background = [client.query_async(kv.encode_get("counted")) for _ in range(READS)]
        for number in range(50):
            put(writer, "counted", b"%d" % number)
            now = client.query_async(kv.encode_get("counted"))
            background += [client.query_async(kv.encode_get("counted")) for _ in range(20)]
            value = found(now).value
            assert value is not None
            assert int(value) >= number
        for future in background:
            found(future)


def test_the_master_is_killed_while_reads_are_in_flight(cluster: ray_paxos.Cluster) -> None:
    """Every read sees what was acknowledged before it was asked, whoever answers it."""
    with cluster.client() as client, cluster.client() as writer:
        put(writer, "killed", b"0")
        found(client.query_async(kv.encode_get("killed")))
        master = cluster.master()
        assert master is not None
        asked: list[tuple[int, Future[bytes]]] = []
        for number in range(1, 11):
            put(writer, "killed", b"%d" % number)
            asked += [
                (number, client.query_async(kv.encode_get("killed"), timeout_s=PATIENCE_S))
                for _ in range(READS // 10)
            ]
            if number == 5:
                for role in (RoleName.LEARNER, RoleName.PROPOSER, RoleName.ACCEPTOR):
                    name = actor_name(cluster.name, master.member, role)
                    ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=False)
        for number, future in asked:
            value = found(future).value
            assert value is not None
            assert int(value) >= number
