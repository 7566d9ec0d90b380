"""Calls of a reader to the roles of one group's members, and what they come to.

Nothing is retried here: a call that gives no answer gives a `ReadProblem`, and the reader decides
whom to ask next.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError

from ray_paxos.actors.answers import state_of
from ray_paxos.actors.found_actor import FoundActor
from ray_paxos.actors.found_actors import NotFoundYetError
from ray_paxos.actors.names import actor_name
from ray_paxos.actors.roster import Roster
from ray_paxos.core.client_messages import QueryProblem
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.read_problems import ReadProblem
from ray_paxos.core.wire import decode_envelopes, encode_envelopes

METHODS = {
    RoleName.PROPOSER: "submit",
    RoleName.ACCEPTOR: "read",
    RoleName.LEARNER: "query",
}
"""What each role has clients call."""

LOOK_UP_S = 0.5
"""How long a read waits for Ray before it asks somebody who is known. While the GCS was away, reads
of 3 s took 22 s, since a member had joined that their client had never called."""


@dataclass(frozen=True, slots=True)
class ReadCall:
    """A call that was made.

    Attributes:
        member: Whose role was called.
        reference: Ray's, of the answer.
    """

    member: int
    reference: Any


Started: TypeAlias = ReadCall | ReadProblem


class ReadCalls:
    """Makes calls for one client's address. May be used by several threads."""

    def __init__(
        self,
        *,
        roster: Roster,
        group: int,
        client_id: int,
        is_fused: bool = False,
    ) -> None:
        """Call the members of a cluster.

        Args:
            roster: Knows them.
            group: Whose machines are read.
            client_id: Of the client that reads.
            is_fused: Whether the roles of a member are one actor.
        """
        self.names = roster.names
        self._roster = roster
        self._genesis = roster.genesis.hash()
        self._group = group
        self._address = Address(client_id, RoleName.CLIENT)
        self._is_fused = is_fused
        # Also in `roster.actors`, by their names, which take longer to make than this.
        self._actors: dict[tuple[int, RoleName], FoundActor] = {}

    def start(
        self, role: RoleName, message: Message, *members: int, within_s: float
    ) -> list[Started]:
        """Send a message to a role of each of these members.

        Args:
            role: Whose actors are called.
            message: What they are told.
            members: Whose.
            within_s: How long Ray may take to find those that nobody has called yet, all together.
        """
        envelope = Envelope(self._genesis, self._group, self._address, 0, 0, 0, message)
        batch = encode_envelopes((envelope,))
        deadline = time.monotonic() + min(within_s, LOOK_UP_S)
        return [self._start(member, role, batch, deadline) for member in members]

    def _start(self, member: int, role: RoleName, batch: bytes, deadline: float) -> Started:
        try:
            actor = self._actor(member, role, deadline)
            return ReadCall(member, actor.call(METHODS[role], batch))
        except ValueError as error:
            # Ray's word for a name that no actor has.
            return ReadProblem(str(error))
        except NotFoundYetError:
            name = self.names[member]
            return ReadProblem(f"member {name} was never called, and Ray has not found it in time")
        except RayError as error:
            return self.lost(member, error)

    def finish(self, started: Sequence[Started], patience_s: float) -> list[Envelope | ReadProblem]:
        """Wait for what calls come to, all of them together.

        Args:
            started: The calls.
            patience_s: How long to wait.

        Returns:
            In the same order, each one's answer, or why there is none.
        """
        deadline = time.monotonic() + patience_s
        references = [call.reference for call in started if isinstance(call, ReadCall)]
        try:
            # Asked for nothing, without a connection, Ray would start a cluster.
            answers = iter(ray.get(references, timeout=patience_s) if references else ())
        except (GetTimeoutError, RayError):
            # Of one of them; the others may have answered, or still will.
            return [self._finish(call, deadline) for call in started]
        return [
            self.read(call.member, next(answers)) if isinstance(call, ReadCall) else call
            for call in started
        ]

    def _finish(self, started: Started, deadline: float) -> Envelope | ReadProblem:
        if isinstance(started, ReadProblem):
            return started
        remaining_s = max(deadline - time.monotonic(), 0.0)
        try:
            return self.read(started.member, ray.get(started.reference, timeout=remaining_s))
        except GetTimeoutError:
            return ReadProblem(f"member {self.names[started.member]} did not answer in time")
        except RayError as error:
            return self.lost(started.member, error)

    def knows(self, role: RoleName, member: int) -> bool:
        """Whether a call needs no look-up, for which it would wait for the GCS."""
        return (member, role) in self._actors or self._roster.actors.knows(self._name(member, role))

    def read(self, member: int, answer: bytes) -> Envelope | ReadProblem:
        """What a member's answer to a call says.

        Raises:
            WireFormatError: The bytes are none of ours.
        """
        state = state_of(answer)
        if state is not None:
            return ReadProblem(f"member {self.names[member]}: {state}")
        replies = decode_envelopes(answer)
        if not replies:
            what = f"does not serve group {self._group}, or gave up waiting"
            return ReadProblem(f"member {self.names[member]} {what}")
        return replies[0]

    def lost(self, member: int, error: RayError) -> ReadProblem:
        """What it means that a call failed; a role that is gone is looked up again."""
        if isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError):
            for role in METHODS:
                actor = self._actors.pop((member, role), None)
                if actor is not None:
                    self._roster.actors.forget(self._name(member, role), actor)
        return ReadProblem(f"member {self.names[member]}: {type(error).__name__}")

    def lacks_members(self, problem: ReadProblem) -> bool:
        """Whether a member that is not known may do better than those that are."""
        is_unknown = bool(problem.master) and problem.master not in self.names
        return is_unknown or problem.problem is QueryProblem.NO_GROUP

    def look_for_members(self, within_s: float) -> None:
        """See whether there are further ones; waits so long for Ray, which may go on after that."""
        looking = self._roster.actors.run(self._roster.look)
        # Whatever came of it: who was found is in the roster.
        wait([looking], min(within_s, LOOK_UP_S))

    def _actor(self, member: int, role: RoleName, deadline: float) -> FoundActor:
        actor = self._actors.get((member, role))
        if actor is None:
            within_s = deadline - time.monotonic()
            actor = self._roster.actors.find(self._name(member, role), within_s)
            self._actors[member, role] = actor
        return actor

    def _name(self, member: int, role: RoleName) -> str:
        cluster = self._roster.genesis.cluster
        return actor_name(cluster, self.names[member], role, is_fused=self._is_fused)
