"""How a learner comes to what it missed, and what it gives to those that missed something.

```
 behind ── LearnRequest ─▶ another member ── LearnReply ─▶ held ── ChainRequest ─▶ a third one
                                                             └── the same chain ─▶ learned
                                                                 nobody to ask ──▶ learned, counted
 log begins above ── a checkpoint is fetched (`learner_checkpoints`)
```

Whom to ask is up to `catch_up`, a second word on what is given to `chunk_check`, and a late one to
`unconfirmed_chunks`. While too much waits to be sealed nothing is asked for and nothing taken in;
it is the same as if the messages were lost (R10).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ray_paxos.core.catch_up import CatchUpPlan
from ray_paxos.core.checkpoint_messages import ChainReply, ChainRequest
from ray_paxos.core.chunk_check import ChunkCheck, Difference, HeldChunk
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    CatchUpUnanswered,
    CaughtUp,
    ChunkDiffered,
    ChunksConfirmed,
)
from ray_paxos.core.learner_checkpoints import LearnerCheckpoints
from ray_paxos.core.learner_messages import (
    LearnReply,
    LearnRequest,
)
from ray_paxos.core.learner_state import LearnerState
from ray_paxos.core.messages import (
    Address,
    Message,
)
from ray_paxos.core.pace import Pace
from ray_paxos.core.unconfirmed_chunks import Confirmed, UnconfirmedChunks

DIFFERENCES_MAX = 4


class LearnerCatchUp:
    """Catching up of one group's learner, with and for others.

    Invariants: one question for instances is open at most, and none while a chunk is held or a
    checkpoint is on its way; what one member alone has said is learned only where no other could
    be asked, and is counted until one confirms it.

    Attributes:
        differences: Who differed from whom, for a person; the latest ones.
    """

    def __init__(
        self,
        state: LearnerState,
        checkpoints: LearnerCheckpoints,
        random: random.Random,
    ) -> None:
        """Be in step with everybody.

        Args:
            state: Of the learner.
            checkpoints: Fetched where instances are no longer to be had.
            random: Chooses whom to ask; not shared.
        """
        self.differences: tuple[str, ...] = ()
        self._state = state
        self._checkpoints = checkpoints
        self._plan = CatchUpPlan(
            member_id=state.member_id, members=state.peers, settings=state.settings, random=random
        )
        self._chunks = ChunkCheck(state.peers, state.settings)
        self._unconfirmed = UnconfirmedChunks(state.peers, state.settings)
        self._pace = Pace(state.settings.catch_up_bytes_per_s)
        self._awaited_through = 0

    @property
    def single_source_chunks(self) -> int:
        """How many chunks were learned that no second member has confirmed so far."""
        return self._unconfirmed.count

    @property
    def overdue_chunks(self) -> int:
        """How many of them nobody could confirm for so long that a person should know."""
        return self._unconfirmed.overdue_count

    @property
    def known_through(self) -> int:
        """Somebody is known to have learned everything up to this instance."""
        return max(self._plan.target, self._state.log.learned_through)

    @property
    def due_ns(self) -> int | None:
        """When something is to be asked, or asked again; None for never."""
        due = self._plan.retry_ns, self._chunks.due_ns, self._unconfirmed.due_ns
        return min((each for each in due if each is not None), default=None)

    # What others have.

    def aim(self, through: int, sources: Sequence[int]) -> None:
        """Somebody has everything up to `through`; `sources` are to be asked first."""
        self._plan.aim(through, sources)

    def wait_for(self, through: int, sources: Sequence[int]) -> None:
        """As `aim`, and the own proposer is told as soon as it is learned."""
        self._plan.aim(through, sources)
        self._awaited_through = max(self._awaited_through, through)

    def on_deadline(self, now_ns: int, effects: Effects) -> None:
        """Who was asked for a second word does not give it: ask another, or nobody."""
        if self._chunks.due_ns is not None and now_ns >= self._chunks.due_ns:
            self._ask_for_chain(now_ns, effects)

    def go_on(self, now_ns: int, effects: Effects) -> None:
        """Ask for what is missing, and for what was not confirmed, where it is time to."""
        log = self._state.log
        if self._state.sealing.is_full or self._checkpoints.is_wanted:
            self._plan.rest()
        elif not self._chunks.is_waiting:
            silent = self._plan.unanswered(now_ns)
            question = self._plan.ask(log.learned_through, now_ns)
            if question is not None and silent is not None:
                effects.events.append(CatchUpUnanswered(self._state.group, silent))
            self._ask(question, effects)
        self._ask(
            self._unconfirmed.take_question(log.learned_through, log.end_chain, now_ns), effects
        )

    def _ask(self, question: tuple[Address, Message] | None, effects: Effects) -> None:
        if question is not None:
            self._state.send(question[0], question[1], effects)

    # Taking in.

    def on_learn_reply(
        self, sender: Address, message: LearnReply, now_ns: int, effects: Effects
    ) -> None:
        """Another member gave some of its log."""
        state, plan = self._state, self._plan
        if not plan.is_answer(sender, message) or self._chunks.is_waiting:
            # Late: whoever was asked after it has answered, or will.
            plan.target = max(plan.target, message.learned_through)
        elif self._is_news(message):
            # Held back until a second member has said the same.
            log = state.log
            self._chunks.hold(sender, message, log.learned_through, log.end_chain, state.master)
            plan.hold()
            self._ask_for_chain(now_ns, effects)
        else:
            self._go_on_asking(sender, message, now_ns, effects)

    def _is_news(self, reply: LearnReply) -> bool:
        """Whether a reply goes on from what is learned, and holds something that is not."""
        learned, values = self._state.log.learned_through, reply.values
        if not values or self._state.sealing.is_full:
            return False
        first, last = values[0].instance_id, values[-1].instance_id
        return first <= learned + 1 <= last and last - first + 1 == len(values)

    def _ask_for_chain(self, now_ns: int, effects: Effects) -> None:
        """Ask the next member to confirm the chunk; where none is left, learn it all the same."""
        question = self._chunks.next_question(now_ns)
        if question is not None:
            self._ask(question, effects)
        elif self._chunks.is_waiting:
            chunk = self._chunks.take()
            before = self._state.log.learned_through
            self._learn(chunk, now_ns, effects)
            end = min(chunk.end, self._state.log.learned_through)
            if end > before:
                self._unconfirmed.note(chunk.sender.member_id, end, now_ns)

    def on_chain_reply(
        self, sender: Address, reply: ChainReply, now_ns: int, effects: Effects
    ) -> None:
        """Another member told its chain after an instance."""
        verdict = self._chunks.answered(sender, reply)
        match verdict:
            case HeldChunk():
                confirmed = self._unconfirmed.confirmed(sender.member_id, verdict.end, now_ns)
                self._tell_confirmed(confirmed, effects)
                self._learn(verdict, now_ns, effects)
            case Difference():
                self._tell_difference(verdict, effects)
                self._plan.pass_over(now_ns)
            case None if self._chunks.is_waiting and self._chunks.due_ns is None:
                self._ask_for_chain(now_ns, effects)
            case None:
                self._on_late_word(sender, reply, now_ns, effects)

    def _on_late_word(
        self, sender: Address, reply: ChainReply, now_ns: int, effects: Effects
    ) -> None:
        verdict = self._unconfirmed.answered(sender, reply, now_ns)
        match verdict:
            case Confirmed():
                self._tell_confirmed(verdict, effects)
            case Difference():
                self._tell_difference(verdict, effects)
            case _:
                self._ask(verdict, effects)

    def _tell_confirmed(self, confirmed: Confirmed | None, effects: Effects) -> None:
        if confirmed is not None:
            event = ChunksConfirmed(
                self._state.group, confirmed.member_id, confirmed.through, confirmed.count
            )
            effects.events.append(event)

    def _tell_difference(self, difference: Difference, effects: Effects) -> None:
        differed = ChunkDiffered(
            self._state.group,
            difference.instance_id,
            difference.source,
            difference.source_chain,
            difference.other,
            difference.other_chain,
        )
        effects.events.append(differed)
        kept = self.differences[1 - DIFFERENCES_MAX :]
        self.differences = (*kept, _difference_text(difference))

    def _learn(self, chunk: HeldChunk, now_ns: int, effects: Effects) -> None:
        state = self._state
        before = state.log.learned_through
        state.learn(chunk.reply.values, now_ns, effects)
        learned = state.log.learned_through - before
        if learned:
            effects.events.append(CaughtUp(state.group, chunk.sender.member_id, learned))
        self._go_on_asking(chunk.sender, chunk.reply, now_ns, effects)
        if learned and before < self._awaited_through:
            # The own proposer has been promised, and waits for this.
            state.tell_proposer(effects)

    def _go_on_asking(
        self, sender: Address, reply: LearnReply, now_ns: int, effects: Effects
    ) -> None:
        """Ask on after an answer that is taken in; or for a checkpoint, where only that helps."""
        if self._state.sealing.is_full:
            return
        learned = self._state.log.learned_through
        if learned < reply.log_floor - 1 and not reply.values:
            if self._checkpoints.want(learned, now_ns, effects, first=sender.member_id):
                self._plan.rest()
            else:
                self._plan.pass_over(now_ns)
            return
        self._ask(self._plan.answered(sender, reply, learned, now_ns), effects)

    def drop_chunk(self) -> None:
        """The log goes on after a checkpoint: the chunk that is held says nothing new."""
        self._chunks.drop()

    # Giving out.

    def on_learn_request(
        self, sender: Address, request: LearnRequest, now_ns: int, effects: Effects
    ) -> None:
        """Another member's learner is behind: give it what memory holds, at the rate allowed."""
        log = self._state.log
        values = log.read(request.from_instance, request.bytes_max)
        reply = LearnReply(
            request.from_instance,
            tuple(values),
            log.learned_through,
            log.memory_floor,
            self._state.log_floor,
            self._pace.take(sum(len(chosen.value) for chosen in values), now_ns),
        )
        self._state.send(sender, reply, effects)

    def on_chain_request(self, sender: Address, request: ChainRequest, effects: Effects) -> None:
        """Another member's learner wants a second word."""
        log, instance_id = self._state.log, request.instance_id
        chain = log.chain_at(instance_id)
        reply = ChainReply(instance_id, chain, log.learned_through, log.memory_floor)
        self._state.send(sender, reply, effects)


def _difference_text(difference: Difference) -> str:
    return (
        f"members {difference.source} and {difference.other} have different logs at or before "
        f"instance {difference.instance_id}: the chains are {difference.source_chain.hex()} and "
        f"{difference.other_chain.hex()}"
    )
