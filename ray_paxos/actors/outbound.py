"""All feeds of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic

from ray_paxos.actors.background import Background
from ray_paxos.actors.feeds import Batch, BatchForm, FeedLimits, Haste, PeerFeed
from ray_paxos.actors.peers import Peer
from ray_paxos.core.messages import Address


class Feeds(Generic[Batch]):
    """The feeds to all peers, made when first needed; used by any thread."""

    def __init__(
        self,
        names: Mapping[Address, str],
        *,
        background: Background,
        form: BatchForm[Batch],
        on_answer: Callable[[Batch], None],
        limits: FeedLimits,
        find: Callable[[str], Peer],
    ) -> None:
        """Feed the actors of these names.

        Args:
            names: Of the actor at each address; several addresses may be one actor's.
            background: Takes answers in.
            form: Of what the actors take and answer.
            on_answer: Takes what peers answer, on the background thread.
            limits: Of each feed.
            find: Turns a name into a peer.
        """
        self._names = names
        self._background = background
        self._form = form
        self._on_answer = on_answer
        self._limits = limits
        self._find = find
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="ray_paxos-lookup")
        self._making = threading.Lock()
        self._feeds: dict[str, PeerFeed[Batch]] = {}

    def send(self, messages: Sequence[tuple[Address, bytes]], haste: Haste = Haste.AT_ONCE) -> None:
        """Queue encoded envelopes for their peers; one for nobody we know is dropped.

        What is for one actor goes in one call, unless it is too much for that.

        Args:
            messages: Whom each is for, and the envelope.
            haste: How long they may wait for others to leave with.
        """
        batches: dict[str, list[bytes]] = {}
        for to, encoded in messages:
            name = self._names.get(to)
            if name is not None:
                batches.setdefault(name, []).append(encoded)
        for name, batch in batches.items():
            feed = self._feeds.get(name) or self._make(name)
            feed.put(batch, haste)

    def quickest(self, addresses: Sequence[Address], count: int) -> list[Address]:
        """So many of these that are ready, those that answered quickest the last time; or none."""
        ready: list[tuple[float, Address]] = []
        for to in addresses:
            feed = self._feeds.get(self._names.get(to, ""))
            if feed is not None and feed.is_ready:
                ready.append((feed.answer_s, to))
        return [to for _, to in sorted(ready)[:count]] if len(ready) >= count else []

    def take(self, to: Address) -> list[bytes]:
        """What waits for the actor at an address, and may go to it in another way."""
        feed = self._feeds.get(self._names.get(to, ""))
        return feed.take() if feed is not None else []

    def _make(self, name: str) -> PeerFeed[Batch]:
        with self._making:
            feed = self._feeds.get(name)
            if feed is None:
                feed = self._feeds[name] = PeerFeed(
                    name,
                    background=self._background,
                    lookup=self._lookup,
                    form=self._form,
                    on_answer=self._on_answer,
                    limits=self._limits,
                    find=self._find,
                )
            return feed

    def close(self) -> None:
        """Stop all feeds."""
        with self._making:
            for feed in self._feeds.values():
                feed.close()
        self._lookup.shutdown(wait=False)
