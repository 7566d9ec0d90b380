"""What does not change during one reign, shared by its parts."""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.genesis import Configuration, GroupSpec
from ray_paxos.core.messages import Address, Message, RoleName
from ray_paxos.core.settings import ProposerSettings


@dataclass(frozen=True, slots=True)
class Seat:
    """Who leads what, since a majority promised.

    Attributes:
        spec: The group, and what it starts from.
        member_id: Of this member.
        ballot: Promised by a majority of `configuration`.
        configuration: Whose votes count.
        settings: Limits and times.
    """

    spec: GroupSpec
    member_id: int
    ballot: Ballot
    configuration: Configuration
    settings: ProposerSettings

    @property
    def group(self) -> int:
        """Whose log."""
        return self.spec.group

    @property
    def members(self) -> tuple[int, ...]:
        """All members that have the group."""
        return self.configuration.member_ids

    @property
    def own_learner(self) -> Address:
        """The learner of this member."""
        return Address(self.member_id, RoleName.LEARNER)

    @property
    def other_voters(self) -> list[int]:
        """The members that vote, without this one."""
        return [v.member_id for v in self.configuration.voters if v.member_id != self.member_id]

    def send(self, to: Address, message: Message, effects: Effects) -> None:
        """Send one message; a proposer has nothing on its disk that it vouches for."""
        effects.sends_now.append(Send(to, self.group, message))

    def send_to_acceptors(self, message: Message, effects: Effects) -> None:
        """Send one message to every voter's acceptor."""
        for voter in self.configuration.voters:
            self.send(Address(voter.member_id, RoleName.ACCEPTOR), message, effects)
