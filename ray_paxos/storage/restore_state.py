"""Builds a group's state from what is left of it: a checkpoint, segments, and last votes.

Every file is verified before anything of it is used, and the chain over the values runs from the
checkpoint to the end, whichever members' files it goes through. The results are compared, too
(`state_rebuilding`). A file that is damaged is named, and another way is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, Genesis, GroupSpec
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.messages import Vote
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.values import EMPTY_CHAIN, Value, encode_value, extend_chain, value_hash
from ray_paxos.errors import DamageError
from ray_paxos.machines.host import NOBODY, MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.archive_layout import Range, runs_of
from ray_paxos.storage.restore_plan import (
    IncompleteError,
    LogFile,
    RestorePlan,
    SavedState,
    plan_restore,
)
from ray_paxos.storage.restore_sources import Source
from ray_paxos.storage.segment_format import SegmentCodec, read_instances
from ray_paxos.storage.state_rebuilding import rebuild

NO_BALLOT = Ballot(0, 0, 0)


@dataclass(frozen=True, slots=True)
class RestoredState:
    """What a group's state, whose host is beside it, was built from.

    Attributes:
        through: The instance after which it is.
        chain: Over the values.
        result_chain: Over the results.
        ballot: The highest seen on the way.
        base: The instance of the checkpoint that it was built on; 0 for none.
        configuration: In force after it.
        damaged: What could not be used, for a person.
        unconfirmed: Of how many instances the log does not tell the results.
        voted: How many instances after the log were taken from votes.
        filled: Instances after the log of which there was no vote, so that no-ops stand there.
    """

    through: int
    chain: bytes
    result_chain: bytes
    ballot: Ballot
    base: int
    configuration: Configuration = NOBODY
    damaged: tuple[str, ...] = ()
    unconfirmed: int = 0
    voted: int = 0
    filled: tuple[Range, ...] = ()


class StateRestorer:
    """Builds the state of one group from one source."""

    def __init__(
        self,
        source: Source,
        codec: SegmentCodec,
        registry: MachineRegistry,
        *,
        genesis: Genesis,
        spec: GroupSpec,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Read nothing yet.

        Args:
            source: Where the past is.
            codec: The format of its segments.
            registry: The classes of its machines.
            genesis: Of the old cluster.
            spec: What the group began with.
            progress: Told what is being read, for a person.
        """
        self._source = source
        self._codec = codec
        self._registry = registry
        self._genesis = genesis.hash()
        self._configuration = spec.configuration
        self._group = spec.group
        self._progress = progress
        self._bad: dict[LogFile | SavedState, str] = {}

    def restore(self, at: int | None) -> tuple[MachineHost, RestoredState]:
        """The state as of an instance.

        Args:
            at: Which; None for the newest to which whole files lead.

        Raises:
            IncompleteError: Something is missing or damaged that nothing replaces; names it.
            RebuildingError: The machines do not give the results that they gave.
            CheckpointError: A machine cannot be loaded, or is not registered.
            StorageError: The source refuses.
        """
        segments, saved = self._source.segments, self._source.saved
        while True:
            try:
                plan = plan_restore(
                    [file for file in segments if file not in self._bad],
                    [state for state in saved if state not in self._bad],
                    at=at,
                )
            except IncompleteError as error:
                self._name_damaged(
                    file for file in segments if file not in self._bad and file.first <= (at or 0)
                )
                damaged = "".join(f"; {problem}" for problem in self._bad.values())
                raise IncompleteError(f"group {self._group}: {error}{damaged}") from error
            bad_before = len(self._bad)
            restored = self._follow(plan)
            if restored is not None:
                return restored
            assert len(self._bad) > bad_before, "each try rules a file out, or succeeds"

    def _follow(self, plan: RestorePlan) -> tuple[MachineHost, RestoredState] | None:
        """Build as planned; None where files are damaged, all of which are noted."""
        host, chain, result_chain = (
            MachineHost(self._registry, group=self._group, configuration=self._configuration),
            EMPTY_CHAIN,
            EMPTY_CHAIN,
        )
        ballot = NO_BALLOT
        if plan.base is not None:
            self._progress(f"group {self._group}: checkpoint {self._source.where(plan.base)}")
            try:
                loaded = self._source.load(plan.base, self._registry)
            except DamageError as error:
                self._bad[plan.base] = str(error)
                self._name_damaged(plan.segments)
                return None
            host, cut = loaded.host, loaded.cut
            chain, result_chain, ballot = cut.chain, cut.result_chain, cut.ballot
        base = host.applied_through
        unconfirmed = 0
        for index, file in enumerate(plan.segments):
            self._progress(f"group {self._group}: {self._source.where(file)}")
            try:
                instances = list(self._read(file, host.applied_through, chain, plan.through))
            except DamageError as error:
                self._bad[file] = str(error)
                self._name_damaged(plan.segments[index + 1 :])
                return None
            last = instances[-1].chosen.instance_id
            state = rebuild(instances, host, through=last, chain=chain, result_chain=result_chain)
            chain, result_chain = state.chain, state.result_chain
            unconfirmed += state.unconfirmed
            ballot = max(ballot, *(instance.chosen.ballot for instance in instances))
        assert host.applied_through == plan.through, "the plan leads there"
        damaged = tuple(self._bad.values())
        through = host.applied_through
        return host, RestoredState(
            through, chain, result_chain, ballot, base, host.configuration, damaged, unconfirmed
        )

    def _read(
        self, file: LogFile, applied: int, chain: bytes, through: int
    ) -> Iterator[SealedInstance]:
        """The instances of a segment that come next, compared with the chain so far."""
        where = self._source.where(file)
        for instance in self._open(file, applied + 1):
            if instance.chosen.instance_id > through:
                return
            chain = extend_chain(chain, value_hash(instance.chosen.value))
            if instance.chain != chain:
                number = instance.chosen.instance_id
                raise DamageError(f"{where}: instance {number} does not go on from the one before")
            yield instance

    def _open(self, file: LogFile, first: int) -> Iterator[SealedInstance]:
        """The instances of a segment from one on; raises before the first where it is damaged."""
        where = self._source.where(file)
        content = self._codec.open(self._source.read(file), where)
        header = content.header
        if header.genesis != self._genesis:
            raise DamageError(f"{where} is a segment of another cluster")
        if header.group != self._group:
            raise DamageError(f"{where} is a segment of group {header.group}")
        if (header.first, header.last) != (file.first, file.last):
            raise DamageError(f"{where} holds instances {header.first} to {header.last}")
        return read_instances(content, first, where)

    def _name_damaged(self, files: Iterable[LogFile]) -> None:
        """Look at files that would be used, too, so that all that is damaged is said at once."""
        for file in list(files):
            try:
                for _ in self._open(file, file.first):
                    pass
            except DamageError as error:
                self._bad[file] = str(error)


