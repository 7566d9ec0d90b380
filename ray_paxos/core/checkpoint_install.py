"""How a learner comes to go on from another member's checkpoint.

```
 too far behind ── FetchCheckpoint ─▶ own checkpointer ── CheckpointReady ─▶ LoadCheckpoint
                                                                                  │
 old state is live until here ── nothing on its way to the disk? ─▶ switch ◀── in memory, verified
                                                                       └─▶ CutLog, and seal on
```

The checkpoint is durable in the member's own folder before the learner hears of it: a restart at
any moment finds either the old state or the new one, whole. Promises are the acceptor's, and are
not touched (R2).
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.checkpoint_messages import CheckpointReady, FetchCheckpoint
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.tasks import CheckpointLoaded, CutLog, LoadCheckpoint

ASK_AGAIN_NS = 5_000 * MILLISECOND_NS
CUT_AGAIN_NS = 1_000 * MILLISECOND_NS


class CheckpointInstall:
    """The install of one group, one at a time.

    Attributes:
        problem: Why none could be had last; empty where it could.
        due_ns: When to ask, or cut, again; None for never.
    """

    def __init__(self, group: int) -> None:
        """Want none."""
        self.problem = ""
        self.due_ns: int | None = None
        self._group = group
        self._is_fetching = False
        self._is_loading = False
        self._loaded: CheckpointLoaded | None = None
        self._cut: CutLog | None = None
        self._above = 0
        self._sources: tuple[int, ...] = ()
        self._not_before_ns: int | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether a checkpoint is on its way: nothing is asked of other members meanwhile."""
        return self._is_fetching or self._is_loading or self._loaded is not None

    @property
    def bars_sealing(self) -> bool:
        """Whether nothing may go to the disk: the log is about to go on elsewhere."""
        return self._loaded is not None or self._cut is not None

    def want(self, above: int, sources: Sequence[int], now_ns: int) -> FetchCheckpoint | None:
        """Have a checkpoint fetched.

        Args:
            above: Only one of a later instance helps.
            sources: Members to ask, the best first.
            now_ns: The clock.

        Returns:
            The order; None where one is on its way, or none could be had a moment ago.
        """
        if self.is_wanted or self._cut is not None:
            return None
        if self._not_before_ns is not None and now_ns < self._not_before_ns:
            return None
        self._is_fetching = True
        self._above = above
        self._sources = tuple(sources)
        return self._ask(now_ns)

    def _ask(self, now_ns: int) -> FetchCheckpoint:
        self.due_ns = now_ns + ASK_AGAIN_NS
        return FetchCheckpoint(self._above, self._sources)

    def take_due(self, now_ns: int) -> FetchCheckpoint | CutLog | None:
        """What is to be asked for again, if anything."""
        if self.due_ns is None or now_ns < self.due_ns:
            return None
        self.due_ns = None
        if self._cut is not None:
            return self._cut
        # The checkpointer may have been restarted meanwhile; one that goes on passes it over.
        return self._ask(now_ns) if self._is_fetching else None

    def ready(
        self, message: CheckpointReady, learned_through: int, now_ns: int
    ) -> LoadCheckpoint | None:
        """The own checkpointer has one, or has given up.

        Returns:
            The order to load it; None where it is of no use by now.
        """
        if self._is_loading or self._loaded is not None or self._cut is not None:
            return None
        self._is_fetching = False
        self.due_ns = None
        if message.problem:
            self._gave_up(message.problem, now_ns)
        if message.instance_id <= learned_through:
            return None
        self._is_loading = True
        return LoadCheckpoint(self._group, learned_through)

    def loaded(self, outcome: CheckpointLoaded) -> None:
        """It is in memory, beside the state that is live."""
        self._is_loading = False
        self._loaded = outcome

    def failed(self, why: str, now_ns: int) -> None:
        """It could not be loaded."""
        self._is_loading = False
        self._gave_up(why, now_ns)

    def _gave_up(self, why: str, now_ns: int) -> None:
        self.problem = why
        self._not_before_ns = now_ns + ASK_AGAIN_NS

    def take_loaded(self, learned_through: int) -> CheckpointLoaded | None:
        """The checkpoint to switch to now, if it is still of use; `CutLog` has to follow."""
        loaded, self._loaded = self._loaded, None
        if loaded is None or loaded.cut.instance_id <= learned_through:
            return None
        self.problem = ""
        return loaded

    def cut(self, loaded: CheckpointLoaded) -> CutLog:
        """The order to leave the old log behind; nothing is sealed before it is done."""
        self._cut = CutLog(self._group, loaded.cut.instance_id + 1, loaded.cut)
        return self._cut

    def cut_done(self) -> None:
        """The log goes on after the checkpoint."""
        self._cut = None
        self.problem = ""
        self.due_ns = None

    def cut_failed(self, why: str, now_ns: int) -> None:
        """The disk refused: again, later."""
        self.problem = why
        self.due_ns = now_ns + CUT_AGAIN_NS
