"""The part of the chosen log that a learner holds in memory.

```
 sealed, on disk only │ sealed, still in memory │ unsealed │ applied later │ hole │ pending
 ─────────────────────┼─────────────────────────┼──────────┼───────────────┼──────┼────────▶
                 memory_floor            durable_through  applied   learned_through
```

Pending values lie above a hole. They are bounded and may be dropped: they are chosen, so somebody
gives them again.
"""

from __future__ import annotations

from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.values import EMPTY_CHAIN, extend_chain, value_hash


class ChosenLog:
    """Values by instance, with the chain over them.

    Invariants: `learned_through` is the end of the contiguous prefix; every instance from
    `memory_floor` to it is held; chains are kept for exactly those.
    """

    def __init__(self, pending_bytes_max: int, base: int = 0, chain: bytes = EMPTY_CHAIN) -> None:
        """Start empty, after an instance.

        Args:
            pending_bytes_max: Bytes of values held above a hole.
            base: Everything through it is covered by a checkpoint.
            chain: After it.
        """
        self._pending_bytes_max = pending_bytes_max
        self._values: dict[int, ChosenValue] = {}
        self._chains: dict[int, bytes] = {}
        self._pending: dict[int, ChosenValue] = {}
        self._pending_bytes = 0
        self._end_chain = chain
        self.learned_through = base
        self.memory_floor = base + 1
        self.memory_bytes = 0

    def rebase(self, base: int, chain: bytes) -> None:
        """Go on after an instance beyond all that is learned: a checkpoint covers what is below."""
        assert base > self.learned_through, "nothing learned is thrown away"
        self._values = {}
        self._chains = {}
        self._end_chain = chain
        self.learned_through = base
        self.memory_floor = base + 1
        self.memory_bytes = 0
        for instance_id in [i for i in self._pending if i <= base]:
            self._pending_bytes -= len(self._pending.pop(instance_id).value)
        self._take_pending()

    def value(self, instance_id: int) -> ChosenValue:
        """The value of a held instance of the contiguous prefix."""
        return self._values[instance_id]

    def chain(self, instance_id: int) -> bytes:
        """The chain after a held instance."""
        return self._chains[instance_id]

    def chain_at(self, instance_id: int) -> bytes | None:
        """The chain after an instance; None where it is not held."""
        if instance_id == self.learned_through:
            return self._end_chain
        return self._chains.get(instance_id)

    @property
    def end_chain(self) -> bytes:
        """The chain after `learned_through`."""
        return self._end_chain

    def add(self, chosen: ChosenValue) -> bool:
        """Take in a chosen value.

        Returns:
            False where it contradicts what is held for that instance: two values chosen for one
            instance (R1). What is held stays.
        """
        instance_id = chosen.instance_id
        if instance_id <= self.learned_through:
            known = self._values.get(instance_id)
            return known is None or known.value == chosen.value
        pending = self._pending.get(instance_id)
        if pending is not None:
            return pending.value == chosen.value
        if instance_id == self.learned_through + 1:
            self._append(chosen)
            self._take_pending()
        elif self._pending_bytes + len(chosen.value) <= self._pending_bytes_max:
            self._pending[instance_id] = chosen
            self._pending_bytes += len(chosen.value)
        return True

    def _take_pending(self) -> None:
        while (following := self._pending.pop(self.learned_through + 1, None)) is not None:
            self._pending_bytes -= len(following.value)
            self._append(following)

    def _append(self, chosen: ChosenValue) -> None:
        assert chosen.instance_id == self.learned_through + 1, "the prefix has no holes"
        self.learned_through += 1
        self._end_chain = extend_chain(self._end_chain, value_hash(chosen.value))
        self._values[self.learned_through] = chosen
        self._chains[self.learned_through] = self._end_chain
        self.memory_bytes += len(chosen.value)

    def trim(self, durable_through: int, memory_bytes: int) -> None:
        """Drop the oldest durable values until what is held fits `memory_bytes`."""
        while self.memory_bytes > memory_bytes and self.memory_floor <= durable_through:
            dropped = self._values.pop(self.memory_floor)
            del self._chains[self.memory_floor]
            self.memory_bytes -= len(dropped.value)
            self.memory_floor += 1

    def read(self, from_instance: int, bytes_max: int) -> list[ChosenValue]:
        """Held values from an instance on, contiguous, as many as fit (at least one)."""
        values: list[ChosenValue] = []
        byte_count = 0
        if from_instance < self.memory_floor:
            return values
        for instance_id in range(from_instance, self.learned_through + 1):
            chosen = self._values[instance_id]
            byte_count += len(chosen.value)
            if values and byte_count > bytes_max:
                break
            values.append(chosen)
        return values
