"""Read indexes: from which instance on a state is fresh enough for a linearizable read.

```
 client ── read index? ──▶ master ── a round of heartbeats ──▶ acceptors: is nobody else promised?
        ── query ────────▶ learner                                    a majority: no
        ◀── answer, as of 41     ◀── index 40, confirmed ─────────────┘
```

A round that began after the read arrived, and was confirmed by a majority, shows that until then no
other master had anything chosen (R8): whatever was acknowledged before the read began is chosen
through what this master knew when it arrived. The client asks a learner meanwhile: its answer
counts where it is as of the index or later. So a read costs the longer of the two ways, and the
master's part of it no bytes of the answer.

A read shares only a round that has not been sent yet; while one is on its way, those that arrive
wait for the next, together ("Raft", section 8, has every read pay; sharing is as in its thesis,
section 6.4).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from ray_paxos.core.messages import Address
from ray_paxos.core.settings import ProposerSettings


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A client that waits for its index.

    Attributes:
        client: Who asked.
        request_id: The client's own.
        index: What was chosen when it asked.
        sequence: The round that has to be confirmed.
    """

    client: Address
    request_id: int
    index: int
    sequence: int


class ReadRounds:
    """Read indexes that wait for a round.

    Invariants: at most `reads_max` wait; each request is held once; sequences ascend in the order
    of arrival.

    Attributes:
        rounds: Rounds begun for reads, in this life.
        answered: Indexes given, in this life.
    """

    def __init__(self, settings: ProposerSettings) -> None:
        """Start with none."""
        self.rounds = 0
        self.answered = 0
        self._settings = settings
        self._pending: OrderedDict[tuple[Address, int], PendingRead] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._pending)

    def add(self, read: PendingRead) -> bool:
        """Hold a read; False where there is no room. One that is held already stays as it is."""
        key = (read.client, read.request_id)
        if key not in self._pending:
            if len(self._pending) >= self._settings.reads_max:
                return False
            self._pending[key] = read
        return True

    def needs_round_after(self, sequence: int) -> bool:
        """Whether a read waits for a round above that one."""
        if not self._pending:
            return False
        return self._pending[next(reversed(self._pending))].sequence > sequence

    def take_confirmed(self, confirmed_sequence: int) -> list[PendingRead]:
        """The reads whose round is confirmed, in order."""
        taken: list[PendingRead] = []
        while self._pending:
            first = next(iter(self._pending.values()))
            if first.sequence > confirmed_sequence:
                break
            taken.append(self._pending.popitem(last=False)[1])
        self.answered += len(taken)
        return taken

    def drain(self) -> list[PendingRead]:
        """Everything that waits: the reign is over."""
        drained = list(self._pending.values())
        self._pending.clear()
        return drained
