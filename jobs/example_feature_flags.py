"""Feature flags that Ray tasks hear of within milliseconds, and after a break miss none.

    python jobs/example_feature_flags.py --watchers 3 --changes 20

Each watcher is a Ray task with a watch over the flags: it waits for changes, and nobody polls. They
hear of each change; then they end, as tasks do, and hand back the positions that they had come to.
Flags change on while nobody watches. New tasks go on from these positions: they are told first what
was missed, in order, and then what comes.

Reactions are measured from before the change is put until a watcher has it, which holds the put
itself, durable on a majority, by a clock that all processes of one machine share. With watchers on
several nodes that clock means nothing, and only order and completeness are to be looked at.
"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import click
import ray

from example_job import PATIENCE_S, Example, example, fresh_name
from ray_paxos import KeyValue
from ray_paxos.key_watch import KeyPosition
from ray_paxos.recipes.barrier import Barrier

NAMES = ("ui/dark", "ui/compact", "ui/beta")


class Heard(NamedTuple):
    """What a watcher was told: a change of a flag, and when."""

    key: str
    value: bytes | None
    version: int
    is_after_gap: bool
    at_s: float


@ray.remote(num_cpus=0)
def watch(
    flags: KeyValue, count: int, ready: Barrier, position: KeyPosition | None
) -> tuple[list[Heard], KeyPosition]:
    """Hear of so many changes; give them, and how far that is."""
    heard: list[Heard] = []
    with flags, flags.watch("ui/", position=position) as changes:
        ready.wait(timeout_s=PATIENCE_S)
        while len(heard) < count:
            change = changes.next(timeout_s=PATIENCE_S)
            # A flag is read, and acted upon, here.
            told = (change.key, change.value, change.version, change.is_after_gap)
            heard.append(Heard(*told, time.monotonic()))
        return heard, changes.position


class Switch:
    """Changes the flags, one after the other, and knows when it did."""

    def __init__(self, flags: KeyValue) -> None:
        """Nothing is changed yet."""
        self._flags = flags
        self.put_at_s: dict[tuple[str, int], float] = {}

    def change(self, count: int) -> None:
        """So many changes."""
        for number in range(count):
            began = time.monotonic()
            key = NAMES[number % len(NAMES)]
            written = self._flags.put(key, b"on" if number % 2 else b"off")
            self.put_at_s[key, written.version] = began


@example(cluster="example-flags", groups=2)
@click.option("--watchers", type=click.IntRange(1, 100), default=3, show_default=True, metavar="N")
@click.option(
    "--changes",
    type=click.IntRange(1, 1_000),
    default=20,
    show_default=True,
    metavar="N",
    help="Of the flags: so many three times, watched, unwatched and watched again.",
)
@click.option(
    "--limit-ms",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    metavar="MS",
    help="The median of the reactions is to be below it.",
)
def main(job: Example, watchers: int, changes: int, limit_ms: float) -> None:
    """Change flags while tasks watch, while none does, and while they watch again."""
    cluster = job.cluster
    flags = cluster.kv(fresh_name("flags"))
    ready = cluster.barrier(fresh_name("ready"), parties=watchers + 1)
    switch = Switch(flags)

    first = [watch.remote(flags, changes, ready, None) for _ in range(watchers)]
    ready.wait(timeout_s=PATIENCE_S)
    switch.change(changes)
    before = ray.get(first, timeout=PATIENCE_S)
    job.say(f"{watchers} watchers heard of {changes} changes, and ended")

    switch.change(changes)
    job.say(f"{changes} changes while nobody watched")
    positions = [position for _, position in before]
    second = [watch.remote(flags, 2 * changes, ready, position) for position in positions]
    ready.wait(timeout_s=PATIENCE_S)
    switch.change(changes)
    after = ray.get(second, timeout=PATIENCE_S)

    reactions_ms = []
    for (early, _), (late, _) in zip(before, after, strict=True):
        whole = [*early, *late]
        for key in NAMES:
            versions = [heard.version for heard in whole if heard.key == key]
            in_order = versions == list(range(1, len(versions) + 1))
            job.check("each watcher heard of each change once, in order", in_order)
        job.check("nobody heard of more than was changed", len(whole) == len(switch.put_at_s))
        job.check("no gap was told of", not any(heard.is_after_gap for heard in whole))
        # What was missed was heard of later; of it nothing can be said about reactions.
        seen_live = [*early, *late[changes:]]
        reactions_ms += [
            1_000 * (heard.at_s - switch.put_at_s[heard.key, heard.version]) for heard in seen_live
        ]
    median_ms = statistics.median(reactions_ms)
    job.say(f"reactions: median {median_ms:.1f} ms, longest {max(reactions_ms):.1f} ms")
    job.check(f"the median reaction is below {limit_ms:g} ms", median_ms < limit_ms)
    job.facts |= {
        "changes": len(switch.put_at_s),
        "reaction_median_ms": round(median_ms, 2),
        "reaction_max_ms": round(max(reactions_ms), 2),
    }
    cluster.spaces.drop(flags.name)


if __name__ == "__main__":
    main()
