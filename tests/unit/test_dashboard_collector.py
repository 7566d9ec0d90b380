"""When the cluster is looked at, how often, and what is shown where it does not answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from ray_paxos.dashboard.collector import Collector, Seen
from ray_paxos.errors import ClusterError
from ray_paxos.observability.cluster_view import ClusterView
from tests.unit.dashboard_views import AT_MS, view_of

INTERVAL_S = 0.01


class Cluster:
    """What is looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.at_once = 0
        self.most_at_once = 0
        self.problem: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.now_s = 1_000.0

    def look(self) -> ClusterView:
        self.looks += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.may_answer.wait(30)
            if self.problem is not None:
                raise self.problem
            return view_of(at_ms=AT_MS + self.looks)
        finally:
            self.at_once -= 1


def play(
    story: Callable[[Collector, Cluster], Awaitable[None]],
    *,
    watched_s: float = 30.0,
    slow_s: float = 30.0,
) -> None:
    async def run() -> None:
        cluster = Cluster()
        collector = Collector(
            cluster.look,
            interval_s=INTERVAL_S,
            watched_s=watched_s,
            slow_s=slow_s,
            clock=lambda: cluster.now_s,
        )
        task = asyncio.create_task(collector.run())
        try:
            await asyncio.wait_for(story(collector, cluster), 30)
            assert not task.done(), "it never ends by itself"
        finally:
            cluster.may_answer.set()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())


async def until(collector: Collector, is_so: Callable[[Seen], bool]) -> Seen:
    while not is_so(seen := await collector.seen()):  # noqa: ASYNC110  # it is told by asking
        await asyncio.sleep(INTERVAL_S / 2)
    return seen


def test_nobody_who_looks_costs_nothing() -> None:
    async def story(collector: Collector, cluster: Cluster) -> None:
        await asyncio.sleep(10 * INTERVAL_S)
        assert cluster.looks == 0
        await collector.seen()
        await until(collector, lambda _: cluster.looks >= 3)
        cluster.now_s += 31
        await asyncio.sleep(5 * INTERVAL_S)
        looks = cluster.looks
        await asyncio.sleep(20 * INTERVAL_S)
        assert cluster.looks == looks, "nobody has asked for 31 s"
        await collector.seen()
        assert cluster.looks > looks

    play(story)


def test_any_number_of_browsers_cost_the_same() -> None:
    async def story(collector: Collector, cluster: Cluster) -> None:
        await asyncio.gather(*(collector.seen() for _ in range(200)))
        assert cluster.looks == 1
        await until(collector, lambda _: cluster.looks >= 5)
        assert cluster.most_at_once == 1

    play(story)


def test_the_first_and_whoever_comes_after_a_rest_waits_for_a_look() -> None:
    async def story(collector: Collector, cluster: Cluster) -> None:
        seen = await collector.seen()
        assert seen.view is not None
        assert seen.view.at_ms == AT_MS + 1
        cluster.now_s += 31
        await asyncio.sleep(5 * INTERVAL_S)
        last = collector.last.view
        seen = await collector.seen()
        assert seen.view is not None
        assert last is not None
        assert seen.view.at_ms > last.at_ms, "not what was so an hour ago"

    play(story)


def test_a_look_that_does_not_come_is_not_waited_for_for_ever() -> None:
    async def story(collector: Collector, cluster: Cluster) -> None:
        cluster.may_answer.clear()
        seen = await collector.seen(wait_s=0.05)
        assert seen.view is None

    play(story)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (ClusterError("it is gone"), "it is gone"),
        (ValueError("a bug"), "ValueError: a bug"),
        (ZeroDivisionError(), "ZeroDivisionError: "),
    ],
)
def test_a_cluster_that_disappears_leaves_its_last_view_and_comes_back(
    problem: Exception, text: str
) -> None:
    async def story(collector: Collector, cluster: Cluster) -> None:
        before = (await collector.seen()).view
        assert before is not None
        cluster.problem = problem
        seen = await until(collector, lambda seen: seen.problem is not None)
        assert seen.problem is not None
        assert seen.problem.text == text
        assert seen.view is not None
        first_ms = seen.problem.since_ms
        looks = cluster.looks
        await until(collector, lambda _: cluster.looks >= looks + 2)
        later = await collector.seen()
        assert later.problem is not None
        assert later.problem.since_ms == first_ms, "since when it was first so"
        cluster.problem = None
        seen = await until(collector, lambda seen: seen.problem is None)
        assert seen.view is not None
        assert seen.view.at_ms > before.at_ms

    play(story)


def test_a_look_that_takes_long_is_a_problem_while_it_does() -> None:
    async def story(collector: Collector, cluster: Cluster) -> None:
        await collector.seen()
        cluster.may_answer.clear()
        seen = await until(collector, lambda seen: seen.problem is not None)
        assert seen.view is not None
        assert seen.problem is not None
        assert "no answer for" in seen.problem.text
        cluster.may_answer.set()
        await until(collector, lambda seen: seen.problem is None)

    play(story, slow_s=0.05)


def test_a_cluster_that_does_not_answer_is_asked_less_often() -> None:
    async def story(collector: Collector, cluster: Cluster) -> None:
        cluster.problem = ClusterError("gone")
        await collector.seen()
        await asyncio.sleep(40 * INTERVAL_S)
        assert cluster.looks <= 8, "pauses that double"

    play(story)
