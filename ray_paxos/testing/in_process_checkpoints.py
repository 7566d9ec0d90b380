"""Having the members of an in-process cluster make checkpoints, as an operator does."""

from __future__ import annotations

from ray_paxos.core.checkpoint_messages import CheckpointDue, TakeCheckpoint
from ray_paxos.core.client_messages import Flush
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import CheckpointError
from ray_paxos.testing.calls import call_address
from ray_paxos.testing.in_process_world import GROUP, InProcessWorld
from ray_paxos.testing.options import SECOND_NS
from ray_paxos.testing.trace import name_member

MAKE_NS = 30 * SECOND_NS
ASK_NS = 20 * MILLISECOND_NS


class CheckpointAsker:
    """Asks learners to seal what they have, and then checkpointers for a checkpoint of it."""

    def __init__(self, world: InProcessWorld) -> None:
        """Ask nothing yet."""
        self._world = world
        self._client_id = world.new_client_id()
        self._asked = 0
        self._dues: dict[int, CheckpointDue] = {}
        world.members.callers[self._client_id] = self._take_answer

    def make(self) -> dict[int, int]:
        """Let every member that is up make a checkpoint of all it has learned.

        Returns:
            By member, the instance of its newest checkpoint.

        Raises:
            CheckpointError: A member cannot make it, or did not within 30 simulated seconds.
        """
        world = self._world
        targets = {}
        for member_id in world.member_ids:
            learner = self._learner(member_id)
            if learner is not None:
                targets[member_id] = learner.learned_through
                self._send(member_id, RoleName.LEARNER, Flush())
        self._dues.clear()
        end_ns = world.now_ns + MAKE_NS
        while late := [each for each in targets if not self._has_made(each, targets[each])]:
            if world.now_ns >= end_ns:
                names = ", ".join(map(name_member, late))
                raise CheckpointError(f"no checkpoint in time on {names}")
            for member_id in late:
                message = TakeCheckpoint(targets[member_id])
                self._send(member_id, RoleName.CHECKPOINTER, message)
            world.until(lambda: False, world.now_ns + ASK_NS)
        return {member_id: self._dues[member_id].newest for member_id in targets}

    def _has_made(self, member_id: int, through: int) -> bool:
        due = self._dues.get(member_id)
        if due is not None and due.problem:
            raise CheckpointError(f"member {name_member(member_id)}: {due.problem}")
        return due is not None and due.newest >= through

    def _learner(self, member_id: int) -> Learner | None:
        return self._world.members.learner(member_id, GROUP)

    def _send(self, member_id: int, role: RoleName, message: Message) -> None:
        self._asked += 1
        sender = call_address(self._client_id, self._asked)
        envelope = self._world.envelope(sender, message)
        self._world.network.send(sender, Address(member_id, role), envelope)

    def _take_answer(self, call: int, envelope: Envelope) -> None:
        if isinstance(envelope.message, CheckpointDue):
            self._dues[envelope.sender.member_id] = envelope.message
