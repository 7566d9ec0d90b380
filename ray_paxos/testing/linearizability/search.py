"""One key: is there an order of its operations that the model allows and real time permits?

The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memory and
the just-in-time order of Lowe ("Testing for Linearizability", 2017): depth first over
configurations, which are a stage (see `stages`), the sets of operations linearized by then, and
the state they have led to. A configuration's successors linearize one more operation, the one
whose response is due first before others. A configuration that was visited is not visited again.
The history can be ordered if and only if some configuration passes the last stage.

Four things keep it fast, and each leaves the verdict as it is:

1. *Reads first.* A required operation that changes nothing, wherever it is allowed, is linearized
   as soon as a state allows it. Take any order that completes this configuration and move the
   operation to its front: it is allowed there; the states that the others see stay the same; and
   nothing that is still to be linearized comes before it in real time.
2. *Less is more.* Take two configurations of one stage, state and required set, where the first
   has linearized some optional operations and the second these and others. Any order that
   completes the second completes the first, too, as optional operations may be left out. So the
   second is not visited. For this, optional operations of equal identity count as used in the
   order of their invocations: exchanging two such in an order changes no state, and gives the
   first invoked its place earlier, which its invocation permits.
3. *Out of reach.* A state from which an operation that must still be linearized can no longer be
   allowed (see `model`, rule 6) completes nothing.
4. *No numbers of old.* Operations whose stage has passed are in all configurations, so they are
   no part of what is remembered.

Nothing recurses: the configurations to visit are a stack.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic

from ray_paxos.testing.linearizability.budget import Budget
from ray_paxos.testing.linearizability.model import REJECTED, S
from ray_paxos.testing.linearizability.stages import Stages, Step, make_stages
from ray_paxos.testing.linearizability.watch import watch

_STATES_SHOWN = 8


class Verdict(Enum):
    """What a check has found."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        verdict: Whether there is an order.
        failed_at: Position of the first response that no configuration passes; None unless the
            verdict is false.
        states: Some states that were possible just before that response; if the verdict is true,
            the one in which the order that was found ends.
    """

    verdict: Verdict
    failed_at: int | None = None
    states: tuple[Hashable, ...] = ()


def search(initial: S, steps: Sequence[Step[S]], budget: Budget) -> SearchResult:
    """Look for an order.

    Args:
        initial: The key's first state.
        steps: The key's operations that did not fail, in the order of their invocations.
        budget: What it may spend.

    Returns:
        True and false are certain; unknown means that the budget, which says why, was spent.
    """
    budget.begin_search()
    return _Search(make_stages(steps), initial, budget).run(initial)


class _Search(Generic[S]):
    """The configurations of one search.

    Invariants: every configuration on the stack is in `_reached`; `_furthest` is the highest stage
    that any configuration has reached.
    """

    def __init__(self, stages: Stages[S], initial: S, budget: Budget) -> None:
        self._stages = stages.stages
        self._watched = watch(stages, initial)
        self._budget = budget
        # Stage, required operations linearized, optional operations linearized, state.
        self._stack: list[tuple[int, int, int, S]] = []
        # By stage, required ones and state: the sets of optional ones, none a subset of another.
        self._reached: dict[tuple[int, int, S], list[int]] = {}
        self._furthest = -1
        self._states: dict[S, None] = {}
        self._spent = False

    def run(self, initial: S) -> SearchResult:
        """Visit configurations until one passes all stages, or there are no more."""
        passed = self._reach(0, 0, 0, initial)
        while self._stack and not passed:
            if self._spent:
                return SearchResult(Verdict.UNKNOWN)
            passed = self._expand(*self._stack.pop())
        if passed:
            return SearchResult(Verdict.TRUE, states=tuple(self._states))
        failed_at = self._stages[self._furthest].responded_at
        return SearchResult(Verdict.FALSE, failed_at, tuple(self._states))

    def _expand(self, number: int, done: int, used: int, state: S) -> bool:
        """Linearize one more operation, in every way; whether all stages are passed.

        The last one reached is visited next.
        """
        stage = self._stages[number]
        for group in stage.optional:
            unused = group.bits & ~used
            if unused:
                after = group.apply(state)
                if after is not REJECTED and self._reach(
                    number, done, used | (unused & -unused), after
                ):
                    return True
        for bit, apply in reversed(stage.writes):
            if not done & bit:
                after = apply(state)
                if after is not REJECTED and self._reach(number, done | bit, used, after):
                    return True
        return False

    def _reach(self, number: int, done: int, used: int, state: S) -> bool:
        """Go on from here to where there is a choice; whether that is beyond the last stage."""
        while True:
            if number == len(self._stages):
                self._note(number, state)
                return True
            stage = self._stages[number]
            for bit, apply in stage.reads:
                if not done & bit and apply(state) is not REJECTED:
                    done |= bit
            if not done & stage.awaited_bit:
                break
            done ^= stage.awaited_bit
            number += 1
        self._note(number, state)
        if self._is_hopeful(number, done, used, state):
            self._remember(number, done, used, state)
        return False

    def _is_hopeful(self, number: int, done: int, used: int, state: S) -> bool:
        """Whether everything that is watched can still be linearized."""
        for watched in self._watched[number]:
            if (
                not done & watched.bit
                and not watched.resets & ~done
                and not watched.optional_resets & ~used
                and not watched.within_reach(state)
            ):
                return False
        return True

    def _remember(self, number: int, done: int, used: int, state: S) -> None:
        """Visit a configuration later, unless one as good or better was reached before."""
        reached = self._reached.setdefault((number, done, state), [])
        work = 1 + len(reached)
        if any(other & used == other for other in reached):
            self._spend(0, work)
            return
        reached[:] = [other for other in reached if other & used != used]
        reached.append(used)
        self._stack.append((number, done, used, state))
        self._spend(1, work)

    def _spend(self, configurations: int, work: int) -> None:
        if not self._budget.spend(configurations, work):
            self._spent = True

    def _note(self, number: int, state: S) -> None:
        """Keep how far it came, and with which states."""
        if number > self._furthest:
            self._furthest = number
            self._states.clear()
        if number == self._furthest and len(self._states) < _STATES_SHOWN:
            self._states[state] = None
