"""Whether two members can believe at once that nobody else leads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.learner import Learner
from ray_paxos.core.proposer import Phase, Proposer
from ray_paxos.testing.exhaustive.site import Site
from ray_paxos.testing.trace import name_address
from ray_paxos.testing.violation import Violation


@dataclass(frozen=True, slots=True)
class Belief:
    """Somebody leads, or believes that nobody else does.

    Attributes:
        who: For a person.
        ballot: At which its member leads.
        is_sure: Whether it goes by a lease that runs on its clock.
        is_outlived: Whether that was counted under another configuration than its log has come to.
    """

    who: str
    ballot: Ballot
    is_sure: bool
    is_outlived: bool = False


def beliefs_of(site: Site) -> tuple[Belief, ...]:
    """What the processes of a site believe at this moment."""
    return tuple(_beliefs(site))


def _beliefs(site: Site) -> Iterator[Belief]:
    for address, process in site.processes.items():
        role, who, ballot = process.role, name_address(address), process.ballot
        if ballot is None:
            continue
        if isinstance(role, Proposer) and role.phase is Phase.LEADING:
            yield Belief(who, ballot, site.clock_ns < role.lease_until_ns)
        elif isinstance(role, Learner) and role.lease_point(site.clock_ns) is not None:
            is_outlived = process.notice_config_id != role.configuration.config_id
            yield Belief(who, ballot, True, is_outlived)


def judge_beliefs(beliefs: Sequence[Belief]) -> None:
    """Judge what is believed at one moment.

    Whoever goes by a lease must not be mistaken: no other member leads at a higher ballot, whether
    by a lease or not, for it could have something chosen that a read then misses (R8). And a lease
    of an older configuration is worth nothing: of what votes by now a majority need not meet those
    that granted it.

    Raises:
        Violation: One does, or goes by such a lease.
    """
    for sure in beliefs:
        if sure.is_outlived:
            what = f"{sure.who} goes by its lease at {sure.ballot}, of an older configuration"
            raise Violation("lease", what)
        for other in beliefs:
            if (
                sure.is_sure
                and other.ballot > sure.ballot
                and other.ballot.member_id != sure.ballot.member_id
            ):
                what = f"{sure.who} goes by its lease at {sure.ballot}, and {other.who} leads at "
                raise Violation("lease", what + str(other.ballot))