def go_on_with_votes(
    host: MachineHost, restored: RestoredState, votes: Mapping[int, Vote]
) -> RestoredState:
    """Take what acceptors voted for after the end of the log, as a new master would.

    Args:
        host: Of the state as of the log's end; is changed.
        restored: That state.
        votes: The one of the highest ballot, by instance.

    Raises:
        RebuildingError: A value cannot be applied.
    """
    first = restored.through + 1
    last = max([restored.through, *votes])
    chain, result_chain, ballot = restored.chain, restored.result_chain, restored.ballot
    missing: list[int] = []
    for instance_id in range(first, last + 1):
        vote = votes.get(instance_id)
        if vote is None:
            missing.append(instance_id)
            vote = Vote(instance_id, ballot, encode_value(Value(host.log_time_ns, ())))
        ballot = max(ballot, vote.ballot)
        chosen = ChosenValue(instance_id, vote.ballot, vote.value)
        chain = extend_chain(chain, value_hash(vote.value))
        instance = SealedInstance(chosen, chain, None)
        state = rebuild((instance,), host, through=instance_id, result_chain=result_chain)
        result_chain = state.result_chain
    return replace(
        restored,
        through=last,
        chain=chain,
        result_chain=result_chain,
        ballot=ballot,
        configuration=host.configuration,
        voted=last - restored.through - len(missing),
        filled=tuple(runs_of((i, i) for i in missing)),
    )
