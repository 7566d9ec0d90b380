"""Draws one seed's world; see `options` for why."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import TypeVar

from ray_paxos.core.settings import (
    MILLISECOND_NS,
    AcceptorSettings,
    CheckpointerSettings,
    LearnerSettings,
    ProposerSettings,
)
from ray_paxos.testing.options import (
    FAULT_KINDS,
    MICROSECOND_NS,
    ClientOptions,
    DiskOptions,
    NetworkOptions,
    Options,
)

T = TypeVar("T")

LOSSY_KINDS = (
    "Accept",
    "Accepted",
    "Promise",
    "Chosen",
    "Heartbeat",
    "HeartbeatConfirmed",
    "LearnReply",
    "LeaseRelease",
    "Submitted",
)
"""Losing much of one kind and nothing else leads to places that even loss does not."""


def draw_options(draw: random.Random, members: int, always: Collection[str] = ()) -> Options:
    """Draw the world of one seed.

    Args:
        draw: The seed's randomness.
        members: How many members.
        always: Kinds of faults that are played whatever is drawn.

    Returns:
        What every later step of the seed follows.
    """
    count = draw.randint(3, len(FAULT_KINDS))
    drawn = draw.sample(FAULT_KINDS, count)
    kinds = tuple(kind for kind in FAULT_KINDS if kind in drawn or kind in always)
    drift_ppm = draw.choice((0, 200, 10_000, 50_000))
    return Options(
        members=members,
        followers=draw.choice((0, 1)) if "changed members" in kinds else 0,
        joiners=draw.choice((0, 1)) if "changed members" in kinds else 0,
        groups=draw.choice((1, 1, 2, 3)),
        drift_ppm=drift_ppm,
        fault_kinds=kinds,
        fault_interval_ns=draw.choice((150, 300, 600)) * MILLISECOND_NS,
        fault_length_ns=draw.choice((200, 600, 1_500)) * MILLISECOND_NS,
        journal_bytes=draw.choice((4_000, 20_000, 100_000)),
        journal_files=draw.choice((2, 4)),
        learner_saves=draw.random() < 0.2,
        network=_draw_network(draw),
        disk=DiskOptions(
            sync_spread_ns=draw.choice((500, 4_000, 15_000)) * MICROSECOND_NS,
            writes_wait=draw.random() < 0.3,
        ),
        clients=ClientOptions(
            count=draw.randint(1, 5),
            pipeline_max=draw.choice((1, 4, 8)),
            batch_max=draw.choice((1, 3, 8)),
            think_ns=draw.choice((1, 3, 10)) * MILLISECOND_NS,
            timeout_ns=draw.choice((150, 400)) * MILLISECOND_NS,
        ),
        proposer=_draw_proposer(draw),
        acceptor=AcceptorSettings(
            promise_bytes_max=draw.choice((200, 2_000, 100_000)),
            # As little as is safe: a margin that is too small has to show.
            clock_drift_ppm=drift_ppm,
            hearsay_ns=draw.choice((0, 200)) * MILLISECOND_NS,
        ),
        learner=_draw_learner(draw),
        checkpointer=_draw_checkpointer(draw, is_damaged="damaged file" in kinds),
    )


def _often_zero(draw: random.Random, values: Sequence[T], zero: T) -> T:
    return zero if draw.random() < 0.4 else draw.choice(values)


def _draw_network(draw: random.Random) -> NetworkOptions:
    return NetworkOptions(
        loss=_often_zero(draw, (0.01, 0.05, 0.15), 0.0),
        duplication=_often_zero(draw, (0.01, 0.05, 0.2), 0.0),
        delay_spread_ns=draw.choice((500, 2_000, 10_000, 30_000)) * MICROSECOND_NS,
        straggling=_often_zero(draw, (0.01, 0.05, 0.1), 0.0),
        straggle_max_ns=draw.choice((20, 200, 2_000)) * MILLISECOND_NS,
        local_straggling=_often_zero(draw, (0.01, 0.05), 0.0),
        local_straggle_max_ns=draw.choice((5, 50, 300)) * MILLISECOND_NS,
        local_duplication=_often_zero(draw, (0.01, 0.05), 0.0),
        lossy_kind=_often_zero(draw, LOSSY_KINDS, ""),
        lossy_rate=draw.choice((0.1, 0.3, 0.5)),
    )


def _draw_proposer(draw: random.Random) -> ProposerSettings:
    return ProposerSettings(
        election_timeout_ns=draw.choice((200, 400)) * MILLISECOND_NS,
        lease_ns=draw.choice((0, 160, 400, 800)) * MILLISECOND_NS,
        heartbeat_interval_ns=draw.choice((40, 80)) * MILLISECOND_NS,
        retransmit_ns=draw.choice((30, 100)) * MILLISECOND_NS,
        window_max=draw.choice((1, 4, 10, 10)),
        batch_bytes_max=draw.choice((100, 400, 4_000)),
        command_bytes_max=2_000,
        intake_bytes_max=draw.choice((2_000, 50_000)),
        intake_requests_max=draw.choice((6, 64)),
        chosen_delay_ns=draw.choice((0, 1, 8)) * MILLISECOND_NS,
        retained_bytes_max=draw.choice((3_000, 100_000)),
        learner_gap_ns=draw.choice((300, 800)) * MILLISECOND_NS,
        disk_stall_ns=draw.choice((300, 1_000)) * MILLISECOND_NS,
        transfer_timeout_ns=draw.choice((100, 400)) * MILLISECOND_NS,
        reads_max=draw.choice((1, 3, 100)),
    )


def _draw_learner(draw: random.Random) -> LearnerSettings:
    return LearnerSettings(
        seal_bytes=draw.choice((300, 1_500, 8_000)),
        seal_age_ns=draw.choice((60, 200, 600)) * MILLISECOND_NS,
        memory_bytes=draw.choice((0, 1_000, 20_000)),
        pending_bytes_max=draw.choice((500, 10_000)),
        catch_up_bytes_max=draw.choice((300, 3_000)),
        catch_up_retry_ns=draw.choice((40, 150)) * MILLISECOND_NS,
        unsealed_bytes_max=draw.choice((4_000, 1_000_000)),
        catch_up_bytes_per_s=draw.choice((50_000, 1_000_000)),
        hold_count=draw.choice((0, 10, 100, 10_000)),
        log_bytes_max=draw.choice((1_000, 1_000_000)),
    )


def _draw_checkpointer(draw: random.Random, *, is_damaged: bool) -> CheckpointerSettings:
    return CheckpointerSettings(
        merge_count=draw.choice((2, 4)),
        merge_bytes_max=draw.choice((2_000, 50_000)),
        checkpoint_instances=draw.choice((5, 30, 100, 10_000)),
        checkpoint_bytes=draw.choice((1_000, 20_000, 1_000_000)),
        checkpoint_age_ns=draw.choice((200, 2_000)) * MILLISECOND_NS,
        checkpoints_kept=draw.choice((1, 2)),
        checkpoint_retry_ns=draw.choice((100, 500)) * MILLISECOND_NS,
        chunk_bytes=draw.choice((200, 5_000)),
        transfer_bytes_per_s=draw.choice((50_000, 1_000_000)),
        # What nobody looks at is mended by nobody.
        scrub_bytes_per_s=draw.choice((20_000 if is_damaged else 0, 20_000, 1_000_000)),
        scrub_interval_ns=0,
    )
