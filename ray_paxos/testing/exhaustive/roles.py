"""Makes the real roles, as the opening of a folder would, from what is durable."""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.genesis import Configuration, GroupSpec
from ray_paxos.core.learner import Learner
from ray_paxos.core.member_roles import PartsKeeper
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.parts import Parts
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.records import GroupCreated, SealedInstance, VoteCast
from ray_paxos.core.role import Role
from ray_paxos.core.settings import AcceptorSettings, LearnerSettings, ProposerSettings
from ray_paxos.core.tasks import PartsOpened
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
        keepers: Members that have no part in the group until they are ordered to take it; their
            learner's process takes and leaves it as it does (`core.member_roles`).
    """

    configuration: Configuration
    members: tuple[int, ...]
    proposer: ProposerSettings
    acceptor: AcceptorSettings
    learner: LearnerSettings
    keepers: frozenset[int] = frozenset()

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
        parts: A keeper's.
    """

    votes: AcceptorState
    sealed: list[SealedInstance]
    parts: Parts = field(default_factory=Parts)


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
            if member_id in recipe.keepers:
                return _make_keeper(recipe, member_id, incarnation, durable, now_ns)
            configuration, sealed = recipe.configuration, durable.sealed
            return _make_learner(recipe, member_id, incarnation, configuration, sealed, now_ns)
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


def _make_keeper(
    recipe: Recipe, member_id: int, incarnation: int, durable: Durable, now_ns: int
) -> PartsKeeper:
    parts = copy.deepcopy(durable.parts)
    opened = open_parts(recipe, member_id, incarnation, durable, ())
    made: dict[int, Role] = {group: make(now_ns) for group, make in opened.made.items()}
    return PartsKeeper(made, member_id=member_id, parts=parts, now_ns=now_ns)


def open_parts(
    recipe: Recipe, member_id: int, incarnation: int, durable: Durable, here: Collection[int]
) -> PartsOpened:
    """What a keeper's store opens, by the parts that are durable.

    Args:
        recipe: How.
        member_id: Whose.
        incarnation: Of the learner's folder.
        durable: What there is.
        here: Groups that are open.
    """

    def make(now_ns: int) -> Role:
        ordered = durable.parts.parts[GROUP].configuration
        return _make_learner(recipe, member_id, incarnation, ordered, durable.sealed, now_ns)

    groups = frozenset(durable.parts.parts)
    made = {group: make for group in groups if group not in here}
    return PartsOpened(durable.parts.version, groups, made)


def _make_learner(
    recipe: Recipe,
    member_id: int,
    incarnation: int,
    ordered: Configuration,
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
        ordered=ordered,
        host=MachineHost(MachineRegistry(()), group=GROUP, configuration=recipe.configuration),
        base=None,
        settings=recipe.learner,
        random=NoRandom(),
        now_ns=now_ns,
        incarnation=incarnation,
        sealed=sealed,
        segments=lambda: segments,
    )
