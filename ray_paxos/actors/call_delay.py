"""How long calls wait for an actor that handles one after the other.

Ray queues calls without bound, and tells nobody how long one has waited. So the actor calls itself
now and then: its own call waits in the same queue as all others.

```
 look at 3.0 ──▶ own call ─▶ │ calls of others │ ─▶ came_back at 7.2: those beside it waited 4.2 s
```

It does so only while somebody looks, and while calls wait long; an actor with nothing to do does
not call itself.
"""

from __future__ import annotations

from collections.abc import Callable

from ray_paxos.core.settings import MILLISECOND_NS

INTERVAL_NS = 100 * MILLISECOND_NS
"""Between two calls of its own, at least; a shorter delay is none."""
FRESH_NS = 1_000 * MILLISECOND_NS
"""So long a delay is worth something once nothing is measured any more."""
LOST_NS = 60_000 * MILLISECOND_NS
"""An own call that has not come back by then is lost."""


class CallDelay:
    """Measures the queue of one actor.

    Invariants: at most one call of its own is on its way.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        """Measure by `call`, which has the actor call `came_back`, and does not wait for it."""
        self._call = call
        self._called_ns: int | None = None
        self._last_call_ns: int | None = None
        self._delay_ns = 0
        self._measured_ns = 0

    def look(self, now_ns: int) -> int:
        """How long the call that is handled now has waited, in nanoseconds, about.

        Args:
            now_ns: The actor's clock.
        """
        if self._called_ns is not None and now_ns - self._called_ns >= LOST_NS:
            self._called_ns = None
        if self._called_ns is None:
            if now_ns - self._measured_ns >= FRESH_NS:
                self._delay_ns = 0
            if self._last_call_ns is None or now_ns - self._last_call_ns >= INTERVAL_NS:
                self._begin(now_ns)
        if self._called_ns is None:
            return self._delay_ns
        # What is handled before the own call was there before it.
        return max(self._delay_ns, now_ns - self._called_ns)

    def came_back(self, now_ns: int) -> None:
        """A call of its own is handled."""
        if self._called_ns is None:
            return
        self._delay_ns = now_ns - self._called_ns
        self._measured_ns = now_ns
        self._called_ns = None
        if self._delay_ns >= INTERVAL_NS:
            # Until it is known to be over: what comes next must not be refused for what was.
            self._begin(now_ns)

    def _begin(self, now_ns: int) -> None:
        self._called_ns = self._last_call_ns = now_ns
        self._call()
