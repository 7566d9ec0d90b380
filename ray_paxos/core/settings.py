"""Limits and times of the roles, in the units the core works in.

`ray_paxos.config` reads them from YAML, in milliseconds; the simulator makes its own.
"""

from __future__ import annotations

from dataclasses import dataclass

MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class ProposerSettings:
    """Of one group's proposer.

    Large batches are worth it: with 800,000 bytes instead of 90,000 one group took 140,000
    commands/s instead of 96,000 (fused, 5,000 one by one in flight, two cores), and 276,000 instead
    of 187,000 in batches of 5,000. With 100 in flight it made no difference, as no batch waits to
    be filled.

    Attributes:
        election_timeout_ns: Without a word of a confirmed master for this long (and up to as long
            again, at random), a proposer stands. A master that no quorum confirms for this long
            steps down.
        lease_ns: For how long, from when it asked, a confirmed master believes that nobody else
            can lead; 0: no leases.
        heartbeat_interval_ns: Between two rounds of heartbeats of a master.
        retransmit_ns: After how long an unanswered prepare or accept is sent again.
        window_max: Open instances at most.
        batch_bytes_max: A value holds commands up to this many bytes (at least one request), and no
            more than a call carries.
        command_bytes_max: A longer command is refused.
        intake_bytes_max: Bytes of requests waiting or open at most; more is refused, overloaded.
        intake_requests_max: Requests waiting or open at most.
        chosen_delay_ns: How long a chosen value may wait for company before it goes to followers.
        retained_bytes_max: Chosen values that the own learner has not yet reported durable: above
            this nothing new is proposed.
        learner_gap_ns: A learner that misses what nobody gave it for this long makes the master
            prepare again from there.
        disk_stall_ns: A master whose own acceptor confirms nothing for this long, or whose own
            learner takes in nothing of what is chosen, steps down.
        transfer_timeout_ns: A master that has not handed over by then goes on.
        reads_max: Reads that wait for a round at most; more are refused, overloaded.
        preferred_delay_ns: So much later stands a proposer of less than the highest priority.
        preferred_settled_ns: A voter of higher priority that keeps up for so long is given the
            lead.
    """

    election_timeout_ns: int = 1_000 * MILLISECOND_NS
    lease_ns: int = 2_000 * MILLISECOND_NS
    heartbeat_interval_ns: int = 200 * MILLISECOND_NS
    retransmit_ns: int = 500 * MILLISECOND_NS
    window_max: int = 8
    batch_bytes_max: int = 800_000
    command_bytes_max: int = 1_000_000
    intake_bytes_max: int = 64_000_000
    intake_requests_max: int = 4_096
    chosen_delay_ns: int = 5 * MILLISECOND_NS
    retained_bytes_max: int = 256_000_000
    learner_gap_ns: int = 2_000 * MILLISECOND_NS
    disk_stall_ns: int = 5_000 * MILLISECOND_NS
    transfer_timeout_ns: int = 1_000 * MILLISECOND_NS
    reads_max: int = 4_096
    preferred_delay_ns: int = 500 * MILLISECOND_NS
    preferred_settled_ns: int = 5_000 * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class AcceptorSettings:
    """Of one member's acceptor.

    Attributes:
        promise_bytes_max: Values in one page of a promise (at least one vote).
        clock_drift_ppm: By how much any clock may be fast or slow, in parts in a million; a lease
            is kept so much longer than it is believed in.
        hearsay_ns: So long after a heartbeat of a confirmed master nobody else gets a pre-vote.
    """

    promise_bytes_max: int = 4_000_000
    clock_drift_ppm: int = 10_000
    hearsay_ns: int = 1_000 * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """Of one group's learner.

    Attributes:
        seal_bytes: Unsealed values are sealed into a segment at this many bytes,
        seal_age_ns: or when the oldest of them is this old.
        memory_bytes: Sealed values kept in memory for members a little behind.
        pending_bytes_max: Values held above a gap; more is dropped, to be asked for again.
        unsealed_bytes_max: What is learned and not sealed yet, with its results; above this, as
            with a full disk, nothing more is taken in.
        catch_up_bytes_max: Asked of another member at once.
        catch_up_retry_ns: After how long without an answer another member is asked.
        catch_up_bytes_per_s: So fast others are given what they miss, all of them together.
        hold_count: So many of the newest instances stay in the log, for members a little behind,
        log_bytes_max: unless the log is larger than this (of values). What no checkpoint covers
            stays in any case.
    """

    seal_bytes: int = 4_000_000
    seal_age_ns: int = 1_000 * MILLISECOND_NS
    memory_bytes: int = 16_000_000
    pending_bytes_max: int = 64_000_000
    unsealed_bytes_max: int = 128_000_000
    catch_up_bytes_max: int = 2_000_000
    catch_up_retry_ns: int = 300 * MILLISECOND_NS
    catch_up_bytes_per_s: int = 20_000_000
    hold_count: int = 100_000
    log_bytes_max: int = 2_000_000_000


@dataclass(frozen=True, slots=True)
class CheckpointerSettings:
    """Of one group's checkpointer.

    Attributes:
        merge_count: So many adjoining small segments are merged into one.
        merge_bytes_max: No merged segment gets larger than this.
        checkpoint_instances: A checkpoint is due so many instances after the one before,
        checkpoint_bytes: or so many bytes of values,
        checkpoint_age_ns: or when what was sealed after it is so old.
        checkpoints_kept: The newest ones stay; one of them may be found damaged.
        checkpoint_retry_ns: After a checkpoint that could not be made, and after a fetch that
            got no answer.
        chunk_bytes: Of a checkpoint's file asked of another member at once.
        transfer_bytes_per_s: So fast others are given checkpoints and sealed instances.
        scrub_bytes_per_s: So fast what lies on the disk is read and verified; 0: not at all,
        scrub_interval_ns: and no file again before this is over.
    """

    merge_count: int = 8
    merge_bytes_max: int = 64_000_000
    checkpoint_instances: int = 50_000
    checkpoint_bytes: int = 256_000_000
    checkpoint_age_ns: int = 3_600_000 * MILLISECOND_NS
    checkpoints_kept: int = 2
    checkpoint_retry_ns: int = 5_000 * MILLISECOND_NS
    chunk_bytes: int = 1_000_000
    transfer_bytes_per_s: int = 20_000_000
    scrub_bytes_per_s: int = 2_000_000
    scrub_interval_ns: int = 600_000 * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Of the controller, which brings a cluster to what group 0 wants.

    Attributes:
        runs: Whether `start` makes it.
        interval_ns: Between two looks at the cluster. A look at three members with one group each
            takes some milliseconds of a core in all processes together.
        replace_after_ns: A member that has not answered for so long is lost: others get its groups.
        missing_max: With more members missing nothing is replaced.
        grows: Whether each Ray node that has no member gets one.
        grows_on: The custom resource of the nodes that do; None for all.
        spreads: Whether groups are moved so that all members have equally many.
        moves_max: So many groups change their members at once.
    """

    runs: bool = False
    interval_ns: int = 1_000 * MILLISECOND_NS
    replace_after_ns: int = 60_000 * MILLISECOND_NS
    missing_max: int = 1
    grows: bool = False
    grows_on: str | None = None
    spreads: bool = True
    moves_max: int = 8
