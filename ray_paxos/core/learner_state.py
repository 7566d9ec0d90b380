"""What one learner holds: the chosen log, the machines that follow it, and its segments.

```
 learn ─▶ ChosenLog ── in order ─▶ Applying ── results ─▶ own proposer
              └──────────────────── Sealing ── segments ─▶ own folder
```

The parts of a learner (`learner_catch_up`, `learner_checkpoints`, `learner_segments`) share it, and
all that changes the log, the machines and the segments together is done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ray_paxos.core.applying import Applying
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import ApplyingStopped, ConfigurationLearned, InvariantBroken
from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration
from ray_paxos.core.learner_messages import (
    Applied,
    ChosenValue,
    LearnerStatus,
)
from ray_paxos.core.learner_reads import LearnerReads
from ray_paxos.core.membership import changed
from ray_paxos.core.messages import (
    Address,
    Message,
    RoleName,
)
from ray_paxos.core.peers import Peers
from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.sealing import Sealing
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.tasks import CheckpointLoaded
from ray_paxos.core.values import membership_entry
from ray_paxos.machines.host import MachineHost


class LearnerState:
    """One group's log and state at one member.

    Invariants: applied_through <= learned_through; durable_through <= learned_through.

    Attributes:
        group: Whose log.
        member_id: Of this member.
        configuration: Who votes, as of `log.learned_through`.
        peers: The other members that have the group.
        proposer_config_id: Under which the own proposer counted when it was last heard.
        settings: Limits and times.
        proposer: The own member's.
        checkpointer: The own member's.
        log: What is learned, as far as memory holds it.
        applying: What is applied.
        sealing: What is in segments, or on its way.
        reads: How fresh that is.
        ballot: The highest one at which anything was learned; None for an empty log.
        now_ns: When the latest message was handled.
    """

    def __init__(
        self,
        *,
        group: int,
        member_id: int,
        configuration: Configuration,
        ordered: Configuration,
        host: MachineHost,
        base: Cut | None,
        settings: LearnerSettings,
        now_ns: int,
        incarnation: int,
    ) -> None:
        """Begin with a checkpoint, or with nothing; `replay` adds what is sealed after it.

        Args:
            group: Whose log.
            member_id: Of this member.
            configuration: Who votes at the genesis.
            ordered: That named this member when it was given the group: until the log has come to
                it, the log is that of others, and says nothing of what this member is.
            host: The group's machines here, as of the checkpoint, or with nothing applied.
            base: The own member's checkpoint; None for none.
            settings: Limits and times.
            now_ns: This process's clock.
            incarnation: Of the learner's folder.
        """
        self.group = group
        self.member_id = member_id
        self.configuration = base.configuration if base is not None else configuration
        self._ordered = ordered
        self.peers = Peers(self._other_members())
        self.proposer_config_id = GENESIS_CONFIG_ID
        self.settings = settings
        self.proposer = Address(member_id, RoleName.PROPOSER)
        self.checkpointer = Address(member_id, RoleName.CHECKPOINTER)
        if base is None:
            self.log = ChosenLog(settings.pending_bytes_max)
        else:
            self.log = ChosenLog(settings.pending_bytes_max, base.instance_id, base.chain)
        self.applying = Applying(group, self.log, host, base)
        self.sealing = Sealing(group, settings, self.log)
        self.reads = LearnerReads(incarnation)
        self.ballot: Ballot | None = base.ballot if base is not None else None
        self.now_ns = now_ns
        self._followed_through = self.log.learned_through

    def replay(self, sealed: Iterable[SealedInstance]) -> list[ApplyingStopped]:
        """Learn and apply what is sealed after the checkpoint.

        Args:
            sealed: All of it, in order; read as it is applied.

        Returns:
            What has to be told of it, once somebody listens.
        """
        alarms: list[ApplyingStopped] = []
        for instance in sealed:
            # Of each instance anew: together they would hold the whole log in memory.
            effects = Effects()
            added = self.log.add(instance.chosen)
            assert added and self.log.learned_through == instance.chosen.instance_id
            self._note_ballot(instance.chosen.ballot)
            self._follow(effects)
            self.apply_learned(effects)
            self.sealing.note_replayed()
            self.applying.forget_all()
            alarms += [e for e in effects.events if isinstance(e, ApplyingStopped)]
        return alarms

    # What it has.

    @property
    def host(self) -> MachineHost:
        """The group's machines here."""
        return self.applying.host

    @property
    def log_floor(self) -> int:
        """The lowest instance in the log."""
        return min(self.sealing.floor, self.log.memory_floor)

    @property
    def replica_id(self) -> int:
        """This member's identity as a voter; 0 where it does not vote."""
        voter = self.configuration.voter(self.member_id) if self.is_own else None
        return voter.replica_id if voter is not None else 0

    @property
    def lease_config_id(self) -> int:
        """Under which a lease of the own member counts; -1 for none: the log is that of others."""
        return self.configuration.config_id if self.is_own else -1

    @property
    def master(self) -> int:
        """The member of the last master record applied; 0 for none."""
        return self.host.master.ballot.member_id if self.host.master is not None else 0

    def status(self) -> LearnerStatus:
        """How far it is, as of the latest message that was handled."""
        host, lease = self.host, self.reads.lease
        return LearnerStatus(
            self.log.learned_through,
            self.applying.applied_through,
            self.sealing.durable_through,
            self.log_floor,
            self.applying.point,
            host.log_time_ns,
            self.ballot,
            host.mounted,
            self.applying.stopped,
            self.now_ns,
            self.master,
            host.master_version,
            lease.proposer_incarnation,
            lease.revoked,
            due_log_time_ns=host.due_ns,
        )

    # What changes it.

    def learn(self, values: Sequence[ChosenValue], now_ns: int, effects: Effects) -> None:
        """Take in what is chosen, and apply what follows on what is applied."""
        for chosen in values:
            if self.sealing.is_full and chosen.instance_id > self.log.learned_through:
                # It is chosen, so somebody gives it again.
                continue
            if not self.log.add(chosen):
                what = f"two values chosen at instance {chosen.instance_id}"
                effects.events.append(InvariantBroken(self.group, what))
                self.applying.stop(what, effects)
                continue
            self._note_ballot(chosen.ballot)
            self.sealing.note_learned(now_ns)
            self._follow(effects)
            self.apply_learned(effects)

    def _follow(self, effects: Effects) -> None:
        """Follow the log's membership as far as it is learned, also where applying stopped."""
        while self._followed_through < self.log.learned_through:
            self._followed_through += 1
            entry = membership_entry(self.log.value(self._followed_through).value)
            if entry is not None:
                self._take(changed(self.configuration, entry, self._followed_through), effects)

    def _take(self, configuration: Configuration, effects: Effects) -> None:
        if configuration == self.configuration:
            return
        self.configuration = configuration
        self.peers.replace(self._other_members())
        # At once: nobody votes under it before it is durable.
        self.sealing.flush()
        effects.events.append(ConfigurationLearned(self.group, configuration))

    def _other_members(self) -> list[int]:
        latest = self.configuration if self.is_own else self._ordered
        return [m for m in latest.member_ids if m != self.member_id]

    @property
    def is_own(self) -> bool:
        """Whether the log has come to where this member was given the group, or beyond."""
        return self.configuration.config_id >= self._ordered.config_id

    def _note_ballot(self, ballot: Ballot) -> None:
        if self.ballot is None or ballot > self.ballot:
            self.ballot = ballot

    def apply_learned(self, effects: Effects) -> None:
        """Apply all that is learned, and tell the own proposer what came of it."""
        applying = self.applying
        while (results := applying.apply_next(effects)) is not None:
            instance_id = applying.applied_through
            self.sealing.note_applied(instance_id, applying.result_bytes)
            chosen = self.log.value(instance_id)
            if self.host.master_version == instance_id:
                # For those who watch who leads, at whatever member.
                self.tell_proposer(effects)
            if chosen.ballot.member_id == self.member_id:
                self.send(self.proposer, Applied(instance_id, chosen.ballot, results), effects)

    def give_results_again(
        self, values: Sequence[ChosenValue], through: int, effects: Effects
    ) -> None:
        """Tell the own proposer results that it asks for again; they are kept until sealed.

        Args:
            values: What it told once more.
            through: Results of later instances it was told just now.
            effects: Takes them.
        """
        for chosen in values:
            instance_id = chosen.instance_id
            results = self.applying.results(instance_id)
            if (
                results is not None
                and instance_id <= through
                and self.log.value(instance_id).value == chosen.value
            ):
                self.send(self.proposer, Applied(instance_id, chosen.ballot, results), effects)

    def install(self, loaded: CheckpointLoaded, effects: Effects) -> None:
        """Go on from a checkpoint beyond all that is learned; values above it stay.

        Nothing may be on its way into segments. What waited above the checkpoint is learned with
        it; `apply_learned` applies it.

        Args:
            loaded: The checkpoint.
            effects: Takes what is to be told of it.
        """
        cut = loaded.cut
        self.log.rebase(cut.instance_id, cut.chain)
        self.applying.install(loaded.host, cut)
        self._note_ballot(cut.ballot)
        self.sealing.rebase()
        self._take(cut.configuration, effects)
        self._followed_through = cut.instance_id
        self._follow(effects)

    # Sending.

    def tell_proposer(self, effects: Effects) -> None:
        """Send the status to the own proposer."""
        self.tell_status(self.proposer, effects)

    def tell_of_configuration(self, sealed: SealSegment, effects: Effects) -> None:
        """Tell the own proposer, where the entry that made the configuration is durable now."""
        last = sealed.instances[-1].chosen.instance_id
        if sealed.instances[0].chosen.instance_id <= self.configuration.config_id <= last:
            self.tell_proposer(effects)

    def tell_status(self, to: Address, effects: Effects) -> None:
        """Send the status to somebody; to an own proposer that is behind, with who votes.

        Not before that is durable: a learner that lost the entry could not teach it to anybody, and
        a proposer that goes by it would be refused for ever.
        """
        status, config_id = self.status(), self.configuration.config_id
        is_behind = self.proposer_config_id < config_id <= self.sealing.durable_through
        if to == self.proposer and is_behind:
            status = msgspec.structs.replace(status, configuration=self.configuration)
        self.send(to, status, effects)

    def send(self, to: Address, message: Message, effects: Effects) -> None:
        """Send one message; whatever a learner says rests on what was durable before."""
        effects.sends_now.append(Send(to, self.group, message))
