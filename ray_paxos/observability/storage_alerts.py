"""Alerts about what members hold: results and checksums, files, checkpoints, and disks."""

from __future__ import annotations

from ray_paxos.observability import catalogue
from ray_paxos.observability.alerting import CRITICAL, WARNING, Alert, AlertLimits, rose

HISTORY_MINUTES = 30
"""From less of it nobody can tell when a disk will be full."""

# What is decided, and what it comes to.


def about_state(limits: AlertLimits) -> tuple[Alert, ...]:
    """Whether members hold, and make of it, the same."""
    window = limits.count_window_s
    differed = catalogue.CHAINS_DIFFERED.exported_name
    broken = f'{catalogue.EVENTS.exported_name}{{event="InvariantBroken"}}'
    of_member = "cluster, member, group"
    return (
        Alert(
            "PaxosApplyingStopped",
            f"max by ({of_member}) ({catalogue.APPLYING_STOPPED.exported_name}) > 0",
            0,
            CRITICAL,
            "{{ $labels.member }} applies nothing more in group {{ $labels.group }} of "
            "{{ $labels.cluster }}",
            "A state machine failed there, or gave other results than at other members, which is "
            "a machine that is not deterministic or not of the same code everywhere. The member "
            "goes on voting and learning, and answers no reads there. `ray-paxos status "
            "{{ $labels.cluster }}` says which instance; mend the machine's code on all members, "
            "and start the member again.",
        ),
        Alert(
            "PaxosChecksumsDiffer",
            rose(differed, of_member, window),
            0,
            CRITICAL,
            "Checksums of group {{ $labels.group }} differ at {{ $labels.member }} of "
            "{{ $labels.cluster }}",
            "What {{ $labels.member }} has, or was given, is not what another member has for the "
            "same instance. Do not trust reads of that member until it is clear why: keep its "
            "folder and those of the others, compare them by `ray-paxos log verify` and "
            "jobs/verify_log.py, and look for a machine that is not deterministic.",
        ),
        Alert(
            "PaxosInvariantBroken",
            rose(broken, "cluster, member", window),
            0,
            CRITICAL,
            "{{ $labels.member }} of {{ $labels.cluster }} saw what the protocol excludes",
            "A group stopped there for safety. This is a bug, a changed disk, or two copies of one "
            "member: make sure that no folder was copied and started twice, keep all folders and "
            "logs, and report it. The event InvariantBroken in the role's log says what.",
        ),
        Alert(
            "PaxosDamageFound",
            rose(catalogue.DAMAGED.exported_name, of_member, window),
            0,
            WARNING,
            "Damaged files of group {{ $labels.group }} at {{ $labels.member }} of "
            "{{ $labels.cluster }}",
            "Files on the disk of {{ $labels.member }} are not what was written. They are set "
            "aside, and what they held is fetched from other members by itself. Disks that change "
            "bytes go on doing so: check this one, and replace the member if it comes again.",
        ),
        Alert(
            "PaxosCheckpointsFail",
            f"sum by ({of_member}) "
            f"(increase({catalogue.CHECKPOINTS_FAILED.exported_name}[{window}s])) > 2",
            0,
            WARNING,
            "Checkpoints of group {{ $labels.group }} fail at {{ $labels.member }} of "
            "{{ $labels.cluster }}",
            "Until one comes about the log there grows, and a restart takes longer. The events "
            "CheckpointFailed in the checkpointer's log say why: mostly a full disk, or a machine "
            "whose state cannot be saved.",
        ),
    )


# Disks.


def about_disks(limits: AlertLimits) -> tuple[Alert, ...]:
    """Whether they have room, and are fast enough."""
    free = catalogue.DISK_FREE_BYTES.exported_name
    full = catalogue.DISK_FULL.exported_name
    fsyncs = f"rate({catalogue.FSYNC_SECONDS.exported_name}_bucket[{limits.fsync_window_s}s])"
    of_member = "cluster, member"
    last_hour = f"(min by ({of_member}) ({free}))[1h:1m]"
    return (
        Alert(
            "PaxosDiskFull",
            f"max by ({of_member}, role) ({full}) > 0",
            0,
            CRITICAL,
            "The disk of {{ $labels.member }} of {{ $labels.cluster }} is full",
            "The {{ $labels.role }} of {{ $labels.member }} cannot write for want of room. It "
            "goes on by itself once there is some: delete what is not of the cluster, or enlarge "
            "the disk. Never delete files of the member itself; its log shrinks with its "
            "checkpoints.",
        ),
        Alert(
            "PaxosDiskNearlyFull",
            f"min by ({of_member}) ({free}) < {limits.disk_free_bytes}\n"
            f"or predict_linear({last_hour}, {limits.disk_full_within_s}) < 0\n"
            f"and count_over_time({last_hour}) > {HISTORY_MINUTES}",
            60,
            WARNING,
            "The disk of {{ $labels.member }} of {{ $labels.cluster }} is nearly full",
            "There is little room left, or there will be none soon if it goes on as in the last "
            "hour. Make room, or enlarge the disk, before the member stops voting. What the log "
            "takes is bounded by learner.hold_count and learner.log_bytes_max.",
        ),
        Alert(
            "PaxosSlowFsync",
            f"histogram_quantile(0.99, sum by ({of_member}, le) ({fsyncs})) > {limits.fsync_s:g}",
            300,
            WARNING,
            "The disk of {{ $labels.member }} of {{ $labels.cluster }} is slow",
            "One append in a hundred takes {{ $value | humanizeDuration }} or longer to become "
            "durable. Commands wait for the fastest majority: one slow member is not felt until "
            "another one is lost, or it is the master. See what else writes to that disk; before "
            "it is changed, `ray-paxos members drain {{ $labels.cluster }} {{ $labels.member }}`.",
        ),
    )
