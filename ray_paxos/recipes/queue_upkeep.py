"""What is looked at, mended and configured of a queue; see `recipes.queue`."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from ray_paxos.group_clients import GroupClients
from ray_paxos.key_mapping import pickled
from ray_paxos.machines import queue_messages as messages
from ray_paxos.machines.queue_messages import (
    ATTEMPTS_MAX,
    ITEMS_MAX,
    Counts,
    DeadPage,
    Discarded,
    Dropped,
    Requeued,
)
from ray_paxos.machines.queues import (
    CONFIGURED_ATTEMPTS_MAX,
    CONFIGURED_ITEMS_MAX,
    COUNT_MAX,
)
from ray_paxos.recipes.queue_items import DeadItem
from ray_paxos.recipes.recipe import (
    LEASE_S,
    TIMEOUT_S,
    Ask,
    Propose,
    Recipe,
    Steps,
    check_number,
    milliseconds_of,
    value_of,
)

V = TypeVar("V")

PAGE_ITEMS = 100


class KeptQueue(Recipe, Generic[V]):
    """A queue without what puts in and takes out.

    Attributes:
        lease_s: How long an item is handed out for, where a take does not say otherwise.
    """

    machine: ClassVar[str] = "queues"

    def __init__(
        self,
        name: str,
        group: int,
        clients: GroupClients,
        *,
        lease_s: float = LEASE_S,
        encode: Callable[[V], bytes] = pickled,
        decode: Callable[[bytes], V] = pickle.loads,
    ) -> None:
        """Made by a cluster; sends nothing.

        Args:
            name: Its name.
            group: Which group has it.
            clients: Of the cluster's groups.
            lease_s: How long an item is handed out for, in seconds.
            encode: Makes bytes of a payload.
            decode: Makes a payload of them.

        Raises:
            ConfigurationError: An argument means nothing.
        """
        super().__init__(name, group, clients)
        milliseconds_of("lease_s", lease_s)
        self.lease_s = lease_s
        self._encode = encode
        self._decode = decode

    def _options(self) -> dict[str, Any]:
        return {"lease_s": self.lease_s, "encode": self._encode, "decode": self._decode}

    def look(self, *, timeout_s: float = TIMEOUT_S) -> Counts:
        """How many items there are of each kind, who waits, and the limits, as of now.

        Args:
            timeout_s: How long to try.

        Raises:
            QueryError: As `Client.query`.
        """
        return self._run(self._look(timeout_s))

    async def look_async(self, *, timeout_s: float = TIMEOUT_S) -> Counts:
        """As `look`, in a coroutine."""
        return await self._run_async(self._look(timeout_s))

    def _look(self, timeout_s: float) -> Steps[Counts]:
        answer = yield Ask(messages.encode_look(self.name), timeout_s)
        counts = messages.decode_answer(value_of(answer))
        assert isinstance(counts, Counts), "the answer to a look"
        return counts

    def dead_letters(self, *, timeout_s: float = TIMEOUT_S) -> Iterator[DeadItem[V]]:
        """Items that were handed out too often, in the order of their ids.

        Args:
            timeout_s: How long to try for each page.

        Returns:
            An iterator over them; each page is read when it is come to. Raises as `look`.
        """
        after: int | None = 0
        while after is not None:
            page = self._run(self._dead_page(after, timeout_s))
            for letter in page.letters:
                yield DeadItem(self, letter)
            after = page.next_after

    async def dead_letters_async(
        self, *, timeout_s: float = TIMEOUT_S
    ) -> AsyncIterator[DeadItem[V]]:
        """As `dead_letters`, in a coroutine."""
        after: int | None = 0
        while after is not None:
            page = await self._run_async(self._dead_page(after, timeout_s))
            for letter in page.letters:
                yield DeadItem(self, letter)
            after = page.next_after

    def _dead_page(self, after: int, timeout_s: float) -> Steps[DeadPage]:
        request = messages.encode_dead_letters(self.name, start_after=after, count_max=PAGE_ITEMS)
        page = messages.decode_answer(value_of((yield Ask(request, timeout_s))))
        assert isinstance(page, DeadPage), "the answer to a page of dead letters"
        return page

    def requeue(self, ids: Iterable[int], *, timeout_s: float = TIMEOUT_S) -> int:
        """Make dead letters ready again, as if they had never been handed out.

        Args:
            ids: Which; up to 1,000.
            timeout_s: How long to wait.

        Returns:
            How many of them were dead letters.

        Raises:
            RequestError: As `Client.propose`.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return self._run(self._end_dead(messages.encode_requeue, ids, timeout_s))

    async def requeue_async(self, ids: Iterable[int], *, timeout_s: float = TIMEOUT_S) -> int:
        """As `requeue`, in a coroutine."""
        return await self._run_async(self._end_dead(messages.encode_requeue, ids, timeout_s))

    def discard(self, ids: Iterable[int], *, timeout_s: float = TIMEOUT_S) -> int:
        """Forget dead letters; as `requeue`."""
        return self._run(self._end_dead(messages.encode_discard, ids, timeout_s))

    async def discard_async(self, ids: Iterable[int], *, timeout_s: float = TIMEOUT_S) -> int:
        """As `discard`, in a coroutine."""
        return await self._run_async(self._end_dead(messages.encode_discard, ids, timeout_s))

    def _end_dead(
        self,
        encode: Callable[[str, Iterable[int]], bytes],
        ids: Iterable[int],
        timeout_s: float,
    ) -> Steps[int]:
        wanted = list(ids)
        if not wanted:
            return 0
        check_number("the number of ids", len(wanted), 1, COUNT_MAX)
        for each in wanted:
            check_number("id", each, 1, (1 << 63) - 1)
        answer = yield Propose(encode(self.name, wanted), timeout_s)
        ended = messages.decode_result(value_of(answer))
        assert isinstance(ended, Requeued | Discarded), "the result of these"
        return ended.count

    def configure(
        self,
        *,
        attempts_max: int = ATTEMPTS_MAX,
        items_max: int = ITEMS_MAX,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Set the queue's limits, both of them.

        Args:
            attempts_max: So often an item is handed out before it is a dead letter.
            items_max: So many items it has, dead letters included.
            timeout_s: How long to wait.

        Raises:
            CommandError: There is no room for another queue.
            RequestError: As `Client.propose`.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        self._run(self._configure(attempts_max, items_max, timeout_s))

    async def configure_async(
        self,
        *,
        attempts_max: int = ATTEMPTS_MAX,
        items_max: int = ITEMS_MAX,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """As `configure`, in a coroutine."""
        await self._run_async(self._configure(attempts_max, items_max, timeout_s))

    def _configure(self, attempts_max: int, items_max: int, timeout_s: float) -> Steps[None]:
        check_number("attempts_max", attempts_max, 1, CONFIGURED_ATTEMPTS_MAX)
        check_number("items_max", items_max, 1, CONFIGURED_ITEMS_MAX)
        command = messages.encode_configure(
            self.name, attempts_max=attempts_max, items_max=items_max
        )
        yield Propose(command, timeout_s)

    def drop(self, *, force: bool = False, timeout_s: float = TIMEOUT_S) -> int:
        """Forget the queue with all its items; who waits goes on, for what is put in later.

        Args:
            force: Even where some of them are handed out.
            timeout_s: How long to wait.

        Returns:
            How many items it had.

        Raises:
            CommandError: Some are handed out, without `force`; all is as before.
            RequestError: As `Client.propose`.
        """
        return self._run(self._drop(force, timeout_s))

    async def drop_async(self, *, force: bool = False, timeout_s: float = TIMEOUT_S) -> int:
        """As `drop`, in a coroutine."""
        return await self._run_async(self._drop(force, timeout_s))

    def _drop(self, force: bool, timeout_s: float) -> Steps[int]:
        command = messages.encode_drop(self.name, force=bool(force))
        dropped = messages.decode_result(value_of((yield Propose(command, timeout_s))))
        assert isinstance(dropped, Dropped), "the result of a drop"
        return dropped.count
