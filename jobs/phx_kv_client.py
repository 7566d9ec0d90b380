"""PhxKV's service, one at each member, and its client, which follows redirects.

Who is not the master of a key's group answers a put, a delete and a global get with the master's
name (status 10), or that there is none (101); the client asks there, four times at most. That is
PhxKV's manner, and shown for that. A `ray_paxos.Client` needs none of it: it finds the master by
itself. And nothing hangs on it: what this service knows of the master may be out of date by the
time that it proposes, as in PhxKV. That a put is done at most once from one version is said by the
machine, in the log; that a global get is up to date, by the master's lease (`linearizable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from phx_kv_machine import Delete, Put, Reply, Status

if TYPE_CHECKING:
    from ray_paxos import Client, Cluster

MACHINE = "phx_kv"
GROUPS = (1, 2, 3)
CALLS_MAX = 4


class Answer(NamedTuple):
    """Of a service.

    Attributes:
        status: What became of the call.
        version: Of the record, now; 0 where nothing is known of it.
        value: Its value, of a get.
        master: Whom to ask instead.
    """

    status: Status
    version: int = 0
    value: bytes | None = None
    master: str = ""


def group_of(key: str) -> int:
    """The group of a key, by PhxKV's hash."""
    found = 0
    for byte in key.encode():
        found = (found * 7 + byte) & 0xFFFFFFFF
    return GROUPS[found % len(GROUPS)]


class Service:
    """What PhxKV runs at each of its nodes."""

    def __init__(self, cluster: Cluster, member: str, clients: dict[int, Client]) -> None:
        """At a member of a cluster, with a client of each group."""
        self._cluster = cluster
        self._member = member
        self._clients = clients

    def put(self, key: str, value: bytes, version: int) -> Answer:
        """Give a key a value, if its version is this one; at the master of its group only."""
        return self._at_master(key) or self._execute(key, Put(key, value, version))

    def delete(self, key: str, version: int) -> Answer:
        """Take a key's value away, if its version is this one; at the master of its group only."""
        return self._at_master(key) or self._execute(key, Delete(key, version))

    def get_global(self, key: str) -> Answer:
        """The record as of now; at the master of its group only."""
        return self._at_master(key) or self._read(key, "linearizable")

    def get_local(self, key: str, version_min: int = 0) -> Answer:
        """The record as some member has it, of this version at least; it may be out of date."""
        answer = self._read(key, "stale")
        if answer.version < version_min:
            return Answer(Status.VERSION_TOO_OLD, answer.version)
        return answer

    def _at_master(self, key: str) -> Answer | None:
        """Whom to ask instead of this member."""
        master = self._cluster.master(group_of(key))
        if master is None:
            return Answer(Status.NO_MASTER)
        if master.member != self._member:
            return Answer(Status.MASTER_REDIRECT, master=master.member)
        return None

    def _execute(self, key: str, command: Put | Delete) -> Answer:
        result = self._clients[group_of(key)].propose(msgspec.msgpack.encode(command), MACHINE)
        return _answer(result.value or b"")

    def _read(self, key: str, consistency: str) -> Answer:
        client = self._clients[group_of(key)]
        return _answer(client.query(key.encode(), MACHINE, consistency=consistency))


class PhxKv:
    """PhxKV's client. A context manager."""

    def __init__(self, cluster: Cluster) -> None:
        """Open a client of each group, which all services share."""
        self._closing = ExitStack()
        clients = {
            group: self._closing.enter_context(cluster.client(group, label="phx_kv"))
            for group in GROUPS
        }
        self.services = {name: Service(cluster, name, clients) for name in cluster.members}
        self.redirects = 0
        self._masters: dict[int, str] = {}

    def __enter__(self) -> PhxKv:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def put(self, key: str, value: bytes, version: int) -> Answer:
        """As of `Service`, wherever the master is."""
        return self._follow(key, lambda service: service.put(key, value, version))

    def delete(self, key: str, version: int) -> Answer:
        """As of `Service`, wherever the master is."""
        return self._follow(key, lambda service: service.delete(key, version))

    def get_global(self, key: str) -> Answer:
        """As of `Service`, wherever the master is."""
        return self._follow(key, lambda service: service.get_global(key))

    def get_local(self, key: str, version_min: int = 0) -> Answer:
        """As of `Service`; any will do."""
        return next(iter(self.services.values())).get_local(key, version_min)

    def _follow(self, key: str, ask: Callable[[Service], Answer]) -> Answer:
        """Ask who was the master, and whom it names; PhxKV gives up after four calls."""
        group = group_of(key)
        member = self._masters.get(group) or next(iter(self.services))
        for _ in range(CALLS_MAX):
            answer = ask(self.services[member])
            if answer.status is not Status.MASTER_REDIRECT:
                return answer
            self.redirects += 1
            member = self._masters[group] = answer.master
        return Answer(Status.FAILED)


def keys_of(group: int, count: int) -> list[str]:
    """So many keys of a group."""
    names: Iterable[str] = (f"key{number}" for number in range(10 * len(GROUPS) * count))
    return [name for name in names if group_of(name) == group][:count]


def _answer(data: bytes) -> Answer:
    reply = msgspec.msgpack.decode(data, type=Reply)
    return Answer(reply.status, reply.version, reply.value)
