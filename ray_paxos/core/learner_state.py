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

from ray_paxos.core.applying import Applying
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import ApplyingStopped, InvariantBroken
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner_messages import (
    Applied,
    ChosenValue,
    LearnerStatus,
)
from ray_paxos.core.learner_reads import LearnerReads
from ray_paxos.core.messages import (
    Address,
    Message,
    RoleName,
)
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.sealing import Sealing
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.tasks import CheckpointLoaded
from ray_paxos.machines.host import MachineHost


class LearnerState:
    """One group's log and state at one member.

    Invariants: applied_through <= learned_through; durable_through <= learned_through.

    Attributes:
        group: Whose log.
        member_id: Of this member.
        configuration: Who votes.
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
            configuration: Who votes.
            host: The group's machines here, as of the checkpoint, or with nothing applied.
            base: The own member's checkpoint; None for none.
            settings: Limits and times.
            now_ns: This process's clock.
            incarnation: Of the learner's folder.
        """
        self.group = group
        self.member_id = member_id
        self.configuration = configuration
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
            self.apply_learned(effects)

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

    def install(self, loaded: CheckpointLoaded) -> None:
        """Go on from a checkpoint beyond all that is learned; values above it stay.

        Nothing may be on its way into segments. What waited above the checkpoint is learned with
        it; `apply_learned` applies it.
        """
        cut = loaded.cut
        self.log.rebase(cut.instance_id, cut.chain)
        self.applying.install(loaded.host, cut)
        self._note_ballot(cut.ballot)
        self.sealing.rebase()

    # Sending.

    def tell_proposer(self, effects: Effects) -> None:
        """Send the status to the own proposer."""
        self.send(self.proposer, self.status(), effects)

    def send(self, to: Address, message: Message, effects: Effects) -> None:
        """Send one message; whatever a learner says rests on what was durable before."""
        effects.sends_now.append(Send(to, self.group, message))
