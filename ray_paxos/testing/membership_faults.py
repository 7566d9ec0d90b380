"""Changes of a group's members, as an operator without judgement orders them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ray_paxos.core.membership_messages import ChangeMembership
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import MembershipEntry, MembershipKind
from ray_paxos.testing.cluster import SimulatedCluster
from ray_paxos.testing.network import Transport
from ray_paxos.testing.trace import name_member

OPERATOR = Address(901, RoleName.CLIENT)
LAST_MOMENTS_NS = 15 * MILLISECOND_NS
TAKEN_BACK_SHARE = 0.6
"""So many of those that are removed are to vote again at once, while they forget."""
TAKEN_BACK_ORDERS_MAX = 60
TAKEN_BACK_PAUSE_NS = 8 * MILLISECOND_NS


class MembershipFaults:
    """Orders them of whoever leads."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        transport: Transport,
        kill_member: Callable[[int], None],
        later: Callable[[int, Callable[[], None]], None],
    ) -> None:
        """Order nothing yet.

        Args:
            cluster: Whose members.
            transport: Its network.
            kill_member: Ends a member's processes for a while.
            later: Calls something after so many nanoseconds, unless faults have ended by then.
        """
        self._cluster = cluster
        self._transport = transport
        self._kill_member = kill_member
        self._later = later
        self._world = cluster.world
        self._draw = cluster.world.random
        self._requests = 0

    def change(self) -> None:
        """Somebody is to join, to vote, to vote no more, or to leave; often its master dies of it.

        What cannot be is ordered, too: whoever is there already, the last voter, under a
        configuration that has been changed since.
        """
        masters = list(self._masters())
        if not masters:
            return
        member_id, group, proposer = masters[self._draw.randrange(len(masters))]
        configuration = proposer.configuration
        kinds = list(MembershipKind)
        # Else groups would only shrink.
        kinds += [MembershipKind.ADD, MembershipKind.PROMOTE, MembershipKind.PROMOTE]
        kind = kinds[self._draw.randrange(len(kinds))]
        fitting = {
            MembershipKind.ADD: set(self._cluster.members) - set(configuration.member_ids),
            MembershipKind.PROMOTE: {f.member_id for f in configuration.followers},
            MembershipKind.DEMOTE: {v.member_id for v in configuration.voters},
            MembershipKind.REMOVE: set(configuration.member_ids),
        }[kind]
        whoever = sorted(fitting) if self._draw.random() < 0.9 else list(self._cluster.members)
        if not whoever:
            return
        whom = whoever[self._draw.randrange(len(whoever))]
        expected = configuration.config_id
        if self._draw.random() < 0.1:
            expected = max(expected - 1, 0)
        self._order(group, member_id, self._entry(kind, whom, expected))
        if kind is MembershipKind.REMOVE and self._draw.random() < TAKEN_BACK_SHARE:
            self._soon(partial(self._take_back, group, whom, TAKEN_BACK_ORDERS_MAX))
        if self._draw.random() < 0.25:
            delay_ns = self._draw.randrange(LAST_MOMENTS_NS)
            self._world.scheduler.after(delay_ns, partial(self._kill_member, member_id))

    def _take_back(self, group: int, whom: int, orders_left: int) -> None:
        """Somebody who was removed is to have the group again, and to vote, whoever leads."""
        leading = [each for each in self._masters() if each[1] == group]
        if leading:
            master, _, proposer = leading[0]
            configuration = proposer.configuration
            if configuration.voter(whom) is not None and orders_left < TAKEN_BACK_ORDERS_MAX:
                return
            follows = configuration.follower(whom) is not None
            kind = MembershipKind.PROMOTE if follows else MembershipKind.ADD
            self._order(group, master, self._entry(kind, whom, configuration.config_id))
        if orders_left > 1:
            self._soon(partial(self._take_back, group, whom, orders_left - 1))

    def _soon(self, action: Callable[[], None]) -> None:
        self._later(self._draw.randrange(TAKEN_BACK_PAUSE_NS), action)

    def _entry(self, kind: MembershipKind, whom: int, expected: int) -> MembershipEntry:
        is_added = kind is MembershipKind.ADD
        name = self._world.joined_as(whom) if is_added else ""
        return MembershipEntry(kind, whom, expected, name)

    def _order(self, group: int, master: int, entry: MembershipEntry) -> None:
        self._requests += 1
        what = f"{name_member(master)} is to {entry.kind.name} {name_member(entry.member_id)}"
        self._world.say(f"{what} in group {group}")
        genesis = self._world.genesis.hash()
        message = ChangeMembership(self._requests, entry)
        envelope = Envelope(genesis, group, OPERATOR, 0, 0, 0, message)
        self._transport.send(OPERATOR, Address(master, RoleName.PROPOSER), envelope)

    def _masters(self) -> list[tuple[int, int, Proposer]]:
        return [
            (member.member_id, group, proposer)
            for member in self._cluster.members.values()
            for group, proposer in self._cluster.proposers(member.member_id).items()
            if proposer.is_serving
        ]
