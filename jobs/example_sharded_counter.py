"""One counter spread over groups by key, for more additions than one group's log can take.

    python jobs/example_sharded_counter.py --tasks 4 --additions 200 --shards 8

Each shard is a counter of its own, in the group that the hash of its name says; an addition goes to
the shard that its key's hash says. Ray tasks add, while this driver adds, too, and reads the sum.

What the sum is, said honestly: each shard is read linearizably, one beside the other and not at one
moment. So as long as nothing is taken away,

1. a sum holds every addition that was acknowledged before it was asked for,
2. it holds none that began after it was there, and
3. of two sums, one asked for after the other was there, the later one is not below.

It need not be a number that all shards together ever had at one moment: of two additions by two
clients it may hold the later one and not the earlier one. Where that matters, use one counter. With
subtractions none of the three is promised before they are over.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

import click
import ray

from example_job import Example, example, fresh_name

if TYPE_CHECKING:
    from ray_paxos import Cluster


class ShardedCounter:
    """A counter of many shards. Pickles, as its shards do."""

    def __init__(self, cluster: Cluster, name: str, shards: int) -> None:
        """The same for all who give the same name and number of shards."""
        self._shards = [cluster.counter(f"{name}/{number}") for number in range(shards)]

    @property
    def groups(self) -> list[int]:
        """Of its shards; each group once."""
        return sorted({shard.group for shard in self._shards})

    def add(self, key: str, amount: int = 1) -> None:
        """Add to the shard of a key. Acknowledged means durable, as of `Counter.add`."""
        # Not hash(), which is another one in each process.
        self._shards[zlib.crc32(key.encode()) % len(self._shards)].add(amount)

    def sum(self) -> int:
        """All shards together; see the module's text for what that is."""

        async def ask_all() -> list[int]:
            return await asyncio.gather(*(shard.get_async() for shard in self._shards))

        return sum(asyncio.run(ask_all()))


@ray.remote(num_cpus=0)
def add_many(counter: ShardedCounter, task: int, additions: int) -> int:
    """What each task does."""
    for number in range(additions):
        counter.add(f"user-{task}-{number}")
    return additions


@example(cluster="example-counter", groups=4)
@click.option("--tasks", type=click.IntRange(1, 100), default=4, show_default=True, metavar="N")
@click.option(
    "--additions",
    type=click.IntRange(1, 1_000_000),
    default=200,
    show_default=True,
    metavar="N",
    help="Of each task.",
)
@click.option("--shards", type=click.IntRange(1, 1_000), default=8, show_default=True, metavar="N")
def main(job: Example, tasks: int, additions: int, shards: int) -> None:
    """Add from all sides, and look at the sum meanwhile."""
    counter = ShardedCounter(job.cluster, fresh_name("views"), shards)
    job.say(f"{shards} shards are in groups {counter.groups}")
    adding = [add_many.remote(counter, task, additions) for task in range(tasks)]
    own, sums = 0, [0]
    while adding:
        counter.add(f"driver-{own}")
        own += 1
        sums.append(counter.sum())
        # What others add can only come on top of it.
        job.check("a sum holds what was acknowledged before it", sums[-1] >= max(own, sums[-2]))
        job.check("a sum after another sum and an addition is above it", sums[-1] > sums[-2])
        done, adding = ray.wait(adding, num_returns=len(adding), timeout=0)
        ray.get(done)  # raises what a task raised
    expected = tasks * additions + own
    total = counter.sum()
    job.say(f"{tasks} tasks and the driver added {expected}; {len(sums)} sums, the last {total}")
    job.check("no sum is above all that was added", max(sums) <= expected)
    job.check("the sum at the end is all that was added", total == expected)
    job.facts |= {"groups": counter.groups, "expected": expected, "sum": total, "sums": len(sums)}


if __name__ == "__main__":
    main()
