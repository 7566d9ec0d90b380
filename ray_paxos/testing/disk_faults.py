"""Faults of disks: syncs that fail or take long, no room, and bytes that turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ray_paxos.core.messages import RoleName
from ray_paxos.testing.cluster import SimulatedCluster, SimulatedMember
from ray_paxos.testing.damage import held_files
from ray_paxos.testing.process import SimulatedProcess
from ray_paxos.testing.trace import name_member

ROLE_FOLDERS = ("acceptor", "learner", "checkpointer")
SEGMENT_SHARE = 0.6
"""Of the files that are damaged; the others are parts of checkpoints."""
KILLED_SHARE = 0.4
"""Of the times that a file is damaged: whoever reads it is killed, and finds it when it opens."""


class DiskFaults:
    """Plays faults on the members' disks."""

    def __init__(
        self, cluster: SimulatedCluster, later: Callable[[Callable[[], None]], None]
    ) -> None:
        """Play nothing yet.

        Args:
            cluster: Whose disks.
            later: Does something once a fault has lasted long enough.
        """
        self._cluster = cluster
        self._world = cluster.world
        self._draw = cluster.world.random
        self._later = later
        # The disks of a minority may rot: of everything there is one whole copy elsewhere.
        members = list(cluster.members)
        self._rotting = self._draw.sample(members, (len(members) - 1) // 2)

    def fail_fsync(self) -> None:
        """The next sync of some role fails, once."""
        folder = ROLE_FOLDERS[self._draw.randrange(len(ROLE_FOLDERS))]
        self._some_member().disk.fail_next_sync(folder)

    def slow_disk(self) -> None:
        """All syncs of a member take long, for a while."""
        processes = list(self._some_member().processes.values())
        for process in processes:
            process.faults.sync_factor = self._world.options.disk.slow_factor
        self._later(partial(self._quicken, processes))

    def _quicken(self, processes: list[SimulatedProcess]) -> None:
        for process in processes:
            process.faults.sync_factor = 1

    def fill_disk(self) -> None:
        """A member's disk has hardly any room, for a while."""
        member = self._some_member()
        member.disk.set_capacity(member.disk.used_bytes + self._draw.randrange(2_000))
        self._later(partial(member.disk.set_capacity, None))

    def damage_file(self) -> SimulatedProcess | None:
        """A byte of a segment or of a checkpoint turns, or its end is gone: at rest, or not.

        Returns:
            A process to be killed with it; None for none.
        """
        member_id = self._rotting[self._draw.randrange(len(self._rotting))]
        member, damage = self._cluster.members[member_id], self._world.checker.damage[member_id]
        group = self._draw.randrange(self._world.options.groups)
        files = list(held_files(member.disk, group))
        voters = self._world.checker.ledgers[group].configurations.current.voters
        rotting = [voter for voter in voters if voter.member_id in self._rotting]
        if not files or 2 * len(rotting) >= len(voters):
            # By now a majority of those that vote rots.
            return None
        is_segment = self._draw.random() < SEGMENT_SHARE
        kind = [file for file in files if bool(file.first) == is_segment] or files
        what = damage.spoil(group, kind[self._draw.randrange(len(kind))], self._draw)
        self._world.say(f"{name_member(member_id)}: {what}")
        if self._draw.random() >= KILLED_SHARE:
            return None
        role = RoleName.LEARNER if self._draw.random() < SEGMENT_SHARE else RoleName.CHECKPOINTER
        return member.processes[role]

    def _some_member(self) -> SimulatedMember:
        members = list(self._cluster.members.values())
        return members[self._draw.randrange(len(members))]
