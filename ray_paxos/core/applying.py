"""What a learner has applied: the machines, the results not sealed yet, and the chains.

Instances are applied in order, once each (R6). A machine that fails, or chains that differ from the
master's, stop *applying*, with an alarm; learning and sealing go on (R12).
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    ApplyingStopped,
    ChainsDiffered,
    CommandRefused,
    InstanceApplied,
)
from ray_paxos.core.learner_messages import ChainPoint
from ray_paxos.core.results import EntryResult, NoteCode, encode_results
from ray_paxos.core.values import EMPTY_CHAIN, decode_value, extend_chain
from ray_paxos.errors import ApplyStoppedError
from ray_paxos.machines.host import MachineHost

POINTS_MAX = 4096
REFUSALS = (
    NoteCode.GAP,
    NoteCode.CLOSED,
    NoteCode.SESSION_EXPIRED,
    NoteCode.SESSION_UNKNOWN,
    NoteCode.OVERLOADED,
)


class Applying:
    """One group's state at one member.

    Invariants: `host` has applied exactly the instances through `applied_through`; results and
    result chains are kept for those that are not sealed.

    Attributes:
        host: The machines and sessions.
        applied_through: The last instance applied.
        stopped: Why applying has stopped; empty while it goes on.
        result_chains: After each applied instance that is not sealed.
        result_bytes: Of the latest instance's encoded results.
        topics: What machines have notified since they were taken, by (machine, topic); kept only
            while `keeps_topics`.
        keeps_topics: Whether somebody holds queries that wait for some.
    """

    def __init__(self, group: int, log: ChosenLog, host: MachineHost, base: Cut | None) -> None:
        """Go on from a checkpoint, or from the beginning.

        Args:
            group: Whose state.
            log: Holds what is to be applied.
            host: Has applied what `base` says.
            base: The checkpoint; None for the beginning.
        """
        self.stopped = ""
        self.result_bytes = 0
        self.topics: set[tuple[str, str]] = set()
        self.keeps_topics = False
        self._group = group
        self._log = log
        self.install(host, base)

    def install(self, host: MachineHost, base: Cut | None) -> None:
        """Go on from a checkpoint's state; whatever was before is forgotten."""
        self.host = host
        self.applied_through = base.instance_id if base is not None else 0
        self.result_chains: dict[int, bytes] = {}
        self._result_chain = base.result_chain if base is not None else EMPTY_CHAIN
        self._results: OrderedDict[int, tuple[EntryResult, ...]] = OrderedDict()
        self._points: OrderedDict[int, ChainPoint] = OrderedDict()
        if base is not None:
            point = ChainPoint(base.instance_id, base.chain, base.result_chain)
            self._points[base.instance_id] = point

    @property
    def point(self) -> ChainPoint:
        """The chains after `applied_through`; after all that is learned once applying stopped."""
        at, log = self.applied_through, self._log
        if self.stopped:
            return ChainPoint(log.learned_through, log.end_chain, None)
        # While it applies several, more is learned than is applied.
        chain = log.end_chain if at == log.learned_through else log.chain(at)
        return ChainPoint(at, chain, self._result_chain)

    def results(self, instance_id: int) -> tuple[EntryResult, ...] | None:
        """Of an applied instance; None once it is sealed."""
        return self._results.get(instance_id)

    def apply_next(self, effects: Effects) -> tuple[EntryResult, ...] | None:
        """Apply the next learned instance.

        Returns:
            Its results; None where there is none, or applying has stopped.
        """
        if self.stopped or self.applied_through >= self._log.learned_through:
            return None
        chosen = self._log.value(self.applied_through + 1)
        instance_id = chosen.instance_id
        try:
            results = self.host.apply(instance_id, decode_value(chosen.value))
        except (ApplyStoppedError, msgspec.DecodeError) as error:
            self.stop(f"instance {instance_id}: {error}", effects)
            return None
        self.applied_through = instance_id
        if self.keeps_topics and self.host.topics:
            self.topics |= self.host.topics
        encoded = encode_results(results)
        self.result_bytes = len(encoded)
        self._result_chain = extend_chain(self._result_chain, encoded)
        self.result_chains[instance_id] = self._result_chain
        self._results[instance_id] = results
        chain = self._log.chain(instance_id)
        self._points[instance_id] = ChainPoint(instance_id, chain, self._result_chain)
        if len(self._points) > POINTS_MAX:
            self._points.popitem(last=False)
        applied = InstanceApplied(self._group, instance_id, chosen.value, self._result_chain)
        effects.events.append(applied)
        for entry in results:
            for note in entry.notes.values():
                if note.code in REFUSALS:
                    refused = CommandRefused(self._group, instance_id, int(note.code))
                    effects.events.append(refused)
        return results

    def stop(self, why: str, effects: Effects) -> None:
        """Apply nothing more."""
        if not self.stopped:
            self.stopped = why
            effects.events.append(ApplyingStopped(self._group, why))

    def compare(self, point: ChainPoint, effects: Effects) -> None:
        """Compare the master's chains with ours at the same instance (R12)."""
        own = self._points.get(point.instance_id)
        if own is None or self.stopped:
            return
        if own.chain != point.chain:
            self._differ("values", own.chain, point.chain, point.instance_id, effects)
        elif own.result_chain is not None and point.result_chain not in (None, own.result_chain):
            masters = point.result_chain or b""
            self._differ("results", own.result_chain, masters, point.instance_id, effects)

    def _differ(
        self, what: str, own: bytes, masters: bytes, instance_id: int, effects: Effects
    ) -> None:
        effects.events.append(ChainsDiffered(self._group, instance_id, what))
        self.stop(
            f"{what} differ at or before {instance_id}: the chain is {own.hex()} here and "
            f"{masters.hex()} at the master",
            effects,
        )

    def forget(self, first: int, last: int) -> None:
        """These instances are sealed: nobody asks for their results any more."""
        for instance_id in range(first, last + 1):
            self.result_chains.pop(instance_id, None)
            self._results.pop(instance_id, None)

    def forget_all(self) -> None:
        """All that is applied is sealed."""
        self.result_chains.clear()
        self._results.clear()
