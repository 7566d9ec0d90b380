"""The learner and the checkpointer actors: sync actors with their disk work in the background.

The main thread owns the role: it applies commands, answers reads, and hands everything that takes
time to others: sealing, merging and reading segments to one store thread, what takes as long as all
of a group's state does (checkpoints, scrubbing) to a slow one, messages to the feeds.
What comes of it arrives through the inbox, as calls to the actor itself. So a segment being
written, or a peer that does not answer, delays no command and no read.

A read does: while a machine works on one, everything else waits in Ray's queue, which has no bound,
and clients that wait no longer ask again. So the learner measures how long calls wait, and refuses
a read that nobody can be waiting for any more without executing it: the queue is emptied faster
than it fills (R10).
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from ray_paxos.actors.archiving import ArchiverThread
from ray_paxos.actors.call_delay import CallDelay
from ray_paxos.actors.feeds import FeedLimits
from ray_paxos.actors.inbox import Inbox
from ray_paxos.actors.outbound import BackgroundFeeds
from ray_paxos.actors.role import RoleActor, member_folder, own_handle
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.core.checkpointer import Checkpointer
from ray_paxos.core.client_messages import Query, QueryFailed, QueryMany, QueryProblem
from ray_paxos.core.driver import Action, Driver, Observe, Run, Transmit, Write
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.tasks import Outcome, Task, TaskFailed
from ray_paxos.core.wire import decode_envelopes, encode_envelope, encode_envelopes
from ray_paxos.errors import ConfigurationError, PaxosError, StorageError, StorageFullError
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.archive_address import parse_address
from ray_paxos.storage.archive_opening import open_archive
from ray_paxos.storage.archiver import Archiver
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.identity import read_identity
from ray_paxos.storage.member_files import FileFormats
from ray_paxos.storage.opening import OpenedRole, open_checkpointer, open_learner
from ray_paxos.storage.stores import INLINE_TASKS, SLOW_TASKS, RoleStore

FULL_PAUSE_S = 1.0
_READS = (Query, QueryMany)
QUERY_WAIT_MAX_MS = 5_000
"""A read that has waited for longer is refused, whatever it says."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """A peer answered messages of ours."""

    envelopes: Sequence[Envelope]


@dataclass(frozen=True, slots=True)
class _Written:
    """A write is durable, or failed for good."""

    number: int
    error: PaxosError | None


@dataclass(frozen=True, slots=True)
class _WasRun:
    """A task has come to something."""

    task: Task
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Woken:
    """The timer ran out, or the role was opened."""


_Arrival: TypeAlias = _Answered | _Written | _WasRun | _Woken


class LogActor(RoleActor):
    """What learner and checkpointer share: a role whose disk work is done in the background."""

    _timer_ns: int | None = None

    def deliver(self, batch: bytes) -> bytes:
        """Take envelopes in, and answer what can be answered at once.

        Args:
            batch: Encoded envelopes of one sender.

        Returns:
            Encoded envelopes for that sender, or this role's state where it does not serve.
        """
        opened = self._serving_role()
        if opened is None:
            return self._not_serving()
        envelopes = decode_envelopes(batch)
        if not envelopes:
            return encode_envelopes(())
        driver = opened.driver
        now_ns = self._clock()
        with self._handling():
            refusals, taken = self._refuse_late(envelopes, now_ns)
            actions: list[Action] = []
            for envelope in taken:
                actions += driver.receive(envelope, now_ns)
            replies = self._execute(actions, envelopes[0].sender)
            self._set_timer(driver, now_ns)
        return encode_envelopes((*refusals, *replies))

    def _refuse_late(
        self, envelopes: Sequence[Envelope], now_ns: int
    ) -> tuple[Sequence[Envelope], Sequence[Envelope]]:
        """Refusals of what waited too long, and what is to be handled."""
        return (), envelopes

    def wake(self) -> None:
        """Take in what background threads have left for this one."""
        opened = self._serving_role()
        if opened is None:
            return
        driver = opened.driver
        with self._handling():
            for arrival in self._inbox.drain():
                if isinstance(arrival, _Written) and arrival.error is not None:
                    self._fail(driver, arrival.error)
                    return
                self._execute(self._take_in(driver, arrival), None)
            now_ns = self._clock()
            if driver.deadline_ns is not None and driver.deadline_ns <= now_ns:
                self._execute(driver.on_deadline(now_ns), None)
            self._set_timer(driver, now_ns)

    def _take_in(self, driver: Driver, arrival: _Arrival) -> list[Action]:
        now_ns = self._clock()
        match arrival:
            case _Answered(envelopes=envelopes):
                return [a for envelope in envelopes for a in driver.receive(envelope, now_ns)]
            case _Written(number=number):
                return driver.on_durable(number, now_ns)
            case _WasRun(task=task, outcome=outcome):
                return driver.on_outcome(task, outcome, now_ns)
            case _Woken():
                self._timer_ns = None
                return []

    def wait_open(self, timeout_s: float) -> None:
        """Return once opening has ended, well or badly, or the time ran out."""
        self._opening.wait(timeout_s)

    def close(self) -> None:
        """Stop cleanly: what is being written is finished, and the folder is let go of."""
        opened = self._serving_role()
        if opened is None:
            opened = self._opening.cancel()
        else:
            self._is_closing.set()
            self._store_thread.shutdown(wait=True)
            self._slow_thread.shutdown(wait=True)
            self._feeds.close()
        self._stop("closed", "")
        if opened is not None:
            opened.store.close()

    # The main thread.

    def _on_opened(self) -> None:
        self._wake_up()

    def _wake_up(self) -> None:
        own_handle().wake.remote()

    def _started(self, opened: OpenedRole) -> None:
        handle = own_handle()
        spec = decode_spec(self._encoded_spec)
        self._inbox: Inbox[_Arrival] = Inbox(lambda: handle.wake.remote())
        self._is_closing = threading.Event()
        # Of the store thread, which alone takes them out.
        self._tasks: deque[Task] = deque()
        self._store_thread = ThreadPoolExecutor(1, thread_name_prefix="ray_paxos-store")
        self._slow_thread = ThreadPoolExecutor(1, thread_name_prefix="ray_paxos-slow")
        self._feeds = BackgroundFeeds(
            spec.decoded_genesis(),
            on_answer=lambda envelopes: self._inbox.post(_Answered(envelopes)),
            on_timer=lambda: self._inbox.post(_Woken()),
            limits=FeedLimits.for_this_process(),
        )

    def _execute(self, actions: Sequence[Action], caller: Address | None) -> list[Envelope]:
        """Do what the driver wants; returns what is for the caller of the current call."""
        assert self._opened is not None
        store = self._opened.store
        replies: list[Envelope] = []
        outbound: list[tuple[Address, bytes]] = []
        for action in actions:
            match action:
                case Transmit(to=to, envelope=envelope):
                    if to == caller:
                        replies.append(envelope)
                    elif to.role is not RoleName.CLIENT:
                        outbound.append((to, encode_envelope(envelope)))
                case Write():
                    written = self._store_thread.submit(self._write, store, action)
                    written.add_done_callback(self._tell_broken)
                case Run(task=task) if isinstance(task, INLINE_TASKS):
                    outcome = store.run(task)
                    now_ns = self._clock()
                    done = self._opened.driver.on_outcome(task, outcome, now_ns)
                    replies += self._execute(done, caller)
                case Run(task=task):
                    self._start(store, task)
                case Observe(event=event):
                    self._events.observe(event)
        if outbound:
            self._feeds.send(outbound)
        return replies

    def _set_timer(self, driver: Driver, now_ns: int) -> None:
        """Have the timer run out by the driver's deadline; an earlier one does no harm."""
        deadline_ns = driver.deadline_ns
        if deadline_ns is None or (self._timer_ns is not None and self._timer_ns <= deadline_ns):
            return
        self._timer_ns = deadline_ns
        self._feeds.set_timer(max(deadline_ns - now_ns, 0) / 1e9)

    def _start(self, store: RoleStore, task: Task) -> None:
        """Have a task done in the background."""
        if isinstance(task, SLOW_TASKS):
            done = self._slow_thread.submit(self._run, store, task)
        else:
            self._tasks.append(task)
            done = self._store_thread.submit(self._run_next, store)
        done.add_done_callback(self._tell_broken)

    # The store thread.

    def _write(self, store: RoleStore, write: Write) -> None:
        # What breaks off for any other reason stops the role, too: nobody reads this thread's end.
        failure: PaxosError | None = StorageError("a write broke off, which is a bug; see the log")
        try:
            failure = self._try_to_write(store, write)
        finally:
            self._inbox.post(_Written(write.number, failure))

    def _try_to_write(self, store: RoleStore, write: Write) -> PaxosError | None:
        """Write and sync, again where there was no room; what went wrong, if anything did."""
        is_told = False
        while True:
            try:
                store.write(write.records)
                store.sync()
            except StorageFullError as error:
                # Nothing was written and nobody was told anything: again, once there may be room.
                if not is_told:
                    self._events.warn(f"{error}; what is learned waits in memory, up to a limit")
                    is_told = True
                if self._is_closing.wait(FULL_PAUSE_S):
                    return error
                # What waits behind this write may be what makes room: a cut of the log.
                while self._tasks:
                    self._run_next(store)
            except PaxosError as error:
                return error
            else:
                return None

    def _tell_broken(self, ended: Future[None]) -> None:
        """Write what broke off to the log, which nobody else would."""
        error = ended.exception()
        if error is not None:
            self._events.warn("".join(traceback.format_exception(error)))

    def _run_next(self, store: RoleStore) -> None:
        """Do the task that has waited longest; it may be done already (`_try_to_write`)."""
        if self._tasks:
            self._run(store, self._tasks.popleft())

    def _run(self, store: RoleStore, task: Task) -> None:
        # What breaks off for any other reason is told, too: nobody reads this thread's end.
        outcome: Outcome = TaskFailed("it broke off, which is a bug; see the log")
        try:
            outcome = store.run(task)
        finally:
            if isinstance(outcome, TaskFailed):
                self._events.warn(f"gave up {type(task).__name__}: {outcome.why}")
            self._inbox.post(_WasRun(task, outcome))


