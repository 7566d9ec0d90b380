"""Seeded bugs: each takes one defence out of the code, as a person might in good faith.

A mutation is a function that patches the code through pytest's `monkeypatch`; the simulator's
default seeds, or a scripted schedule, must then find a broken rule.
"""

from __future__ import annotations

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import GroupVotes
from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.driver import Action, Driver, Observe, Run, Write
from ray_paxos.core.effects import Send
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import (
    Chosen,
    ChosenValue,
    RaiseVoteFloor,
)
from ray_paxos.core.messages import (
    Accepted,
    Address,
    Promise,
    RoleName,
)
from ray_paxos.core.phase_one import PhaseOne
from ray_paxos.core.pipeline import Pipeline
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.values import CommandBatch, SessionId
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.sessions import Admission, Session
from ray_paxos.testing.client import SimulatedClient


def skip_sync_before_promise(patch):
    """A promise leaves at once, while its record is being synced."""
    _send_at_once(patch, Promise)


def skip_sync_before_accepted(patch):
    """An accepted leaves at once, while the vote is being synced."""
    _send_at_once(patch, Accepted)


def _send_at_once(patch, kind):
    def reply(self, envelope, message, effects):
        send = Send(envelope.sender, envelope.group, message)
        if isinstance(message, kind):
            effects.sends_now.append(send)
        else:
            effects.sends_after_sync.append(send)

    patch.setattr(Acceptor, "_reply", reply)


def forget_to_adopt(patch):
    """A new master proposes its own values whatever the promises say."""
    patch.setattr(PhaseOne, "to_propose", lambda self, learned_through: [])


def adopt_the_lowest(patch):
    """A new master adopts the vote at the lowest ballot, not the highest."""
    add = PhaseOne.add

    def add_lowest(self, member_id, replica_id, promise):
        known = dict(self.votes)
        answer = add(self, member_id, replica_id, promise)
        for instance_id, vote in known.items():
            if vote.ballot < self.votes[instance_id].ballot:
                self.votes[instance_id] = vote
        return answer

    patch.setattr(PhaseOne, "add", add_lowest)


def count_a_duplicate_twice(patch):
    """A second accepted of one voter counts as another voter's."""

    def count(self, instance_id, replica_id):
        instance = self.open.get(instance_id)
        if instance is None:
            return None
        while replica_id in instance.votes:
            replica_id += 1_000
        instance.votes.add(replica_id)
        if len(instance.votes) < self.configuration.majority:
            return None
        return self._close(instance)

    patch.setattr(Pipeline, "count", count)


def learn_by_inference(patch):
    """An accept for i + 1 at the ballot of one's own vote for i says that i is chosen (S1)."""
    on_accept = Acceptor._on_accept

    def on_accept_inferring(self, envelope, accept, votes, now_ns, effects):
        before = votes.votes.get(accept.instance_id - 1)
        if before is not None and before.ballot == accept.ballot:
            value = ChosenValue(before.instance_id, before.ballot, before.value)
            chosen = Chosen((value,), before.instance_id, 0)
            learner = Address(self._member_id, RoleName.LEARNER)
            effects.sends_now.append(Send(learner, envelope.group, chosen))
        on_accept(self, envelope, accept, votes, now_ns, effects)

    patch.setattr(Acceptor, "_on_accept", on_accept_inferring)


def lower_the_promise_when_learning(patch):
    """What is learned overwrites the record, promise included (the parent's S2)."""
    raise_floor = GroupVotes.raise_floor

    def overwrite(self: GroupVotes, floor: int) -> None:
        learned = [vote.ballot for vote in self.votes.values() if vote.instance_id < floor]
        raise_floor(self, floor)
        if learned:
            self.promise = max(learned)

    patch.setattr(GroupVotes, "raise_floor", overwrite)


def apply_across_a_gap(patch):
    """A learner takes the next value it has for the next instance there is."""
    add = ChosenLog.add

    def add_over(self, chosen):
        if chosen.instance_id > self.learned_through + 1 and self.learned_through > 0:
            self.learned_through = chosen.instance_id - 1
        return add(self, chosen)

    patch.setattr(ChosenLog, "add", add_over)


def trim_before_durable(patch):
    """Votes go once a majority is durable, whether this member is or not."""
    _raise_floor_to(patch, lambda learner: learner._vote_floor.majority_durable + 1)


