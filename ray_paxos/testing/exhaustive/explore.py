"""Breadth first through a model's states, each once; the first broken rule is on a shortest path.

Explicit-state model checking (Holzmann, "The Model Checker SPIN", 1997): a queue of states, a set
of those seen, and for each the move that first led to it, so that the way to any can be told.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

from ray_paxos.testing.exhaustive.model import Model
from ray_paxos.testing.exhaustive.system import BrokenRuleError, Move, State, System


@dataclass
class Result:
    """What a search found.

    Attributes:
        model: Its name.
        states: Different states seen.
        transitions: Moves made from them.
        depth: Moves of the longest shortest path to any.
        exhausted: Whether nothing within the model's own budgets was left out.
        violation: The broken rule; empty for none.
        path: How to break it, one line a move.
        counts: What the states are made of.
        seen: How many different steps were special, and how (`situations`).
    """

    model: str
    states: int = 0
    transitions: int = 0
    depth: int = 0
    exhausted: bool = False
    violation: str = ""
    path: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)


class Search:
    """One search through one model."""

    def __init__(self, model: Model, *, states_max: int, depth_max: int, reduced: bool = True):
        """Prepare.

        Args:
            model: Through what.
            states_max: Stop when so many states were seen.
            depth_max: Go no deeper.
            reduced: See `System`.
        """
        self.system = System(model, reduced=reduced)
        self.seen: dict[State, int] = {}
        self._states_max = states_max
        self._depth_max = depth_max
        self._order: list[State] = []
        self._from: list[tuple[int, Move | None]] = []
        self._result = Result(model.name)

    def run(self, progress: Callable[[Result], None] | None = None) -> Result:
        """Search until everything is seen, a bound is reached, or a rule is broken.

        Args:
            progress: Told after every depth.
        """
        result = self._result
        was_enabled = gc.isenabled()
        # Hundreds of thousands of tuples, none of them garbage: looking through them for some
        # costs a third of the time.
        gc.disable()
        try:
            self._see(self.system.first(), -1, None)
            result.exhausted = self._search(progress)
        except _FoundError as found:
            result.violation = found.broken.what
            result.path = self._path(found.at) + [self.system.text(m) for m in found.broken.moves]
        except BrokenRuleError as broken:
            result.violation = broken.what
        finally:
            if was_enabled:
                gc.enable()
        result.states = len(self.seen)
        result.counts = self.system.counts
        result.seen = self.system.seen
        return result

    def _search(self, progress: Callable[[Result], None] | None) -> bool:
        """Depth by depth; returns whether that was all."""
        result, begin = self._result, 0
        while begin < len(self._order):
            if result.depth >= self._depth_max:
                return False
            end = len(self._order)
            for number in range(begin, end):
                self._expand(number)
                if len(self.seen) >= self._states_max:
                    return False
            begin = end
            if len(self._order) > end:
                result.depth += 1
            result.states = len(self.seen)
            if progress is not None:
                progress(result)
        return True

    def _expand(self, number: int) -> None:
        system, state = self.system, self._order[number]
        for move in system.moves(state):
            self._result.transitions += 1
            try:
                following = system.after(state, move)
            except BrokenRuleError as broken:
                raise _FoundError(number, broken) from broken
            if following not in self.seen:
                self._see(following, number, move)

    def _see(self, state: State, before: int, move: Move | None) -> None:
        self.seen[state] = len(self._order)
        self._order.append(state)
        self._from.append((before, move))

    def _path(self, number: int) -> list[str]:
        lines: list[str] = []
        while number > 0:
            number, move = self._from[number]
            assert move is not None
            lines.append(self.system.text(move))
        return lines[::-1]


class _FoundError(Exception):
    """A move from the state of that number breaks a rule."""

    def __init__(self, at: int, broken: BrokenRuleError) -> None:
        super().__init__(broken.what)
        self.at = at
        self.broken = broken
