"""One reign: what a proposer does from the promises of a majority until it stops leading.

```
 adopted values, no-ops, master record ──▶ accepts ──▶ votes of a majority = chosen
 clients' requests (once serving) ───────▶   │               │ at once       │ coalesced
                                             │               ▼               ▼
                                     re-sent until voted   own learner    other learners
                                                             │ results
                                       clients ◀─────────────┘
```

The methods return why the reign has to end, or an empty string; the proposer ends it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import HoleFilled, InstanceChosen, MasterStarted, ValueAdopted
from ray_paxos.core.genesis import Configuration, MachineSpec, Voter
from ray_paxos.core.heartbeat import HeartbeatRounds
from ray_paxos.core.intake import Intake, Request
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    Applied,
    BelowFloor,
    Chosen,
    ChosenValue,
    Heartbeat,
    HeartbeatConfirmed,
    LearnerStatus,
    Message,
    RoleName,
    Submitted,
)
from ray_paxos.core.phase_one import PhaseOne
from ray_paxos.core.pipeline import OpenInstance, Pipeline, Proposal
from ray_paxos.core.quorum import majority_value
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import ProposerSettings
from ray_paxos.core.values import (
    Entry,
    MachineMount,
    MasterRecord,
    Value,
    decode_value,
    encode_value,
)

APPLY_LAG_WINDOWS = 4


class Reign:
    """Leads one group at one ballot.

    Invariants: `is_serving` only once the own learner has applied this reign's master record;
    every heartbeat leaves behind the chosen values it speaks of.
    """

    def __init__(
        self,
        *,
        group: int,
        member_id: int,
        ballot: Ballot,
        configuration: Configuration,
        members: tuple[int, ...],
        settings: ProposerSettings,
        intake: Intake,
        status: LearnerStatus,
        learned_through: int,
        now_ns: int,
    ) -> None:
        """Begin, with a majority's promises for `ballot`.

        Args:
            group: Whose log.
            member_id: Of this member.
            ballot: Promised by a majority of `configuration`.
            configuration: Whose votes count.
            members: All members that have the group.
            settings: Limits and times.
            intake: The proposer's, with requests that waited for this.
            status: The own learner's latest.
            learned_through: Everything up to it is learned here; the reign proposes above it.
            now_ns: The clock.
        """
        self.ballot = ballot
        self.is_serving = False
        self.has_gap = False
        self._group = group
        self._member_id = member_id
        self._configuration = configuration
        self._members = members
        self._settings = settings
        self._intake = intake
        self._status = status
        self._status_ns = now_ns
        self._own_learner = Address(member_id, RoleName.LEARNER)
        self._pipeline = Pipeline(ballot, configuration, learned_through)
        self._rounds = HeartbeatRounds(configuration, now_ns)
        self._started_ns = now_ns
        self._first_log_time_ns = status.log_time_ns
        self._durable: dict[int, int] = {}
        self._unsent: list[ChosenValue] = []
        self._unsent_bytes = 0
        self._flush_ns: int | None = None
        self._gap_since_ns: int | None = None
        self._help_ns = now_ns + settings.retransmit_ns

    def begin(
        self,
        phase_one: PhaseOne,
        learned_through: int,
        machines: Sequence[MachineSpec],
        now_ns: int,
        effects: Effects,
    ) -> None:
        """Propose again what the promises carry, then the master record (R5).

        The record also mounts those machines of the genesis that nobody has mounted yet.
        """
        backlog = self._pipeline.backlog
        for offset, vote in enumerate(phase_one.to_propose(learned_through)):
            instance_id = learned_through + 1 + offset
            if vote is None:
                effects.events.append(HoleFilled(self._group, instance_id))
                backlog.append(Proposal(encode_value(Value(self._log_time_ns(now_ns), ()))))
                continue
            effects.events.append(ValueAdopted(self._group, instance_id, vote.ballot))
            self._take_log_time(vote.value)
            backlog.append(Proposal(vote.value))
        mounted = {machine.name for machine in self._status.mounted}
        entries: tuple[Entry, ...] = (
            MasterRecord(self.ballot),
            *(
                MachineMount(machine.name, machine.kind, machine.version)
                for machine in machines
                if machine.name not in mounted
            ),
        )
        record = encode_value(Value(self._log_time_ns(now_ns), entries))
        backlog.append(Proposal(record, is_master_record=True))
        self._beat(now_ns, effects)
        self.pump(now_ns, effects)

    def end(self) -> list[Request]:
        """All requests that are not answered yet, in order, for the proposer to redirect."""
        return self._pipeline.take_requests()

    def _log_time_ns(self, now_ns: int) -> int:
        return self._first_log_time_ns + now_ns - self._started_ns

    def _take_log_time(self, value: bytes) -> None:
        # What is adopted was given its time by an earlier master; ours goes on from there (R6).
        try:
            adopted = decode_value(value)
        except msgspec.DecodeError:
            return
        self._first_log_time_ns = max(self._first_log_time_ns, adopted.log_time_ns)

    # Time.

    @property
    def deadline_ns(self) -> int:
        """When `on_deadline` is due next."""
        deadline = min(self._rounds.due_ns, self._help_ns)
        oldest = self._pipeline.oldest_sent_ns()
        if oldest is not None:
            deadline = min(deadline, oldest + self._settings.retransmit_ns)
        if self._flush_ns is not None:
            deadline = min(deadline, self._flush_ns)
        return deadline

    def on_deadline(self, now_ns: int, effects: Effects) -> str:
        """Beat, re-send, help the own learner; returns why to stop leading, if it has to."""
        timeout_ns = self._settings.election_timeout_ns
        if now_ns - self._rounds.confirmed_ns > timeout_ns:
            return "no majority confirms"
        if now_ns - self._status_ns > 2 * timeout_ns:
            return "the own learner does not answer"
        if self._flush_ns is not None and now_ns >= self._flush_ns:
            self._flush_chosen(effects)
        if now_ns >= self._rounds.due_ns:
            self._beat(now_ns, effects)
        for instance in self._pipeline.resend_due(now_ns - self._settings.retransmit_ns):
            self._pipeline.note_sent(instance, now_ns)
            self._send_accept(instance, effects)
        if now_ns >= self._help_ns:
            self._help_ns = now_ns + self._settings.retransmit_ns
            return self._help_own_learner(now_ns, effects)
        return ""

    # Heartbeats.

    def _beat(self, now_ns: int, effects: Effects) -> None:
        self._flush_chosen(effects)
        confirmed = self._rounds.is_confirmed
        sequence = self._rounds.begin(now_ns, now_ns + self._settings.heartbeat_interval_ns)
        heartbeat = Heartbeat(
            self.ballot,
            sequence,
            confirmed,
            self._pipeline.chosen_through,
            self._majority_durable(),
            self._status.point,
        )
        for voter in self._configuration.voters:
            self._send(Address(voter.member_id, RoleName.ACCEPTOR), heartbeat, effects)
        for member_id in self._members:
            self._send(Address(member_id, RoleName.LEARNER), heartbeat, effects)
            if member_id != self._member_id:
                self._send(Address(member_id, RoleName.PROPOSER), heartbeat, effects)

    def on_heartbeat_confirmed(self, voter: Voter, message: HeartbeatConfirmed) -> None:
        """A voter confirmed a round of this reign."""
        if message.ballot == self.ballot:
            self._rounds.count(message.sequence, voter.replica_id)

    # Votes.

    def pump(self, now_ns: int, effects: Effects) -> None:
        """Open instances while the window, the learner's lag and memory allow it."""
        pipeline = self._pipeline
        while len(pipeline.open) < self._settings.window_max:
            if pipeline.backlog:
                proposal = pipeline.backlog.popleft()
                if proposal.is_master_record:
                    pipeline.master_record_instance = pipeline.next_instance
                instance = pipeline.start(proposal.value, (), now_ns)
            elif self.is_serving and self._intake and self._may_propose():
                requests = tuple(self._intake.take())
                entries = tuple(entry for request in requests for entry in request.entries)
                value = encode_value(Value(self._log_time_ns(now_ns), entries))
                instance = pipeline.start(value, requests, now_ns)
            else:
                return
            self._send_accept(instance, effects)

    def _may_propose(self) -> bool:
        unapplied = self._pipeline.next_instance - 1 - self._status.applied_through
        return (
            unapplied < APPLY_LAG_WINDOWS * self._settings.window_max
            and self._pipeline.retained_bytes < self._settings.retained_bytes_max
        )

    def _send_accept(self, instance: OpenInstance, effects: Effects) -> None:
        accept = Accept(self.ballot, instance.instance_id, instance.value)
        for voter in self._configuration.voters:
            if voter.replica_id not in instance.votes:
                self._send(Address(voter.member_id, RoleName.ACCEPTOR), accept, effects)

    def on_accepted(self, voter: Voter, accepted: Accepted, now_ns: int, effects: Effects) -> None:
        """Count a vote; the majority's last makes its instance chosen."""
        if accepted.ballot != self.ballot:
            return
        chosen = self._pipeline.count(accepted.instance_id, voter.replica_id)
        if chosen is None:
            return
        effects.events.append(
            InstanceChosen(self._group, chosen.instance_id, chosen.ballot, chosen.value)
        )
        self._send(self._own_learner, self._chosen_message((chosen,)), effects)
        self._unsent.append(chosen)
        self._unsent_bytes += len(chosen.value)
        if self._flush_ns is None:
            self._flush_ns = now_ns + self._settings.chosen_delay_ns
        if self._unsent_bytes >= self._settings.batch_bytes_max:
            self._flush_chosen(effects)
        self.pump(now_ns, effects)

    def on_below_floor(self, below: BelowFloor) -> str:
        """An accept lies below a vote floor; returns why to stop leading, if it has to."""
        if below.ballot == self.ballot and below.instance_id in self._pipeline.open:
            # Chosen and durable at a majority, without us: someone led after we were promised.
            return "an open instance lies below a vote floor"
        return ""

    # Learners.

    def _chosen_message(self, values: tuple[ChosenValue, ...]) -> Chosen:
        return Chosen(values, self._pipeline.chosen_through, self._majority_durable())

    def _flush_chosen(self, effects: Effects) -> None:
        """Tell the other learners what was chosen since the last time, in one message each."""
        self._flush_ns = None
        if not self._unsent:
            return
        message = self._chosen_message(tuple(self._unsent))
        self._unsent = []
        self._unsent_bytes = 0
        for member_id in self._members:
            if member_id != self._member_id:
                self._send(Address(member_id, RoleName.LEARNER), message, effects)

    def _majority_durable(self) -> int:
        reported = [self._durable.get(v.member_id, 0) for v in self._configuration.voters]
        return majority_value(reported, len(reported))

    def note_durable(self, member_id: int, durable_through: int) -> None:
        """A member's learner reported how far its segments reach."""
        self._durable[member_id] = max(self._durable.get(member_id, 0), durable_through)

    def on_own_status(self, status: LearnerStatus, now_ns: int, effects: Effects) -> str:
        """The own learner's progress; returns why to stop leading, if it has to."""
        learned_before = self._status.learned_through
        self._status = status
        self._status_ns = now_ns
        if status.ballot is not None and status.ballot > self.ballot:
            return "the own learner learned from a higher ballot"
        pipeline = self._pipeline
        pipeline.release_durable(status.durable_through)
        record = pipeline.master_record_instance
        if (
            not self.is_serving
            and record is not None
            and record <= pipeline.chosen_through
            and record <= status.applied_through
        ):
            self.is_serving = True
            effects.events.append(MasterStarted(self._group, self.ballot, record))
        if status.learned_through + 1 >= pipeline.first_kept():
            self._gap_since_ns = None
        elif self._gap_since_ns is None or status.learned_through > learned_before:
            # While it comes on, somebody is giving it what it misses.
            self._gap_since_ns = now_ns
        self.pump(now_ns, effects)
        return ""

    def _help_own_learner(self, now_ns: int, effects: Effects) -> str:
        """Give the own learner again what it lost; returns why to stop, where that is gone."""
        pipeline, status = self._pipeline, self._status
        since_ns = self._gap_since_ns
        if since_ns is not None and now_ns - since_ns > self._settings.learner_gap_ns:
            self.has_gap = True
            return "the own learner misses what nobody gives it"
        for instance_id in [i for i in pipeline.awaiting if i <= status.durable_through]:
            # Applied and sealed, but the results were lost on their way: the session has kept
            # them, and gives them to the client when it asks again.
            for request in pipeline.awaiting.pop(instance_id):
                pipeline.unanswered.append(request)
        if status.learned_through < pipeline.chosen_through or pipeline.awaiting:
            first = min(status.learned_through + 1, *pipeline.awaiting, pipeline.next_instance)
            values = pipeline.retained_from(first, self._settings.batch_bytes_max)
            self._send(self._own_learner, self._chosen_message(tuple(values)), effects)
        return ""

    def take_unanswered(self) -> list[Request]:
        """Requests whose results were lost, for the proposer to redirect."""
        unanswered = self._pipeline.unanswered
        self._pipeline.unanswered = []
        return unanswered

    def on_applied(self, applied: Applied, effects: Effects) -> None:
        """Answer the requests of an instance that the own learner applied."""
        if applied.ballot != self.ballot:
            return
        requests = self._pipeline.awaiting.pop(applied.instance_id, ())
        start = 0
        for request in requests:
            end = start + len(request.entries)
            own: tuple[EntryResult, ...] = applied.results[start:end]
            assert len(own) == len(request.entries), "a result for every entry"
            start = end
            self._intake.release(request)
            self._send(request.client, Submitted(request.request_id, own), effects)

    def _send(self, to: Address, message: Message, effects: Effects) -> None:
        effects.sends_now.append(Send(to, self._group, message))