def trim_before_a_majority_is_durable(patch):
    """Votes go once this member is durable, whether a majority is or not."""
    _raise_floor_to(patch, lambda learner: learner.durable_through + 1)


def drop_votes_over_a_hole(patch):
    """The floor follows the highest instance heard of, with holes below it."""

    def highest(learner):
        return max([learner.durable_through, *learner._state.log._pending]) + 1

    _raise_floor_to(patch, highest)


def _raise_floor_to(patch, floor_of):
    def raise_floor(self, now_ns, effects):
        floor = floor_of(self)
        if floor > self._vote_floor.confirmed:
            acceptor = Address(self._state.member_id, RoleName.ACCEPTOR)
            self._state.send(acceptor, RaiseVoteFloor(floor), effects)

    patch.setattr(Learner, "_raise_floor", raise_floor)


def create_a_group_on_a_message(patch):
    """An acceptor that hears of a group it does not have makes one."""
    handle = Acceptor.handle

    def handle_creating(self, envelope, now_ns):
        if envelope.group not in self.state.groups:
            some = next(iter(self.state.groups.values()))
            self.state.groups[envelope.group] = GroupVotes(some.replica_id, some.configuration, 1)
        return handle(self, envelope, now_ns)

    patch.setattr(Acceptor, "handle", handle_creating)


def reply_ahead_of_an_earlier_record(patch):
    """An answer waits for the records of its own handler only."""

    def interpret(self, effects):
        actions: list[Action] = [Observe(event) for event in effects.events]
        if effects.records:
            self._written += 1
            write = Write(tuple(effects.records), self._written)
            self._unsynced.append(write)
            actions.append(write)
        actions += [self._transmit(send) for send in effects.sends_now]
        for send in effects.sends_after_sync:
            transmit = self._transmit(send)
            if not effects.records or self._durable >= self._written:
                actions.append(transmit)
            else:
                self._waiting.append((self._written, transmit))
        actions += [Run(task) for task in effects.tasks]
        return actions

    patch.setattr(Driver, "_interpret", interpret)


def reuse_a_session_number(patch):
    """A client takes a refused command's number for the next one it has."""
    receive = SimulatedClient.receive

    def receive_reusing(self, envelope):
        refused = self._requests.get(getattr(envelope.message, "request_id", 0))
        receive(self, envelope)
        if refused is None or type(envelope.message).__name__ not in ("Refused", "Redirected"):
            return
        for place, batch in enumerate(self._open):
            if batch.first_number != refused[0].first_number or len(batch.commands) != 1:
                continue
            operation = self.history[batch.first_number - 1]
            operation.machine, operation.command = "log", self._workload._unique()
            self._open[place] = CommandBatch(
                batch.session, batch.lowest_open, batch.first_number, "log", (operation.command,)
            )

    patch.setattr(SimulatedClient, "receive", receive_reusing)


def apply_a_number_again(patch):
    """A number that was applied is applied once more when it comes again."""

    def admit(self: Session, first_number: int, count: int) -> Admission:
        self.next_number = max(self.lowest_open, min(self.next_number, first_number))
        while self.kept and self.kept[-1].end > self.next_number:
            self.kept.pop()
        return Admission(0, 0, count, 0, "") if first_number == self.next_number else _gap(count)

    patch.setattr(Session, "admit", admit)


def _gap(count: int) -> Admission:
    return Admission(0, 0, 0, count, "gap")


def share_a_session_id(patch):
    """A session is named by its instance alone."""

    def open_session(self, instance_id, index, entry):
        try:
            return self._sessions.open(SessionId(instance_id, 0), entry.label, self.log_time_ns)
        except AssertionError:
            return ""

    patch.setattr(MachineHost, "_open_session", open_session)


def count_any_configuration(patch):
    """A proposer counts what was given under another configuration than its own."""
    voter_of = Proposer._voter

    def voter(self, envelope, *, any_configuration=False):
        return voter_of(self, envelope, any_configuration=True)

    patch.setattr(Proposer, "_voter", voter)


def count_any_acceptor(patch):
    """A proposer counts whoever answers, as the voter that its member was."""

    def voter(self, envelope, *, any_configuration=False):
        found = self._configuration.voter(envelope.sender.member_id)
        if found is None or envelope.config_id != self._configuration.config_id:
            return None
        return type(found)(envelope.sender.member_id, envelope.replica_id)

    patch.setattr(Proposer, "_voter", voter)
