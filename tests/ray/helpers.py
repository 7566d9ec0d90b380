"""Typed shortcuts to the kv machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import ray

import ray_paxos
from ray_paxos.actors.launching import actor_names
from ray_paxos.actors.names import NAMESPACE
from ray_paxos.machines import kv

Found = TypeVar("Found")

PATIENCE_S = 120.0
"""How long a test waits for what comes about by itself. It shows nothing of how soon: a machine may
be several times slower on another day. Where that matters, a test compares with what it measures
itself, or with the cluster's own timeouts."""


def wait_for(what: str, look: Callable[[], Found]) -> Found:
    """Look until there is something, or something is so, and give it back."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.1)
    return found


def holds_once(is_so: Callable[[], bool], attempts: int = 5) -> bool:
    """Whether something is so in one of several attempts.

    For what a machine that stands still for a moment may spoil, such as that a master stays.
    """
    return any(is_so() for _ in range(attempts))


def put(client: ray_paxos.Client, key: str, value: bytes) -> ray_paxos.Result:
    """Write a key."""
    return client.propose(kv.encode_put(key, value), timeout_s=PATIENCE_S)


def read(client: ray_paxos.Client, key: str, consistency: str = "linearizable") -> kv.Read:
    """Read a key."""
    query = kv.encode_get(key)
    found = kv.decode_result(client.query(query, consistency=consistency, timeout_s=PATIENCE_S))
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
        query = kv.encode_dump(prefix, after)
        page = kv.decode_page(client.query(query, timeout_s=PATIENCE_S))
        entries.update({entry.key: (entry.value, entry.version) for entry in page.entries})
        after = page.next_after
        if after is None:
            return entries


def end_member(cluster: ray_paxos.Cluster, member: str) -> None:
    """End all actors of a member; Ray makes none of them again."""
    for name in actor_names(cluster._spec, member):
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
