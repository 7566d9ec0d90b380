"""What a model is: which roles, how they are put together, and how much may happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ray_paxos.core.messages import Address
from ray_paxos.testing.exhaustive.actions import Action, Packet
from ray_paxos.testing.exhaustive.roles import Recipe
from ray_paxos.testing.exhaustive.stage import Stage

NO_COST = ""
CRASH = "crash"
"""The budget of crashes: while any is left, it matters what is synced."""


def _never(packet: Packet) -> bool:
    return False


@dataclass(frozen=True)
class Possible:
    """An action other than a delivery that may happen in any state.

    Attributes:
        site: Where.
        action: What.
        cost: The budget that it takes one of; `NO_COST` where it may happen for ever.
    """

    site: int
    action: Action
    cost: str


@dataclass(frozen=True)
class Passing:
    """Time that passes everywhere at once.

    Attributes:
        ticks: For each site, how much by its clock.
        cost: The budget that it takes one of.
    """

    ticks: tuple[Action, ...]
    cost: str


@dataclass(frozen=True)
class SiteSpec:
    """A site of a model.

    Attributes:
        name: For a person.
        addresses: Of the processes that act as one.
        syncs_at_once: Whether its acceptor's writes are durable as soon as they are made,
        seals_at_once: and its learner's.
    """

    name: str
    addresses: tuple[Address, ...]
    syncs_at_once: bool = True
    seals_at_once: bool = True


@dataclass(frozen=True)
class Model:
    """One model; the walk visits every state that it can get into.

    Attributes:
        name: For the command line.
        purpose: One line for a person.
        recipe: Makes the roles.
        sites: In order.
        possible: What may happen besides deliveries.
        budgets: How often at most, by cost.
        mail: Packets that are on their way when it begins.
        is_lost: Says which packets never arrive.
        prelude: Brings the sites to where the walk begins; None to begin with an empty log.
        is_leased: Whether leases run, and have to be judged.
    """

    name: str
    purpose: str
    recipe: Recipe
    sites: tuple[SiteSpec, ...]
    possible: tuple[Possible, ...] = ()
    passing: Passing | None = None
    budgets: Mapping[str, int] = field(default_factory=dict)
    mail: tuple[Packet, ...] = ()
    is_lost: Callable[[Packet], bool] = _never
    prelude: Callable[[Stage], None] | None = None
    is_leased: bool = False
