"""What a cluster makes recipes by."""

from __future__ import annotations

from collections.abc import Callable
from pickle import loads
from typing import Any, TypeVar, overload

from ray_paxos.core.spaces import owner_of
from ray_paxos.core.wanted import WantedSpace
from ray_paxos.group_clients import GroupClients
from ray_paxos.key_mapping import pickled
from ray_paxos.recipes.barrier import Barrier
from ray_paxos.recipes.counter import BLOCK_SIZE, Counter, IdAllocator
from ray_paxos.recipes.election import Election
from ray_paxos.recipes.ledger import Ledger
from ray_paxos.recipes.lock import Lock, ReadWriteLock, Semaphore
from ray_paxos.recipes.queue import Queue
from ray_paxos.recipes.recipe import LEASE_S, Recipe, check_recipe_name

RECIPES = "recipes"
"""The space by whose groups it is said which one has a recipe."""
TTL_S = 10.0
"""Of a lease, where nobody says otherwise."""

R = TypeVar("R", bound=Recipe)
V = TypeVar("V")


class MakesRecipes:
    """The part of a cluster that hands out recipes; each is found, or begins with nothing in it.

    All take `group`, the number of the group to live in; by default the one that the hash of the
    name gives. Whoever gives no group, or the same one, gets the same thing. They raise
    `ConfigurationError` for an argument that means nothing, and `RequestError` where group 0, which
    knows the groups, does not answer the first time it is asked.
    """

    _clients: GroupClients
    _open_space: Callable[[str], WantedSpace]

    def _recipe_group(self, kind: type[Recipe], name: str, group: int | None) -> int:
        """The group that has a recipe."""
        if group is not None:
            check_recipe_name(name)
            return self._group(group)
        return self._group_of_name(kind.__name__, name)

    def _group_of_name(self, kind: str, name: str) -> int:
        """The group that the hash of a name gives."""
        check_recipe_name(name)
        return owner_of(self._open_space(RECIPES), f"{kind}/{name}")

    def _group(self, group: int | None) -> int:
        """A group's number, checked."""
        raise NotImplementedError

    def lock(self, name: str, *, ttl_s: float = TTL_S, group: int | None = None) -> Lock:
        """A lock; see `recipes.lock`.

        Args:
            name: Of the lock.
            ttl_s: After so long a holder that says nothing has lost it.
            group: Which group has it.
        """
        return Lock(name, self._recipe_group(Lock, name, group), self._clients, ttl_s=ttl_s)

    def rw_lock(
        self, name: str, *, ttl_s: float = TTL_S, group: int | None = None
    ) -> ReadWriteLock:
        """A lock for readers and a writer; as `lock`."""
        number = self._recipe_group(ReadWriteLock, name, group)
        return ReadWriteLock(name, number, self._clients, ttl_s=ttl_s)

    def semaphore(
        self, name: str, capacity: int, *, ttl_s: float = TTL_S, group: int | None = None
    ) -> Semaphore:
        """A semaphore; as `lock`.

        Args:
            name: Of the semaphore.
            capacity: How many permits there are: the same for all who use it at one time.
            ttl_s: As of `lock`.
            group: As of `lock`.
        """
        number = self._recipe_group(Semaphore, name, group)
        return Semaphore(name, number, self._clients, ttl_s=ttl_s, capacity=capacity)

    def election(self, name: str, *, ttl_s: float = TTL_S, group: int | None = None) -> Election:
        """An election; see `recipes.election`; as `lock`."""
        number = self._recipe_group(Election, name, group)
        return Election(name, number, self._clients, ttl_s=ttl_s)

    def counter(self, name: str, *, group: int | None = None) -> Counter:
        """A counter; see `recipes.counter`.

        Args:
            name: Of the counter.
            group: Which group has it.
        """
        return Counter(name, self._recipe_group(Counter, name, group), self._clients)

    def id_allocator(
        self, name: str, *, block_size: int = BLOCK_SIZE, group: int | None = None
    ) -> IdAllocator:
        """What gives ids, each once; see `recipes.counter`.

        Args:
            name: Of the ids.
            block_size: So many are fetched at once; those that are left when a process ends are
                given to nobody.
            group: Which group has it.
        """
        number = self._recipe_group(IdAllocator, name, group)
        return IdAllocator(name, number, self._clients, block_size=block_size)

    def barrier(self, name: str, parties: int, *, group: int | None = None) -> Barrier:
        """A barrier; see `recipes.barrier`.

        Args:
            name: Of the barrier.
            parties: So many make a round: the same for all who use it at one time.
            group: Which group has it.
        """
        number = self._recipe_group(Barrier, name, group)
        return Barrier(name, number, self._clients, parties=parties)

    @overload
    def ledger(
        self, name: str, *, lease_s: float = LEASE_S, group: int | None = None
    ) -> Ledger[Any]: ...
    @overload
    def ledger(
        self,
        name: str,
        *,
        lease_s: float = LEASE_S,
        encode: Callable[[V], bytes],
        decode: Callable[[bytes], V],
        group: int | None = None,
    ) -> Ledger[V]: ...
    def ledger(
        self,
        name: str,
        *,
        lease_s: float = LEASE_S,
        encode: Callable[[Any], bytes] = pickled,
        decode: Callable[[bytes], Any] = loads,
        group: int | None = None,
    ) -> Ledger[Any]:
        """A ledger; see `recipes.ledger`.

        Args:
            name: Of the ledger.
            lease_s: After so long an owner that says nothing is at its key no more.
            encode: Makes bytes of an outcome; by default pickles it, with cloudpickle.
            decode: Makes an outcome of them; by default unpickles it.
            group: Which group has it.
        """
        number = self._recipe_group(Ledger, name, group)
        return Ledger(name, number, self._clients, lease_s=lease_s, encode=encode, decode=decode)

    @overload
    def queue(
        self, name: str, *, lease_s: float = LEASE_S, group: int | None = None
    ) -> Queue[Any]: ...
    @overload
    def queue(
        self,
        name: str,
        *,
        lease_s: float = LEASE_S,
        encode: Callable[[V], bytes],
        decode: Callable[[bytes], V],
        group: int | None = None,
    ) -> Queue[V]: ...
    def queue(
        self,
        name: str,
        *,
        lease_s: float = LEASE_S,
        encode: Callable[[Any], bytes] = pickled,
        decode: Callable[[bytes], Any] = loads,
        group: int | None = None,
    ) -> Queue[Any]:
        """A queue; see `recipes.queue`.

        Args:
            name: Of the queue.
            lease_s: How long an item is handed out for, where a take does not say otherwise.
            encode: As of `ledger`, of a payload.
            decode: As of `ledger`, of a payload.
            group: Which group has it.
        """
        number = self._recipe_group(Queue, name, group)
        return Queue(name, number, self._clients, lease_s=lease_s, encode=encode, decode=decode)
