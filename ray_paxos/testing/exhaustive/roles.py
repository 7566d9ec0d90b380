"""Makes the real roles, as the opening of a folder would, from what is durable."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.genesis import Configuration, GroupSpec
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.records import GroupCreated, SealedInstance, VoteCast
from ray_paxos.core.role import Role
from ray_paxos.core.settings import AcceptorSettings, LearnerSettings, ProposerSettings
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry

GROUP = 1
GENESIS = b"exhaustive"


class NoRandom(random.Random):
    """Chooses the first of everything; there is nothing in it to copy.

    What a role draws is the length of a time-out, and whom a learner asks first. The walk lets
    deadlines pass in any order as it is.
    """

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """The lowest number of the range."""
        return 0 if stop is None else start

    def __reduce__(self) -> tuple[type[NoRandom], tuple[()]]:
        return NoRandom, ()


@dataclass(frozen=True)
class Recipe:
    """What all roles of a model are made with; never changed.

    Attributes:
        configuration: Who votes.
        members: Who has the group.
        proposer: Limits and times,
        acceptor: of each role,
        learner: in turn.
    """

    configuration: Configuration
    members: tuple[int, ...]
    proposer: ProposerSettings
    acceptor: AcceptorSettings
    learner: LearnerSettings

    @property
    def spec(self) -> GroupSpec:
        """What the group starts from."""
        configuration = self.configuration
        return GroupSpec(GROUP, configuration.voters, (), followers=configuration.followers)

    def replica_id(self, member_id: int) -> int:
        """A member's identity as a voter; 0 where it is none."""
        voter = self.configuration.voter(member_id)
        return voter.replica_id if voter is not None else 0


@dataclass
class Durable:
    """What one process has made durable.

    Attributes:
        votes: An acceptor's journal, folded.
        sealed: A learner's segments.
    """

    votes: AcceptorState
    sealed: list[SealedInstance]


def first_durable(recipe: Recipe, member_id: int) -> Durable:
    """What every process of a member finds before anything happened: its part, and nothing in it.

    Args:
        recipe: Of the model.
        member_id: Whose.
    """
    votes, replica_id = AcceptorState(), recipe.replica_id(member_id)
    if replica_id:
        votes.apply(GroupCreated(GROUP, replica_id, recipe.configuration, 1))
    return Durable(votes, [])


def rolled(votes: AcceptorState) -> AcceptorState:
    """The votes as they are read from a new file of the journal, as every opening makes one.

    It begins with all but the votes, and only those of live groups are copied to it.
    """
    copied = AcceptorState()
    copied.restore(votes.opening())
    for group, held in votes.groups.items():
        for vote in held.votes.values():
            copied.apply(VoteCast(group, vote.instance_id, vote.ballot, vote.value))
    return copied


def next_incarnation(incarnation: int) -> int:
    """The incarnation of a folder that is opened again; raised durably before it is used."""
    return incarnation + 1


def make_role(
    recipe: Recipe, address: Address, incarnation: int, durable: Durable, now_ns: int
) -> Role:
    """The role of a process that has just opened its folder.

    Args:
        recipe: How.
        address: Which process.
        incarnation: Of its folder.
        durable: What it finds there.
        now_ns: Its clock.
    """
    member_id = address.member_id
    match address.role:
        case RoleName.PROPOSER:
            return _make_proposer(recipe, member_id, incarnation, now_ns)
        case RoleName.ACCEPTOR:
            votes = copy.deepcopy(durable.votes)
            return Acceptor(votes, member_id=member_id, settings=recipe.acceptor, now_ns=now_ns)
        case RoleName.LEARNER:
            return _make_learner(recipe, member_id, incarnation, durable.sealed, now_ns)
        case _:
            raise ValueError(f"no model has a {address}")


def _make_proposer(recipe: Recipe, member_id: int, incarnation: int, now_ns: int) -> Proposer:
    return Proposer(
        spec=recipe.spec,
        member_id=member_id,
        incarnation=incarnation,
        settings=recipe.proposer,
        random=NoRandom(),
        now_ns=now_ns,
    )


def _make_learner(
    recipe: Recipe,
    member_id: int,
    incarnation: int,
    sealed: Sequence[SealedInstance],
    now_ns: int,
) -> Learner:
    segments = []
    if sealed:
        byte_count = sum(len(instance.chosen.value) for instance in sealed)
        segments.append((1, len(sealed), byte_count))
    return Learner(
        group=GROUP,
        member_id=member_id,
        configuration=recipe.configuration,
        host=MachineHost(MachineRegistry(()), group=GROUP, configuration=recipe.configuration),
        base=None,
        settings=recipe.learner,
        random=NoRandom(),
        now_ns=now_ns,
        incarnation=incarnation,
        sealed=sealed,
        segments=lambda: segments,
    )
