"""The proposer of member 1, and short ways to play everybody it talks to."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    MasterTransferred,
    QueryFailed,
    ReadIndex,
    ReadIndexConfirmed,
    Redirected,
    Refused,
    Submitted,
    TransferMaster,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import PrepareStarted
from ray_paxos.core.genesis import Configuration, GroupSpec, MachineSpec
from ray_paxos.core.learner_messages import (
    Applied,
    ChainPoint,
    Chosen,
    LearnerStatus,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    Heartbeat,
    HeartbeatConfirmed,
    LeaseNotice,
    LeaseRelease,
    Message,
    Nack,
    NackReason,
    Prepare,
    PreVote,
    PreVoteGranted,
    Promise,
    RevokeLease,
    Vote,
)
from ray_paxos.core.proposer import Phase, Proposer
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import ProposerSettings
from ray_paxos.core.values import EMPTY_CHAIN, Value, decode_value
from tests.unit.core_helpers import (
    CONFIGURATION,
    GROUP,
    LOG_MACHINE,
    MS,
    acceptor_of,
    client,
    envelope,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
    status,
    submit,
    with_members,
)

SETTINGS = ProposerSettings(
    election_timeout_ns=1_000 * MS,
    heartbeat_interval_ns=200 * MS,
    retransmit_ns=500 * MS,
    window_max=4,
    batch_bytes_max=1_000,
    command_bytes_max=600,
    intake_bytes_max=20_000,
    intake_requests_max=50,
    chosen_delay_ns=5 * MS,
    retained_bytes_max=20_000,
    learner_gap_ns=2_000 * MS,
)


def results_of(instance_id: int, encoded: bytes) -> tuple[EntryResult, ...]:
    """A result for each entry, that says which."""
    return tuple(
        EntryResult(instance_id, index, (b"%d/%d" % (instance_id, index),), {})
        for index, _ in enumerate(decode_value(encoded).entries)
    )


class ProposerBench:
    """Notes what the proposer said; `answers` counts what each request was told.

    So does `read_answers` for reads. `ballot` is that of the latest prepare, `wanted` that of the
    latest pre-vote.
    """

    def __init__(
        self,
        *,
        settings: ProposerSettings = SETTINGS,
        configuration: Configuration = CONFIGURATION,
        members: tuple[int, ...] = (1, 2, 3),
        machines: tuple[MachineSpec, ...] = (LOG_MACHINE,),
        replica_id: int = 11,
        incarnation: int = 2,
        seed: int = 1,
        now_ns: int = 0,
        priorities: Mapping[int, int] | None = None,
    ) -> None:
        self.now_ns = now_ns
        self.answers: Counter[tuple[Address, int]] = Counter()
        self.read_answers: Counter[tuple[Address, int]] = Counter()
        self.values: dict[tuple[Ballot, int], bytes] = {}
        self.learned: dict[int, bytes] = {}
        configuration = with_members(configuration, members, None if replica_id else 1)
        self.proposer = Proposer(
            spec=GroupSpec(
                GROUP, configuration.voters, machines, followers=configuration.followers
            ),
            configuration=configuration,
            member_id=1,
            incarnation=incarnation,
            settings=settings,
            random=random.Random(seed),
            now_ns=now_ns,
            priorities=priorities,
        )
        self.config_id = configuration.config_id
        self.ballot = Ballot(0, 1, incarnation)
        self.wanted = self.ballot
        self.first = 0
        self._incarnation = incarnation
        self._interval_ns = settings.heartbeat_interval_ns
        self._ticks = 0
        self._released: set[Ballot] = set()
        self._noticed: dict[tuple[Ballot, int], int] = {}
        self._revoked: dict[int, Ballot] = {}
        self._learner_life = 0

    # What happens to it.

    def _note(self, effects: Effects) -> Effects:
        assert effects.records == []
        assert effects.tasks == []
        for started in happened(effects, PrepareStarted):
            assert started.ballot > self.ballot, "a ballot is used for one attempt"
            self.ballot, self.first = started.ballot, started.from_instance
        for send in sends(effects):
            self._check_lease(send.message)
            match send.message:
                case PreVote(ballot=ballot):
                    assert ballot > self.ballot, "it asks for what it has not used yet"
                    self.wanted = ballot
                case Submitted() | Redirected() | Refused() | MasterTransferred():
                    self.answers[send.to, send.message.request_id] += 1
                case ReadIndexConfirmed() | QueryFailed():
                    self.read_answers[send.to, send.message.request_id] += 1
                case Accept(ballot=ballot, instance_id=instance_id, value=value):
                    known = self.values.setdefault((ballot, instance_id), value)
                    assert known == value, "two values at one instance and ballot"
        return effects

    def _check_lease(self, message: Message) -> None:
        """What the own learner may believe is over before acceptors are released."""
        match message:
            case LeaseNotice(ballot=ballot, learner_incarnation=life, until_ns=until_ns):
                assert until_ns > self.now_ns
                self._noticed[ballot, life] = max(until_ns, self._noticed.get((ballot, life), 0))
            case LeaseRelease(ballot=ballot):
                life = self._learner_life
                revoked = self._revoked.get(life)
                is_revoked = revoked is not None and revoked >= ballot
                assert is_revoked or self._noticed.get((ballot, life), 0) <= self.now_ns
                self._released.add(ballot)
            case Accept() | Heartbeat() | LeaseNotice() | RevokeLease() | Prepare():
                assert message.ballot not in self._released, "a released ballot is dead"

    def _note_status(self, status: LearnerStatus, incarnation: int) -> None:
        self._learner_life = max(self._learner_life, incarnation)
        if status.revoked is not None:
            known = self._revoked.get(incarnation, status.revoked)
            self._revoked[incarnation] = max(known, status.revoked)

    def receive(
        self,
        sender: Address,
        message: Message,
        *,
        replica_id: int | None = None,
        config_id: int | None = None,
        incarnation: int = 1,
    ) -> Effects:
        config_id = self.config_id if config_id is None else config_id
        received = envelope(
            sender, message, replica_id=replica_id, config_id=config_id, incarnation=incarnation
        )
        if isinstance(message, LearnerStatus) and sender == learner_of(1):
            self._note_status(message, incarnation)
        return self._note(self.proposer.handle(received, self.now_ns))

    def tick(self, milliseconds: float = 0) -> Effects:
        """Let time pass, then call `on_deadline`."""
        self._ticks += 1
        assert self._ticks < 1_000, "it goes on for ever"
        self.now_ns += int(milliseconds * MS)
        effects = self._note(self.proposer.on_deadline(self.now_ns))
        deadline_ns = self.proposer.deadline_ns
        assert deadline_ns is None or deadline_ns > self.now_ns, "called in a circle"
        return effects

    def due(self) -> Effects:
        """Let time pass until the deadline."""
        deadline_ns = self.proposer.deadline_ns
        assert deadline_ns is not None
        self.now_ns = max(self.now_ns, deadline_ns)
        return self.tick()

    def ask(self, request_id: int, *, of: Address | None = None) -> Effects:
        return self.receive(of or client(), submit(request_id))

    def read(self, request_id: int, *, of: Address | None = None) -> Effects:
        """A client asks from which instance on it may read."""
        return self.receive(of or client(), ReadIndex(request_id))

    def transfer(self, request_id: int, target: int = 0, *, version: int = 0) -> Effects:
        return self.receive(client(), TransferMaster(request_id, target, version))

    # What others answer.

    def own_status(self, learned: int = 0, *, incarnation: int = 1, **options: Any) -> Effects:
        """The own learner tells how far it is, and that it heard of this life of the proposer."""
        options.setdefault("proposer_incarnation", self._incarnation)
        told = status(learned, **options)
        return self.receive(learner_of(1), told, incarnation=incarnation)

    def welcome(self, *member_ids: int, at: Ballot | None = None) -> Effects:
        """These acceptors would promise; the effects of all of their answers together."""
        effects = Effects()
        for member_id in member_ids:
            granted = PreVoteGranted(at or self.wanted)
            effects.extend(self.receive(acceptor_of(member_id), granted))
        return effects

    def promise(
        self,
        member_id: int,
        *votes: Vote,
        at: Ballot | None = None,
        first: int | None = None,
        floor: int = 1,
        next_instance: int | None = None,
    ) -> Effects:
        at = at or self.ballot
        first = self.first if first is None else first
        promise = Promise(at, first, floor, votes, next_instance)
        return self.receive(acceptor_of(member_id), promise)

    def accepted(self, instance_id: int, *member_ids: int, sequence: int = 0) -> Effects:
        """The effects of all these votes together."""
        effects = Effects()
        for member_id in member_ids:
            vote = Accepted(self.ballot, instance_id, sequence)
            effects.extend(self.receive(acceptor_of(member_id), vote))
        return effects

    def confirmed(self, beat: Effects, *member_ids: int) -> Effects:
        sequence = sent(beat, Heartbeat)[0].sequence
        effects = Effects()
        for member_id in member_ids:
            confirmation = HeartbeatConfirmed(self.ballot, sequence)
            effects.extend(self.receive(acceptor_of(member_id), confirmation))
        return effects

    def nack(
        self,
        member_id: int,
        reason: NackReason,
        *,
        promised: Ballot | None = None,
        at: Ballot | None = None,
        wait_ms: int = 0,
    ) -> Effects:
        nack = Nack(at or self.ballot, 0, reason, promised, 0, wait_ms)
        return self.receive(acceptor_of(member_id), nack)

    def heartbeat(self, at: Ballot, *, confirmed: bool = True) -> Effects:
        point = ChainPoint(0, EMPTY_CHAIN, EMPTY_CHAIN)
        return self.receive(proposer_of(at.member_id), Heartbeat(at, 1, confirmed, 0, 0, point))

    def own_learner_takes(self, effects: Effects, *, durable: int = 0) -> Effects:
        """The own learner learns and applies what it was told, and says so."""
        answered = Effects()
        told = [
            send.message
            for send in sends(effects)
            if send.to == learner_of(1) and isinstance(send.message, Chosen)
        ]
        for message in told:
            for value in message.values:
                self.learned[value.instance_id] = value.value
                results = results_of(value.instance_id, value.value)
                applied = Applied(value.instance_id, value.ballot, results)
                answered.extend(self.receive(learner_of(1), applied))
        answered.extend(self.own_status(self.learned_through, durable=durable, at=self.ballot))
        return answered

    def is_in(self, phase: Phase) -> bool:
        return self.proposer.phase is phase

    @property
    def learned_through(self) -> int:
        through = 0
        while through + 1 in self.learned:
            through += 1
        return through

    # Whole stretches.

    def probe(self) -> Effects:
        """Follower to probing, at a time at which heartbeats are due."""
        assert self.is_in(Phase.FOLLOWING)
        deadline_ns = self.proposer.deadline_ns
        assert deadline_ns is not None
        self.now_ns = -(-max(self.now_ns, deadline_ns) // self._interval_ns) * self._interval_ns
        effects = self.tick()
        assert self.is_in(Phase.PROBING)
        return effects

    def stand(self, learned: int = 0, **options: Any) -> Effects:
        """Follower to preparing, welcome to a majority with its own acceptor."""
        for instance_id in range(1, learned + 1):
            self.learned.setdefault(instance_id, b"")
        self.probe()
        assert prepares(self.welcome(1, 2)) == []
        assert self.is_in(Phase.PROBING)
        effects = self.own_status(learned, **options)
        assert self.is_in(Phase.PREPARING)
        return effects

    def lead(self, learned: int = 0, *votes: Vote, **options: Any) -> Effects:
        """Follower to leading, with these votes found."""
        self.stand(learned, **options)
        self.promise(2, *votes)
        effects = self.promise(3)
        assert self.is_in(Phase.LEADING)
        return effects

    def serve(self, learned: int = 0) -> int:
        """Follower to serving; returns the instance of the master record."""
        accepts = sent(self.lead(learned), Accept)
        assert len(accepts) == len(CONFIGURATION.voters)
        record = accepts[0].instance_id
        self.own_learner_takes(self.accepted(record, 1, 2))
        assert self.proposer.is_serving
        return record


def prepares(effects: Effects) -> list[tuple[Address, int]]:
    """To whom prepares go, and from which instance on."""
    return list(
        zip(
            receivers(effects, Prepare),
            (prepare.from_instance for prepare in sent(effects, Prepare)),
            strict=True,
        )
    )


def accepts(effects: Effects) -> dict[int, list[int]]:
    """Members that are asked to accept, by instance."""
    found: dict[int, list[int]] = {}
    for send in sends(effects):
        if isinstance(send.message, Accept):
            found.setdefault(send.message.instance_id, []).append(send.to.member_id)
    return found


def proposed(effects: Effects) -> dict[int, Value]:
    """Values proposed, by instance."""
    return {accept.instance_id: decode_value(accept.value) for accept in sent(effects, Accept)}


def answered(effects: Effects) -> list[tuple[str, int]]:
    """What clients are told: the message's name and the request."""
    return [
        (type(send.message).__name__, send.message.request_id)
        for send in sends(effects)
        if isinstance(send.message, Submitted | Redirected | Refused | MasterTransferred)
    ]


def once_each(bench: ProposerBench, request_ids: Iterable[int]) -> bool:
    """Whether each of these requests got exactly one answer, and no other got any."""
    return bench.answers == Counter({(client(), request_id): 1 for request_id in request_ids})
