"""A dashboard's server without a cluster behind it, for its tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from ray_paxos.dashboard.access import Access
from ray_paxos.dashboard.collector import Collector
from ray_paxos.dashboard.log_tail import LogTail
from ray_paxos.dashboard.server import Server
from ray_paxos.errors import PaxosError
from ray_paxos.observability.cluster_view import ClusterView
from tests.unit.dashboard_target import tail_of
from tests.unit.dashboard_views import view_of

Play = Callable[["Bench"], Awaitable[None]]


class Bench:
    """A server with a browser's end of it.

    Attributes:
        view: What the next look sees; or what it raises.
        looks: How many there were.
        reads: What was asked of the log: group, members, count.
        may_read: While it is not set, whoever reads a log waits.
        token: What has to be shown.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        """See three members that are well."""
        self.view: ClusterView | Exception = view_of()
        self.tail: LogTail | PaxosError = tail_of(1, "a command")
        self.token: str | None = None
        self.looks = 0
        self.reads: list[tuple[int, tuple[str, ...], int]] = []
        self.may_read = threading.Event()
        self.may_read.set()
        self.client: TestClient[Any, Any]
        self._host = host

    def look(self) -> ClusterView:
        """As a watcher's."""
        self.looks += 1
        if isinstance(self.view, Exception):
            raise self.view
        return self.view

    def read_log(self, group: int, members: tuple[str, ...], count: int) -> LogTail:
        """As a watcher's."""
        self.reads.append((group, members, count))
        assert self.may_read.wait(60)
        if isinstance(self.tail, PaxosError):
            raise self.tail
        return self.tail

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """While the server runs."""
        collector = Collector(self.look, interval_s=0.02)
        access = Access("demo", self._host, lambda: self.token)
        application = Server(collector, self.read_log).application(access)
        async with TestClient(TestServer(application)) as self.client:
            yield

    async def get(self, path: str, **headers: str) -> ClientResponse:
        """Ask for something; `_` in the names of headers stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(path, headers=named)


def play(story: Play, bench: Bench | None = None) -> None:
    """Run a test's story against a server."""

    async def run() -> None:
        used = bench or Bench()
        async with used.served():
            await asyncio.wait_for(story(used), 60)

    asyncio.run(run())
