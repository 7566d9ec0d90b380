"""Opens a simulated process's folder: the very opening code that actors run, on its disk."""

from __future__ import annotations

from ray_paxos.core.messages import Address, RoleName
from ray_paxos.storage.journal import JournalSettings
from ray_paxos.storage.opening import (
    OpenedRole,
    open_acceptor,
    open_checkpointer,
    open_learner,
    open_proposer,
)
from ray_paxos.storage.parts import Introduce
from ray_paxos.testing.codec import PlainCodec, PlainTables
from ray_paxos.testing.disk import SimulatedDisk
from ray_paxos.testing.world import World

BLOCK_BYTES = 2_000


def open_process(
    world: World, address: Address, disk: SimulatedDisk, introduce: Introduce, now_ns: int
) -> OpenedRole:
    """Open the folder of one role.

    Args:
        world: What the run shares.
        address: Which role of which member.
        disk: The process's view of its member's disk.
        introduce: Told which members outside the genesis the process's member has met.
        now_ns: The process's clock.

    Raises:
        StorageError: As the opening code says; nothing is held then.
    """
    options, genesis, member_id = world.options, world.genesis, address.member_id
    codec = PlainCodec(BLOCK_BYTES)
    match address.role:
        case RoleName.PROPOSER:
            return open_proposer(
                disk,
                genesis,
                member_id,
                settings=options.proposer,
                random=world.random,
                now_ns=now_ns,
                introduce=introduce,
            )
        case RoleName.ACCEPTOR:
            journal = JournalSettings(
                file_bytes=options.journal_bytes,
                chunk_bytes=options.journal_bytes // 4,
                files_max=options.journal_files,
            )
            return open_acceptor(
                disk,
                genesis,
                member_id,
                settings=options.acceptor,
                clock=lambda: now_ns,
                journal_settings=journal,
            )
        case RoleName.LEARNER:
            return open_learner(
                disk,
                genesis,
                member_id,
                settings=options.learner,
                codec=codec,
                tables=PlainTables(),
                registry=world.registry,
                random=world.random,
                now_ns=now_ns,
                introduce=introduce,
            )
        case RoleName.CHECKPOINTER:
            return open_checkpointer(
                disk,
                genesis,
                member_id,
                settings=options.checkpointer,
                codec=codec,
                tables=PlainTables(),
                registry=world.registry,
                now_ns=now_ns,
                introduce=introduce,
            )
        case _:
            raise ValueError(f"{address} has no folder")
