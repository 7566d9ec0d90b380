"""A model's states, and which follows which.

The network is the set of all messages ever sent, as in Lamport's specifications of Paxos: a message
that is in it can arrive at any time, in any order, any number of times. Losing one is the same as
never delivering it, so it needs no action of its own; nor does repeating one, or delaying it.

Two reductions leave out states that show nothing new. Both rest on one fact: *more messages allow
more*. Whatever can happen in a state can also happen in one with the same local states and further
messages in the network, and leads to states that differ in no more than that. And agreement, once
broken, stays broken when there are more messages. (What the ledger judges of a message by those
before it, such as P2c, is judged more mildly when some come earlier. It finds a bug sooner than
agreement does, and needs not find all.)

1. A delivery that leaves its receiver as it was, and only makes it send something, is done at once
   (an acceptor that answers a pre-vote, or a prepare that it has promised before). What is sent
   need not arrive.
2. Once no crash can come any more, what an acceptor writes is synced at once: the only thing that
   sees the difference are the answers that wait for it, and they need not arrive.

`System(model, reduced=False)` does without; a test compares the local states that both reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ray_paxos.core.messages import RoleName
from ray_paxos.testing.exhaustive.actions import Action, Sync
from ray_paxos.testing.exhaustive.canonical import Canon
from ray_paxos.testing.exhaustive.catalogue import NO_FACTS, Inboxes, Ledgers, LocalStates, Packets
from ray_paxos.testing.exhaustive.lease_watch import Belief, beliefs_of, judge_beliefs
from ray_paxos.testing.exhaustive.model import CRASH, NO_COST, Model, Possible
from ray_paxos.testing.exhaustive.site import Site
from ray_paxos.testing.exhaustive.stage import Stage
from ray_paxos.testing.violation import Violation

State: TypeAlias = tuple[int, ...]
"""Local states, inboxes, the ledger, what is left of the budgets; all as numbers."""


Move: TypeAlias = tuple[int, int]
"""Where something happens, and the key of what (`LocalStates.action`)."""

EVERYWHERE: Move = (-1, 0)
"""Time passes at all sites."""


class BrokenRuleError(Exception):
    """A move breaks a rule.

    Attributes:
        moves: The move, and those that followed of themselves up to the breach.
        what: Which rule, and how.
    """

    def __init__(self, moves: tuple[Move, ...], what: str) -> None:
        """Say how and what."""
        super().__init__(what)
        self.moves = moves
        self.what = what


class System:
    """The state space of one model."""

    def __init__(self, model: Model, *, reduced: bool = True) -> None:
        """Make the roles; nothing happens yet.

        Args:
            model: Of what.
            reduced: Whether states that show nothing new are left out.
        """
        self.model = model
        self._reduced = reduced
        recipe = model.recipe
        self._sites = [
            Site(
                spec.name,
                spec.addresses,
                recipe,
                syncs_at_once=spec.syncs_at_once,
                seals_at_once=spec.seals_at_once,
            )
            for spec in model.sites
        ]
        self._count = len(self._sites)
        self._packets = Packets(self._sites, model.is_lost)
        self._inboxes = [Inboxes() for _ in self._sites]
        self._ledgers = Ledgers(recipe.configuration)
        canon = Canon()
        self._costs = sorted(model.budgets)
        self._actions = [self._actions_of(number) for number in range(self._count)]
        self._possible = [
            [
                (-1 - place, self._cost(possible.cost))
                for place, possible in enumerate(self._here(number))
            ]
            for number in range(self._count)
        ]
        self._syncs = [
            (number, -1 - place)
            for number, actions in enumerate(self._actions)
            for place, action in enumerate(actions)
            if isinstance(action, Sync) and action.process.role is RoleName.ACCEPTOR
        ]
        self._crash_cost = self._cost(CRASH) if CRASH in self._costs else None
        self._passing_cost = self._cost(model.passing.cost) if model.passing is not None else None
        self._locals = [
            LocalStates(recipe, self._packets, self._ledgers, actions, canon)
            for actions in self._actions
        ]
        self._arrivals: dict[tuple[int, int, int], _Arrivals] = {}
        self._beliefs: dict[tuple[int, int], tuple[Belief, ...]] = {}
        self._judged: dict[tuple[Belief, ...], str] = {}

    def _here(self, site: int) -> list[Possible]:
        return [possible for possible in self.model.possible if possible.site == site]

    def _actions_of(self, site: int) -> list[Action]:
        actions = [possible.action for possible in self._here(site)]
        if self.model.passing is not None:
            actions.append(self.model.passing.ticks[site])
        return actions

    def _tick_key(self, site: int) -> int:
        return -len(self._actions[site])

    def _cost(self, cost: str) -> int | None:
        """Where in a state a budget is; None for what costs nothing."""
        return 2 * self._count + 1 + self._costs.index(cost) if cost != NO_COST else None

    @property
    def counts(self) -> dict[str, int]:
        """How many of what there are, for a person who wonders about the size."""
        return {
            "local_states": sum(len(states) for states in self._locals),
            "packets": len(self._packets.all),
            "ledgers": len(self._ledgers.all),
        }

    @property
    def seen(self) -> dict[str, int]:
        """How many different steps were special, and how (`situations`)."""
        return dict(sum((states.seen for states in self._locals), Counter()))

    # States.

    def first(self) -> State:
        """Where the walk begins.

        Raises:
            BrokenRuleError: A rule is broken already.
        """
        stage = Stage(self._sites, self.model.recipe, self.model.mail)
        ledger = 0
        try:
            if self.model.prelude is not None:
                self.model.prelude(stage)
            ledger = self._ledgers.after(0, self._ledgers.facts(stage.facts))
        except Violation as violation:
            raise BrokenRuleError((), f"before the walk: {violation}") from violation
        states = [
            states.number(site) for states, site in zip(self._locals, stage.sites, strict=True)
        ]
        inboxes = [0] * self._count
        for site, packets in self._packets.posts(stage.mail):
            inboxes[site] = self._inboxes[site].number(packets)
        budgets = [self.model.budgets[cost] for cost in self._costs]
        first = [*states, *inboxes, ledger, *budgets]
        return self._settled(first, set(range(self._count)), [])

    def digests(self, state: State) -> tuple[bytes, ...]:
        """The hashes of a state's local states, which do not depend on the way there."""
        return tuple(
            states.digests[number] for states, number in zip(self._locals, state, strict=False)
        )

    def text(self, move: Move) -> str:
        """A move, for a person."""
        if move == EVERYWHERE:
            return "everywhere time passes"
        site, key = move
        return str(self._locals[site].action(key))

    # Moves.

    def moves(self, state: State) -> Iterator[Move]:
        """What may happen next."""
        count = self._count
        for site in range(count):
            local = state[site]
            arrivals = self._arrive(site, local, state[count + site])
            for key in arrivals.loud:
                yield site, key
            if not self._reduced:
                for key in arrivals.quiet:
                    yield site, key
            for key, cost in self._possible[site]:
                has_budget = cost is None or state[cost] > 0
                if has_budget and self._locals[site].step(local, key) is not None:
                    yield site, key
        if self._passing_cost is not None and state[self._passing_cost] > 0:
            yield EVERYWHERE

    def after(self, state: State, move: Move) -> State:
        """The state that a move leads to.

        Raises:
            BrokenRuleError: The move breaks a rule, or what follows of itself does.
        """
        following = list(state)
        site, key = move
        if move is EVERYWHERE:
            assert self._passing_cost is not None
            following[self._passing_cost] -= 1
            moves = [(number, self._tick_key(number)) for number in range(self._count)]
        else:
            if key < 0:
                cost = self._possible[site][-1 - key][1]
                if cost is not None:
                    following[cost] -= 1
            moves = [move]
        done: list[Move] = []
        changed: set[int] = set()
        for part in moves:
            self._take(part, following, changed, done)
        return self._settled(following, changed, done)

    def _take(self, move: Move, state: list[int], changed: set[int], done: list[Move]) -> None:
        """Do one step of one site, and note the sites that see something new."""
        site, key = move
        done.append(move)
        step = self._locals[site].step(state[site], key)
        if step is None:
            return
        if step.violation:
            raise BrokenRuleError(tuple(done), step.violation)
        if step.local != state[site]:
            state[site] = step.local
            changed.add(site)
        count = self._count
        for receiver, packets in step.posts:
            inbox = state[count + receiver]
            grown = self._inboxes[receiver].grown(inbox, packets)
            if grown != inbox:
                state[count + receiver] = grown
                changed.add(receiver)
        if step.facts != NO_FACTS:
            try:
                state[2 * count] = self._ledgers.after(state[2 * count], step.facts)
            except Violation as violation:
                raise BrokenRuleError(tuple(done), str(violation)) from violation

    def _settled(self, state: list[int], changed: set[int], done: list[Move]) -> State:
        """Do what the reductions do at once, and judge the state."""
        if self._reduced:
            self._reduce(state, changed, done)
        if self.model.is_leased:
            wrong = self._mistaken(state)
            if wrong:
                raise BrokenRuleError(tuple(done), wrong)
        return tuple(state)

    def _reduce(self, state: list[int], changed: set[int], done: list[Move]) -> None:
        crash = self._crash_cost
        if crash is None or not state[crash]:
            for site, key in self._syncs:
                self._take((site, key), state, changed, done)
        count = self._count
        while changed:
            site = changed.pop()
            arrivals = self._arrive(site, state[site], state[count + site])
            for key in arrivals.quiet:
                self._take((site, key), state, changed, done)

    def _arrive(self, site: int, local: int, inbox: int) -> _Arrivals:
        """What the packets that were sent to a site can do in a local state of it."""
        key = (site, local, inbox)
        arrivals = self._arrivals.get(key)
        if arrivals is None:
            states = self._locals[site]
            quiet: list[int] = []
            loud: list[int] = []
            for packet in sorted(self._inboxes[site].all[inbox]):
                step = states.step(local, packet)
                if step is not None:
                    is_quiet = step.local == local and not step.violation
                    (quiet if is_quiet else loud).append(packet)
            arrivals = self._arrivals[key] = _Arrivals(tuple(quiet), tuple(loud))
        return arrivals

    def _mistaken(self, state: list[int]) -> str:
        """Who believes wrongly in a lease."""
        beliefs = tuple(
            belief
            for site, states in enumerate(self._locals)
            for belief in self._beliefs_of(site, state[site], states)
        )
        wrong = self._judged.get(beliefs)
        if wrong is None:
            wrong = ""
            try:
                judge_beliefs(beliefs)
            except Violation as violation:
                wrong = str(violation)
            self._judged[beliefs] = wrong
        return wrong

    def _beliefs_of(self, site: int, local: int, states: LocalStates) -> tuple[Belief, ...]:
        beliefs = self._beliefs.get((site, local))
        if beliefs is None:
            beliefs = self._beliefs[site, local] = beliefs_of(states.load(local))
        return beliefs


@dataclass(frozen=True, slots=True)
class _Arrivals:
    """Packets that do something: to the receiver (`loud`), or only to others (`quiet`)."""

    quiet: tuple[int, ...]
    loud: tuple[int, ...]