class LearnerActor(LogActor):
    """Learns, applies and answers reads for one member, in all its groups."""

    role = RoleName.LEARNER

    def came_back(self) -> None:
        """The actor's own call, by which it measures how long calls wait."""
        if self._serving_role() is not None:
            self._call_delay.came_back(self._clock())

    def _started(self, opened: OpenedRole) -> None:
        super()._started(opened)
        handle = own_handle()
        self._call_delay = CallDelay(lambda: handle.came_back.remote())

    def _refuse_late(
        self, envelopes: Sequence[Envelope], now_ns: int
    ) -> tuple[Sequence[Envelope], Sequence[Envelope]]:
        if not any(isinstance(envelope.message, _READS) for envelope in envelopes):
            return (), envelopes
        waited_ms = self._call_delay.look(now_ns) // MILLISECOND_NS
        refusals: list[Envelope] = []
        left: list[Envelope] = []
        for envelope in envelopes:
            query = envelope.message
            if not isinstance(query, _READS) or waited_ms < _patience_ms(query):
                left.append(envelope)
                continue
            what = f"reads wait for {waited_ms} ms at this member"
            problem = QueryProblem.OVERLOADED
            failed = QueryFailed(query.request_id, 0, what, problem)
            sender = Address(0, RoleName.LEARNER)
            refusals.append(Envelope(envelope.genesis, envelope.group, sender, 0, 0, 0, failed))
        return refusals, left

    def digest(self, group: int) -> tuple[int, str]:
        """(instance applied last, digest of the state after it), of one group.

        Raises:
            ConfigurationError: The group is not served here.
        """
        learner = self._learner(group)
        return learner.applied_through, learner.host.digest().hex()

    def _learner(self, group: int) -> Learner:
        opened = self._serving_role()
        if opened is None:
            raise ConfigurationError(f"the learner does not serve: {self._role_state()}")
        assert isinstance(opened.role, GroupRouter)
        learner = opened.role.roles.get(group)
        if not isinstance(learner, Learner):
            reason = opened.stopped_groups.get(group, "no such group at this member")
            raise ConfigurationError(f"group {group}: {reason}")
        return learner

    def _open_folder(
        self, spec: ClusterSpec, genesis: Genesis, member_id: int, disk: LocalDisk
    ) -> OpenedRole:
        # pyarrow takes 0.2 s to import, which is the opening thread's time, not the constructor's.
        from ray_paxos.storage.parquet import ParquetCodec
        from ray_paxos.storage.parquet_tables import ParquetTables

        return open_learner(
            disk,
            genesis,
            member_id,
            settings=spec.learner,
            codec=ParquetCodec(),
            tables=ParquetTables(),
            registry=MachineRegistry(),
            random=self._random(),
            now_ns=self._clock(),
        )

    def _describe_groups(self, opened: OpenedRole) -> dict[int, dict[str, Any]]:
        assert isinstance(opened.role, GroupRouter)
        described = {}
        for group, learner in opened.role.roles.items():
            assert isinstance(learner, Learner)
            described[group] = {
                "learned_through": learner.learned_through,
                "applied_through": learner.applied_through,
                "durable_through": learner.durable_through,
                "log_floor": learner.log_floor,
                "stopped": learner.stopped,
                "is_full": learner.is_full,
                "single_source_chunks": learner.single_source_chunks,
                "alarms": list(learner.alarms),
            }
        return described


