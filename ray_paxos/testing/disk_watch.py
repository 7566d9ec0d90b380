"""What one member's learner relies on: it must be on the disk, and stay there without power."""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.checkpoint_messages import ChainReply
from ray_paxos.core.events import CheckpointDamaged, SegmentDamageFound
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Message
from ray_paxos.testing.damage import MemberDamage
from ray_paxos.testing.durability import SegmentWatch
from ray_paxos.testing.trace import name_member
from ray_paxos.testing.violation import Violation


class DiskWatch:
    """Follows the learner of one member, and looks at the disk for itself.

    Attributes:
        member_id: Whose.
        learners: By group, in their present life.
    """

    def __init__(
        self, member_id: int, groups: Sequence[int], damage: MemberDamage, segments: SegmentWatch
    ) -> None:
        """Follow no learner yet."""
        self.member_id = member_id
        self.learners: dict[int, Learner] = {}
        self._groups = groups
        self._damage = damage
        self._segments = segments
        self._single_source: dict[int, int] = {}
        self._whole_through: dict[int, int] = {}

    def opening(self) -> None:
        """A learner is about to look at what is on the disk."""
        self._whole_through = {g: self._damage.reach(g, whole=True) for g in self._groups}

    def opened(self, group: int, learner: Learner) -> None:
        """A learner begins a life with what it found."""
        self.learners[group] = learner
        self._single_source[group] = learner.single_source_chunks
        whole_through = self._whole_through[group] if self._damage else None
        self._segments.opened(group, learner.durable_through, whole_through)
        self._check_held(group, learner.durable_through)

    def installed(self, group: int, instance_id: int) -> None:
        """The learner goes on from a checkpoint."""
        self._check_held(group, instance_id)

    def log_cut(self, group: int) -> None:
        """Segments are gone: never beyond what a checkpoint covers."""
        self._check_held(group, self._segments.durable_through(group))

    def _check_held(self, group: int, through: int) -> None:
        held = self._damage.reach(group, durable=True)
        if held < through:
            what = f"relies on all through {through}, and would hold {held} without power"
            raise Violation("R3", self._at(group, what))

    def damage_found(self, event: CheckpointDamaged | SegmentDamageFound) -> None:
        """Nothing is damaged that no fault has damaged."""
        damage = self._damage
        if isinstance(event, CheckpointDamaged):
            is_known = (event.group, event.instance_id) in damage.checkpoints
        else:
            is_known = (event.group, event.first, event.last) in damage.segments
        if not is_known:
            raise Violation("R11", self._at(event.group, f"found damage: {event.why}"))

    def caught_up(self, group: int, handled: Message | None) -> None:
        """A chunk counts after a second member's word, or is counted where there was none.

        Args:
            group: Whose.
            handled: The message at which it was learned; None for none.
        """
        before, now = self._single_source[group], self.learners[group].single_source_chunks
        self._single_source[group] = now
        if not _is_second_word(handled) and now <= before:
            what = "learned what one member alone had said, and does not count it"
            raise Violation("R4", self._at(group, what))

    def confirmed(self, group: int, handled: Message | None) -> None:
        """What was counted before counts no more only after a second member's word.

        Args:
            group: Whose.
            handled: The message at which it was confirmed; None for none.
        """
        self._single_source[group] = self.learners[group].single_source_chunks
        if not _is_second_word(handled):
            what = "takes for confirmed what one member alone had said"
            raise Violation("R4", self._at(group, what))

    def _at(self, group: int, what: str) -> str:
        return f"group {group}: {name_member(self.member_id)} {what}"


def _is_second_word(handled: Message | None) -> bool:
    return isinstance(handled, ChainReply) and handled.chain is not None
