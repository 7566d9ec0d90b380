"""All metrics: their names, units and labels, in one place.

Names, units and suffixes are by Prometheus' conventions; Ray puts `ray_` before each, and
`_total` is part of a counter's own name. Every series has the labels `cluster` and `member`; those
of groups have `group`, too, or `group="all"` where a member has more groups than its configuration
lets name themselves (see `samples`): with 1,000 groups on three members each metric of groups would
be 3,000 series otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from ray_paxos.observability.histogram import COUNTS, SECONDS

PREFIX = "ray_"
"""What Ray puts before each name."""


class Kind(enum.Enum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Aggregation(enum.Enum):
    """What stands for many groups where none is named."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: As it is given to Ray.
        kind: What it is to Prometheus.
        meaning: One sentence, which Prometheus shows as help.
        label: A label that it has beside those of its scope; empty for none.
        is_of_group: Whether there is one for each group.
        aggregation: What stands for many groups.
        bounds: Of a histogram.
    """

    name: str
    kind: Kind
    meaning: str
    label: str = ""
    is_of_group: bool = False
    aggregation: Aggregation = Aggregation.SUM
    bounds: Sequence[float] = ()

    @property
    def exported_name(self) -> str:
        """As Prometheus knows it."""
        return PREFIX + self.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all its labels."""
        group = ("group",) if self.is_of_group else ()
        return ("cluster", "member", *group, *((self.label,) if self.label else ()))


def _counter(name: str, meaning: str, label: str = "", *, is_of_group: bool = False) -> Metric:
    assert name.endswith("_total"), name
    return Metric(name, Kind.COUNTER, meaning, label, is_of_group)


def _of_group(name: str, meaning: str, aggregation: Aggregation = Aggregation.SUM) -> Metric:
    return Metric(name, Kind.GAUGE, meaning, is_of_group=True, aggregation=aggregation)


def _gauge(name: str, meaning: str, label: str = "") -> Metric:
    return Metric(name, Kind.GAUGE, meaning, label)


def _seconds(name: str, meaning: str) -> Metric:
    assert name.endswith("_seconds"), name
    return Metric(name, Kind.HISTOGRAM, meaning, bounds=SECONDS)


# Of every role.
ROLE_SERVING = _gauge("paxos_role_serving", "1 while the role serves, else 0.", "role")
GROUPS_STOPPED = _gauge(
    "paxos_groups_stopped", "Groups of the member that the role does not serve.", "role"
)
EVENTS = _counter(
    "paxos_events_total",
    "Events of this member's roles, by kind, without those of each instance.",
    "event",
)
EVENTS_LEFT_OUT = _counter(
    "paxos_events_left_out_total", "Events that came too fast to be written to the log.", "role"
)

MESSAGES_RECEIVED = _counter(
    "paxos_messages_received_total", "Messages that roles of this member took in.", "message"
)

# Of the proposer.
IS_MASTER = _of_group("paxos_is_master", "1 where the member leads the group and serves.")
MASTER_KNOWN = _of_group(
    "paxos_master_known", "1 where the member knows who leads the group, else 0.", Aggregation.MIN
)
GROUPS_WITHOUT_MASTER = _gauge(
    "paxos_groups_without_master", "Groups of which this member knows no master now."
)
REIGNS = _counter("paxos_reigns_total", "Times the member began to serve.", is_of_group=True)
REIGNS_ENDED = _counter("paxos_reigns_ended_total", "Reigns that ended.", is_of_group=True)
PREPARES = _counter("paxos_prepares_total", "Times the member prepared a ballot.", is_of_group=True)
CANDIDACIES_ENDED = _counter(
    "paxos_candidacies_ended_total", "Attempts to lead that were given up.", is_of_group=True
)
PREPARE_SECONDS = _seconds(
    "paxos_prepare_seconds", "From when a ballot was prepared until a majority had promised it."
)
RESENT = _counter(
    "paxos_messages_resent_total",
    "Messages sent again, or to another member, since they were not answered in time.",
    "message",
)
LEASE_LEFT = _of_group(
    "paxos_lease_left_seconds", "For how long the master's lease still runs.", Aggregation.MIN
)
COMMANDS = _counter(
    "paxos_commands_total", "Commands that the member answered as master.", is_of_group=True
)
COMMAND_BYTES = _counter(
    "paxos_command_bytes_total", "Bytes of the values of these commands.", is_of_group=True
)
INSTANCES = _counter(
    "paxos_instances_total", "Instances chosen while the member led.", is_of_group=True
)
BATCH_COMMANDS = Metric(
    "paxos_batch_commands", Kind.HISTOGRAM, "Commands that one instance holds.", bounds=COUNTS
)
COMMAND_SECONDS = _seconds(
    "paxos_command_seconds", "From when the master took a request in until it was answered."
)
QUEUE_SECONDS = _seconds(
    "paxos_queue_seconds", "From when the master took a request in until its instance was opened."
)
ACCEPT_SECONDS = _seconds(
    "paxos_accept_seconds", "From when an instance was opened until a majority had accepted it."
)
CHOSEN_SECONDS = _seconds(
    "paxos_chosen_seconds", "From when an instance was chosen until its results were back."
)
QUEUED_REQUESTS = _of_group("paxos_queued_requests", "Requests that are not answered yet.")
QUEUED_BYTES = _of_group("paxos_queued_bytes", "Bytes of the requests not answered yet.")
OPEN_INSTANCES = _of_group("paxos_open_instances", "Instances proposed and not chosen yet.")
REFUSED = _counter("paxos_requests_refused_total", "Requests that were not taken.", "reason")
NACKS_RECEIVED = _counter(
    "paxos_nacks_received_total",
    "Refusals of its prepares, accepts and heartbeats by acceptors.",
    "reason",
)

