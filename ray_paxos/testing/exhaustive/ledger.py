"""What is true of a whole history: which values were proposed, voted for and chosen, and by whom.

In these models a message that was sent can always still arrive, so that all messages ever sent are
part of the state, and what holds of a history is a matter of the state alone. The ledger is a
summary of those messages, and of what was made durable. It judges each new fact against the earlier
ones:

* agreement: one value is chosen for an instance (R1), counted from the acceptors' answers, and
  nothing else is proposed there at any higher ballot (P2b), before or after;
* one value is proposed at one ballot and instance, by one life of one proposer, under one
  configuration; a vote counts under that one only, which is the one that governs the instance, or
  the one before it (R5; `testing.votes` says why);
* nothing is proposed above a membership entry at its ballot (R5);
* P2c ("Paxos Made Simple", section 2.2): some majority of those that promised the ballot allows
  the value, by the highest of their votes, and by floors that lie at or below the instance;
* what anybody says is chosen, learns, applies or drops votes below, is chosen;
* what each member may vote as, and count under (`replicas`).

Who votes where is the judge's own account (`testing.configurations`), made of what is chosen.
"""

from __future__ import annotations

import copy
from itertools import combinations

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.values import membership_entry, value_hash
from ray_paxos.testing.configurations import ConfigurationLedger
from ray_paxos.testing.exhaustive.facts import (
    Claimed,
    ClaimedThrough,
    Created,
    Fact,
    Followed,
    Forgotten,
    PartChanged,
    Promised,
    Proposed,
    Sealed,
    Told,
    Used,
    Voted,
    Voting,
)
from ray_paxos.testing.exhaustive.replicas import Replicas
from ray_paxos.testing.trace import name_member
from ray_paxos.testing.violation import Violation


