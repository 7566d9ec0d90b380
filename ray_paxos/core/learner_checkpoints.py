"""What a learner has to do with checkpoints: it has them fetched, goes on from them, saves them.

`checkpoint_install` says in which order an install goes. Besides being too far behind there are
two reasons to have one fetched: the newest one that is left here does not reach to the log, and a
damaged segment that another member covers with a checkpoint only. Neither changes the state here;
they are for the next start.
"""

from __future__ import annotations

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.checkpoint_install import CheckpointInstall
from ray_paxos.core.checkpoint_messages import (
    CheckpointReady,
    FetchCheckpoint,
    LearnerInstalled,
    StateSaved,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import CheckpointInstalled
from ray_paxos.core.learner_state import LearnerState
from ray_paxos.core.tasks import (
    CheckpointLoaded,
    CutLog,
    LogCut,
    Outcome,
    SaveState,
    TaskFailed,
)


class LearnerCheckpoints:
    """The checkpoints of one group, as its learner sees them.

    Invariants: nothing is sealed between the switch to a checkpoint and the cut of the old log
    behind it (`bars_sealing`); nothing is on its way into segments at the switch.
    """

    def __init__(self, state: LearnerState) -> None:
        """Know of none, and want none.

        Args:
            state: Of the learner.
        """
        self._state = state
        self._install = CheckpointInstall(state.group)
        # The newest checkpoint of those that are left does not reach to the log: the state here is
        # whole, but a restart would have less to begin from.
        self._is_uncovered = False

    @property
    def problem(self) -> str:
        """Why none could be had last; empty where it could."""
        return self._install.problem

    @property
    def due_ns(self) -> int | None:
        """When to ask, or cut, again; None for never."""
        return self._install.due_ns

    @property
    def is_wanted(self) -> bool:
        """Whether one is on its way: nothing is asked of other members meanwhile."""
        return self._install.is_wanted

    @property
    def bars_sealing(self) -> bool:
        """Whether nothing may go to the disk: the log is about to go on elsewhere."""
        return self._install.bars_sealing

    # Having them fetched.

    def kept(self, newest: int) -> None:
        """The checkpointer told as of which instance the newest one here is; 0 for none."""
        self._is_uncovered = newest < self._state.sealing.floor - 1

    def want(self, above: int, now_ns: int, effects: Effects, *, first: int = 0) -> bool:
        """Have one fetched, of a later instance than `above`.

        Args:
            above: See there.
            now_ns: The clock.
            effects: Takes the order.
            first: The member to ask first; 0 for any.

        Returns:
            False where one is on its way, or none could be had a moment ago.
        """
        sources = sorted(self._state.peers, key=lambda member: member != first)
        order = self._install.want(above, sources, now_ns)
        self._fetch(order, effects)
        return order is not None

    def go_on(self, now_ns: int, effects: Effects) -> None:
        """Ask for what is missing, again where it is time to."""
        if self._is_uncovered:
            self.want(self._state.sealing.floor - 2, now_ns, effects)
        again = self._install.take_due(now_ns)
        if isinstance(again, CutLog):
            effects.tasks.append(again)
        else:
            self._fetch(again, effects)

    def _fetch(self, order: FetchCheckpoint | None, effects: Effects) -> None:
        if order is not None:
            self._state.send(self._state.checkpointer, order, effects)

    # Going on from one.

    def ready(self, message: CheckpointReady, now_ns: int, effects: Effects) -> None:
        """One is in the own folder, or fetching was given up."""
        load = self._install.ready(message, self._state.log.learned_through, now_ns)
        if load is not None:
            effects.tasks.append(load)

    def on_loaded(self, outcome: Outcome, now_ns: int) -> None:
        """One is in memory, or could not be loaded."""
        if isinstance(outcome, CheckpointLoaded):
            self._install.loaded(outcome)
        else:
            assert isinstance(outcome, TaskFailed), "a load comes to nothing else"
            self._install.failed(outcome.why, now_ns)

    def switch_if_loaded(self, effects: Effects) -> Cut | None:
        """Go on from one that is loaded, once nothing is on its way to the disk.

        Returns:
            Where it stands; None where there was no switch.
        """
        state = self._state
        if state.sealing.is_busy:
            return None
        loaded = self._install.take_loaded(state.log.learned_through)
        if loaded is None:
            return None
        cut = loaded.cut
        state.install(loaded, effects)
        effects.tasks.append(self._install.cut(loaded))
        installed = CheckpointInstalled(state.group, cut.instance_id, cut.chain, cut.result_chain)
        effects.events.append(installed)
        state.send(state.proposer, LearnerInstalled(cut.instance_id), effects)
        state.sealing.note_learned(state.now_ns)
        state.apply_learned(effects)
        state.tell_proposer(effects)
        return cut

    def on_cut(self, outcome: Outcome, now_ns: int) -> None:
        """The old log is left behind; or the disk refused, and it is tried again."""
        if isinstance(outcome, LogCut):
            self._install.cut_done()
        else:
            assert isinstance(outcome, TaskFailed), "a cut comes to nothing else"
            self._install.cut_failed(outcome.why, now_ns)

    # Saving them.

    def save(self, effects: Effects) -> None:
        """Save the state as it is: nothing is applied before that is done."""
        state = self._state
        applying, point = state.applying, state.applying.point
        if applying.stopped or point.result_chain is None or state.ballot is None:
            self._tell_saved(0, applying.stopped or "nothing is applied yet", effects)
            return
        cut = Cut(
            point.instance_id, point.chain, point.result_chain, state.ballot, state.configuration
        )
        effects.tasks.append(SaveState(state.group, cut, state.host))

    def on_saved(self, task: SaveState, outcome: Outcome, effects: Effects) -> None:
        """The state is saved, or could not be."""
        why = outcome.why if isinstance(outcome, TaskFailed) else ""
        self._tell_saved(0 if why else task.cut.instance_id, why, effects)

    def _tell_saved(self, instance_id: int, problem: str, effects: Effects) -> None:
        state = self._state
        state.send(state.checkpointer, StateSaved(instance_id, problem), effects)
