"""The sections of the four roles: what `ray_paxos.core.settings` holds, as a file gives it."""

from __future__ import annotations

from pydantic import Field

from ray_paxos.config.section import (
    GIBIBYTE,
    Section,
    bytes_field,
    milliseconds_field,
    whole_field,
)
from ray_paxos.core.settings import (
    AcceptorSettings,
    CheckpointerSettings,
    ControllerSettings,
    LearnerSettings,
    ProposerSettings,
)

_PROPOSER = ProposerSettings()
_ACCEPTOR = AcceptorSettings()
_LEARNER = LearnerSettings()
_CHECKPOINTER = CheckpointerSettings()
_CONTROLLER = ControllerSettings()


class ProposerConfiguration(Section):
    """Times and limits of the proposer of each group."""

    election_timeout_ms: float = milliseconds_field(
        _PROPOSER.election_timeout_ns,
        "A proposer stands after this long, and up to as long again, without a word of a "
        "confirmed master; a master that no majority confirms for this long steps down.",
        low=10,
    )
    lease_ms: float = milliseconds_field(
        _PROPOSER.lease_ns,
        "For how long after it asked a master that a majority confirms believes that nobody else "
        "can lead, and answers reads without asking; whole milliseconds; 0: no leases.",
        low=0,
    )
    heartbeat_interval_ms: float = milliseconds_field(
        _PROPOSER.heartbeat_interval_ns, "Between two rounds of heartbeats of a master."
    )
    retransmit_ms: float = milliseconds_field(
        _PROPOSER.retransmit_ns, "After how long an unanswered prepare or accept is sent again."
    )
    window_max: int = whole_field(_PROPOSER.window_max, 1, 1_024, "Open instances at most.")
    batch_bytes_max: int = bytes_field(
        _PROPOSER.batch_bytes_max,
        1_000,
        64_000_000,
        "A value holds commands up to this many bytes (at least one request), and no more than "
        "Ray carries within a call (ray.inline_bytes_max).",
    )
    command_bytes_max: int = bytes_field(
        _PROPOSER.command_bytes_max, 1_000, 64_000_000, "A longer command is refused."
    )
    intake_bytes_max: int = bytes_field(
        _PROPOSER.intake_bytes_max,
        1_000,
        4 * GIBIBYTE,
        "Bytes of requests waiting or open at most; more is refused as overload.",
    )
    intake_requests_max: int = whole_field(
        _PROPOSER.intake_requests_max, 1, 1_000_000, "Requests waiting or open at most."
    )
    chosen_delay_ms: float = milliseconds_field(
        _PROPOSER.chosen_delay_ns,
        "How long a chosen value may wait for company before it goes to the followers.",
        low=0,
    )
    retained_bytes_max: int = bytes_field(
        _PROPOSER.retained_bytes_max,
        1_000,
        16 * GIBIBYTE,
        "Chosen values that the own learner has not reported durable: above this nothing new "
        "is proposed.",
    )
    learner_gap_ms: float = milliseconds_field(
        _PROPOSER.learner_gap_ns,
        "A master whose learner misses, for this long, what nobody gives it prepares again.",
    )
    disk_stall_ms: float = milliseconds_field(
        _PROPOSER.disk_stall_ns,
        "A master whose own acceptor confirms nothing for this long, or whose own learner takes "
        "nothing in, steps down.",
    )
    transfer_timeout_ms: float = milliseconds_field(
        _PROPOSER.transfer_timeout_ns,
        "A master that cannot finish what it proposed in this time does not hand over.",
    )
    reads_max: int = whole_field(
        _PROPOSER.reads_max, 1, 1_000_000, "Linearizable reads that wait for a round at most."
    )
    preferred_delay_ms: float = milliseconds_field(
        _PROPOSER.preferred_delay_ns,
        "So much later a member stands that has not the highest priority.",
        low=0,
    )
    preferred_settled_ms: float = milliseconds_field(
        _PROPOSER.preferred_settled_ns,
        "A member of higher priority that has kept up for so long is handed the lead.",
    )

    def settings(self) -> ProposerSettings:
        """As the core takes them."""
        return ProposerSettings(**self.in_core_units())


class AcceptorConfiguration(Section):
    """Limits of the acceptor of each member."""

    promise_bytes_max: int = bytes_field(
        _ACCEPTOR.promise_bytes_max,
        1_000,
        256_000_000,
        "Values in one page of a promise (at least one vote).",
    )
    clock_drift_ppm: int = whole_field(
        _ACCEPTOR.clock_drift_ppm,
        0,
        500_000,
        "By how many parts in a million any clock may be fast or slow: a lease is kept so much "
        "longer than it is believed in. The same on all members.",
    )
    hearsay_ms: float = milliseconds_field(
        _ACCEPTOR.hearsay_ns,
        "So long after a heartbeat of a confirmed master nobody else gets a pre-vote; at most "
        "proposer.election_timeout_ms.",
        low=0,
    )

    def settings(self) -> AcceptorSettings:
        """As the core takes them."""
        return AcceptorSettings(**self.in_core_units())


