"""Which operations a state can put out of reach, stage by stage.

A required operation that is not linearized yet, and that no series of operations can make allowed
any more, ends a configuration at once, where the search would find out only after trying all
orders of what comes before it. A model says from which states an operation is within reach (see
`model`, rules 5 and 6). A reset can bring it back only if it is within reach of the state that the
reset leads to; so what a state says counts once all such resets that were invoked before the
operation's response are linearized.

Watched are the operations that are pending, and the next one to be invoked.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from ray_paxos.testing.linearizability.model import REJECTED, S
from ray_paxos.testing.linearizability.stages import Stage, Stages


@dataclass(frozen=True)
class Watched(Generic[S]):
    """An operation to be watched in one stage.

    Attributes:
        bit: Its own; 0 if it is not invoked yet.
        within_reach: Whether a state can still lead to one that allows it.
        resets: Bits of the required operations which can bring it back while not linearized.
        optional_resets: Bits of the optional ones.
    """

    bit: int
    within_reach: Callable[[S], bool]
    resets: int
    optional_resets: int


def watch(stages: Stages[S], initial: S) -> list[tuple[Watched[S], ...]]:
    """What is watched in each stage.

    Args:
        stages: Of one key.
        initial: Any state of the model.
    """
    watch = _Watch(stages, initial)
    return [watch.watched(number, stage) for number, stage in enumerate(stages.stages)]


class _Watch(Generic[S]):
    """The watched operations, each with the resets that can bring it back."""

    def __init__(self, stages: Stages[S], initial: S) -> None:
        self._stages = stages
        # By index of the step: the stage and the index of each reset that concerns it, the last
        # stage first. Left out are those that have passed before it is ever watched.
        self._resets_of: dict[int, list[tuple[int, int]]] = {}
        self._collect(initial)
        # The first watched step among those invoked from each index on.
        self._next: list[int | None] = [None]
        for index in reversed(range(len(stages.steps))):
            self._next.append(index if index in self._resets_of else self._next[-1])
        self._next.reverse()

    def watched(self, number: int, stage: Stage[S]) -> tuple[Watched[S], ...]:
        """What is watched in one stage."""
        candidates = list(stage.pending.items())
        following = self._next[stage.invoked]
        if following is not None:
            candidates.append((following, 0))
        found = (
            self._watched(number, stage, index, bit)
            for index, bit in candidates
            if index in self._resets_of
        )
        return tuple(watched for watched in found if watched is not None)

    def _watched(self, number: int, stage: Stage[S], index: int, bit: int) -> Watched[S] | None:
        """One watched operation; None while a reset that concerns it is not even invoked."""
        resets = optional_resets = 0
        for reset_stage, reset in self._resets_of[index]:
            if reset_stage < number:
                break
            if reset >= stage.invoked:
                return None
            resets |= stage.pending.get(reset, 0)
            optional_resets |= self._stages.optional_bits.get(reset, 0)
        within_reach = self._stages.steps[index].transition.within_reach
        assert within_reach is not None
        return Watched(bit, within_reach, resets, optional_resets)

    def _collect(self, initial: S) -> None:
        """Find the resets that concern each operation to be watched."""
        steps, stages = self._stages.steps, self._stages.stages
        stage_of = {stage.awaited: number for number, stage in enumerate(stages)}
        # Resets invoked so far, by the stage they must pass, which an optional one never does.
        resets: list[tuple[int, int]] = []
        after: dict[int, S] = {}
        # When a step is watched first: when the one before it in the order is invoked.
        first_watched: dict[int, int] = {}
        before, invoked = 0, 0
        for number, stage in enumerate(stages):
            for index in range(invoked, stage.invoked):
                transition = steps[index].transition
                if transition.within_reach is not None and index in stage_of:
                    first_watched[index], before = before, number
                state = transition.apply(initial) if transition.resets else REJECTED
                if state is not REJECTED:
                    after[index] = state
                    insort(resets, (stage_of.get(index, len(stages)), index))
            invoked = stage.invoked
            within_reach = steps[stage.awaited].transition.within_reach
            if within_reach is None:
                continue
            concerned = self._resets_of[stage.awaited] = []
            for reset in reversed(resets):
                if reset[0] < first_watched[stage.awaited]:
                    break
                if within_reach(after[reset[1]]):
                    concerned.append(reset)
