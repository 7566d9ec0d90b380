"""How many events are written and kept: what comes too fast is counted, and told with the next one.

Rules:

1. Each kind in each group has a bucket of tokens. An event takes one; where there is none it is
   left out. A bucket begins full, and fills again slowly.
2. Each kind has another bucket for all of its groups together: a message that names a new group
   each time would else find a full bucket each time.
3. Kinds are limited each by itself: one that comes in masses hides no other.
4. At most `keys_max` buckets of groups are remembered; the one that was not used for longest goes
   first. What it had left out is told with the next event of its kind: it is never forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class _Bucket:
    """Tokens, as the time at which the bucket is full again.

    Attributes:
        full_ns: From then on it is full.
        left_out: What found no token and was not told yet.
    """

    full_ns: int
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Pace:
    """Of buckets of one sort.

    Attributes:
        burst: Tokens in a full one.
        interval_ns: From one token to the next.
    """

    burst: int
    interval_ns: int

    def has_token(self, bucket: _Bucket, now_ns: int) -> bool:
        return bucket.full_ns - now_ns <= (self.burst - 1) * self.interval_ns

    def take_token(self, bucket: _Bucket, now_ns: int) -> None:
        bucket.full_ns = max(bucket.full_ns, now_ns) + self.interval_ns


class EventLimit:
    """The buckets of one role. Not for several threads at once.

    Guarantee: over any time each kind in each group that is remembered passes at most
    `burst + seconds * per_second` times, and each kind at most
    `kind_burst + seconds * kind_per_second` times; every event passes, or is told of by a later
    one, or still waits for that.
    """

    def __init__(
        self,
        *,
        burst: int = 20,
        per_second: float = 1.0,
        kind_burst: int = 2_000,
        kind_per_second: float = 5.0,
        keys_max: int = 4_096,
    ) -> None:
        """Begin with full buckets.

        Args:
            burst: So many of one kind in one group pass at once.
            per_second: So many of them pass for long.
            kind_burst: So many of one kind pass at once, in all groups: about what a member with
                1,000 groups tells when it starts.
            kind_per_second: So many of them pass for long.
            keys_max: So many pairs of a kind and a group are remembered.
        """
        self._of_group = _Pace(burst, round(SECOND_NS / per_second))
        self._of_kind = _Pace(kind_burst, round(SECOND_NS / kind_per_second))
        self._keys_max = keys_max
        self._groups: OrderedDict[tuple[str, int | None], _Bucket] = OrderedDict()
        # Kinds come from the code: there are few.
        self._kinds: dict[str, _Bucket] = {}

    def take(self, kind: str, group: int | None, now_ns: int) -> int | None:
        """Decide on one event.

        Args:
            kind: Its kind, one of those that the code has.
            group: Its group; None where it has none.
            now_ns: On a clock that never falls.

        Returns:
            None where it is left out; else how many like it were, since one last passed.
        """
        of_kind = self._kinds.setdefault(kind, _Bucket(now_ns))
        of_group = self._bucket(kind, group, now_ns)
        if not (
            self._of_group.has_token(of_group, now_ns) and self._of_kind.has_token(of_kind, now_ns)
        ):
            of_group.left_out += 1
            return None
        self._of_group.take_token(of_group, now_ns)
        self._of_kind.take_token(of_kind, now_ns)
        left_out = of_group.left_out + of_kind.left_out
        of_group.left_out = of_kind.left_out = 0
        return left_out

    @property
    def remembered(self) -> int:
        """How many pairs of a kind and a group have a bucket now."""
        return len(self._groups)

    @property
    def untold(self) -> int:
        """How many were left out, and not told of yet."""
        buckets = (*self._groups.values(), *self._kinds.values())
        return sum(bucket.left_out for bucket in buckets)

    def _bucket(self, kind: str, group: int | None, now_ns: int) -> _Bucket:
        key = (kind, group)
        bucket = self._groups.get(key)
        if bucket is None:
            bucket = self._groups[key] = _Bucket(now_ns)
            if len(self._groups) > self._keys_max:
                (old_kind, _), old = self._groups.popitem(last=False)
                self._kinds[old_kind].left_out += old.left_out
        else:
            self._groups.move_to_end(key)
        return bucket