# Of the acceptor.
PROMISES = _counter("paxos_promises_total", "Promises given.", is_of_group=True)
NACKS_SENT = _counter(
    "paxos_nacks_sent_total", "Prepares, accepts and heartbeats that it refused.", "reason"
)
FSYNC_SECONDS = _seconds("paxos_fsync_seconds", "One append to the journal, made durable.")
FSYNC_RECORDS = Metric(
    "paxos_fsync_records", Kind.HISTOGRAM, "Records that one append holds.", bounds=COUNTS
)
VOTES_HELD = _of_group("paxos_votes_held", "Votes above the vote floor.")
VOTE_FLOOR = _of_group("paxos_vote_floor_instance", "The vote floor.", Aggregation.MIN)

# Of the learner.
APPLIED = _of_group("paxos_applied_instance", "The last instance applied.", Aggregation.MAX)
LAG = _of_group(
    "paxos_lag_instances",
    "Instances known to be chosen that the member has not applied.",
    Aggregation.MAX,
)
APPLYING_STOPPED = _of_group("paxos_applying_stopped", "1 where applying has stopped.")
APPLYING_STOPS = _counter(
    "paxos_applying_stops_total", "Times that applying stopped.", is_of_group=True
)
CHAINS_DIFFERED = _counter(
    "paxos_chain_differences_total",
    "Times that two members' checksums of one instance differed.",
    is_of_group=True,
)
APPLY_SECONDS = _seconds(
    "paxos_apply_seconds",
    "A step in which the learner applied, shared out over its instances.",
)
SEAL_SECONDS = _seconds("paxos_seal_seconds", "One segment written and made durable.")
SEGMENTS = _of_group("paxos_segments", "Segments of the chosen log.")
LOG_FLOOR = _of_group(
    "paxos_log_floor_instance", "The lowest instance in the log.", Aggregation.MIN
)
SESSIONS = _of_group("paxos_sessions", "Sessions that are open.")
CAUGHT_UP = _counter(
    "paxos_caught_up_instances_total", "Instances taken from other members.", is_of_group=True
)

# Of the checkpointer.
CHECKPOINTS = _counter("paxos_checkpoints_total", "Checkpoints published.", is_of_group=True)
CHECKPOINTS_FAILED = _counter(
    "paxos_checkpoints_failed_total", "Checkpoints that could not be made.", is_of_group=True
)
CHECKPOINT_INSTANCE = _of_group(
    "paxos_checkpoint_instance", "Instance of the newest checkpoint.", Aggregation.MIN
)
DAMAGED = _counter(
    "paxos_damaged_files_total", "Files found to be damaged on the disk.", is_of_group=True
)
REPAIRED = _counter("paxos_repaired_files_total", "Damaged segments mended.", is_of_group=True)
SCRUBBED = _counter("paxos_scrubbed_files_total", "Files read back.", is_of_group=True)

# Of the member's disk.
DISK_BYTES = _gauge("paxos_disk_bytes", "Bytes of the member's files, by role.", "role")
DISK_FREE_BYTES = Metric(
    "paxos_disk_free_bytes",
    Kind.GAUGE,
    "Room left on the member's disk.",
    aggregation=Aggregation.MIN,
)
DISK_FULL = _gauge(
    "paxos_disk_full", "1 while the role cannot write for want of room on its disk.", "role"
)

METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
"""All of them, in the order in which they stand here."""
BY_NAME = {metric.name: metric for metric in METRICS}
