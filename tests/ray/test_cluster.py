"""A cluster on one node: attaching, status, and what a client is told."""

from __future__ import annotations

import json
import os
import pickle
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow.dataset as dataset
import pytest
import ray

import ray_paxos
from ray_paxos.config import ClusterConfiguration
from ray_paxos.errors import (
    ClientClosedError,
    ClusterNotFoundError,
    CommandError,
    CommandTooLargeError,
    ConfigurationError,
    QueryError,
)
from ray_paxos.machines import kv
from tests.ray.helpers import PATIENCE_S, holds_once, put, read, version

pytestmark = pytest.mark.for_both_roles


def test_start_attaches_to_what_runs(
    cluster: ray_paxos.Cluster, configuration: ClusterConfiguration
) -> None:
    before = cluster.status()
    again = ray_paxos.start(configuration)
    assert again.was_running
    assert not again.started_ray
    assert again.members == cluster.members == ("m1", "m2", "m3")
    after = again.status()
    assert [m.roles["acceptor"].pid for m in after.members] == [
        m.roles["acceptor"].pid for m in before.members
    ]


def test_two_drivers_that_start_at_once_make_one_cluster(
    local_ray: None, configuration: ClusterConfiguration
) -> None:
    small = configuration.model_copy(
        update={"cluster": "twice", "members": configuration.members[:1]}
    )
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(ray_paxos.start, [small, small]))
    assert len({c.status().cluster_id for c in found}) == 1
    found[0].stop(delete_data=True)


def test_connect_finds_a_cluster_by_name(cluster: ray_paxos.Cluster) -> None:
    connected = ray_paxos.connect("shared")
    assert connected.members == cluster.members
    with pytest.raises(ClusterNotFoundError, match="no cluster other runs"):
        ray_paxos.connect("other")


def test_tasks_connect_and_take_clients_along(client: ray_paxos.Client) -> None:
    put(client, "task", b"driver")

    def work(carried: ray_paxos.Client) -> tuple[bytes | None, bytes | None]:
        with ray_paxos.connect("shared").client() as own:
            own.propose(kv.encode_put("task", b"task"))
            return (
                read(own, "task").value,
                read(carried, "task").value,
            )

    assert ray.get(ray.remote(num_cpus=0)(work).remote(client)) == (b"task", b"task")


def test_a_pickled_client_is_a_session_of_its_own(client: ray_paxos.Client) -> None:
    first = put(client, "pickled", b"1")
    with pickle.loads(pickle.dumps(client)) as other:
        second = put(other, "pickled", b"2")
    assert (second.instance_id, second.index) > (first.instance_id, first.index)
    assert read(client, "pickled").version == 2


def test_status_tells_of_every_role_and_group(cluster: ray_paxos.Cluster, arrangement: str) -> None:
    with cluster.client() as client:
        put(client, "status", b"")
    status = cluster.status()
    assert json.loads(json.dumps(status.to_dict()))["cluster"] == "shared"
    for member in status.members:
        assert {role.phase for role in member.roles.values()} == {"serving"}
        pids = {role.pid for role in member.roles.values()}
        assert pids.isdisjoint({0, os.getpid()})
        assert len(pids) == (4 if arrangement == "separate" else 1)
    groups = {group.group: group for group in status.groups}
    assert set(groups) == {0, 1}
    assert groups[1].master in cluster.members
    assert set(groups[1].positions) == set(cluster.members)
    assert min(p.lag for p in groups[1].positions.values()) == 0


def test_results_say_where_a_command_stands(client: ray_paxos.Client) -> None:
    results = [put(client, "place", b"%d" % n) for n in range(5)]
    places = [(r.instance_id, r.index) for r in results]
    assert places == sorted(set(places))
    assert [version(result.value) for result in results] == [1, 2, 3, 4, 5]
    assert read(client, "place").value == b"4"


def test_commands_of_one_client_are_applied_in_its_order(client: ray_paxos.Client) -> None:
    futures = [client.propose_async(b"line %d" % n, machine="log") for n in range(2_000)]
    positions = [(f.result(PATIENCE_S).instance_id, f.result(0).index) for f in futures]
    assert positions == sorted(positions)
    values = [int(future.result(0).value or b"") for future in futures]
    assert values == list(range(values[0], values[0] + 2_000))