class Ledger:
    """The facts so far; never changed, `after` gives another.

    Attributes:
        facts: What makes two ledgers the same.
        chosen: By instance.
        configurations: Who votes where, by what is chosen without a hole.
        replicas: What the members' acceptors and learners have made durable.
    """

    def __init__(self, genesis: Configuration) -> None:
        """Nothing has happened.

        Args:
            genesis: Who votes at the beginning.
        """
        self.facts: frozenset[Fact] = frozenset()
        self.chosen: dict[int, ChosenValue] = {}
        self.configurations = ConfigurationLedger(genesis)
        self.replicas = Replicas(genesis)
        self._genesis = genesis
        self._uses: dict[Ballot, Used] = {}
        self._values: dict[tuple[int, Ballot], bytes] = {}
        self._votes: dict[tuple[int, Ballot], frozenset[Voter]] = {}
        self._promises: dict[Ballot, tuple[Promised, ...]] = {}
        # By chosen instance, under which configurations there was a majority for it.
        self._under: dict[int, frozenset[int]] = {}

    def _copy(self, fact: Fact) -> Ledger:
        grown = copy.copy(self)
        grown.facts = self.facts | {fact}
        return grown

    def after(self, fact: Fact) -> Ledger:
        """The ledger with one more fact.

        Raises:
            Violation: It cannot be true beside the others.
        """
        match fact:
            case Claimed():
                self._judge_claim(fact)
                return self
            case ClaimedThrough(instance_id=instance_id, by=by):
                missing = [i for i in range(1, instance_id + 1) if i not in self.chosen]
                if missing:
                    what = f"{by} takes all up to {instance_id} for chosen; {missing} are not"
                    raise Violation("R4", what)
                return self
            case Followed() | Told() | Voting():
                self.replicas.judge(fact, self.configurations)
                return self
            case Sealed() | Created() | Forgotten() | PartChanged():
                # Not before it is judged: no voter is created twice.
                replicas = self.replicas.after(fact, self.configurations)
                if fact in self.facts:
                    return self
                grown = self._copy(fact)
                grown.replicas = replicas
                return grown
            case _ if fact in self.facts:
                return self
            case Used():
                return self._after_use(fact)
            case Proposed():
                return self._after_proposal(fact)
            case Voted():
                return self._after_vote(fact)
            case Promised():
                return self._after_promise(fact)

    def _configuration(self, ballot: Ballot) -> Configuration:
        return self.configurations[self._uses[ballot].config_id]

    def _after_use(self, fact: Used) -> Ledger:
        first = self._uses.get(fact.ballot)
        if first is None:
            self.replicas.judge_use(fact, self.configurations)
            grown = self._copy(fact)
            grown._uses = {**self._uses, fact.ballot: fact}
            return grown
        if first.life != fact.life:
            what = f"{_say(fact.ballot)} was used in the lives {first.life} and {fact.life} of one "
            raise Violation("ballots", what + "proposer")
        judge_one_configuration(first, fact)
        return self

    def _after_promise(self, fact: Promised) -> Ledger:
        promises = self._promises.get(fact.ballot, ())
        use = self._uses.get(fact.ballot)
        if use is None or fact.config_id != use.config_id:
            # It counts for nobody: who asked does not take it, or nobody did.
            return self
        if any(known.voter == fact.voter for known in promises):
            # What it told first cannot change any more.
            return self
        if fact.voter not in self._configuration(fact.ballot).voters:
            what = f"{_name_voter(fact.voter)} promises without a vote in {fact.config_id}"
            raise Violation("R5", what)
        grown = self._copy(fact)
        grown._promises = {**self._promises, fact.ballot: (*promises, fact)}
        return grown

    def _after_proposal(self, fact: Proposed) -> Ledger:
        key = (fact.instance_id, fact.ballot)
        known = self._values.get(key)
        if known is not None:
            if known != fact.value:
                what = f"two values proposed at instance {fact.instance_id}, {_say(fact.ballot)}"
                raise Violation("ballots", what)
            return self
        config_id = self._uses[fact.ballot].config_id
        if fact.instance_id <= config_id:
            what = f"{_say(fact.ballot)} proposes at {fact.instance_id} under the configuration "
            raise Violation("R5", what + str(config_id))
        for (at, ballot), value in self._values.items():
            if ballot == fact.ballot and at < fact.instance_id:
                judge_above(fact, at, value)
        chosen = self.chosen.get(fact.instance_id)
        if chosen is not None and fact.ballot > chosen.ballot:
            self._judge_later(fact, chosen)
        self._judge_proposal(fact)
        grown = self._copy(fact)
        grown._values = {**self._values, key: fact.value}
        return grown

    def _judge_later(self, fact: Proposed, chosen: ChosenValue) -> None:
        if fact.value != chosen.value:
            what = f"{_say(fact.ballot)} proposes {_name(fact.value)} at {fact.instance_id}, where "
            what += f"{_name(chosen.value)} was chosen at {_say(chosen.ballot)}"
            raise Violation("R1", what)

    def _judge_proposal(self, fact: Proposed) -> None:
        promises = self._promises.get(fact.ballot, ())
        for quorum in combinations(promises, self._configuration(fact.ballot).majority):
            if _allows(quorum, fact):
                return
        told = ", ".join(_name_voter(promise.voter) for promise in promises) or "nobody"
        what = f"no majority of {told} allows {_name(fact.value)} at instance {fact.instance_id}, "
        raise Violation("P2c", what + _say(fact.ballot))

    def _after_vote(self, fact: Voted) -> Ledger:
        key = (fact.instance_id, fact.ballot)
        value = self._values.get(key)
        where = f"instance {fact.instance_id}, {_say(fact.ballot)}"
        if value is None:
            what = f"{_name_voter(fact.voter)} accepted what nobody proposed: {where}"
            raise Violation("R1", what)
        configuration = self._configuration(fact.ballot)
        judge_vote(fact, configuration)
        grown = self._copy(fact)
        voters = self._votes.get(key, frozenset()) | {fact.voter}
        grown._votes = {**self._votes, key: voters}
        if len(voters) == configuration.majority:
            grown._choose(ChosenValue(fact.instance_id, fact.ballot, value))
        return grown

    def _choose(self, chosen: ChosenValue) -> None:
        instance_id = chosen.instance_id
        first = self.chosen.get(instance_id)
        if first is None:
            self.chosen = {**self.chosen, instance_id: chosen}
        elif first.value != chosen.value:
            what = f"two values chosen at instance {instance_id}: {_name(first.value)} at "
            what += f"{_say(first.ballot)} and {_name(chosen.value)} at {_say(chosen.ballot)}"
            raise Violation("R1", what)
        elif chosen.ballot < first.ballot:
            self.chosen = {**self.chosen, instance_id: chosen}
        for (at, ballot), value in self._values.items():
            if at == instance_id and ballot > chosen.ballot:
                # P2b, whichever of the two came first.
                self._judge_later(Proposed(instance_id, ballot, value), chosen)
        under = self._under.get(instance_id, frozenset()) | {self._uses[chosen.ballot].config_id}
        self._under = {**self._under, instance_id: under}
        self._count_configurations()

    def _count_configurations(self) -> None:
        """Make the account anew, up to the first hole."""
        account, instance_id = ConfigurationLedger(self._genesis), 1
        while instance_id in self.chosen:
            judge_governed(instance_id, self._under[instance_id], account)
            account.chosen(instance_id, self.chosen[instance_id].value)
            instance_id += 1
        self.configurations = account

    def _judge_claim(self, fact: Claimed) -> None:
        chosen = self.chosen.get(fact.instance_id)
        where = f"at instance {fact.instance_id}"
        if chosen is None:
            what = f"{fact.by} takes {_name(fact.value)} for chosen {where}: no majority voted so"
            raise Violation("R4", what)
        if chosen.value != fact.value:
            what = f"{fact.by} takes {_name(fact.value)} for chosen {where}, where "
            raise Violation("R4", what + f"{_name(chosen.value)} was at {_say(chosen.ballot)}")


