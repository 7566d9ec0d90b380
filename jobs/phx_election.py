"""PhxElection: who is the master, printed each second, and told by a callback when it changes.

    python jobs/phx_election.py --seconds 6

A group has a master as it is: nothing has to be written for it, and its lease is 3 s here, as in
PhxElection. A master is known by its version, the instance of its record in the log, which only
rises: of two who believe to lead, as may be after one of them stood still, the later one has the
higher version. Every second (member, version) is printed on stdout; half of the time over, the
master is told to drop the lead, as an operator would before work on its node.
"""

from __future__ import annotations

import time
from itertools import pairwise

import click

from example_job import PATIENCE_S, Example, example
from ray_paxos import Master

LEASE_MS = 3_000
INTERVAL_S = 1.0


@example(cluster="phx-election", proposer={"lease_ms": LEASE_MS})
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5),
    default=6.0,
    show_default=True,
    metavar="S",
    help="For so long, half of it before the master drops the lead.",
)
@click.option("--group", type=int, metavar="N", help="Whose master; by default of the first one.")
def main(job: Example, seconds: float, group: int | None) -> None:
    """Watch the master, and have it drop the lead."""
    cluster = job.cluster
    told: list[Master] = []

    def on_master_change(master: Master) -> None:
        told.append(master)
        job.say(f"master changed: {master.member}, version {master.version}")

    seen: list[Master] = []

    def print_for(duration_s: float) -> None:
        until = time.monotonic() + duration_s
        while (left_s := until - time.monotonic()) > 0:
            master = cluster.master(group)
            if master is not None:
                seen.append(master)
                print(f"{master.member} {master.version}", flush=True)
            time.sleep(min(INTERVAL_S, left_s))

    with cluster.watch_master(on_master_change, group):
        first = cluster.wait_for_master(group, timeout_s=PATIENCE_S)
        job.check("the group has a master", first is not None)
        print_for(seconds / 2)
        version = max((master.version for master in [*told, *seen]), default=0)
        asked = cluster.drop_master(group)
        job.say(f"the master drops the lead; asked to lead next: {asked}")
        later = cluster.wait_for_master(group, after_version=version, timeout_s=PATIENCE_S)
        job.check("another one leads after that", later is not None and later.version > version)
        print_for(seconds / 2)
        job.wait_for("the callback hears of it", lambda: told[-1].version > version)
    for promise, held in promises(told, seen).items():
        job.check(promise, held)
    job.facts |= {"masters": [[master.member, master.version] for master in told]}


def promises(told: list[Master], seen: list[Master]) -> dict[str, bool]:
    """What has to be so of masters that a callback was told of, and that were asked for."""
    members = {master.version: master.member for master in told}
    return {
        "versions only rise": all(a.version < b.version for a, b in pairwise(told))
        and all(a.version <= b.version for a, b in pairwise(seen)),
        "a version is one member's": all(
            members.get(master.version, master.member) == master.member for master in seen
        )
        and len({(each.version, each.member) for each in seen})
        == len({each.version for each in seen}),
    }


if __name__ == "__main__":
    main()
