"""A Ray Data pipeline whose blocks are in a ledger: a rerun after a crash does what is missing.

    python jobs/example_job_ledger.py --blocks 12 --rows 1000

Each block of the pipeline is a key of a ledger. Who processes a block first looks whether it was
done: then it takes the outcome, and works no more. Three things go wrong here:

- In the first run a block meets an error, and the whole pipeline fails, as after a bug, a driver
  that dies, or a Ray cluster that is restarted. What was done until then stays done.
- In the run after it, under the same ledger's name, only the missing blocks are worked on.
- One task is killed (SIGKILL) in the middle of its work. Ray tries it again; the ledger holds its
  claim until its lease is over, and then the block is done by whoever asks.

What the ledger promises is one outcome a key, for ever. The *work* is done once as long as nothing
dies; where somebody died over it, it is done again, from its beginning. So what a block writes
elsewhere has to bear being written twice (a file of the block's own name, say).

Ray Data is a part of Ray that is installed by `pip install 'ray[data]'`.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import Any

import click
import ray
from ray.exceptions import RayError

from example_job import Example, example, fresh_name
from ray_paxos.recipes.counter import Counter
from ray_paxos.recipes.ledger import Done, Ledger

LEASE_S = 2.0
WORK_S = 0.05
UNREADABLE = "cannot be read"


def key_of(first_row: int) -> str:
    """The ledger's key of a block; the same in every run."""
    return f"block/{first_row:012}"


class Processing:
    """What the pipeline does to a block. Pickles into its tasks, with the handles that it has."""

    def __init__(
        self, ledger: Ledger[int], executions: dict[str, Counter], fails: str, dies: str
    ) -> None:
        """Of a ledger.

        Args:
            ledger: Where outcomes are.
            executions: By key, how often the work was begun: to see that, and for nothing else.
            fails: The key of the block that meets an error when it is first worked on.
            dies: The key of the block whose process is killed then.
        """
        self._ledger = ledger
        self._executions = executions
        self._fails = fails
        self._dies = dies

    def of_block(self, block: Any) -> Any:
        """Of all rows of a block; as of `Dataset.map_batches`."""
        key = key_of(int(block["id"][0]))
        total = self._ledger.run_once(key, self._work, key, block)
        return {"key": [key], "total": [total]}

    def _work(self, key: str, block: dict[str, Any]) -> int:
        is_first = self._executions[key].add() == 1
        time.sleep(WORK_S)
        if key == self._fails and is_first:
            raise RuntimeError(f"{key} {UNREADABLE}")
        if key == self._dies and is_first:
            os.kill(os.getpid(), signal.SIGKILL)
        return int(block["id"].sum())


def run_pipeline(processing: Processing, blocks: int, rows: int) -> int:
    """The pipeline, over the same blocks each time; the sum of all rows."""
    data = ray.data.range(blocks * rows, override_num_blocks=blocks)
    # Without a batch size a batch is a block.
    totals = data.map_batches(processing.of_block, batch_size=None).take_all()
    return sum(int(row["total"]) for row in totals)


@example(cluster="example-ledger", needs={"pandas": "pip install 'ray[data]'"})
@click.option("--blocks", type=click.IntRange(4, 10_000), default=12, show_default=True)
@click.option("--rows", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True)
def main(job: Example, blocks: int, rows: int) -> None:
    """Run the pipeline, which fails; and run it again."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    name = fresh_name("pipeline")
    keys = [key_of(number * rows) for number in range(blocks)]
    ledger: Ledger[int] = job.cluster.ledger(name, lease_s=LEASE_S)
    executions = {key: job.cluster.counter(f"{name}/{key}") for key in keys}
    processing = Processing(ledger, executions, fails=keys[blocks // 2], dies=keys[-1])

    try:
        run_pipeline(processing, blocks, rows)
    except RayError as error:
        if UNREADABLE not in str(error):
            raise
        job.say(f"the first run failed: {keys[blocks // 2]} {UNREADABLE}")
    done = {key for key, attempts in attempts_of(ledger, keys).items() if attempts}
    before = {key: executions[key].get() for key in keys}
    job.check("the first run is not complete", keys[blocks // 2] not in done)
    job.say(f"{len(done)} of {blocks} blocks are done; the same again")

    total = run_pipeline(processing, blocks, rows)
    after = {key: executions[key].get() for key in keys}
    again = sorted(key for key in keys if after[key] > before[key])
    job.say(f"the second run worked on {len(again)} blocks, and came to {total}")
    job.check("no block that was done is worked on again", not done & set(again))
    job.check("the sum is that of all rows", total == sum(range(blocks * rows)))
    attempts = attempts_of(ledger, keys)
    job.check("all that was missing is done", all(attempts.values()))
    job.say(f"{keys[-1]}, over which a process was killed, took {attempts[keys[-1]]} attempts")
    job.check("what a killed task was at was taken over", attempts[keys[-1]] >= 2)

    third = run_pipeline(processing, blocks, rows)
    unchanged = {key: executions[key].get() for key in keys} == after
    job.check("a run after a complete one does nothing, and comes to the same", unchanged)
    job.check("the sum is that of all rows", third == total)
    job.facts |= {
        "blocks": blocks,
        "done_in_first_run": len(done),
        "worked_on_in_second_run": len(again),
        "executions": sum(after.values()),
        "total": total,
    }


def attempts_of(ledger: Ledger[int], keys: list[str]) -> dict[str, int]:
    """In the how manieth attempt each key was done; 0 for one that was not."""
    found = {key: ledger.look(key) for key in keys}
    return {key: state.attempt if isinstance(state, Done) else 0 for key, state in found.items()}


if __name__ == "__main__":
    main()
