"""What all recipes have in common, and what is demanded of each, by what its clients were told.

Rules:

1. What a client is told of a command is in the log, at that place, under that command (R7).
2. A wait ends: once faults are over, none is open for `ANSWER_NS` after it could be answered. What
   can be answered is found out by machines that apply the log beside all members
   (`log_watch.LogWatch.query`).
3. Who holds something may rely on it for as long as it was leased, by its own clock, counted from
   before it asked. Log time runs as fast as the master's clock, so that is shorter by the drift;
   where machines' clocks jump, nobody can say how long it is, and tokens alone count.
4. Grants, hand-outs and ids are judged by their tokens, always. Those of later places in the log
   are higher, and none is given twice.

Each recipe has further rules of its own, in `recipes`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ray_paxos.core.lease import MILLION
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import NotYetError, QueryError
from ray_paxos.machines.base import StateMachine
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.log_watch import LogWatch
from ray_paxos.testing.options import SECOND_NS
from ray_paxos.testing.recipe_client import OpenWait, Play, RecipeClient
from ray_paxos.testing.reference import Outcome
from ray_paxos.testing.violation import Violation

ANSWER_NS = 12 * SECOND_NS
"""A member that is cut off gives up what it holds after five seconds."""
LOOK_NS = SECOND_NS // 2

Place = tuple[int, int]
"""Instance and row."""


@dataclass
class Table:
    """Where recipes are played.

    Attributes:
        scheduler: True time.
        random: Of recipes alone.
        drift_ppm: By how much machines' clocks may be fast or slow.
        is_timed: Whether leases can be relied on: no machine's clock jumps.
        seen: What has come up, how often.
    """

    scheduler: Scheduler
    random: random.Random
    drift_ppm: int
    is_timed: bool
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def now_ns(self) -> int:
        """True time."""
        return self.scheduler.now_ns

    def trusted_ns(self, lease_ms: int) -> int:
        """For how long a lease can be relied on, from before it was asked for."""
        if not self.is_timed:
            return 0
        length_ns = lease_ms * MILLISECOND_NS * MILLION // (MILLION + self.drift_ppm)
        return max(length_ns - MILLISECOND_NS, 0)


class Recipe(ABC):
    """One recipe as some clients play it, and what must hold for it.

    Attributes:
        title: For a person.
        machine: The name of its machine.
        table: Where it is played.
    """

    title: ClassVar[str]
    machine: ClassVar[str]

    def __init__(self, table: Table) -> None:
        """Lay it out."""
        self.table = table

    @abstractmethod
    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """What each of its clients plays."""

    @abstractmethod
    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """All have ended: look at what is left.

        Args:
            machine: A copy of the machine as the whole log leaves it; may be changed.
            log_time_ns: The latest log time.
        """

    def expect(self, holds: bool, what: str) -> None:
        """Raise `Violation` unless it holds."""
        if not holds:
            self.fail(what)

    def fail(self, what: str) -> None:
        """A rule is broken."""
        raise Violation(self.title, what)

    def saw(self, what: str) -> None:
        """Count something that came up."""
        self.table.seen[f"{self.title}: {what}"] += 1


class TokenOrder:
    """Tokens by the place of the command that was given them: they rise, and are given once."""

    def __init__(self, title: str) -> None:
        """None are given."""
        self._title = title
        self._given: list[tuple[Place, int]] = []
        self._holders: dict[int, object] = {}

    def given(self, token: int, holder: object) -> None:
        """A token was given to a holder, somewhere in the log."""
        earlier = self._holders.setdefault(token, holder)
        if earlier != holder:
            raise Violation(self._title, f"token {token} is {earlier}'s, and {holder}'s")

    def given_at(self, outcome: Outcome, token: int, holder: object) -> None:
        """A command was given a token that is new."""
        self.given(token, holder)
        place = (outcome.instance_id, outcome.index)
        self.given_after(outcome, token)
        at = bisect_left(self._given, (place, token))
        if at < len(self._given) and self._given[at][1] <= token:
            later = self._given[at]
            raise Violation(self._title, f"token {token} at {place}, then {later[1]} at {later[0]}")
        insort(self._given, (place, token))

    def given_after(self, outcome: Outcome, token: int) -> None:
        """A token was given at, or behind, the place of a command."""
        place = (outcome.instance_id, outcome.index)
        at = bisect_left(self._given, (place, 0))
        if at and self._given[at - 1][1] >= token:
            earlier = self._given[at - 1]
            what = f"token {earlier[1]} at {earlier[0]}, then {token} at {place} or later"
            raise Violation(self._title, what)


@dataclass
class _Belief:
    units: int
    until_ns: int


class Beliefs:
    """Who relies on what it holds, until when; together no more than there is."""

    def __init__(self, recipe: Recipe, capacity: int, what: str) -> None:
        """Nobody holds anything.

        Args:
            recipe: Whose rule it is.
            capacity: How much there is.
            what: There is so much of.
        """
        self._recipe = recipe
        self._capacity = capacity
        self._what = what
        self._beliefs: dict[str, _Belief] = {}

    def begin(self, holder: str, units: int, until_ns: int) -> None:
        """A holder relies on it from now on."""
        now_ns = self._recipe.table.now_ns
        self._beliefs = {h: b for h, b in self._beliefs.items() if b.until_ns > now_ns}
        if until_ns <= now_ns:
            return
        self._beliefs[holder] = _Belief(units, until_ns)
        held = sum(each.units for each in self._beliefs.values())
        self._recipe.expect(
            held <= self._capacity, f"{self._what}: {held} held, by {', '.join(self._beliefs)}"
        )

    def end(self, holder: str) -> None:
        """A holder relies on it no more."""
        self._beliefs.pop(holder, None)

    def holds(self, holder: str) -> bool:
        """Whether a holder may rely on it now."""
        return self.until_ns(holder) > self._recipe.table.now_ns

    def until_ns(self, holder: str) -> int:
        """Until when a holder may rely on it; 0 for not at all."""
        belief = self._beliefs.get(holder)
        return belief.until_ns if belief is not None else 0


class RecipeCheck:
    """Judges what is the same for all recipes of one group.

    Attributes:
        commands: Acknowledged.
        answered: Waits that have ended.
    """

    def __init__(
        self,
        log: LogWatch,
        scheduler: Scheduler,
        acknowledged: Callable[[int], None],
    ) -> None:
        """Start before anything happened.

        Args:
            log: What the group has applied.
            scheduler: True time.
            acknowledged: Is told the instance of what a client was told.
        """
        self.commands = 0
        self.answered = 0
        self._log = log
        self._scheduler = scheduler
        self._acknowledged = acknowledged
        self._waits: dict[OpenWait, None] = {}

    def acknowledged(self, machine: str, command: bytes, outcome: Outcome) -> None:
        """A client was told what became of a command."""
        self.commands += 1
        reference = self._log.reference
        place = reference.places.get((outcome.instance_id, outcome.index))
        if place is None or reference.command(*place) != command:
            what = f"{command!r} for {machine} is acknowledged at {outcome}, where it is not"
            raise Violation("R7", what)
        if outcome.result is None:
            raise Violation("recipes", f"{command!r} for {machine} is refused")
        self._acknowledged(outcome.instance_id)

    def waits(self, wait: OpenWait) -> None:
        """A client waits for something."""
        self._waits[wait] = None

    def waits_no_more(self, wait: OpenWait) -> None:
        """It has its answer, or has given up."""
        del self._waits[wait]
        self.answered += 1

    def demand_answers(self) -> None:
        """Faults are over: from now on no wait stays open that can be answered."""
        now_ns = self._scheduler.now_ns
        for wait in self._waits:
            if not self._can_be_answered(wait):
                wait.since_ns = None
            elif wait.since_ns is None:
                wait.since_ns = now_ns
            elif now_ns - wait.since_ns > ANSWER_NS:
                seconds = (now_ns - wait.since_ns) / SECOND_NS
                what = f"client {wait.client} waits for {wait.request!r} of {wait.machine}"
                raise Violation("waits", f"{what}, which has an answer since {seconds:.1f} s")
        self._scheduler.after(LOOK_NS, self.demand_answers)

    def _can_be_answered(self, wait: OpenWait) -> bool:
        try:
            self._log.query(wait.machine, wait.request)
        except NotYetError:
            return False
        except QueryError as error:
            raise Violation("waits", f"{wait.request!r} of {wait.machine}: {error}") from error
        return True