def judge_one_configuration(first: Used, later: Used) -> None:
    """A ballot is used again.

    Raises:
        Violation: Under another configuration than the first time.
    """
    if first.config_id != later.config_id:
        what = f"{_say(first.ballot)} was used under the configurations {first.config_id} and "
        raise Violation("R5", what + str(later.config_id))


def judge_above(fact: Proposed, below: int, value: bytes) -> None:
    """Something is proposed at a ballot that another value was proposed at before.

    Args:
        fact: What is proposed.
        below: A lower instance.
        value: Proposed there.

    Raises:
        Violation: That is a membership entry: what is above it is for another configuration.
    """
    if membership_entry(value) is not None:
        what = f"{_say(fact.ballot)} proposes at {fact.instance_id}, above its membership entry at "
        raise Violation("R5", what + str(below))


def judge_vote(fact: Voted, configuration: Configuration) -> None:
    """An acceptor votes at a ballot that was promised by voters of a configuration.

    Raises:
        Violation: It votes under another one, or has no vote in it.
    """
    what = f"{_name_voter(fact.voter)} votes at instance {fact.instance_id}, {_say(fact.ballot)}"
    if fact.config_id != configuration.config_id:
        counted = configuration.config_id
        raise Violation("R5", f"{what}, under {fact.config_id}; it is counted under {counted}")
    if fact.voter not in configuration.voters:
        raise Violation("R5", f"{what}, without a vote in {fact.config_id}")


def judge_governed(instance_id: int, under: frozenset[int], account: ConfigurationLedger) -> None:
    """All below an instance is chosen, and so is a value there.

    Args:
        instance_id: Which.
        under: The configurations of which a majority voted for it.
        account: As of what is below.

    Raises:
        Violation: None of them governs it.
    """
    if under.isdisjoint(account.latest_ids):
        counted, governing = sorted(under), account.current.config_id
        what = f"{instance_id} is chosen under the configurations {counted}; {governing} governs it"
        raise Violation("R5", what)


def _allows(quorum: tuple[Promised, ...], fact: Proposed) -> bool:
    """Whether a value may be proposed by what a majority promised."""
    if any(promise.floor > fact.instance_id for promise in quorum):
        return False
    votes = [v for promise in quorum for v in promise.votes if v.instance_id == fact.instance_id]
    highest = max(votes, key=lambda vote: vote.ballot, default=None)
    return highest is None or highest.value == fact.value


def _say(ballot: Ballot) -> str:
    return f"ballot {ballot.round} of {name_member(ballot.member_id)} ({ballot.incarnation})"


def _name(value: bytes) -> str:
    return value_hash(value)[:3].hex()


def _name_voter(voter: Voter) -> str:
    return f"{name_member(voter.member_id)} (replica {voter.replica_id})"
