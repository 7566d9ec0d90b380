"""What the search of one key knows beforehand of each response it has to pass.

The history of one key is cut into stages, one for each response of an ok operation, in the order
of these responses. In a stage the search looks for an order that has the stage's operation, the
awaited one, linearized; what may be linearized meanwhile are the operations that were invoked
before the awaited response and had no response before it.

- *Required* operations are ok: they must be linearized by their own stage.
- *Optional* ones have an unknown outcome: they may be linearized from their invocation on, for
  ever, or never. Those that cannot change the state are left out at once.

Which of them a configuration has linearized is held in two whole numbers, a bit for each. The bit
of a required operation is used again once its stage has passed, since by then all configurations
have it linearized; so the numbers stay as small as the history's concurrency.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Generic

from ray_paxos.testing.linearizability.model import Rejected, S, Transition


@dataclass(frozen=True)
class Step(Generic[S]):
    """One operation as the search sees it.

    Attributes:
        transition: What it does.
        invoked_at: Position of its invocation in the history.
        responded_at: Position of its ok response; None if its outcome is unknown.
    """

    transition: Transition[S]
    invoked_at: int
    responded_at: int | None


Apply = Callable[[S], "S | Rejected"]


@dataclass(frozen=True)
class Group(Generic[S]):
    """Optional operations that do the same.

    Attributes:
        apply: What they do.
        bits: Of those invoked so far, the first invoked the lowest.
    """

    apply: Apply[S]
    bits: int


@dataclass(frozen=True)
class Stage(Generic[S]):
    """What may happen up to one response.

    Attributes:
        awaited: Index of the operation that it answers, among all steps.
        responded_at: Position of the response in the history.
        awaited_bit: Bit of the operation that it answers.
        pending: Required operations that may be linearized: their indices, with their bits.
        reads: Those of them that change nothing: their bits, and what they do.
        writes: The others, the first to respond first.
        optional: The optional operations invoked so far.
        invoked: How many steps are invoked before the response.
    """

    awaited: int
    responded_at: int
    awaited_bit: int
    pending: dict[int, int]
    reads: tuple[tuple[int, Apply[S]], ...]
    writes: tuple[tuple[int, Apply[S]], ...]
    optional: tuple[Group[S], ...]
    invoked: int


@dataclass(frozen=True)
class Stages(Generic[S]):
    """The stages of one key.

    Attributes:
        steps: Those that count, in the order of their invocations.
        stages: In the order of the responses.
        optional_bits: Bits of the optional steps, by index.
    """

    steps: Sequence[Step[S]]
    stages: list[Stage[S]]
    optional_bits: dict[int, int]


def make_stages(steps: Sequence[Step[S]]) -> Stages[S]:
    """Cut the history of one key into its stages.

    Args:
        steps: In the order of their invocations.
    """
    counting = [s for s in steps if s.responded_at is not None or s.transition.changes]
    maker = _StageMaker(counting)
    for _, index in _events(counting):
        if index in maker.pending:
            maker.respond(index)
        else:
            maker.invoke(index)
    return Stages(counting, maker.stages, maker.optional_bits)


def _events(steps: Sequence[Step[S]]) -> list[tuple[int, int]]:
    """Positions of all invocations and ok responses, each with the index of its step."""
    events = [(step.invoked_at, index) for index, step in enumerate(steps)]
    events += [
        (step.responded_at, index)
        for index, step in enumerate(steps)
        if step.responded_at is not None
    ]
    events.sort()
    return events


class _StageMaker(Generic[S]):
    """Goes through the events of one key, in their order.

    Invariant: the bits in `pending` and those in `_free_bits` are the lowest ones, each once.
    """

    def __init__(self, steps: Sequence[Step[S]]) -> None:
        self.stages: list[Stage[S]] = []
        self.pending: dict[int, int] = {}
        self.optional_bits: dict[int, int] = {}
        self._steps = steps
        self._invoked = 0
        self._free_bits: list[int] = []
        self._groups: dict[Hashable, Group[S]] = {}
        # All groups, as stages share them; None where they have changed.
        self._optional: tuple[Group[S], ...] | None = ()

    def invoke(self, index: int) -> None:
        """A step is invoked."""
        self._invoked += 1
        step = self._steps[index]
        if step.responded_at is not None:
            bit = heappop(self._free_bits) if self._free_bits else 1 << len(self.pending)
            self.pending[index] = bit
            return
        bit = 1 << len(self.optional_bits)
        self.optional_bits[index] = bit
        identity, apply = step.transition.identity, step.transition.apply
        group = self._groups.get(identity)
        self._groups[identity] = Group(apply, bit if group is None else group.bits | bit)
        self._optional = None

    def respond(self, index: int) -> None:
        """A pending step has its response: one more stage."""
        if self._optional is None:
            self._optional = tuple(self._groups.values())
        responded_at = self._steps[index].responded_at
        assert responded_at is not None
        reads, writes = self._pending_kinds()
        self.stages.append(
            Stage(
                awaited=index,
                responded_at=responded_at,
                awaited_bit=self.pending[index],
                pending=dict(self.pending),
                reads=reads,
                writes=writes,
                optional=self._optional,
                invoked=self._invoked,
            )
        )
        heappush(self._free_bits, self.pending.pop(index))

    def _pending_kinds(
        self,
    ) -> tuple[tuple[tuple[int, Apply[S]], ...], tuple[tuple[int, Apply[S]], ...]]:
        """The pending steps that change nothing, and the others by their responses."""
        reads, writes = [], []
        for index, bit in self.pending.items():
            step = self._steps[index]
            if step.transition.changes:
                writes.append((step.responded_at or 0, bit, step.transition.apply))
            else:
                reads.append((bit, step.transition.apply))
        writes.sort(key=lambda write: write[0])
        return tuple(reads), tuple((bit, apply) for _, bit, apply in writes)
