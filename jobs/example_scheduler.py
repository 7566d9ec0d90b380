"""A scheduler of which there is one at a time, though several processes stand for it.

    python jobs/example_scheduler.py --schedulers 3 --ticks 10

Each scheduler is an actor that stands for election; who leads hands out ticks, which are numbered,
into a log, under its epoch. The first leader is killed in the middle of its work; once its lease is
over the next one goes on where it had come to. That one is stopped (SIGSTOP) until a third one
leads, and then goes on as if nothing had been, as any process may that the machine held up between
looking whether it leads and writing.

No lease can keep such a process from writing: it is the log that refuses. It is a replicated object
that takes nothing from an epoch below the highest that it has seen (fencing). So

1. ticks are 1, 2, 3 and so on, each once, whoever hands them out,
2. epochs never fall along the log, and one epoch is one scheduler's.
"""

from __future__ import annotations

import os
import subprocess
import time
from itertools import pairwise
from typing import Any

import click
import ray

from example_job import PATIENCE_S, Example, example, fresh_name
from ray_paxos import Replicated, command, query
from ray_paxos.recipes.election import Election, Leader

TTL_S = 1.5
STILL_S = 3 * TTL_S
TICK_S = 0.02
KEPT = 100_000
"""So many ticks the log remembers."""


class TickLog(Replicated):
    """Ticks by epoch; refuses the past."""

    def __init__(self) -> None:
        """Nothing was handed out."""
        self._epoch = 0
        self._last = 0
        self._ticks: list[tuple[int, int, str]] = []
        self._refused: list[tuple[int, str]] = []

    @command
    def take_over(self, epoch: int) -> int:
        """Hear of a new leader: earlier ones are refused from here on. Gives the last tick."""
        self._epoch = max(self._epoch, epoch)
        return self._last

    @command
    def append(self, epoch: int, tick: int, scheduler: str) -> bool:
        """Hand out a tick; whether it was, or the fence refused it."""
        if epoch < self._epoch or tick != self._last + 1:
            self._refused = [*self._refused, (epoch, scheduler)][-KEPT:]
            return False
        self._last = tick
        self._ticks.append((tick, epoch, scheduler))
        del self._ticks[:-KEPT]
        return True

    @query
    def last(self) -> int:
        """The last tick."""
        return self._last

    @query
    def everything(self) -> tuple[list[tuple[int, int, str]], list[tuple[int, str]]]:
        """Ticks as (tick, epoch, scheduler), and refusals as (epoch, scheduler)."""
        return self._ticks, self._refused


class Scheduler:
    """Stands for election, and schedules while it leads."""

    def run(self, name: str, election: Election, log: TickLog) -> None:
        """Lead again and again; never returns."""
        while True:
            with election.lead(name) as leadership:
                tick = log.take_over(leadership.epoch) + 1
                # It does not even look whether it leads: the fence has to hold without that.
                while log.append(leadership.epoch, tick, name):
                    # What the tick stands for is done here.
                    tick += 1
                    time.sleep(TICK_S)

    def stand_still(self, seconds: float) -> None:
        """Have this process stopped, and continued after so long."""
        pid = os.getpid()
        subprocess.Popen(["sh", "-c", f"kill -STOP {pid}; sleep {seconds}; kill -CONT {pid}"])


def leader_after(election: Election, known: Leader | None) -> Leader:
    """The next one that leads."""
    while (found := election.wait_for_change(known, timeout_s=PATIENCE_S)) is None:
        known = None
    return found


@example(cluster="example-scheduler")
@click.option("--schedulers", type=click.IntRange(3, 20), default=3, show_default=True, metavar="N")
@click.option(
    "--ticks",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    metavar="N",
    help="That each leader hands out, at least, before something happens to it.",
)
def main(job: Example, schedulers: int, ticks: int) -> None:
    """Kill a leader, stop another one, and look at the log."""
    name = fresh_name("scheduler")
    election = job.cluster.election(name, ttl_s=TTL_S)
    log = job.cluster.replicated(TickLog, name)
    # One of its two threads leads, and the other one can be told to stand still.
    actor_class: Any = ray.remote(num_cpus=0)(Scheduler).options(max_concurrency=2)
    standing = {f"s{number}": actor_class.remote() for number in range(1, schedulers + 1)}
    for candidate, scheduler in standing.items():
        scheduler.run.remote(candidate, election, log)

    def let_work(leader: Leader) -> None:
        aim = log.last() + ticks
        job.say(f"{leader.candidate} leads under epoch {leader.epoch}")
        job.wait_for(
            "each leader goes on where the one before had come to", lambda: log.last() >= aim
        )

    first = leader_after(election, None)
    let_work(first)
    job.say(f"{first.candidate} is killed")
    ray.kill(standing.pop(first.candidate))
    second = leader_after(election, first)
    let_work(second)
    job.say(f"{second.candidate} stands still for {STILL_S:g} s, and knows nothing of it")
    standing[second.candidate].stand_still.remote(STILL_S)
    third = leader_after(election, second)
    let_work(third)
    stale = (second.epoch, second.candidate)
    job.wait_for("the log refuses who had stood still", lambda: stale in log.everything()[1])
    for scheduler in standing.values():
        ray.kill(scheduler)
    handed_out, refused = log.everything()
    for promise, held in promises(handed_out).items():
        job.check(promise, held)
    leaders = {epoch: candidate for _, epoch, candidate in handed_out}
    job.check("three epochs handed out ticks", len(leaders) >= 3)
    job.say(f"{len(handed_out)} ticks under epochs {leaders}; {len(refused)} refused")
    job.facts |= {"ticks": len(handed_out), "epochs": list(leaders), "refused": len(refused)}
    log.drop()


def promises(ticks: list[tuple[int, int, str]]) -> dict[str, bool]:
    """What the log has to show, and whether it does."""
    numbers = [tick for tick, _, _ in ticks]
    return {
        "ticks are numbered without a gap, each once": numbers == list(range(1, len(numbers) + 1)),
        "epochs never fall": all(a[1] <= b[1] for a, b in pairwise(ticks)),
        "an epoch is one scheduler's": len({(epoch, who) for _, epoch, who in ticks})
        == len({epoch for _, epoch, _ in ticks}),
    }


if __name__ == "__main__":
    main()
