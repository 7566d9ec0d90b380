"""Making checkpoints: a second copy of a group's machines, fed from sealed segments.

```
 newest checkpoint ── load ─▶ machines ◀── apply ── segments after it, verified as they are read
                                 │ through the instance asked for
                                 └── save ─▶ the next checkpoint
```

The copy goes on from where it was; only a new process, or one whose log was cleaned beyond the
copy, loads a checkpoint first. Every result is compared with the chain that the learner sealed: a
machine that is not deterministic shows here, and no checkpoint of it is ever published (R12).
"""

from __future__ import annotations

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.results import encode_results
from ray_paxos.core.tasks import CheckpointMade, SavedByLearner
from ray_paxos.core.values import EMPTY_CHAIN, decode_value, extend_chain
from ray_paxos.errors import ApplyStoppedError, CheckpointError, DamageError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoints import newest_whole
from ray_paxos.storage.segments import SegmentPlace, SegmentReader


class CheckpointMaker:
    """Makes the checkpoints of one group; used by one thread.

    Invariants: the copy has applied exactly the instances through `host.applied_through`, and its
    results had the chain that the learner sealed.
    """

    def __init__(
        self,
        place: SegmentPlace,
        folder: CheckpointFolder,
        registry: MachineRegistry,
        configuration: Configuration,
    ) -> None:
        """Hold no copy yet.

        Args:
            place: Where the learner's segments lie.
            folder: Takes the checkpoints.
            registry: Which machines can be mounted.
            configuration: Of the group at its genesis.
        """
        self._reader = SegmentReader(place)
        self._folder = folder
        self._registry = registry
        self._group = place.group
        self._configuration = configuration
        self._host: MachineHost | None = None
        self._is_saved_by_learner = False
        self._result_chain = EMPTY_CHAIN
        self._ballot: Ballot | None = None

    def make(self, through: int) -> CheckpointMade | SavedByLearner:
        """Make the checkpoint as of an instance that is sealed.

        Returns:
            What was made; or that no copy may be held of one of the machines.

        Raises:
            CheckpointError: Results differ from what was sealed, or a machine cannot be saved.
            DamageError: What is needed of the log or of the checkpoints is damaged.
            StorageFullError: No room.
            StorageError: The disk refuses.
        """
        if self._is_saved_by_learner:
            return SavedByLearner()
        self._reader.refresh()
        host = self._host
        is_beyond = host is not None and host.applied_through > through
        if host is None or is_beyond or host.applied_through + 1 < self._reader.floor:
            self._host = None
            host = self._load(through)
        try:
            last = self._apply(host, through)
        except (ApplyStoppedError, CheckpointError, DamageError):
            # The copy may be half changed: the next try begins with another.
            self._host = None
            raise
        finally:
            self._reader.forget_content()
        if last is None:
            self._host = None
            self._is_saved_by_learner = True
            return SavedByLearner()
        self._host = host
        assert self._ballot is not None, "something was read"
        cut = Cut(
            last.chosen.instance_id,
            last.chain,
            self._result_chain,
            self._ballot,
            host.configuration,
        )
        return CheckpointMade(cut, self._folder.save(host, cut).byte_count)

    def _load(self, through: int) -> MachineHost:
        """The newest whole checkpoint's machines, or new ones before the first instance."""
        newest = newest_whole(self._folder.place, self._registry, at_most=through)
        if newest.checkpoint is not None:
            self._result_chain = newest.checkpoint.cut.result_chain
            self._ballot = newest.checkpoint.cut.ballot
            return newest.checkpoint.host
        if self._reader.floor > 1:
            problems = "; ".join(newest.problems) or "there is none"
            raise DamageError(
                f"no checkpoint covers what lies below instance {self._reader.floor} of group "
                f"{self._group}: {problems}"
            )
        self._result_chain, self._ballot = EMPTY_CHAIN, None
        return MachineHost(self._registry, group=self._group, configuration=self._configuration)

    def _apply(self, host: MachineHost, through: int) -> SealedInstance | None:
        """Apply what is sealed through an instance.

        Returns:
            The last one; None where a machine is mounted of which no copy may be held.
        """
        last: SealedInstance | None = None
        first = host.applied_through + 1
        # At least the last one is read: its chain and ballot are the checkpoint's.
        for instance in self._reader.instances(min(first, through), through):
            if host.is_saved_by_learner:
                return None
            last = instance
            if self._ballot is None or instance.chosen.ballot > self._ballot:
                self._ballot = instance.chosen.ballot
            if instance.chosen.instance_id >= first:
                self._apply_one(host, instance)
        if last is None or last.chosen.instance_id != through:
            raise DamageError(f"instance {through} of group {self._group} is in no segment")
        if last.result_chain is None:
            raise CheckpointError(
                f"applying had stopped before instance {through} of group {self._group} was sealed"
            )
        return last

    def _apply_one(self, host: MachineHost, instance: SealedInstance) -> None:
        instance_id = instance.chosen.instance_id
        try:
            value = decode_value(instance.chosen.value)
        except msgspec.DecodeError as error:
            what = f"instance {instance_id} of group {self._group}"
            raise CheckpointError(f"{what} is nothing that can be applied: {error}") from error
        results = host.apply(instance_id, value)
        self._result_chain = extend_chain(self._result_chain, encode_results(results))
        if instance.result_chain not in (None, self._result_chain):
            raise CheckpointError(
                f"instance {instance_id} of group {self._group} has another result here than the "
                "learner had: a machine is not deterministic, or its code has changed"
            )
