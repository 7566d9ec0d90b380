"""What a process of ours asks of the interpreter, once it has imported everything."""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL_S = 0.0005
"""A thread that computes lets go of the interpreter so soon where another one waits for it.

With Python's 5 ms each step of a command may wait so long for a checkpoint being saved or a segment
being read in the same process. At 40,000 commands/s on two cores p99 was 150 to 220 ms with fused
roles, and is 95 to 115 ms."""

GARBAGE_THRESHOLDS = (20_000, 20, 50)
"""So many more objects made than freed before the young ones are looked through, and so on.

Reference counts free nearly all that a role makes; what is looked through is what is alive: open
instances, sessions, the state. Python's 700 looks through it thirty times as often."""


def settle_in() -> None:
    """Set this process up for many threads that must not wait for each other."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    look_through_less()


def look_through_less() -> None:
    """Look for garbage rarely, and never again in what is imported and made by now.

    For drivers that have many commands in flight, too, as README advises: one that had 5,000 took
    11.5 us of processor for each, and takes 6.6.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
