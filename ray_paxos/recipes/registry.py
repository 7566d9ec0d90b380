"""Registries: who is there, and where; entries are leases, which end with whoever made them.

```python
workers = cluster.registry("workers", ttl_s=10)
with workers.register("w7", b"10.0.0.7:5000"):   # renewed by itself while this process lives
    serve()
workers.entries()                                # {"w7": b"10.0.0.7:5000"}
with workers.watch() as watch:
    for entries in watch: ...                    # all entries, now and after each change
```

An entry is a key with a time to live (`machines.kv`), in the space `registries`; who registers a
name that is taken takes it over, and the earlier one finds its lease lost. What is read is as of
now by the log: an entry may be there for up to its `ttl_s` after its process has gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import ConfigurationError
from ray_paxos.key_value import KeyValue
from ray_paxos.key_watch import KeyChange, KeyWatch
from ray_paxos.machines import kv
from ray_paxos.machines.kv import Delete, HasVersion, Renewed
from ray_paxos.recipes.leases import KeptLease, boot_time_s
from ray_paxos.recipes.recipe import (
    TIMEOUT_S,
    check_recipe_name,
    hiding_nothing,
    milliseconds_of,
)

REGISTRIES = "registries"
"""The space that has the entries of all registries of a cluster."""


class Registration:
    """An entry of this process; there until it is ended, or lost. A context manager.

    Attributes:
        entry: Its name.
    """

    def __init__(self, registry: Registry, entry: str, version: int, lease: KeptLease) -> None:
        """Made by `Registry.register`."""
        self._registry = registry
        self._version = version
        self._lease = lease
        self.entry = entry

    def __repr__(self) -> str:
        return f"Registration({self.entry!r}, of={self._registry!r})"

    @property
    def is_held(self) -> bool:
        """Whether it is known to be there now."""
        return self._lease.is_held

    def end(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take the entry away, if it is this one still.

        Raises:
            RequestError: As `KeyValue.put`; it ends with its lease then.
        """
        self._lease.end()
        key = self._registry._key(self.entry)
        condition = HasVersion(key, self._version)
        self._registry._kv.txn([condition], [Delete(key)], timeout_s=timeout_s)

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with hiding_nothing(error):
            self.end()


class Registry:
    """Made by `Cluster.registry`. May be used by several threads; pickles as a handle.

    Attributes:
        name: Its name.
        ttl_s: After so long an entry whose process says nothing is gone.
    """

    def __init__(self, name: str, space: KeyValue, *, ttl_s: float) -> None:
        """Made by a cluster; sends nothing.

        Raises:
            ConfigurationError: An argument means nothing.
        """
        check_recipe_name(name)
        if "/" in name:
            raise ConfigurationError(f"name: found {name!r:.80}; allowed: text without /")
        milliseconds_of("ttl_s", ttl_s)
        self.name = name
        self.ttl_s = ttl_s
        self._kv = space

    def __repr__(self) -> str:
        return f"Registry({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_arrived, (self.name, self._kv, self.ttl_s))

    def register(
        self,
        entry: str,
        value: bytes,
        *,
        on_lost: Callable[[], object] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Registration:
        """Let there be an entry, for as long as this process lives and keeps it.

        Args:
            entry: Its name; who has registered it before has lost it.
            value: What others find under it, such as an address.
            on_lost: Called once, from another thread, if it is lost before it is ended.
            timeout_s: How long to wait.

        Raises:
            RequestError: As `KeyValue.put`.
        """
        check_recipe_name(entry)
        key = self._key(entry)
        sent_s = boot_time_s()
        version = self._kv.put(key, value, ttl_s=self.ttl_s, timeout_s=timeout_s).version
        lease = KeptLease(
            f"entry {entry!r} of {self!r}",
            version,
            self.ttl_s,
            lambda: self._kv.renew_async(key, self.ttl_s, expected_version=version),
            _is_renewed,
            known_from_s=sent_s,
            on_lost=on_lost,
        )
        return Registration(self, entry, version, lease)

    def entries(self, *, timeout_s: float = TIMEOUT_S) -> dict[str, bytes]:
        """All entries, by name, in ascending order.

        Raises:
            QueryError: As `Client.query`.
        """
        prefix = self._key("")
        found = self._kv.scan(prefix, timeout_s=timeout_s)
        return {each.key.removeprefix(prefix): each.value for each in found}

    def watch(self, *, timeout_s: float = TIMEOUT_S) -> RegistryWatch:
        """Hear of all entries, now and after each change.

        Returns:
            The watch, to be iterated over and closed.
        """
        prefix = self._key("")
        return RegistryWatch(self._kv.watch(prefix, initial=True, timeout_s=timeout_s), prefix)

    def _key(self, entry: str) -> str:
        return f"{self.name}/{entry}"


class RegistryWatch:
    """All entries, after each change; iterate over it with `for` or `async for`, and close it."""

    def __init__(self, watch: KeyWatch, prefix: str) -> None:
        """Made by `Registry.watch`."""
        self._watch = watch
        self._prefix = prefix
        self._entries: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[dict[str, bytes]]:
        return self

    def __next__(self) -> dict[str, bytes]:
        return self.next()

    def next(self, timeout_s: float | None = None) -> dict[str, bytes]:
        """The entries after the next change; first of all those that there are, one by one.

        Raises:
            WaitTimeoutError: Nothing changed in time.
            QueryError: No member could be asked.
        """
        return self._after(self._watch.next(timeout_s))

    def __aiter__(self) -> AsyncIterator[dict[str, bytes]]:
        return self

    async def __anext__(self) -> dict[str, bytes]:
        return self._after(await self._watch.__anext__())

    def _after(self, change: KeyChange) -> dict[str, bytes]:
        entry = change.key.removeprefix(self._prefix)
        if change.value is None:
            self._entries.pop(entry, None)
        else:
            self._entries[entry] = change.value
        return dict(self._entries)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._watch.close()

    def __enter__(self) -> RegistryWatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _is_renewed(result: Result) -> bool:
    return isinstance(kv.decode_result(result.value or b""), Renewed)


def _arrived(name: str, space: KeyValue, ttl_s: float) -> Registry:
    return Registry(name, space, ttl_s=ttl_s)
