"""Outcomes that came after their receivers had been told that they are unknown; pure, bounded.

Whoever was told so was told a number, too. By that number the outcome can be asked for: it is here
if it came meanwhile, or it is waited for.
"""

from __future__ import annotations

from collections import OrderedDict

from ray_paxos.core.pending import NOBODY, Outcomes, PendingBatch, Receiver
from ray_paxos.core.results import EntryResult
from ray_paxos.errors import ConfigurationError, OutcomeUnknownError, OverloadedError, PaxosError

OUTCOMES_MAX = 10_000
OUTCOME_BYTES_MAX = 16_000_000
ASKING_MAX = 1_000
OVERHEAD_BYTES = 200


class LateOutcomes:
    """By number: outcomes that nobody has asked for yet, and who waits for one.

    Invariants: at most `OUTCOMES_MAX` outcomes with `OUTCOME_BYTES_MAX` bytes are kept, the oldest
    go first; at most `ASKING_MAX` receivers wait (R10).
    """

    def __init__(self) -> None:
        """Start with none."""
        self._known: OrderedDict[int, EntryResult | PaxosError] = OrderedDict()
        self._asking: dict[int, list[Receiver]] = {}
        self._asking_count = 0
        self._byte_count = 0
        self._forgotten_through = 0

    def take(self, batch: PendingBatch, entry: EntryResult, outcomes: Outcomes) -> None:
        """Take the outcomes of those commands of a batch that nobody receives any more."""
        if not batch.has_nobody:
            return
        for part, first in batch.numbered_parts():
            if part[0] is not NOBODY:
                continue
            for number in range(first, first + part[2]):
                self._note(number, _one(entry, number - batch.first_number), outcomes)

    def fail(self, batch: PendingBatch, error: PaxosError, outcomes: Outcomes) -> None:
        """As `take`, where the commands have no result."""
        for part, first in batch.numbered_parts():
            if part[0] is NOBODY:
                for number in range(first, first + part[2]):
                    if isinstance(error, OutcomeUnknownError):
                        error = error.for_number(number)
                    self._note(number, error, outcomes)

    def tell(self, number: int, receiver: Receiver, outcomes: Outcomes) -> bool:
        """Tell a receiver an outcome that has come; False where it has not."""
        known = self._known.get(number)
        if known is None:
            return False
        _tell(receiver, known, outcomes)
        return True

    def check_kept(self, number: int) -> None:
        """Refuse a number that is neither here nor open.

        Raises:
            ConfigurationError: Always; it says what may have happened.
        """
        if number <= self._forgotten_through:
            what = f"of late outcomes the last {OUTCOMES_MAX:,} are kept"
        else:
            what = "its outcome was told to who submitted it, or there is no such number"
        raise ConfigurationError(
            f"number: found {number!r}; allowed: that of an OutcomeUnknownError of this client "
            f"({what})"
        )

    def wait(self, number: int, receiver: Receiver) -> None:
        """Have a receiver told once the outcome comes.

        Raises:
            OverloadedError: Too many wait.
        """
        if self._asking_count >= ASKING_MAX:
            raise OverloadedError(f"{ASKING_MAX:,} calls wait for late outcomes", 1.0)
        self._asking.setdefault(number, []).append(receiver)
        self._asking_count += 1

    def leave(self, number: int, receiver: Receiver) -> None:
        """A receiver waits no longer."""
        asking = self._asking.get(number, [])
        if receiver in asking:
            asking.remove(receiver)
            self._asking_count -= 1
            if not asking:
                del self._asking[number]

    def _note(self, number: int, outcome: EntryResult | PaxosError, outcomes: Outcomes) -> None:
        self._known[number] = outcome
        self._byte_count += _size(outcome)
        while len(self._known) > OUTCOMES_MAX or self._byte_count > OUTCOME_BYTES_MAX:
            oldest, dropped = self._known.popitem(last=False)
            self._byte_count -= _size(dropped)
            self._forgotten_through = max(self._forgotten_through, oldest)
        for receiver in self._asking.pop(number, ()):
            self._asking_count -= 1
            _tell(receiver, outcome, outcomes)


def _one(entry: EntryResult, offset: int) -> EntryResult:
    note = entry.notes.get(offset)
    notes = {} if note is None else {0: note}
    result = (entry.results[offset],)
    return EntryResult(entry.instance_id, entry.index + offset, result, notes)


def _size(outcome: EntryResult | PaxosError) -> int:
    if isinstance(outcome, PaxosError):
        return OVERHEAD_BYTES
    return OVERHEAD_BYTES + len(outcome.results[0] or b"")


def _tell(receiver: Receiver, outcome: EntryResult | PaxosError, outcomes: Outcomes) -> None:
    if isinstance(outcome, PaxosError):
        outcomes.fail([(receiver, 0, 1)], outcome)
    else:
        outcomes.tell(receiver, outcome)
