"""Ways to end a process on a simulated disk: at each operation, by a kill or in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from ray_paxos.testing.disk import CrashedError, SimulatedDisk


def crashes(
    start: SimulatedDisk, scenario: Callable[[SimulatedDisk], None]
) -> Iterator[tuple[int, SimulatedDisk]]:
    """Run a scenario over and over, crashing before each of its operations in turn.

    Yields:
        The number of the operation, and the disk as it was there; last, after the whole scenario.
    """
    operation = start.operations
    while True:
        disk = start.snapshot()
        disk.crash_at(operation)
        try:
            scenario(disk)
        except CrashedError:
            disk.crash_at(None)
            yield operation - start.operations, disk
            operation += 1
        else:
            disk.crash_at(None)
            yield operation - start.operations, disk
            return


def aftermaths(disk: SimulatedDisk, seeds: Sequence[int]) -> Iterator[tuple[str, SimulatedDisk]]:
    """What may become of a disk whose process ended there: a kill, and several power losses."""
    killed = disk.snapshot()
    killed.kill()
    yield "killed", killed
    for seed in seeds:
        dark = disk.snapshot()
        dark.power_loss(Random(seed))
        yield f"power lost, seed {seed}", dark
    late = disk.snapshot()
    late.kill()
    yield "killed, for later", late
