"""What `phx_kv.py` shows: PhxKV's rules one by one, and checkpoints from hand to hand.

```
   m1, m2, m3 have group 1        write ── checkpoint ── write ── checkpoint ── logs are cleaned
   m4 joins in the place of one   fetches the checkpoint, and loads it ── the log behind it
   all are stopped, and started   each loads its own checkpoint ── the log behind it
```

None of PhxPaxos' samples does that: PhxKV notes how far it is, and hands no checkpoint over.
"""

from __future__ import annotations

from example_job import Example, fresh_name
from phx_kv_client import GROUPS, Answer, PhxKv, keys_of
from phx_kv_machine import Status
from ray_paxos.errors import ConfigurationError

GROUP = GROUPS[0]
KEYS = 12


def show_versions(job: Example, kv: PhxKv) -> None:
    """A put and a delete name the version that they expect."""
    key = fresh_name("versions")

    def expect(what: str, answer: Answer, status: Status, version: int) -> None:
        job.say(f"  {what}: {answer.status.name.lower()}, version {answer.version}")
        is_so = (answer.status, answer.version) == (status, version)
        job.check(f"{what}: {status.name.lower()}, version {version}", is_so)

    expect("get of a key never written", kv.get_global(key), Status.KEY_MISSING, 0)
    expect("put at version 0", kv.put(key, b"a", 0), Status.SUCCESS, 1)
    expect("put at version 0 again", kv.put(key, b"b", 0), Status.VERSION_CONFLICT, 1)
    expect("get after the conflict", kv.get_global(key), Status.SUCCESS, 1)
    expect("delete at version 0", kv.delete(key, 0), Status.VERSION_CONFLICT, 1)
    expect("delete at version 1", kv.delete(key, 1), Status.SUCCESS, 2)
    expect("get after the delete", kv.get_global(key), Status.KEY_MISSING, 2)
    expect("put at version 0 after the delete", kv.put(key, b"c", 0), Status.VERSION_CONFLICT, 2)
    expect("put at version 2", kv.put(key, b"c", 2), Status.SUCCESS, 3)
    job.check("the value is that of the last put", kv.get_global(key).value == b"c")
    absent = fresh_name("absent")
    expect("delete of a key never written", kv.delete(absent, 0), Status.SUCCESS, 1)
    too_new = kv.get_local(key, version_min=4)
    job.check("a local get refuses what is too old", too_new.status is Status.VERSION_TOO_OLD)


def show_redirects(job: Example, kv: PhxKv) -> None:
    """Who is not the master names it; and when the lead moves, the client finds it again."""
    key = keys_of(GROUP, 1)[0]

    def named_masters() -> set[str]:
        answers = {name: service.get_global(key) for name, service in kv.services.items()}
        return {
            answer.master or name
            for name, answer in answers.items()
            if answer.status != Status.NO_MASTER
        }

    job.wait_for("all members name one master", lambda: len(named_masters()) == 1)
    named = named_masters()
    job.say(f"asked for {key!r}, of group {GROUP}, all members name {', '.join(sorted(named))}")
    members = job.cluster.group(GROUP).members().voters
    target = next(name for name in members if name not in named)
    job.cluster.transfer_master(target, GROUP)
    before, redirects = kv.get_global(key), kv.redirects
    put = kv.put(key, b"after the lead moved", before.version)
    job.say(f"{target} leads now; the client was redirected {kv.redirects - redirects} times")
    job.check("the client follows the master", put.status is Status.SUCCESS)


def show_checkpoints(job: Example, kv: PhxKv) -> None:
    """Another member takes one's place, with a checkpoint, since the logs begin behind it."""
    cluster = job.cluster
    group = cluster.group(GROUP)
    members = group.members()
    having = {*members.voters, *members.followers}
    target = next((name for name in cluster.members if name not in having), None)
    if target is None:
        raise ConfigurationError(
            f"all members of {cluster.name} have group {GROUP}; to hand a checkpoint over it takes "
            "one that has not"
        )
    keys = keys_of(GROUP, KEYS)
    for key in keys:
        overwrite(kv, key, b"kept")

    def is_cleaned() -> bool:
        # What an older one of two checkpoints covers goes.
        overwrite(kv, keys[0], b"kept")
        cluster.checkpoint(GROUP)
        return min(floor_of(job, name) for name in members.voters) > 1

    job.wait_for("members make checkpoints, and clean their logs", is_cleaned)
    master = cluster.master(GROUP)
    source = next(n for n in members.voters if master is None or n != master.member)
    job.say(f"{target} takes the place of {source} in group {GROUP}")
    group.move(source, target)
    received = received_bytes(job, target)
    job.say(f"{target} received {received} bytes; its log begins at {floor_of(job, target)}")
    job.check("the new member was handed a checkpoint", received > 0)
    job.check("the new member's log begins behind it", floor_of(job, target) > 1)
    check_equal(job, "the new member holds what the others hold")
    job.check("no record is missing", all(kv.get_global(k).value == b"kept" for k in keys))
    job.facts |= {"received_bytes": received, "log_floor": floor_of(job, target)}


def show_restart(job: Example) -> None:
    """Stop all members, and start them from their checkpoints; of an own cluster only."""
    import ray_paxos

    assert job.configuration is not None, "of an own cluster only"
    with PhxKv(job.cluster) as kv:
        before = {key: kv.get_global(key) for key in keys_of(GROUP, KEYS)}
    job.cluster.checkpoint(GROUP)
    job.cluster.stop()
    job.cluster = ray_paxos.start(job.configuration)
    with PhxKv(job.cluster) as kv:
        # As with PhxKV, a get has no answer before somebody leads.
        job.wait_for(
            "members that start load their checkpoints",
            lambda: {key: kv.get_global(key) for key in before} == before,
        )
    check_equal(job, "all of them hold the same then")


def overwrite(kv: PhxKv, key: str, value: bytes) -> None:
    """Give a key a value, whatever version it has."""
    kv.put(key, value, kv.get_global(key).version)


def check_equal(job: Example, promise: str) -> None:
    """Whether all members that have the group have the same state."""
    digests = {name: found.digest for name, found in job.cluster.member_digests(GROUP).items()}
    voters = set(job.cluster.group(GROUP).members().voters)
    job.check(promise, voters <= set(digests) and len(set(digests.values())) == 1)


def floor_of(job: Example, member: str) -> int:
    """The lowest instance in a member's log; 0 where nothing is known of it."""
    (found,) = (each for each in job.cluster.status().groups if each.group == GROUP)
    return found.positions[member].log_floor if member in found.positions else 0


def received_bytes(job: Example, member: str) -> int:
    """Of checkpoints that a member was handed."""
    (found,) = (each for each in job.cluster.status().members if each.name == member)
    groups = found.roles["checkpointer"].groups or {}
    return int(groups.get(GROUP, {}).get("received_bytes", 0))