class CheckpointerActor(LogActor):
    """Makes checkpoints, merges, scrubs, archives and serves others, for one member."""

    role = RoleName.CHECKPOINTER
    _archiver: ArchiverThread | None = None

    def deliver(self, batch: bytes) -> bytes:
        """As of every log actor; segments and checkpoints that are new are archived, too."""
        answer = super().deliver(batch)
        if self._archiver is not None:
            self._archiver.look()
        return answer

    def wake(self) -> None:
        """As of every log actor."""
        super().wake()
        if self._archiver is not None:
            self._archiver.look()

    def close(self) -> None:
        """Stop cleanly; what is not archived by now is archived by the next life."""
        if self._archiver is not None:
            self._archiver.close()
        super().close()

    def _started(self, opened: OpenedRole) -> None:
        super()._started(opened)
        if decode_spec(self._encoded_spec).archive is not None:
            self._archiver = ArchiverThread(self._make_archiver)

    def _make_archiver(self) -> Archiver:
        """In the archiver's thread: an archive in a bucket is asked for its region."""
        from ray_paxos.storage.parquet import ParquetCodec
        from ray_paxos.storage.parquet_tables import ParquetTables

        spec = decode_spec(self._encoded_spec)
        assert spec.archive is not None, "there is one"
        disk = LocalDisk(member_folder(spec, self._member))
        return Archiver(
            open_archive(parse_address(spec.archive)),
            disk,
            FileFormats(ParquetCodec(), ParquetTables()),
            read_identity(disk),
            checkpoints_kept=spec.checkpointer.checkpoints_kept,
        )

    def _open_folder(
        self, spec: ClusterSpec, genesis: Genesis, member_id: int, disk: LocalDisk
    ) -> OpenedRole:
        from ray_paxos.storage.parquet import ParquetCodec
        from ray_paxos.storage.parquet_tables import ParquetTables

        return open_checkpointer(
            disk,
            genesis,
            member_id,
            settings=spec.checkpointer,
            codec=ParquetCodec(),
            tables=ParquetTables(),
            registry=MachineRegistry(),
            now_ns=self._clock(),
        )

    def _describe_groups(self, opened: OpenedRole) -> dict[int, dict[str, Any]]:
        assert isinstance(opened.role, GroupRouter)
        described: dict[int, dict[str, Any]] = {}
        for group, checkpointer in opened.role.roles.items():
            assert isinstance(checkpointer, Checkpointer)
            described[group] = {
                "checkpoints": list(checkpointer.schedule.instances),
                "sealed_through": checkpointer.sealed_through,
                "scrubbed_files": checkpointer.scrubbing.files,
                "damaged_files": checkpointer.scrubbing.found,
                "received_bytes": checkpointer.fetch.received_bytes,
                "alarms": list(checkpointer.alarms),
            }
            if self._archiver is not None:
                described[group]["archive"] = self._archiver.describe(group)
                described[group]["alarms"] += self._archiver.alarms(group)
        return described


def _patience_ms(query: Query | QueryMany) -> int:
    """How long a read may have waited to be worth executing."""
    return min(query.timeout_ms or QUERY_WAIT_MAX_MS, QUERY_WAIT_MAX_MS)