class LearnerConfiguration(Section):
    """Times and limits of the learner of each group."""

    seal_bytes: int = bytes_field(
        _LEARNER.seal_bytes,
        1_000,
        GIBIBYTE,
        "Learned values go into a Parquet segment at this many bytes,",
    )
    seal_age_ms: float = milliseconds_field(
        _LEARNER.seal_age_ns,
        "or when the oldest of them is this old (of 30 groups three times as old, of 100 ten "
        "times, up to 10 s: a member makes no more segments than it has time for).",
    )
    memory_bytes: int = bytes_field(
        _LEARNER.memory_bytes,
        0,
        16 * GIBIBYTE,
        "Sealed values kept in memory for members a little behind.",
    )
    pending_bytes_max: int = bytes_field(
        _LEARNER.pending_bytes_max,
        1_000,
        16 * GIBIBYTE,
        "Values held above a gap; more is dropped, to be asked for again.",
    )
    unsealed_bytes_max: int = bytes_field(
        _LEARNER.unsealed_bytes_max,
        1_000,
        16 * GIBIBYTE,
        "Learned and not sealed yet, with results; above this, as with a full disk, nothing more "
        "is taken in.",
    )
    catch_up_bytes_max: int = bytes_field(
        _LEARNER.catch_up_bytes_max, 1_000, 256_000_000, "Asked of another member at once."
    )
    catch_up_retry_ms: float = milliseconds_field(
        _LEARNER.catch_up_retry_ns, "After how long without an answer another member is asked."
    )
    catch_up_bytes_per_s: int = bytes_field(
        _LEARNER.catch_up_bytes_per_s,
        10_000,
        16 * GIBIBYTE,
        "So fast others are given what they miss from memory, all of them together.",
    )
    hold_count: int = whole_field(
        _LEARNER.hold_count,
        0,
        1_000_000_000,
        "So many of the newest instances stay in the log for members that are behind,",
    )
    log_bytes_max: int = bytes_field(
        _LEARNER.log_bytes_max,
        1_000,
        1_024 * GIBIBYTE,
        "unless its values are more bytes than this. What no own checkpoint covers stays always.",
    )

    def settings(self) -> LearnerSettings:
        """As the core takes them."""
        return LearnerSettings(**self.in_core_units())


class CheckpointerConfiguration(Section):
    """Limits of the checkpointer of each group."""

    merge_count: int = whole_field(
        _CHECKPOINTER.merge_count, 2, 1_024, "So many adjoining small segments become one."
    )
    merge_bytes_max: int = bytes_field(
        _CHECKPOINTER.merge_bytes_max,
        1_000,
        16 * GIBIBYTE,
        "A segment of at least this size is not merged any more.",
    )
    checkpoint_instances: int = whole_field(
        _CHECKPOINTER.checkpoint_instances,
        1,
        1_000_000_000,
        "A checkpoint is due so many instances after the one before,",
    )
    checkpoint_bytes: int = bytes_field(
        _CHECKPOINTER.checkpoint_bytes, 1_000, 1_024 * GIBIBYTE, "or so many bytes of values,"
    )
    checkpoint_age_ms: float = milliseconds_field(
        _CHECKPOINTER.checkpoint_age_ns, "or when what was sealed after it is so old."
    )
    checkpoints_kept: int = whole_field(
        _CHECKPOINTER.checkpoints_kept,
        1,
        100,
        "The newest checkpoints that stay; were one damaged, the one before it and the log serve.",
    )
    checkpoint_retry_ms: float = milliseconds_field(
        _CHECKPOINTER.checkpoint_retry_ns,
        "So long after a checkpoint that failed, and after another member that does not answer.",
    )
    chunk_bytes: int = bytes_field(
        _CHECKPOINTER.chunk_bytes,
        1_000,
        64_000_000,
        "Of a checkpoint's file asked of another member at once.",
    )
    transfer_bytes_per_s: int = bytes_field(
        _CHECKPOINTER.transfer_bytes_per_s,
        10_000,
        16 * GIBIBYTE,
        "So fast others are given checkpoints and sealed instances, all of them together.",
    )
    scrub_bytes_per_s: int = bytes_field(
        _CHECKPOINTER.scrub_bytes_per_s,
        0,
        16 * GIBIBYTE,
        "So fast what lies on the disk is read and verified in the background; 0: not at all,",
    )
    scrub_interval_ms: float = milliseconds_field(
        _CHECKPOINTER.scrub_interval_ns, "and no file again before this is over."
    )

    def settings(self) -> CheckpointerSettings:
        """As the core takes them."""
        return CheckpointerSettings(**self.in_core_units())


class ControllerConfiguration(Section):
    """The controller, which replaces lost members and spreads the groups."""

    runs: bool = Field(
        _CONTROLLER.runs,
        description="Whether `start` makes the controller, one actor for the whole cluster.",
        json_schema_extra={"allowed": "true or false"},
    )
    interval_ms: float = milliseconds_field(
        _CONTROLLER.interval_ns, "Between two looks at the cluster.", low=10
    )
    replace_after_ms: float = milliseconds_field(
        _CONTROLLER.replace_after_ns,
        "A member that has not answered for so long is lost: others get its groups.",
    )
    missing_max: int = whole_field(
        _CONTROLLER.missing_max, 0, 100, "With more members missing nothing is replaced."
    )
    grows: bool = Field(
        _CONTROLLER.grows,
        description="Whether each Ray node that has no member gets one.",
        json_schema_extra={"allowed": "true or false"},
    )
    grows_on: str | None = Field(
        _CONTROLLER.grows_on,
        min_length=1,
        description="Only those nodes do that have this custom Ray resource.",
        json_schema_extra={"allowed": "the name of a custom Ray resource"},
    )
    spreads: bool = Field(
        _CONTROLLER.spreads,
        description="Whether groups are moved so that all members have equally many.",
        json_schema_extra={"allowed": "true or false"},
    )
    moves_max: int = whole_field(
        _CONTROLLER.moves_max, 1, 100, "So many groups change their members at once."
    )

    def settings(self) -> ControllerSettings:
        """As the core takes them."""
        return ControllerSettings(**self.in_core_units())
