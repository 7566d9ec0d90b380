"""All feeds of one role actor, and the loop that runs them for a role with a busy main thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ray_paxos.actors.feeds import FeedLimits, PeerFeed
from ray_paxos.actors.names import actor_name
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.messages import Address, Envelope, RoleName


class Feeds:
    """The feeds to all peers, made when first needed; to be used on the loop only."""

    def __init__(
        self,
        genesis: Genesis,
        *,
        loop: asyncio.AbstractEventLoop,
        on_answer: Callable[[Sequence[Envelope]], None],
        limits: FeedLimits,
    ) -> None:
        """Feed the actors of the genesis' members.

        Args:
            genesis: Says what the members are called.
            loop: Runs the feeds.
            on_answer: Takes what peers answer.
            limits: Of each feed.
        """
        self._names: Mapping[Address, str] = {
            Address(member.member_id, role): actor_name(genesis.cluster, member.name, role)
            for member in genesis.members
            for role in RoleName
            if role is not RoleName.CLIENT
        }
        self._loop = loop
        self._on_answer = on_answer
        self._limits = limits
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="ray_paxos-lookup")
        self._feeds: dict[Address, PeerFeed] = {}

    def put(self, to: Address, encoded: bytes) -> None:
        """Queue an encoded envelope; one for nobody we know is dropped."""
        feed = self._feeds.get(to)
        if feed is None:
            name = self._names.get(to)
            if name is None:
                return
            feed = PeerFeed(
                name,
                loop=self._loop,
                lookup=self._lookup,
                on_answer=self._on_answer,
                limits=self._limits,
            )
            self._feeds[to] = feed
        feed.put(encoded)

    def close(self) -> None:
        """Stop all feeds."""
        for feed in self._feeds.values():
            feed.close()
        self._lookup.shutdown(wait=False)


class BackgroundFeeds:
    """Feeds and one timer, run by a thread of their own.

    The main thread hands messages over and goes on; answers and the timer come back through
    callbacks, on the background thread.
    """

    def __init__(
        self,
        genesis: Genesis,
        *,
        on_answer: Callable[[Sequence[Envelope]], None],
        on_timer: Callable[[], None],
        limits: FeedLimits,
    ) -> None:
        """Start the thread; arguments as `Feeds`, and what to call when the timer runs out."""
        self._loop = asyncio.new_event_loop()
        self._feeds = Feeds(genesis, loop=self._loop, on_answer=on_answer, limits=limits)
        self._on_timer = on_timer
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ray_paxos-feeds", daemon=True
        )
        self._thread.start()

    def send(self, messages: Sequence[tuple[Address, bytes]]) -> None:
        """Queue encoded envelopes for their peers."""
        self._loop.call_soon_threadsafe(self._put_all, messages)

    def set_timer(self, delay_s: float) -> None:
        """Let the timer run out after that time, in place of any earlier setting."""
        self._loop.call_soon_threadsafe(self._set_timer, delay_s)

    def close(self) -> None:
        """End the thread; what is queued is dropped."""
        self._loop.call_soon_threadsafe(self._close)
        self._thread.join()
        # The loop is left open: answers to calls on their way still knock at it.

    def _put_all(self, messages: Sequence[tuple[Address, bytes]]) -> None:
        for to, encoded in messages:
            self._feeds.put(to, encoded)

    def _set_timer(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _close(self) -> None:
        self._feeds.close()
        self._loop.stop()
