"""What was really chosen, counted from what acceptors send, whatever any proposer believes.

An instance is chosen at the moment when a majority of the voters of one configuration have
answered "accepted" at one ballot. From that moment on nobody may propose, claim or apply
another value there (R1). A ballot belongs to one configuration only, and that has to be the one
that governs the instance, or the one before it (R5).

The one before it: a reign proposes many instances at once, so a majority may have voted at i + 1
while i is open. Where i then turns out to be a membership entry that an earlier ballot had
proposed, i + 1 is chosen under the configuration that the entry ends. Nobody can choose another
value there: any majority of the next configuration meets that one, finds the vote, and proposes it
again; and until it has, no further entry can be chosen below it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.values import membership_entry, value_hash
from ray_paxos.testing.configurations import ConfigurationLedger
from ray_paxos.testing.promises import PromiseLedger
from ray_paxos.testing.trace import name_member
from ray_paxos.testing.violation import Violation


@dataclass
class Proposed:
    """One value at one instance and ballot, and who accepted it.

    Attributes:
        value: Encoded.
        accepted: Members that answered "accepted", in that order, each once.
    """

    value: bytes
    accepted: list[int] = field(default_factory=list)


class VoteLedger:
    """Counts votes for one group.

    Attributes:
        chosen: By instance, what is chosen there, and at which ballot first.
        chosen_through: Every instance up to it is chosen.
        promises: What was promised, for P2c.
        configurations: Who votes where, by what is chosen.
        adopted_entries: Membership entries that a later ballot proposed again.
    """

    def __init__(self, group: int, configuration: Configuration) -> None:
        """Start with nothing proposed."""
        self.chosen: dict[int, ChosenValue] = {}
        self.chosen_through = 0
        self.promises = PromiseLedger(group)
        self.configurations = ConfigurationLedger(configuration)
        self.adopted_entries = 0
        self._group = group
        self._config_ids: dict[Ballot, int] = {}
        self._chosen_under: dict[int, int] = {}
        self._proposed: dict[tuple[int, Ballot], Proposed] = {}
        self._lives: dict[Ballot, int] = {}

    def used(
        self, ballot: Ballot, config_id: int, member_id: int, incarnation: int, life: int
    ) -> None:
        """A proposer sent something at a ballot of its own.

        Args:
            ballot: At which,
            config_id: and under which configuration.
            member_id: The sender's member,
            incarnation: and its incarnation.
            life: Counts that process's lives; independent of what is on its disk.
        """
        if (ballot.member_id, ballot.incarnation) != (member_id, incarnation):
            what = f"{name_member(member_id)}, incarnation {incarnation}, used {ballot}"
            raise Violation("ballots", self._at(what))
        first = self._lives.setdefault(ballot, life)
        if first != life:
            what = f"{ballot} was used in the lives {first} and {life} of one proposer"
            raise Violation("ballots", self._at(what))
        under = self._config_ids.setdefault(ballot, config_id)
        if under != config_id:
            what = f"{ballot} was used under the configurations {under} and {config_id}"
            raise Violation("R5", self._at(what))

    def majority(self, ballot: Ballot) -> int:
        """How many voters are a majority at a ballot that was used."""
        return self.configurations[self._config_ids[ballot]].majority

    def proposed(self, instance_id: int, ballot: Ballot, value: bytes) -> None:
        """An accept was sent."""
        key = (instance_id, ballot)
        known = self._proposed.get(key)
        if known is None:
            self._proposed[key] = Proposed(value)
            self.promises.proposed(instance_id, ballot, value, self.majority(ballot))
            self._note_entry(instance_id, ballot, value)
            chosen = self.chosen.get(instance_id)
            if chosen is not None and ballot > chosen.ballot and value != chosen.value:
                what = f"{ballot} proposes another value at {instance_id} than was chosen at "
                raise Violation("R1", self._at(what + str(chosen.ballot)))
        elif known.value != value:
            what = f"two values proposed at instance {instance_id}, {ballot}"
            raise Violation("ballots", self._at(what))

    def _note_entry(self, instance_id: int, ballot: Ballot, value: bytes) -> None:
        """Count a membership entry that an earlier ballot had proposed."""
        if membership_entry(value) is not None:
            self.adopted_entries += any(
                at == instance_id and other != ballot and proposed.value == value
                for (at, other), proposed in self._proposed.items()
            )

    def accepted(self, instance_id: int, ballot: Ballot, voter: Voter, config_id: int) -> None:
        """An acceptor answered "accepted", as this voter under that configuration."""
        member_id = voter.member_id
        proposed = self._proposed.get((instance_id, ballot))
        if proposed is None:
            what = f"{name_member(member_id)} accepted what nobody proposed: {instance_id}, "
            raise Violation("R1", self._at(what + str(ballot)))
        if member_id in proposed.accepted:
            return
        if config_id != self._config_ids[ballot]:
            what = f"{name_member(member_id)} accepted {ballot} under configuration {config_id}"
            raise Violation("R5", self._at(what))
        configuration = self.configurations[config_id]
        if voter not in configuration.voters:
            what = f"{name_member(member_id)} accepted without a vote in {config_id}"
            raise Violation("R5", self._at(what))
        proposed.accepted.append(member_id)
        if len(proposed.accepted) == configuration.majority:
            self._choose(ChosenValue(instance_id, ballot, proposed.value), config_id)

    def _choose(self, chosen: ChosenValue, config_id: int) -> None:
        self._chosen_under.setdefault(chosen.instance_id, config_id)
        first = self.chosen.setdefault(chosen.instance_id, chosen)
        if first.value != chosen.value:
            what = (
                f"two values chosen at instance {chosen.instance_id}: {_name(first.value)} at "
                f"{first.ballot} and {_name(chosen.value)} at {chosen.ballot}"
            )
            raise Violation("R1", self._at(what))
        while self.chosen_through + 1 in self.chosen:
            self.chosen_through += 1
            self._check_governed(self.chosen_through)
            self.configurations.chosen(self.chosen_through, self.chosen[self.chosen_through].value)

    def _check_governed(self, instance_id: int) -> None:
        governing, under = self.configurations.current.config_id, self._chosen_under[instance_id]
        if under not in self.configurations.latest_ids:
            what = f"{instance_id} is chosen under configuration {under}; {governing} governs it"
            raise Violation("R5", self._at(what))

    def claimed_through(self, instance_id: int, by: str) -> None:
        """Somebody says, or acts on it, that everything up to an instance is chosen."""
        if instance_id > self.chosen_through:
            what = f"{by} takes all up to {instance_id} for chosen: it is so up to "
            raise Violation("R1", self._at(what + str(self.chosen_through)))

    def claimed(self, instance_id: int, value: bytes, by: str) -> None:
        """Somebody says, or acts on it, that a value is chosen."""
        chosen = self.chosen.get(instance_id)
        if chosen is None:
            what = f"{by} takes {_name(value)} for chosen at {instance_id}: no majority voted so"
            raise Violation("R1", self._at(what))
        if chosen.value != value:
            what = (
                f"{by} takes {_name(value)} for chosen at {instance_id}, where "
                f"{_name(chosen.value)} was chosen at {chosen.ballot}"
            )
            raise Violation("R1", self._at(what))

    def _at(self, what: str) -> str:
        return f"group {self._group}: {what}"


def _name(value: bytes) -> str:
    return value_hash(value)[:4].hex()
