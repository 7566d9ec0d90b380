"""The page and what it fetches, over HTTP.

```
 /                              the page; its script and style under /static/
 /api/view                      what the cluster is like (`documents`)
 /api/groups/7                  all about one group
 /api/groups/7/log?count=50     the end of its log, decoded
```

Each answer of `/api` has an ETag: who names it is told that nothing has changed since (304). An
error is JSON, `{"error": ...}`: 400 for a malformed number, 404 for what there is not, 503 while
the cluster does not answer, or, with `Retry-After`, while too many logs are being read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING

from aiohttp import web

from ray_paxos.dashboard.access import Access, add_headers, problem
from ray_paxos.dashboard.collector import Collector
from ray_paxos.dashboard.documents import (
    Encoded,
    encode,
    find_group,
    group_document,
    view_document,
)
from ray_paxos.dashboard.log_tail import COUNT_MAX
from ray_paxos.dashboard.tails import BusyError, ReadLog, Tails
from ray_paxos.errors import PaxosError

if TYPE_CHECKING:
    from ray_paxos.observability.cluster_view import GroupView

COUNT = 50
DIGITS_MAX = 9
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


class Server:
    """Answers requests; lives in one event loop."""

    def __init__(self, collector: Collector, read_log: ReadLog) -> None:
        """Serve what a collector sees.

        Args:
            collector: Of the cluster; runs as long as the application does.
            read_log: Reads the end of a log.
        """
        self._collector = collector
        self._view: tuple[int, Encoded] | None = None
        self._tails = Tails(read_log, collector.interval_s)
        self._files = _static_files()

    def application(self, access: Access) -> web.Application:
        """For aiohttp to run."""
        application = web.Application(middlewares=[access.middleware()])
        application.on_response_prepare.append(add_headers)
        application.cleanup_ctx.append(self._run_collector)
        application.router.add_get("/", self._page)
        application.router.add_get("/static/{name}", self._static)
        application.router.add_get("/api/view", self._get_view)
        application.router.add_get("/api/groups/{group}", self._get_group)
        application.router.add_get("/api/groups/{group}/log", self._get_log)
        application.router.add_get("/{path:.*}", self._nothing)
        return application

    async def _run_collector(self, _: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._collector.run())
        yield
        task.cancel()

    async def _page(self, _: web.Request) -> web.Response:
        return self._file("page.html")

    async def _static(self, request: web.Request) -> web.Response:
        return self._file(request.match_info["name"])

    def _file(self, name: str) -> web.Response:
        body = self._files.get(name)
        if body is None:
            return problem(404, f"there is no file {name[:100]!r}")
        kind = TYPES[name.rpartition(".")[2]]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _nothing(self, request: web.Request) -> web.Response:
        return problem(404, f"there is nothing at {request.path[:100]}")

    async def _get_view(self, request: web.Request) -> web.Response:
        seen = await self._collector.seen()
        if self._view is None or self._view[0] != seen.number:
            document = view_document(seen, self._collector.interval_s)
            self._view = seen.number, encode(document)
        return _answer(request, self._view[1])

    async def _get_group(self, request: web.Request) -> web.Response:
        async def document(group: GroupView) -> Encoded:
            view = self._collector.last.view
            assert view is not None
            return encode(group_document(view, group))

        return await self._of_group(request, document)

    async def _get_log(self, request: web.Request) -> web.Response:
        count = _number(request.query.get("count", str(COUNT)))
        if count is None or not 1 <= count <= COUNT_MAX:
            return problem(400, f"count is a number from 1 to {COUNT_MAX}")

        async def document(group: GroupView) -> Encoded:
            return await self._tails.end_of(group, count)

        try:
            return await self._of_group(request, document)
        except BusyError as error:
            response = problem(503, str(error))
            response.headers["Retry-After"] = str(math.ceil(self._collector.interval_s))
            return response
        except PaxosError as error:
            return problem(503, str(error))

    async def _of_group(
        self, request: web.Request, document: Callable[[GroupView], Awaitable[Encoded]]
    ) -> web.Response:
        """Answer with a document about the group that the address names."""
        number = _number(request.match_info["group"])
        if number is None:
            return problem(400, f"{request.match_info['group'][:100]!r} is no number of a group")
        view = (await self._collector.seen()).view
        if view is None:
            return problem(503, "the cluster has not answered yet")
        group = find_group(view, number)
        if group is None:
            return problem(404, f"cluster {view.cluster} has no group {number}")
        return _answer(request, await document(group))


def _static_files() -> dict[str, bytes]:
    folder = resources.files("ray_paxos.dashboard") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def _number(text: str) -> int | None:
    """A number as it is written in an address; None for anything else."""
    is_number = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
    return int(text) if is_number else None


def _answer(request: web.Request, encoded: Encoded) -> web.Response:
    headers = {"ETag": f'"{encoded.tag}"', "Vary": "Accept-Encoding"}
    known = request.if_none_match or ()
    if any(tag.value in (encoded.tag, "*") for tag in known):
        return web.Response(status=304, headers=headers)
    body = encoded.plain
    if encoded.compressed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = encoded.compressed
        headers["Content-Encoding"] = "gzip"
    return web.Response(
        body=body, headers=headers, content_type="application/json", charset="utf-8"
    )
