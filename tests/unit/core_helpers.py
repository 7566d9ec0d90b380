"""Builders for tests of the core: three voters of one group, and envelopes between their roles.

Replica ids differ from member ids, so that a test sees which of the two a role counts by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState, GroupVotes
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import Submit
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import Event
from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, MachineSpec, Voter
from ray_paxos.core.learner_messages import (
    ChainPoint,
    ChosenValue,
    LearnerStatus,
    RaiseVoteFloor,
)
from ray_paxos.core.messages import (
    Accept,
    Address,
    Envelope,
    Heartbeat,
    LeaseRelease,
    Message,
    Prepare,
    PreVote,
    RoleName,
)
from ray_paxos.core.records import JournalRecord
from ray_paxos.core.settings import MILLISECOND_NS, AcceptorSettings
from ray_paxos.core.values import (
    EMPTY_CHAIN,
    CommandBatch,
    Entry,
    SessionId,
    Value,
    encode_value,
)

GROUP = 1
GENESIS = b"genesis of tests"
MS = MILLISECOND_NS
REPLICAS = {1: 11, 2: 12, 3: 13, 4: 14, 5: 15}
CONFIGURATION = Configuration(GENESIS_CONFIG_ID, (Voter(1, 11), Voter(2, 12), Voter(3, 13)))
LATER_CONFIGURATION = Configuration(10, (Voter(1, 11), Voter(2, 12), Voter(4, 14)))
LOG_MACHINE = MachineSpec("log", "log", 1)

POINT = ChainPoint(0, EMPTY_CHAIN, EMPTY_CHAIN)

AnyMessage = TypeVar("AnyMessage")
AnyEvent = TypeVar("AnyEvent")


def with_members(
    configuration: Configuration, members: Iterable[int], demoted: int | None
) -> Configuration:
    """A configuration where those that do not vote follow, and `demoted` does not vote either."""
    voters = tuple(v for v in configuration.voters if v.member_id != demoted)
    others = sorted(set(members) - {v.member_id for v in voters})
    followers = tuple(Voter(m, REPLICAS[m]) for m in others)
    return Configuration(configuration.config_id, voters, followers)


def acceptor_of(member_id: int) -> Address:
    return Address(member_id, RoleName.ACCEPTOR)


def proposer_of(member_id: int) -> Address:
    return Address(member_id, RoleName.PROPOSER)


def learner_of(member_id: int) -> Address:
    return Address(member_id, RoleName.LEARNER)


def checkpointer_of(member_id: int) -> Address:
    return Address(member_id, RoleName.CHECKPOINTER)


def client(number: int = 900) -> Address:
    return Address(number, RoleName.CLIENT)


def ballot(round: int, member_id: int = 1, incarnation: int = 1) -> Ballot:
    return Ballot(round, member_id, incarnation)


def envelope(
    sender: Address,
    message: Message,
    *,
    replica_id: int | None = None,
    config_id: int = 0,
    group: int = GROUP,
    genesis: bytes = GENESIS,
    incarnation: int = 1,
) -> Envelope:
    """As a role of a voter sends it, unless told otherwise."""
    if replica_id is None:
        replica_id = REPLICAS.get(sender.member_id, 0)
    incarnation = 0 if sender.role is RoleName.CLIENT else incarnation
    return Envelope(genesis, group, sender, replica_id, incarnation, config_id, message)


def noop(log_time_ns: int = 0) -> bytes:
    return encode_value(Value(log_time_ns, ()))


def value(*entries: Entry, log_time_ns: int = 0) -> bytes:
    return encode_value(Value(log_time_ns, entries))


def commands(text: str = "x", number: int = 1, *, count: int = 1) -> CommandBatch:
    return CommandBatch(SessionId(1, 0), 1, number, "log", (text.encode(),) * count)


def submit(request_id: int, *batches: CommandBatch) -> Submit:
    return Submit(request_id, batches or (commands(f"command {request_id}", request_id),))


def chosen(instance_id: int, at: Ballot | None = None, encoded: bytes | None = None) -> ChosenValue:
    """One chosen instance; without a value a batch that differs from instance to instance."""
    if encoded is None:
        encoded = value(commands(f"at {instance_id}", instance_id), log_time_ns=instance_id)
    return ChosenValue(instance_id, at if at is not None else ballot(1), encoded)


def status(
    learned: int = 0,
    *,
    applied: int | None = None,
    durable: int = 0,
    at: Ballot | None = None,
    log_time_ns: int = 0,
    mounted: tuple[MachineSpec, ...] = (LOG_MACHINE,),
    stopped: str = "",
    sent_ns: int = 0,
    master: tuple[int, int] = (0, 0),
    proposer_incarnation: int = 0,
    revoked: Ballot | None = None,
    configuration: Configuration | None = None,
    due_log_time_ns: int | None = None,
) -> LearnerStatus:
    applied = learned if applied is None else applied
    return LearnerStatus(
        learned,
        applied,
        durable,
        1,
        ChainPoint(applied, EMPTY_CHAIN, EMPTY_CHAIN),
        log_time_ns,
        at,
        mounted,
        stopped,
        sent_ns,
        *master,
        proposer_incarnation=proposer_incarnation,
        revoked=revoked,
        configuration=configuration,
        due_log_time_ns=due_log_time_ns,
    )


def sends(effects: Effects) -> list[Send]:
    """All that leaves, now or after the sync."""
    return [*effects.sends_now, *effects.sends_after_sync]


def sent(effects: Effects, kind: type[AnyMessage]) -> list[AnyMessage]:
    """Messages of one class, in the order of their leaving."""
    return [send.message for send in sends(effects) if isinstance(send.message, kind)]


def receivers(effects: Effects, kind: type[object]) -> list[Address]:
    """To whom messages of one class go."""
    return [send.to for send in sends(effects) if isinstance(send.message, kind)]


def happened(effects: Effects, kind: type[AnyEvent]) -> list[AnyEvent]:
    """Events of one class."""
    return [event for event in effects.events if isinstance(event, kind)]


def event_names(events: Iterable[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


class AcceptorBench:
    """The acceptor of member 2, and short ways to ask it. Time is in the test's hands."""

    def __init__(
        self,
        configuration: Configuration = CONFIGURATION,
        *,
        page_bytes: int = 1_000,
        drift_ppm: int = 10_000,
    ) -> None:
        self.now_ns = 0
        self.configuration = configuration
        self.config_id = configuration.config_id
        self.settings = AcceptorSettings(
            promise_bytes_max=page_bytes, clock_drift_ppm=drift_ppm, hearsay_ns=1_000 * MS
        )
        self.records: list[JournalRecord] = []
        self.acceptor = self._opened()

    def _opened(self) -> Acceptor:
        state = AcceptorState({GROUP: GroupVotes(12, self.configuration, 1)})
        for record in self.records:
            state.apply(record)
        return Acceptor(state, member_id=2, settings=self.settings, now_ns=self.now_ns)

    def restart(self) -> None:
        """It knows what it made durable, and nothing else."""
        self.acceptor = self._opened()

    @property
    def votes(self) -> GroupVotes:
        return self.acceptor.state.groups[GROUP]

    def ask(
        self,
        message: Message,
        sender: Address,
        *,
        replica_id: int | None = None,
        config_id: int | None = None,
        group: int = GROUP,
    ) -> Effects:
        config_id = self.config_id if config_id is None else config_id
        asked = envelope(sender, message, replica_id=replica_id, config_id=config_id, group=group)
        effects = self.acceptor.handle(asked, self.now_ns)
        self.records += [r for r in effects.records if isinstance(r, JournalRecord)]
        return effects

    def prepare(
        self, at: Ballot, from_instance: int = 1, *, released: Ballot | None = None
    ) -> Effects:
        return self.ask(Prepare(at, from_instance, released), proposer_of(at.member_id))

    def pre_vote(self, at: Ballot) -> Effects:
        return self.ask(PreVote(at), proposer_of(at.member_id))

    def accept(
        self,
        at: Ballot,
        instance_id: int,
        value: bytes = b"v",
        *,
        sequence: int = 0,
        lease_ms: int = 0,
    ) -> Effects:
        accept = Accept(at, instance_id, value, sequence, lease_ms)
        return self.ask(accept, proposer_of(at.member_id))

    def beat(
        self, at: Ballot, sequence: int = 1, *, lease_ms: int = 0, confirmed: bool = True
    ) -> Effects:
        heartbeat = Heartbeat(at, sequence, confirmed, 0, 0, POINT, 0, lease_ms)
        return self.ask(heartbeat, proposer_of(at.member_id))

    def release(self, at: Ballot) -> Effects:
        return self.ask(LeaseRelease(at), proposer_of(at.member_id))

    def raise_floor(self, floor: int) -> Effects:
        return self.ask(RaiseVoteFloor(floor), learner_of(2))