def test_many_at_once(client: ray_paxos.Client) -> None:
    heard: list[int] = []
    commands = [kv.encode_put(f"many/{n % 500}", b"%d" % n) for n in range(20_000)]
    results = client.propose_many(commands, on_progress=heard.append)
    assert len(results) == results.acknowledged == 20_000
    assert heard == sorted(heard)
    assert heard[-1] == 20_000
    versions = [version(value) for value in results.values]
    assert versions == [n // 500 + 1 for n in range(20_000)]
    assert read(client, "many/499").value == b"19999"
    assert client.propose_many([]).values == []


def test_submissions_of_every_kind_keep_their_order(client: ray_paxos.Client) -> None:
    futures: list[Future[ray_paxos.ManyResults] | Future[ray_paxos.Result]] = []
    for n in range(30):
        futures.append(client.propose_async(kv.encode_put("mixed", b"a%d" % n)))
        many = [kv.encode_put("mixed", b"m%d" % n)] * 50
        futures.append(client.propose_many_async(many))
    put(client, "mixed", b"last")
    assert all(future.done() for future in futures)
    assert read(client, "mixed") == kv.Read(True, 30 * 51 + 1, b"last")


def test_what_a_machine_refuses_is_a_result(client: ray_paxos.Client) -> None:
    with pytest.raises(CommandError):
        client.propose(b"\xffnonsense")
    with pytest.raises(CommandError, match="nowhere"):
        client.propose(b"x", machine="nowhere")
    results = client.propose_many([kv.encode_put("refused", b"1"), b"\xff", b"\xfe"])
    assert sorted(results.errors) == [1, 2]
    assert results.acknowledged == 3
    with pytest.raises(QueryError):
        client.query(b"\xffnonsense")
    with pytest.raises(QueryError, match="nowhere"):
        client.query(b"x", machine="nowhere")


def test_what_is_wrong_is_said_before_anything_is_sent(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client
) -> None:
    with pytest.raises(CommandTooLargeError, match="1,000,000"):
        client.propose(b"x" * 1_000_001)
    with pytest.raises(ConfigurationError, match="allowed: linearizable, lease, follower, stale"):
        client.query(b"x", consistency="strong")
    for wrong in ({"at_least": -1}, {"at_least": True}, {"max_staleness_ms": 0.5}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            client.query(b"x", consistency="follower", **wrong)
    with pytest.raises(ConfigurationError, match="goes with consistency follower"):
        client.query(b"x", max_staleness_ms=100)
    with pytest.raises(ConfigurationError, match="timeout_s"):
        client.query(b"x", timeout_s=-1)
    with pytest.raises(ConfigurationError, match="timeout_s"):
        client.propose(b"x", timeout_s=-1)
    with pytest.raises(ConfigurationError, match="group: found 9; allowed: 0, 1"):
        cluster.client(9)
    with pytest.raises(ConfigurationError, match="member"):
        cluster.log_dir("m9")


def test_a_large_command_goes_through_the_object_store(client: ray_paxos.Client) -> None:
    value = os.urandom(900_000)
    put(client, "large", value)
    assert read(client, "large").value == value


def test_a_callback_may_submit_but_not_wait(client: ray_paxos.Client) -> None:
    later: Future[ray_paxos.Result] = Future()
    refused: list[Exception] = []

    def go_on(done: Future[ray_paxos.Result]) -> None:
        for wait in (client.propose, client.query):
            try:
                wait(kv.encode_get("callback"))
            except ConfigurationError as error:
                refused.append(error)
        following = client.propose_async(kv.encode_put("callback", b"2"))
        following.add_done_callback(lambda done: later.set_result(done.result()))

    client.propose_async(kv.encode_put("callback", b"1")).add_done_callback(go_on)
    assert version(later.result(PATIENCE_S).value) == 2
    assert len(refused) == 2


def test_a_closed_client_refuses(cluster: ray_paxos.Cluster) -> None:
    client = cluster.client()
    put(client, "closed", b"1")
    future = client.propose_async(kv.encode_put("closed", b"2"))
    client.close()
    assert future.result(0).instance_id > 0
    client.close()
    with pytest.raises(ClientClosedError):
        client.propose(b"x")


def test_a_client_that_is_dropped_leaves_its_thread(cluster: ray_paxos.Cluster) -> None:
    with cluster.client():  # with whom the thread goes on
        client = cluster.client()
        put(client, "dropped", b"")
        sender = client._sender
        thread = sender._thread
        del client
        has_looked = threading.Event()
        thread.post(lambda outcomes: has_looked.set())
        assert has_looked.wait(PATIENCE_S)
        assert sender not in thread._due_ns


def test_reads_see_what_another_client_was_acknowledged_before(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client
) -> None:
    for n in range(5):
        put(client, "seen", b"%d" % n)
        with cluster.client() as reader:
            assert read(reader, "seen").value == b"%d" % n
            read(reader, "seen", "stale")  # whatever that member has


def test_members_agree_and_the_log_holds_every_command(
    cluster: ray_paxos.Cluster, client: ray_paxos.Client
) -> None:
    lines = [b"logged %d" % n for n in range(3_000)]
    client.propose_many(lines, machine="log")
    digests = cluster.member_digests()
    assert set(digests) == set(cluster.members)
    assert len(set(digests.values())) == 1
    cluster.flush()
    for member in cluster.members:
        table = dataset.dataset(cluster.log_dir(member), partitioning="hive").to_table()
        commands = table["command"].to_pylist()
        found = [c for c in commands if c is not None and c.startswith(b"logged ")]
        assert found == lines


def test_an_idle_cluster_answers_after_a_while(client: ray_paxos.Client) -> None:
    """Nothing but heartbeats for longer than an election timeout changes no master."""

    def nothing_happens() -> bool:
        first = put(client, "idle", b"1")
        time.sleep(2.5)
        return put(client, "idle", b"2").instance_id == first.instance_id + 1

    # A machine that stands still for as long as that changes it, too.
    assert holds_once(nothing_happens)
