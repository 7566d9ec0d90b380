"""How much of its disk a member takes at most, by its configuration.

```
 learner/log          what no checkpoint covers yet, or what is held for others, whichever is more
 checkpointer         the checkpoints that stay, one in the making or arriving; a merge
 acceptor/journal     votes that are not durable at a majority yet, and files that wait to be full
```

It holds as long as checkpoints can be made (`status` tells where they cannot) and as fast as
commands arrive. It leaves out what a person is to look at: damaged files that were set aside.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.config.cluster import ClusterConfiguration
from ray_paxos.storage.journal import JournalSettings

INSTANCE_BYTES = 250
"""What a segment takes for an instance beyond its value, which is compressed: chains, columns."""


@dataclass(frozen=True)
class DiskBound:
    """Bytes of one member's folder at most, by what takes them.

    Attributes:
        log: Sealed segments of all groups.
        merging: Merged segments in the making.
        checkpoints: Those of all groups, with one in the making, and one arriving or being dropped.
        journal: The acceptor's, of all groups.
    """

    log: int
    merging: int
    checkpoints: int
    journal: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.log + self.merging + self.checkpoints + self.journal


def disk_bound(configuration: ClusterConfiguration, state_bytes: int) -> DiskBound:
    """The bound on one member's folder.

    Args:
        configuration: Of the cluster.
        state_bytes: Of one checkpoint of a group, at most: its size is the machines' own matter.
    """
    proposer, learner = configuration.proposer, configuration.learner
    checkpointer, journal = configuration.checkpointer, JournalSettings()
    groups = len(configuration.groups) + 1
    value = max(proposer.batch_bytes_max, proposer.command_bytes_max)
    seal = 2 * learner.seal_bytes
    # The oldest checkpoint that stays is so many behind; one more is being made.
    spans = checkpointer.checkpoints_kept + 1
    span = min(checkpointer.checkpoint_bytes, checkpointer.checkpoint_instances * value) + seal
    held = min(learner.hold_count * value, learner.log_bytes_max)
    instances = max(learner.hold_count, spans * checkpointer.checkpoint_instances)
    # Whole segments go only, so that one more than what is needed may be there.
    log = max(held, spans * span) + checkpointer.merge_bytes_max + seal
    return DiskBound(
        log=groups * (log + instances * INSTANCE_BYTES),
        merging=groups * (checkpointer.merge_bytes_max + seal),
        checkpoints=groups * (spans + 1) * state_bytes,
        journal=(journal.files_max + 1) * (journal.file_bytes + value)
        + groups * proposer.retained_bytes_max,
    )
