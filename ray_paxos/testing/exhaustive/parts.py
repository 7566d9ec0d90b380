"""What the models are put together from: addresses, packets, and links that are cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import OpenSession
from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, Voter
from ray_paxos.core.membership_messages import ChangeMembership
from ray_paxos.core.messages import Accept, Address, Envelope, Message, RoleName, TakeOver
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import MembershipEntry, MembershipKind
from ray_paxos.testing.exhaustive.actions import Packet
from ray_paxos.testing.exhaustive.roles import GENESIS, GROUP

A, B, C, D = 1, 2, 3, 4
REPLICAS = {A: 11, B: 12, C: 13, D: 14}


def configuration(voters: Sequence[int], followers: Sequence[int] = ()) -> Configuration:
    """A group's first one."""
    return Configuration(
        GENESIS_CONFIG_ID,
        tuple(Voter(member_id, REPLICAS[member_id]) for member_id in voters),
        tuple(Voter(member_id, REPLICAS[member_id]) for member_id in followers),
    )


CONFIGURATION = configuration((A, B, C))
FAR_NS = 10**9 * MILLISECOND_NS
"""Longer than any walk."""


def proposer(member_id: int) -> Address:
    """A member's proposer."""
    return Address(member_id, RoleName.PROPOSER)


def acceptor(member_id: int) -> Address:
    """A member's acceptor."""
    return Address(member_id, RoleName.ACCEPTOR)


def learner(member_id: int) -> Address:
    """A member's learner."""
    return Address(member_id, RoleName.LEARNER)


def mail(
    sender: Address, to: Address, message: Message, config_id: int = GENESIS_CONFIG_ID
) -> Packet:
    """A message of the first life of a process, or of a client."""
    is_client = sender.role is RoleName.CLIENT
    replica_id, incarnation = (0, 0) if is_client else (REPLICAS[sender.member_id], 1)
    envelope = Envelope(GENESIS, GROUP, sender, replica_id, incarnation, config_id, message)
    return Packet(to, envelope)


def take_over(member_id: int, round: int) -> Packet:
    """A member is asked to lead, by C, which gives up a ballot of that round.

    So it stands without a pre-vote, which is the shortest way to a prepare. Nobody stands twice
    upon one such message: it names a round that is over by then.
    """
    return mail(proposer(C), proposer(member_id), TakeOver(Ballot(round, C, 1)))


def whole(member_id: int) -> tuple[Address, ...]:
    """All roles of a member."""
    return (proposer(member_id), learner(member_id), acceptor(member_id))


def passive(member_id: int) -> tuple[Address, ...]:
    """The roles of a member that never stands."""
    return (learner(member_id), acceptor(member_id))


def change(master: int, kind: MembershipKind, member_id: int, expected: int = 0) -> Packet:
    """A client asks a master to change who has the group.

    Args:
        master: Who is asked.
        kind: What is to become of
        member_id: this member.
        expected: The configuration that is to be changed.
    """
    entry = MembershipEntry(kind, member_id, expected)
    client = Address(950 + member_id, RoleName.CLIENT)
    return mail(client, proposer(master), ChangeMembership(1, entry))


def command(member_id: int, number: int = 0) -> Packet:
    """A client, of that number, asks a member's proposer for something that takes an instance."""
    client = Address(900 + member_id + 10 * number, RoleName.CLIENT)
    return mail(client, proposer(member_id), OpenSession(1, "s"))


# What is lost.

Loss = Callable[[Packet], bool]


def any_of(*losses: Loss) -> Loss:
    """Lose what one of them loses."""
    return lambda packet: any(loss(packet) for loss in losses)


def kinds(*lost: type) -> Loss:
    """Lose these kinds of messages."""
    return lambda packet: isinstance(packet.envelope.message, lost)


def but_to(receivers: Sequence[Address], *lost: type) -> Loss:
    """Lose these kinds of messages, but for those to these processes."""
    return lambda packet: isinstance(packet.envelope.message, lost) and packet.to not in receivers


def under(config_ids: Sequence[int], *lost: type) -> Loss:
    """Lose these kinds of messages, where they are said under these configurations."""
    return lambda packet: (
        isinstance(packet.envelope.message, lost) and packet.envelope.config_id in config_ids
    )


def apart(one: int, other: int, *config_ids: int) -> Loss:
    """Lose everything between the proposer of one member and the acceptor of the other.

    Args:
        one: A member,
        other: and another.
        config_ids: What is said under these configurations is lost.
    """

    def loss(packet: Packet) -> bool:
        sender, to = packet.envelope.sender, packet.to
        return (
            {sender.role, to.role} == {RoleName.PROPOSER, RoleName.ACCEPTOR}
            and {sender.member_id, to.member_id} == {one, other}
            and packet.envelope.config_id in config_ids
        )

    return loss


def accepts_above(instance_id: int) -> Loss:
    """Lose accepts for later instances: nobody votes there."""

    def loss(packet: Packet) -> bool:
        message = packet.envelope.message
        return isinstance(message, Accept) and message.instance_id > instance_id

    return loss


def between_rivals(packet: Packet) -> bool:
    """Lose everything between the proposer of A or B and the acceptor of the other.

    Each then has its own acceptor and C's, which the two majorities share. That is where all
    conflicts are decided, and the number of states falls by two orders of magnitude.
    """
    roles = {packet.envelope.sender.role, packet.to.role}
    members = {packet.envelope.sender.member_id, packet.to.member_id}
    return roles == {RoleName.PROPOSER, RoleName.ACCEPTOR} and members == {A, B}
