"""Typed shortcuts to the kv machine."""

from __future__ import annotations

import ray

import ray_paxos
from ray_paxos.actors.launching import actor_names
from ray_paxos.actors.names import NAMESPACE
from ray_paxos.machines import kv


def put(client: ray_paxos.Client, key: str, value: bytes) -> ray_paxos.Result:
    """Write a key."""
    return client.propose(kv.encode_put(key, value))


def read(client: ray_paxos.Client, key: str, consistency: str = "linearizable") -> kv.Read:
    """Read a key."""
    found = kv.decode_result(client.query(kv.encode_get(key), consistency=consistency))
    assert isinstance(found, kv.Read)
    return found


def version(value: bytes | None) -> int:
    """The version that a write made."""
    written = kv.decode_result(value or b"")
    assert isinstance(written, kv.Written)
    return written.version


def dump(client: ray_paxos.Client, prefix: str) -> dict[str, tuple[bytes, int]]:
    """All live keys below a prefix: value and version."""
    entries: dict[str, tuple[bytes, int]] = {}
    after: str | None = None
    while True:
        page = kv.decode_page(client.query(kv.encode_dump(prefix, after)))
        entries.update({entry.key: (entry.value, entry.version) for entry in page.entries})
        after = page.next_after
        if after is None:
            return entries


def end_member(cluster: ray_paxos.Cluster, member: str) -> None:
    """End all actors of a member; Ray makes none of them again."""
    for name in actor_names(cluster._spec, member):
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
