"""What a seed is worth, and what a whole run must have seen.

A run of green seeds proves little if the hard cases never came up. So every seed goes on until it
has done a stated amount of work, and a run as a whole fails unless stated shares of its seeds saw
each of the situations below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ray_paxos.core.client_messages import Consistency
from ray_paxos.core.events import (
    CaughtUp,
    CheckpointInstalled,
    CheckpointPublished,
    CommandRefused,
    Event,
    HoleFilled,
    LogCutOff,
    MasterStarted,
    PromiseGranted,
    SegmentRepaired,
    ValueAdopted,
)
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.results import NoteCode
from ray_paxos.testing.reads import Read

DELIVERIES_MIN = 2_000
COMMANDS_MIN = 200
FAULTS_MIN = 5

ADOPTED = "value adopted"
HOLE = "no-op in a hole"
FLOOR = "promise with a floor above 1"
GAP = "session gap refused"
UNSYNCED_KILL = "restart with unsynced records"
UNSYNCED_LOSS = "power loss with unsynced records"
CAUGHT_UP = "instances caught up"
MASTERS = "several masters"
PAGES = "promise of several pages"
KEPT = "command sent again and kept"
RELEASED = "lease released"
PRE_VOTE_REFUSED = "pre-vote refused for a lease"
LEASE_READ = "lease read"
LINEARIZABLE_BY_LEASE = "linearizable read by a lease"
LINEARIZABLE_BY_INDEX = "linearizable read by an index"
LINEARIZABLE_BY_QUORUM = "linearizable read by a quorum"
LINEARIZABLE_IN_A_BATCH = "linearizable read in a batch"
INDEX_BY_ROUND = "read index by a round"
BOUNDED_AGE = "follower read of bounded age"
AT_LEAST = "follower read of an instance"
STALE_READ = "stale read"
CHECKPOINT = "checkpoint made"
INSTALLED = "checkpoint installed"
CLEANED = "log cleaned"
DAMAGE = "damage found while running"
MENDED = "damaged segment mended"
OVERLOADED = "request refused, overloaded"
READ_OVERLOADED = "read refused, overloaded"
DENIED = "client told: certainly not applied"
UNKNOWN = "client told: outcome unknown"
WITHDRAWN = "command withdrawn"
RECONFIGURED = "members changed"
VOTER_JOINED = "voter joined"
VOTER_LEFT = "voter left"
ENTRY_ADOPTED = "membership entry adopted in a prepare"
PART_TAKEN = "group given to a member"
PART_LEFT = "group left by a member"


@dataclass(frozen=True)
class Situation:
    """Something that a share of the seeds must see.

    Attributes:
        name: As it is counted.
        share: Of all seeds of a run, at least.
    """

    name: str
    share: float


SITUATIONS = (
    Situation(ADOPTED, 0.5),
    Situation(HOLE, 0.06),
    Situation(FLOOR, 0.5),
    Situation(GAP, 0.3),
    Situation(UNSYNCED_KILL, 0.3),
    Situation(UNSYNCED_LOSS, 0.2),
    Situation(CAUGHT_UP, 0.5),
    Situation(MASTERS, 0.7),
    Situation(PAGES, 0.1),
    Situation(KEPT, 0.3),
    Situation(RELEASED, 0.15),
    Situation(PRE_VOTE_REFUSED, 0.5),
    Situation(LEASE_READ, 0.6),
    Situation(LINEARIZABLE_BY_LEASE, 0.6),
    Situation(LINEARIZABLE_BY_INDEX, 0.9),
    Situation(LINEARIZABLE_BY_QUORUM, 0.9),
    Situation(LINEARIZABLE_IN_A_BATCH, 0.5),
    Situation(INDEX_BY_ROUND, 0.08),
    Situation(BOUNDED_AGE, 0.9),
    Situation(AT_LEAST, 0.9),
    Situation(STALE_READ, 0.9),
    Situation(OVERLOADED, 0.3),
    Situation(READ_OVERLOADED, 0.03),
    Situation(DENIED, 0.3),
    Situation(UNKNOWN, 0.3),
    Situation(WITHDRAWN, 0.1),
    Situation(CHECKPOINT, 0.8),
    Situation(CLEANED, 0.5),
    Situation(INSTALLED, 0.2),
    Situation(DAMAGE, 0.05),
    Situation(MENDED, 0.02),
    Situation(RECONFIGURED, 0.3),
    Situation(VOTER_JOINED, 0.2),
    Situation(VOTER_LEFT, 0.2),
    Situation(ENTRY_ADOPTED, 0.03),
    Situation(PART_TAKEN, 0.1),
    Situation(PART_LEFT, 0.1),
)

RECIPE_SHARE = 0.05
"""A seed plays two or three recipes of eight: among few seeds one may be rare by chance."""
RECIPE_SITUATIONS = tuple(
    Situation(name, RECIPE_SHARE)
    for name in (
        "permits: granted at once",
        "permits: granted in line",
        "permits: waited in vain",
        "permits: renewed",
        "permits: lost",
        "permits: write refused",
        "permits: released",
        "permits: change seen",
        "queues: acknowledged",
        "queues: acknowledged too late",
        "queues: handed out in line",
        "queues: consumer gone",
        "queues: given back",
        "queues: dead letter",
        "ledgers: committed",
        "ledgers: commit lost",
        "ledgers: aborted",
        "ledgers: outcome awaited",
        "counters: added",
        "counters: ids taken",
        "counters: value awaited",
        "barriers: waited",
        "barriers: left",
        "kv-txn: transferred",
        "kv-txn: conflict",
        "kv-txn: all read",
        "kv-watch: change told",
        "kv-watch: gap told",
        "kv-ttl: alive",
        "kv-ttl: ended",
    )
)
"""Asked of runs whose seeds draw which recipes they play."""

SEEDS_MIN = 26
"""Shares are asked of runs with at least so many seeds."""


@dataclass
class SeedCoverage:
    """What one seed did and saw.

    Attributes:
        deliveries: Messages handled by a process.
        commands: Commands acknowledged, each checked.
        faults: Injected, by kind.
        messages: Lost, repeated, delayed and cut off, by kind.
        seen: Situations, by name, how often.
        recorded: Operations in the histories checked for linearizability.
        virtual_ns: How long it lasted, in its own time.
    """

    deliveries: int = 0
    commands: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    recorded: int = 0
    virtual_ns: int = 0

    @property
    def is_worth_it(self) -> bool:
        """Whether the seed has done the least that counts."""
        return (
            self.deliveries >= DELIVERIES_MIN
            and self.commands >= COMMANDS_MIN
            and sum(self.faults.values()) >= FAULTS_MIN
        )

    def configurations(self, configurations: Sequence[Configuration]) -> None:
        """Count what the configurations of one group show, in their order."""
        for before, after in pairwise(configurations):
            self.seen[RECONFIGURED] += 1
            self.seen[VOTER_JOINED] += len(after.voters) > len(before.voters)
            self.seen[VOTER_LEFT] += len(after.voters) < len(before.voters)

    def event(self, event: Event) -> None:
        """Count what an event shows."""
        match event:
            case ValueAdopted():
                self.seen[ADOPTED] += 1
            case HoleFilled():
                self.seen[HOLE] += 1
            case PromiseGranted(floor=floor) if floor > 1:
                self.seen[FLOOR] += 1
            case CommandRefused(code=code) if code == NoteCode.GAP:
                self.seen[GAP] += 1
            case CaughtUp():
                self.seen[CAUGHT_UP] += 1
            case CheckpointPublished():
                self.seen[CHECKPOINT] += 1
            case CheckpointInstalled():
                self.seen[INSTALLED] += 1
            case LogCutOff():
                self.seen[CLEANED] += 1
            case SegmentRepaired():
                self.seen[MENDED] += 1
            case MasterStarted():
                self.seen["master"] += 1
                if self.seen["master"] > 1:
                    self.seen[MASTERS] += 1
            case _:
                pass


def name_read(read: Read) -> str:
    """The situation that an answered read is."""
    if read.consistency is Consistency.LINEARIZABLE:
        if read.is_batched:
            return LINEARIZABLE_IN_A_BATCH
        if read.quorum is not None:
            return LINEARIZABLE_BY_QUORUM
        return LINEARIZABLE_BY_LEASE if read.index is None else LINEARIZABLE_BY_INDEX
    if read.consistency is Consistency.FOLLOWER:
        return AT_LEAST if read.max_staleness_ms is None else BOUNDED_AGE
    return LEASE_READ if read.consistency is Consistency.LEASE else STALE_READ


def missing_shares(
    coverages: Sequence[SeedCoverage], situations: Sequence[Situation] | None = None
) -> list[str]:
    """Which situations too few seeds saw; empty for a run of too few seeds to ask it of.

    Args:
        coverages: Of the seeds.
        situations: Which; None for those that all runs must see.
    """
    if len(coverages) < SEEDS_MIN:
        return []
    return [
        f"{situation.name}: {share:.0%} of the seeds, at least {situation.share:.0%} are needed"
        for situation in (SITUATIONS if situations is None else situations)
        if (share := seen_share(coverages, situation.name)) < situation.share
    ]


def seen_share(coverages: Sequence[SeedCoverage], name: str) -> float:
    """The share of seeds that saw a situation, from 0 to 1."""
    return sum(1 for c in coverages if c.seen[name]) / max(len(coverages), 1)
