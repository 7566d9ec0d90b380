"""A space of keys, spread over groups: put, get, delete, compare-and-set, scan.

```python
kv = cluster.kv("settings")                     # found, or made over all groups that can hold keys
kv.put("color", b"green")                       # .version
kv.get("color")                                 # .value, .version; None where there is none
kv.cas("color", b"blue", expected_version=1)    # Written, or Conflict with the version found
kv.put("job/7", b"node-3", ttl_s=10)            # ends by itself, unless it is renewed
kv.renew("job/7", ttl_s=10)                     # Renewed, or Conflict where it has ended
kv.txn([HasVersion("a", 1)], [Put("a", b"x")])  # several keys at once, where one group has them
for entry in kv.scan("user/"):                  # all groups, in the order of the keys
    print(entry.key, entry.value, entry.version)
```

Each key belongs to one group of the space for ever (`core.spaces`), and its commands go to that
group's log, through one client of each group that is used. So what is said of a `Client` is true of
each key: a command is applied at most once, one thread's commands on one key are applied in order,
and a linearizable read sees every write that was acknowledged before it. Between keys nothing is
promised that they would need to be in one group for: two keys are two commands, unless one `txn`
names both, and a scan sees each page as of its own time. How versions go on is said in
`machines.kv`.

A group may move to other members, and the master to another of them, at any time: its clients look
for it by themselves, and what is asked meanwhile waits.

Each group that is used costs this process a session there; and `multi_get` and `scan`, which ask
for much at a time, a thread.

A `KeyValue` may be used by several threads. Pickled, it opens clients, and so sessions, of its own
where it lands, as a `Client` does; close it there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from operator import attrgetter
from pickle import loads
from types import TracebackType
from typing import Any, TypeVar, overload

import msgspec

from ray_paxos.actors.client_arguments import deadline_of, read_terms
from ray_paxos.actors.outcomes import Result
from ray_paxos.client import CLOSE_TIMEOUT_S, Client
from ray_paxos.core.spaces import SPACE_MACHINE, owner_of, prefix_of
from ray_paxos.core.wanted import WantedSpace
from ray_paxos.errors import ConfigurationError
from ray_paxos.group_clients import GroupClients, arrived_clients
from ray_paxos.key_arguments import (
    check_commands,
    check_conditions,
    check_key,
    check_value,
    check_version,
    ttl_ms_of,
)
from ray_paxos.key_mapping import KeyMapping, pickled
from ray_paxos.key_watch import KeyPosition, KeyWatch
from ray_paxos.machines import kv
from ray_paxos.machines.kv import (
    Condition,
    Conflict,
    KeyCommand,
    KeyEntry,
    Read,
    Renewed,
    TxnDone,
    Written,
)

PAGE_KEYS = 1_000
V = TypeVar("V")

READ_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0


class Versioned(msgspec.Struct, frozen=True):
    """A value, and the version of its key."""

    value: bytes
    version: int


class ReadOptions(msgspec.Struct, frozen=True):
    """How fresh the answers of one call are to be; as of `Client.query`."""

    consistency: str
    max_staleness_ms: int | None
    timeout_s: float


class KeyValue:
    """Made by `Cluster.kv`.

    Every method raises `ConfigurationError` for an argument that means nothing: then nothing was
    sent. Those that write raise besides, as `Client.propose`, `NotAppliedError` (certainly not
    applied: doing it again is safe), `OutcomeUnknownError` (may be applied, at most once: read the
    key's version) and `SessionExpiredError`. Those that read raise `QueryError`, `StaleReadError`
    and `LeaseError` as `Client.query`, and take its `consistency` and `max_staleness_ms`; a
    `follower` read sees what this object has written.

    A key is any text that UTF-8 can hold, also the empty one; a value is `bytes`.
    """

    def __init__(self, space: WantedSpace, clients: GroupClients, *, owns_clients: bool) -> None:
        """Send nothing yet.

        Args:
            space: As it is in group 0.
            clients: Of the cluster's groups.
            owns_clients: Whether `close` is to close them.
        """
        self._space = space
        self._prefix = prefix_of(space.name)
        self._clients = clients
        self._owns_clients = owns_clients

    def __repr__(self) -> str:
        return f"KeyValue({self.name!r}, groups={self.groups})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_arrived, (self._space, self._clients.spec))

    def __enter__(self) -> KeyValue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(timeout_s=CLOSE_TIMEOUT_S if kind is None else 0.0)

    @property
    def name(self) -> str:
        """Of the space."""
        return self._space.name

    @property
    def groups(self) -> tuple[int, ...]:
        """Numbers of the groups that hold its keys, ascending; they never change."""
        return self._space.groups

    def group_of(self, key: str) -> int:
        """The group that has a key, whether or not it was ever written."""
        check_key(key)
        return owner_of(self._space, key)

    # One key: writes.

    def put(
        self,
        key: str,
        value: bytes,
        *,
        ttl_s: float | None = None,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Written:
        """Give a key a value.

        Args:
            key: Which.
            value: Its value.
            ttl_s: How long it lives, by the time of its group; then it ends as by `delete`, which
                counts as a write. It lives at least so long: that time stands still while the
                group has no master. None for as long as nobody writes or deletes it.
            timeout_s: How long to wait.

        Returns:
            The key's version now, and whether it had a value before; durable on a majority of its
            group's voters.
        """
        check_value(value)
        inner = self._inner(key)
        if ttl_s is None:
            command = kv.encode_put(inner, value)
        else:
            command = kv.encode_put_for(inner, value, ttl_ms_of(ttl_s))
        return _written(self._propose(key, command, timeout_s))

    def renew(
        self,
        key: str,
        ttl_s: float,
        *,
        expected_version: int = 0,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Renewed | Conflict:
        """Let a key's value end so long from now, whatever end it had, or had not.

        Args:
            key: Which.
            ttl_s: As of `put`.
            expected_version: Only if this is its version; 0 for any.
            timeout_s: How long to wait.

        Returns:
            The version, which has not changed; or a `Conflict` with the version found: the key has
            no value any more, or another one than was expected. Then nothing has changed.
        """
        check_version(expected_version)
        command = kv.encode_renew(self._inner(key), ttl_ms_of(ttl_s), expected_version)
        result = self._propose(key, command, timeout_s)
        assert isinstance(result, Renewed | Conflict), "what the machine answers to a renew"
        return result

    def renew_async(
        self,
        key: str,
        ttl_s: float,
        *,
        expected_version: int = 0,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Future[Result]:
        """As `renew`, and go on; the result's `value` is for `machines.kv.decode_result`."""
        check_version(expected_version)
        command = kv.encode_renew(self._inner(key), ttl_ms_of(ttl_s), expected_version)
        return self._client(key).propose_async(command, SPACE_MACHINE, timeout_s=timeout_s)

    def delete(self, key: str, *, timeout_s: float = WRITE_TIMEOUT_S) -> Written:
        """Take a key's value away; also where it has none, which counts as a write, too.

        Args:
            key: Which.
            timeout_s: How long to wait.

        Returns:
            The version that the key has without a value, and whether it had one; as `put`.
        """
        return _written(self._propose(key, kv.encode_delete(self._inner(key)), timeout_s))

    def cas(
        self,
        key: str,
        value: bytes,
        expected_version: int,
        *,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Written | Conflict:
        """Give a key a value if its version is the expected one (compare and set).

        Args:
            key: Which.
            value: Its value.
            expected_version: 0 for one that was never written; of one that was deleted `read` tells
                it.
            timeout_s: How long to wait.

        Returns:
            As of `put`; or a `Conflict` with the version found, and then nothing has changed.
        """
        check_value(value)
        check_version(expected_version)
        command = kv.encode_cas(self._inner(key), value, expected_version)
        result = self._propose(key, command, timeout_s)
        assert isinstance(result, Written | Conflict), "what the machine answers to a cas"
        return result

    # Several keys: writes.

    def txn(
        self,
        conditions: Sequence[Condition],
        then: Sequence[KeyCommand],
        otherwise: Sequence[KeyCommand] = (),
        *,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> TxnDone:
        """Do one of two things, by whether all conditions hold, with nothing in between.

        Only keys of one group can be in it: all of them are where the space has but one group
        (`cluster.kv(name, groups=[1])`), and else those of which `group_of` is the same.

        Args:
            conditions: `HasVersion` and `HasValue` of `machines.kv`; none of them hold always.
            then: Commands of `machines.kv`, such as `Put`, `Delete` and `Get`, in order.
            otherwise: What to do where a condition does not hold.
            timeout_s: How long to wait.

        Returns:
            Whether the conditions held, and a result for each command that was executed.
        """
        check_conditions(conditions)
        check_commands("then", then)
        check_commands("otherwise", otherwise)
        key = self._key_of_one_group((*conditions, *then, *otherwise))
        command = kv.encode_txn(*map(self._all_inner, (conditions, then, otherwise)))
        result = self._propose(key, command, timeout_s)
        assert isinstance(result, TxnDone), "what the machine answers to a txn"
        return result

    def _key_of_one_group(self, parts: Sequence[Condition | KeyCommand]) -> str:
        """One of the keys, where one group has all of them."""
        if not 1 <= len(parts) <= kv.TXN_COMMANDS_MAX:
            raise ConfigurationError(
                f"a txn: found {len(parts)} conditions and commands; allowed: 1 to "
                f"{kv.TXN_COMMANDS_MAX:,}"
            )
        first, *others = (part.key for part in parts)
        group = owner_of(self._space, first)
        for other in others:
            if owner_of(self._space, other) != group:
                raise ConfigurationError(
                    f"a txn over two groups: {first!r} is in group {group}, {other!r} in "
                    f"{owner_of(self._space, other)}; allowed: keys of one, such as all those of a "
                    "space over one group"
                )
        return first

    def _all_inner(self, parts: Sequence[Any]) -> list[Any]:
        return [msgspec.structs.replace(part, key=self._inner(part.key)) for part in parts]

    # One key: reads.

    def get(
        self,
        key: str,
        *,
        consistency: str = "linearizable",
        max_staleness_ms: int | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> Versioned | None:
        """A key's value.

        Args:
            key: Which.
            consistency: As of `Client.query`.
            max_staleness_ms: As of `Client.query`.
            timeout_s: How long to try.

        Returns:
            The value with its version; None where the key has none.
        """
        options = ReadOptions(consistency, max_staleness_ms, timeout_s)
        return _versioned(self._read(key, options))

    def read(
        self,
        key: str,
        *,
        consistency: str = "linearizable",
        max_staleness_ms: int | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> Read:
        """A key's value, or the version of one that has none; arguments as of `get`.

        Returns:
            Whether there is a value, the version (0: never written), and the value or None.
        """
        return self._read(key, ReadOptions(consistency, max_staleness_ms, timeout_s))

    # Many keys.

    def multi_get(
        self,
        keys: Iterable[str],
        *,
        consistency: str = "linearizable",
        max_staleness_ms: int | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> dict[str, Versioned]:
        """Values of several keys, asked for at the same time; other arguments as of `get`.

        Each is as fresh as asked for; they need not all be as of the same state.

        Args:
            keys: Which.
            consistency: See `get`.
            max_staleness_ms: See `get`.
            timeout_s: See `get`.

        Returns:
            Those that have a value, in the order in which they were asked for.

        Raises:
            PaxosError: Of the first one that has no answer.
        """
        options = ReadOptions(consistency, max_staleness_ms, timeout_s)
        if isinstance(keys, str):
            raise ConfigurationError("keys: found one text; allowed: several")
        wanted = list(dict.fromkeys(keys))
        requests = [kv.encode_get(self._inner(key)) for key in wanted]
        futures = [
            self._ask(owner_of(self._space, key), request, options)
            for key, request in zip(wanted, requests, strict=True)
        ]
        found: dict[str, Versioned] = {}
        for key, future in zip(wanted, futures, strict=True):
            versioned = _versioned(_decoded(future.result()))
            if versioned is not None:
                found[key] = versioned
        return found

    def scan(
        self,
        prefix: str = "",
        *,
        after: str | None = None,
        page_keys: int = PAGE_KEYS,
        consistency: str = "linearizable",
        max_staleness_ms: int | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> Iterator[KeyEntry]:
        """All keys that have a value and begin so, in ascending order (of their code points).

        It holds one page of every group at a time. Each page is as of the time at which it is asked
        for: what was written before the scan and is not changed meanwhile is in it, once.

        Args:
            prefix: What they begin with; empty for all keys.
            after: Only keys behind this one, such as the last of an earlier scan.
            page_keys: How many keys of one group are asked for at a time, at most; a page ends
                sooner once it holds 1 MB. For the first few keys ask for few.
            consistency: See `get`.
            max_staleness_ms: See `get`.
            timeout_s: How long to try, for each page.

        Returns:
            Key, value and version of each. Its `next` raises what a read raises.
        """
        options = ReadOptions(consistency, max_staleness_ms, timeout_s)
        read_terms(SPACE_MACHINE, consistency, None, max_staleness_ms)
        deadline_of(timeout_s)
        check_key(prefix, "prefix")
        start = None if after is None else self._inner(after, "after")
        if type(page_keys) is not int or not 1 <= page_keys <= kv.PAGE_KEYS_MAX:
            raise ConfigurationError(
                f"page_keys: found {page_keys!r}; allowed: 1 to {kv.PAGE_KEYS_MAX:,}"
            )
        return self._scanned(prefix, start, page_keys, options)

    def watch(
        self,
        prefix: str = "",
        *,
        position: KeyPosition | None = None,
        from_instance_id: int | None = None,
        initial: bool = False,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> KeyWatch:
        """Hear of every change of the keys that begin so; see `key_watch` for what is promised.

        Args:
            prefix: What they begin with; empty for all keys. A watch of the keys below one head, as
                `ui/`, is not woken by changes of others.
            position: Where an earlier watch of the prefix had come to; None to begin here and now.
            from_instance_id: Instead, of a space in one group: begin with the changes of this
                instance of its log, such as the `instance_id` of a result.
            initial: Whether to begin with the keys that there are.
            timeout_s: How long to wait for the groups, to begin.

        Returns:
            The watch, to be iterated over and closed.

        Raises:
            As `put`: each group is told to remember changes, which is a command.
        """
        check_key(prefix, "prefix")
        deadline_of(timeout_s)
        if from_instance_id is not None:
            position = self._position_before(from_instance_id, position)
        return KeyWatch(
            space_prefix=self._prefix,
            prefix=prefix,
            groups=self.groups,
            clients=self._clients,
            position=position,
            initial=initial,
            timeout_s=timeout_s,
        )

    @overload
    def mapping(self) -> KeyMapping[Any]: ...
    @overload
    def mapping(
        self, *, encode: Callable[[V], bytes], decode: Callable[[bytes], V]
    ) -> KeyMapping[V]: ...
    def mapping(
        self, *, encode: Callable[[Any], bytes] = pickled, decode: Callable[[bytes], Any] = loads
    ) -> KeyMapping[Any]:
        """The space as a dictionary.

        Args:
            encode: Makes bytes of a value; by default pickles it, with cloudpickle.
            decode: Makes a value of them.

        Returns:
            A `MutableMapping` of these very keys; see `key_mapping` for what is one step in it.
        """
        return KeyMapping(self, encode, decode)

    def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End the clients of one that was pickled; calling it again does nothing.

        One that `Cluster.kv` made shares them with the cluster's others: it can be used as long as
        the cluster runs, and this does nothing.

        Args:
            timeout_s: How long to wait for writes without an outcome.
        """
        deadline_of(timeout_s)
        if self._owns_clients:
            self._clients.close(timeout_s=timeout_s)

    # Helpers.

    def _position_before(self, instance_id: int, position: KeyPosition | None) -> KeyPosition:
        if type(instance_id) is not int or instance_id < 1 or position is not None:
            raise ConfigurationError(
                f"from_instance_id: found {instance_id!r}; allowed: 1 or more, and no position"
            )
        if len(self.groups) != 1:
            raise ConfigurationError(
                f"from_instance_id: {self.name} is spread over {len(self.groups)} groups, each "
                "with instances of its own; allowed: the position of an earlier watch"
            )
        return KeyPosition({self.groups[0]: (instance_id, 0)})

    def _inner(self, key: str, what: str = "key") -> str:
        """A key as its group's machine knows it."""
        check_key(key, what)
        return f"{self._prefix}{key}"

    def _client(self, key: str) -> Client:
        return self._clients.at(owner_of(self._space, key))

    def _propose(self, key: str, command: bytes, timeout_s: float) -> kv.KvResult:
        result: Result = self._client(key).propose(command, SPACE_MACHINE, timeout_s=timeout_s)
        return kv.decode_result(result.value or b"")

    def _read(self, key: str, options: ReadOptions) -> Read:
        request = kv.encode_get(self._inner(key))
        # Waited for, one read may take a shorter way than many that go together.
        answer = self._client(key).query(
            request,
            SPACE_MACHINE,
            consistency=options.consistency,
            max_staleness_ms=options.max_staleness_ms,
            timeout_s=options.timeout_s,
        )
        return _decoded(answer)

    def _ask(self, group: int, request: bytes, options: ReadOptions) -> Future[bytes]:
        return self._clients.at(group).query_async(
            request,
            SPACE_MACHINE,
            consistency=options.consistency,
            max_staleness_ms=options.max_staleness_ms,
            timeout_s=options.timeout_s,
        )

    def _scanned(
        self, prefix: str, start: str | None, page_keys: int, options: ReadOptions
    ) -> Iterator[KeyEntry]:
        def ask(group: int, after: str | None) -> Future[bytes]:
            request = kv.encode_dump(self._prefix + prefix, after, page_keys)
            return self._ask(group, request, options)

        def entries(group: int, asked: Future[bytes]) -> Iterator[KeyEntry]:
            while True:
                page = kv.decode_page(asked.result())
                for entry in page.entries:
                    key = entry.key.removeprefix(self._prefix)
                    yield KeyEntry(key, entry.value, entry.version)
                if page.next_after is None:
                    return
                asked = ask(group, page.next_after)

        # The first pages of all groups at once: they are all needed before there is a first key.
        first = [(group, ask(group, start)) for group in self.groups]
        sources = [entries(group, asked) for group, asked in first]
        yield from heapq.merge(*sources, key=attrgetter("key"))


def _arrived(space: WantedSpace, spec: bytes) -> KeyValue:
    return KeyValue(space, arrived_clients(spec), owns_clients=True)


def _decoded(answer: bytes) -> Read:
    found = kv.decode_result(answer)
    assert isinstance(found, Read), "what the machine answers to a get"
    return found


def _versioned(found: Read) -> Versioned | None:
    return Versioned(found.value, found.version) if found.value is not None else None


def _written(result: kv.KvResult) -> Written:
    assert isinstance(result, Written), "what the machine answers to a put and to a delete"
    return result
