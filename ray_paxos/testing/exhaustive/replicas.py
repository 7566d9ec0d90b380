"""What members may vote as, count under and forget, by what is durable (R5, design section 9).

* An acceptor is told of a configuration, and a proposer counts by one, only once everything through
  its entry is durable in their own member's log: otherwise a loss of power could leave a
  configuration that nobody can teach.
* A configuration is what the judge's own account makes of the log.
* A voter begins once, above the entry that made it one. Its votes go when a majority of the voters
  of a later configuration, in which it does not vote, holds that one's entry durably; from then on
  it is never made again.
* A member that is not named any more leaves, and never takes part again as what it was.
"""

from __future__ import annotations

from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, Voter
from ray_paxos.testing.configurations import ConfigurationLedger
from ray_paxos.testing.exhaustive.facts import (
    Created,
    Followed,
    Forgotten,
    PartChanged,
    Sealed,
    Told,
    Used,
    Voting,
)
from ray_paxos.testing.trace import name_member
from ray_paxos.testing.violation import Violation


class Replicas:
    """What is durable at the members; never changed, `after` gives another.

    Attributes:
        sealed: By member, everything through this instance is in its segments.
        created: Voters that ever were.
        forgotten: Those of them whose votes are gone.
        left: By member, the highest replica as which it may have been in the group that it left.
    """

    def __init__(self, genesis: Configuration) -> None:
        """Those of the genesis vote, and nothing is sealed."""
        self.sealed: dict[int, int] = {}
        self.created = frozenset(genesis.voters)
        self.forgotten: frozenset[Voter] = frozenset()
        self.left: dict[int, int] = {}

    def after(
        self,
        fact: Sealed | Created | Forgotten | PartChanged,
        configurations: ConfigurationLedger,
    ) -> Replicas:
        """The same with one more fact.

        Raises:
            Violation: It must not be true beside the others.
        """
        grown = object.__new__(Replicas)
        grown.sealed, grown.created = self.sealed, self.created
        grown.forgotten, grown.left = self.forgotten, self.left
        match fact:
            case Sealed(member_id=member_id, instance_id=instance_id):
                through = max(instance_id, self.sealed.get(member_id, 0))
                grown.sealed = {**self.sealed, member_id: through}
            case Created(voter=voter):
                self._judge_creation(fact)
                grown.created |= {voter}
            case Forgotten(voter=voter):
                self._judge_forgetting(voter, configurations)
                grown.forgotten |= {voter}
            case PartChanged(voter=voter):
                self._judge_part(fact, configurations)
                if fact.is_left:
                    grown.left = {**self.left, voter.member_id: voter.replica_id}
        return grown

    def _judge_part(self, fact: PartChanged, configurations: ConfigurationLedger) -> None:
        member_id, replica_id = fact.voter.member_id, fact.voter.replica_id
        name = name_member(member_id)
        if fact.is_left and member_id in configurations.current.member_ids:
            raise Violation("groups", f"{name} leaves, and is named")
        if not fact.is_left and replica_id <= self.left.get(member_id, 0):
            raise Violation("groups", f"{name} takes part again as {replica_id}, which has left")

    def _judge_creation(self, fact: Created) -> None:
        name = f"{name_member(fact.voter.member_id)}, replica {fact.voter.replica_id},"
        if fact.voter in self.created:
            raise Violation("groups", f"{name} is made again, and knows nothing of its votes")
        if fact.floor <= fact.config_id:
            what = f"{name} begins at {fact.floor}, by the entry {fact.config_id}"
            raise Violation("R5", what)

    def _judge_forgetting(self, voter: Voter, configurations: ConfigurationLedger) -> None:
        what = f"{name_member(voter.member_id)} forgets {voter.replica_id}"
        if voter in configurations.current.voters:
            raise Violation("groups", f"{what}, as which it votes")
        given_at = configurations.given_at(voter.replica_id)
        if not any(
            self._is_sealed_at_majority(later)
            for later in configurations.known()
            if later.config_id > given_at and voter not in later.voters
        ):
            raise Violation("groups", f"{what}; no majority of those after it holds the entry")

    def _is_sealed_at_majority(self, configuration: Configuration) -> bool:
        through = configuration.config_id
        holders = [v for v in configuration.voters if self.sealed.get(v.member_id, 0) >= through]
        return len(holders) >= configuration.majority

    def judge(self, fact: Followed | Told | Voting, configurations: ConfigurationLedger) -> None:
        """Somebody goes by a configuration.

        Raises:
            Violation: It is not that, or its entry is not durable there.
        """
        match fact:
            case Followed(configuration=configuration, by=by):
                known = configurations[configuration.config_id]
                if configuration != known:
                    raise Violation("R5", f"{by} follows {configuration}; it is {known}")
            case Told(member_id=member_id, config_id=config_id):
                self._judge_durable(f"{name_member(member_id)}.proposer", member_id, config_id)
            case Voting(voter=voter, configuration=configuration):
                who = f"{name_member(voter.member_id)}.acceptor"
                known = configurations[configuration.config_id]
                if configuration != known:
                    raise Violation("R5", f"{who} follows {configuration}; it is {known}")
                if voter not in configuration.voters:
                    what = f"{who} votes as {voter.replica_id} under {configuration.config_id}"
                    raise Violation("R5", what)
                self._judge_durable(who, voter.member_id, configuration.config_id)

    def judge_use(self, fact: Used, configurations: ConfigurationLedger) -> None:
        """A proposer uses a ballot for the first time.

        Raises:
            Violation: It counts by what nobody chose, or by what its member can still lose.
        """
        member_id, config_id = fact.ballot.member_id, configurations[fact.config_id].config_id
        self._judge_durable(f"{name_member(member_id)}.proposer", member_id, config_id)

    def _judge_durable(self, who: str, member_id: int, config_id: int) -> None:
        durable_through = self.sealed.get(member_id, 0)
        if config_id != GENESIS_CONFIG_ID and durable_through < config_id:
            what = f"{who} goes by the configuration {config_id}, and its member has sealed "
            raise Violation("R5", f"{what}through {durable_through}")
