"""The host of a group's state machines: executes the log, entry by entry, on one member.

Rules:

1. What the host holds and answers depends on the values applied so far and on nothing else (R6).
   Every refusal is part of it: the same result, with the same text, on all members.
2. Values are applied in order, once each. Log time is the highest that any value carried.
3. A number of a session is applied once (R7). A number counts as applied as soon as it was its
   turn, also if the machine refused the command, is not mounted, or does not know it: a command
   that cannot work must not hold up the group.
4. `CommandError` is a result. Anything else that a machine raises, or a result that is not bytes,
   is a failure of this member (R12): `apply` raises `ApplyStoppedError`, and the host, whose
   state may be half changed, answers nothing any more.

What becomes of one batch of commands is in `batches.py`, the order of sessions in `sessions.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, MachineSpec
from ray_paxos.core.membership import change_refused, changed
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.values import (
    END_OF_SESSION,
    WITHDRAWAL,
    CommandBatch,
    MachineMount,
    MasterRecord,
    MembershipEntry,
    SessionId,
    SessionOpen,
    Value,
)
from ray_paxos.errors import (
    ApplyStoppedError,
    InvariantViolationError,
    NotYetError,
    QueryError,
)
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext, StateMachine
from ray_paxos.machines.batches import (
    RESULT_BYTES_MAX,
    closed_and_kept,
    encodable,
    exception_text,
    execute,
    fresh_notes,
    type_name,
    wrong_result,
)
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.machines.sessions import (
    LIMITS,
    RESULT_OVERHEAD_BYTES,
    KeptRun,
    SessionLimits,
    SessionState,
    SessionTable,
    TableState,
)

MACHINES_MAX = 1_000
NOBODY = Configuration(GENESIS_CONFIG_ID, ())

_encode = msgspec.msgpack.Encoder().encode


class HostState(msgspec.Struct, frozen=True, array_like=True):
    """What a checkpoint carries of a host beside its sessions and its machines' own states.

    Attributes:
        applied_through: The last instance that was applied.
        log_time_ns: Log time after it.
        master: The last master record; None before the first.
        master_version: Instance of that record.
        mounted: The machines, in the order in which the log mounted them.
        sessions: Of the table of sessions.
    """

    applied_through: int
    log_time_ns: int
    master: MasterRecord | None
    master_version: int
    mounted: tuple[MachineSpec, ...]
    sessions: TableState


class MachineHost:
    """The machines and sessions of one group on one member. Pure, single-threaded.

    Invariants: `applied_through` is the last instance applied without a gap; `log_time_ns` never
    falls; a machine's name is taken for ever.

    Attributes:
        configuration: Who has the group and who votes, after `applied_through`.
        due_ns: At which log time something is due in a machine; None for nothing.
        topics: (machine, topic) of what the instance applied last has notified; for those who hold
            queries, and no part of the state.
    """

    def __init__(
        self,
        registry: MachineRegistry,
        *,
        group: int,
        configuration: Configuration = NOBODY,
        limits: SessionLimits = LIMITS,
    ) -> None:
        """Start before instance 1, with nothing mounted.

        Args:
            registry: The classes that can be mounted; must be the same on all members.
            group: Whose log is applied.
            configuration: Of the group at its genesis.
            limits: Of its sessions; the same on all members, for as long as the log lives.
        """
        self._registry = registry
        self._group = group
        self._machines: dict[str, StateMachine] = {}
        self._specs: dict[str, MachineSpec] = {}
        self._sessions = SessionTable(limits)
        self._context = ApplyContext()
        self._stopped: ApplyStoppedError | None = None
        self.applied_through = 0
        self.log_time_ns = 0
        self.master: MasterRecord | None = None
        self.master_version = 0
        self.configuration = configuration
        self.due_ns: int | None = None
        self.topics: set[tuple[str, str]] = set()
        # Machines in which something can be due at all.
        self._timed: dict[str, StateMachine] = {}

    @property
    def mounted(self) -> tuple[MachineSpec, ...]:
        """The group's machines, in the order in which the log mounted them."""
        return tuple(self._specs.values())

    @property
    def is_saved_by_learner(self) -> bool:
        """Whether a machine is mounted of which a member is to hold no second copy."""
        return any(machine.is_saved_by_learner for machine in self._machines.values())

    @property
    def session_count(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    @property
    def evicted_sessions(self) -> int:
        """How many sessions were evicted so far."""
        return self._sessions.evicted

    def apply(self, instance_id: int, value: Value) -> tuple[EntryResult, ...]:
        """Execute one chosen value.

        Args:
            instance_id: The instance after `applied_through`.
            value: What it chose.

        Returns:
            One result for each entry, in order; none for a no-op. The same on all members that
            applied the same log, byte for byte once encoded.

        Raises:
            ApplyStoppedError: A machine failed here (R12); every later call raises it again.
            InvariantViolationError: The instance is not the next one; nothing was applied.
        """
        if self._stopped is not None:
            raise self._stopped
        if instance_id != self.applied_through + 1:
            raise InvariantViolationError(
                f"instance {instance_id} of group {self._group} to be applied after "
                f"{self.applied_through}"
            )
        # Before the first entry: were this call cut short by whatever it be, the instance could not
        # be applied a second time over what it has changed.
        self.applied_through = instance_id
        if self.topics:
            self.topics = set()
        if value.log_time_ns > self.log_time_ns:
            self.log_time_ns = value.log_time_ns
        if self.due_ns is not None and self.log_time_ns >= self.due_ns:
            self._let_end(instance_id)
        results: list[EntryResult] = []
        index = 0
        for entry in value.entries:
            match entry:
                case CommandBatch():
                    results.append(self._apply_batch(instance_id, index, entry))
                    index += len(entry.commands)
                    continue
                case SessionOpen():
                    refused = self._open_session(instance_id, index, entry)
                    code = NoteCode.OVERLOADED
                case MachineMount():
                    refused = self._mount(instance_id, entry)
                    code = NoteCode.ERROR
                case MasterRecord():
                    self.master = entry
                    self.master_version = instance_id
                    refused, code = "", NoteCode.ERROR
                case MembershipEntry():
                    refused = self._change_membership(instance_id, entry, len(value.entries))
                    code = NoteCode.ERROR
            note = Note(code, encodable(refused), instance_id, index)
            results.append(EntryResult(instance_id, index, (None,), {0: note} if refused else {}))
            index += 1
        if self._timed:
            self._look_for_due(instance_id)
        return tuple(results)

    def query(self, machine: str, request: bytes) -> bytes:
        """Let a machine answer a read, as of `applied_through`.

        Raises:
            NotYetError: The machine has no answer until something has happened under a topic.
            QueryError: The machine is not mounted, refused the request or failed on it; or
                applying has stopped here. The state is as before.
        """
        if self._stopped is not None:
            raise QueryError(f"reads of group {self._group} stopped here: {self._stopped}")
        mounted = self._machines.get(machine)
        if mounted is None:
            raise QueryError(f"group {self._group} has no machine {machine!r}")
        try:
            result = mounted.query(request)
        except NotYetError as error:
            if type(error.topic) is not str:
                # As in `ApplyContext.notify`.
                kind = type_name(error.topic)
                raise QueryError(f"machine {machine!r} waits for a topic of {kind}") from error
            raise
        except QueryError:
            raise
        except (Exception, SystemExit) as error:
            # Machines are the users' code: whatever a read raises concerns that read alone.
            raise QueryError(
                f"machine {machine!r} failed on a query: {exception_text(error)}"
            ) from error
        if type(result) is not bytes:
            wrong = wrong_result(result, "bytes")
            raise QueryError(f"machine {machine!r} answered a query with {wrong}")
        return result

    def machine_digest(self) -> bytes:
        """16 bytes over the machines alone: which there are, by name, and each one's digest.

        Differs from `digest` in that the way there does not count: the same commands in other
        batches, of other sessions or at other instances give the same.

        Raises:
            QueryError: A machine could not digest its state, or applying has stopped here.
        """
        if self._stopped is not None:
            raise QueryError(f"group {self._group} has no digest here: {self._stopped}")
        state = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name in sorted(self._specs):
            try:
                digest = self._machines[name].digest()
            except (Exception, SystemExit) as error:
                # As in `query`: the users' code, and a read.
                raise QueryError(
                    f"machine {name!r} has no digest: {exception_text(error)}"
                ) from error
            if type(digest) is not bytes:
                raise QueryError(f"machine {name!r} has a digest of {type_name(digest)}")
            state.update(_encode((self._specs[name], digest)))
        return state.digest()

    def digest(self) -> bytes:
        """16 bytes over all that was applied: machines, sessions, log time, master.

        Raises:
            QueryError: As `machine_digest`.
        """
        parts = (
            self.machine_digest(),
            self._sessions.digest(),
            self.log_time_ns,
            self.master,
            self.master_version,
            self.mounted,
        )
        return hashlib.blake2b(_encode(parts), digest_size=DIGEST_BYTES).digest()

    # For checkpoints. The host must not apply anything while its parts are taken.

    @property
    def state(self) -> HostState:
        """What a checkpoint carries beside `export_sessions` and the machines.

        Raises:
            ApplyStoppedError: Applying has stopped here: the state may be half changed.
        """
        if self._stopped is not None:
            raise self._stopped
        return HostState(
            self.applied_through,
            self.log_time_ns,
            self.master,
            self.master_version,
            self.mounted,
            self._sessions.state,
        )

    def export_sessions(self) -> Iterator[SessionState]:
        """All sessions, in the order of last use."""
        return self._sessions.export()

    @property
    def machines(self) -> tuple[tuple[MachineSpec, StateMachine], ...]:
        """The machines themselves, in the order in which the log mounted them."""
        return tuple((spec, self._machines[name]) for name, spec in self._specs.items())

    @classmethod
    def restore(
        cls,
        registry: MachineRegistry,
        *,
        group: int,
        state: HostState,
        sessions: Iterable[SessionState],
        machines: Sequence[StateMachine],
        configuration: Configuration = NOBODY,
    ) -> MachineHost:
        """The host that `state`, `export_sessions` and `machines` were taken from.

        Args:
            registry: As for a new host.
            group: Whose log it goes on applying.
            state: Of the host that was saved.
            sessions: As exported, in that order.
            machines: Loaded ones, in the order of `state.mounted`.
            configuration: In force after `state.applied_through`.

        Returns:
            A host with the same digest, which answers every later value as the saved one would.
        """
        host = cls(registry, group=group, configuration=configuration)
        for spec, machine in zip(state.mounted, machines, strict=True):
            host._add(spec, machine)
        host._sessions = SessionTable.restore(state.sessions, sessions)
        host.applied_through = state.applied_through
        host.log_time_ns = state.log_time_ns
        host.master = state.master
        host.master_version = state.master_version
        host._look_for_due(state.applied_through)
        return host

    # Internal entries.

    def _open_session(self, instance_id: int, index: int, entry: SessionOpen) -> str:
        session = SessionId(instance_id, index)
        return self._sessions.open(session, entry.label, self.log_time_ns)

    def _change_membership(self, instance_id: int, entry: MembershipEntry, count: int) -> str:
        """Change who has the group, or say why not."""
        if count != 1:
            return "a membership entry stands alone in its instance"
        refused = change_refused(self.configuration, entry)
        self.configuration = changed(self.configuration, entry, instance_id)
        return refused

    def _mount(self, instance_id: int, mount: MachineMount) -> str:
        """Mount a machine, or say why not. To mount again what is mounted changes nothing."""
        if mount.name == WITHDRAWAL:
            return "a machine needs a name"
        spec = MachineSpec(mount.name, mount.kind, mount.version)
        mounted = self._specs.get(mount.name)
        if mounted == spec:
            return ""
        if mounted is not None:
            return (
                f'machine "{mount.name}" is mounted as "{mounted.kind}" version {mounted.version}'
            )
        if len(self._specs) >= MACHINES_MAX:
            return f"the group has {MACHINES_MAX} machines, which is its limit"
        machine_class = self._registry.find(mount.kind, mount.version)
        if machine_class is None:
            return f'no machine of kind "{mount.kind}" version {mount.version} is registered'
        try:
            machine = machine_class()
        except (Exception, SystemExit) as error:
            raise self._stop(mount.name, instance_id, exception_text(error)) from error
        self._add(spec, machine)
        return ""

    def _add(self, spec: MachineSpec, machine: StateMachine) -> None:
        self._specs[spec.name] = spec
        self._machines[spec.name] = machine
        if type(machine).due_ns is not StateMachine.due_ns:
            self._timed[spec.name] = machine

    # What is due.

    def _let_end(self, instance_id: int) -> None:
        """Let machines end what is due by now, in the order in which they were mounted."""
        context = ApplyContext(instance_id, 0, self.log_time_ns)
        for name, machine in self._timed.items():
            try:
                due_ns = machine.due_ns
                if due_ns is not None and due_ns <= self.log_time_ns:
                    machine.on_due(context)
            except (Exception, SystemExit) as error:
                # R12, as in `_run`.
                raise self._stop(name, instance_id, exception_text(error)) from error
            if context.topics:
                self._note_topics(name, context)

    def _look_for_due(self, instance_id: int) -> None:
        """See when the next thing is due."""
        earliest: int | None = None
        for name, machine in self._timed.items():
            try:
                due_ns = machine.due_ns
            except (Exception, SystemExit) as error:
                # R12, as in `_run`.
                raise self._stop(name, instance_id, exception_text(error)) from error
            if due_ns is None:
                continue
            if type(due_ns) is not int:
                raise self._stop(name, instance_id, f"due_ns is {type_name(due_ns)}")
            if earliest is None or due_ns < earliest:
                earliest = due_ns
        self.due_ns = earliest

    # Commands.

    def _apply_batch(self, instance_id: int, index: int, batch: CommandBatch) -> EntryResult:
        """Part by part, as the module's picture has it; nearly always there is only one."""
        count = len(batch.commands)
        table = self._sessions
        session = table.use(batch.session, self.log_time_ns)
        if session is None:
            note = Note(table.missing(batch.session), "", 0, 0)
            unknown = dict.fromkeys(range(count), note)
            return EntryResult(instance_id, index, (None,) * count, unknown)
        kept_bytes = session.kept_bytes
        session.close_below(batch.lowest_open)
        admission = session.admit(batch.first_number, count)
        results, notes = closed_and_kept(session, batch.first_number, admission)
        fresh, reason, no_room = admission.fresh, admission.reason, ""
        if table.kept_bytes >= table.kept_bytes_max:
            table.kept_bytes += session.kept_bytes - kept_bytes
            kept_bytes = session.kept_bytes
            no_room = table.make_room(self.log_time_ns) if fresh else ""
            if no_room:
                fresh, reason = 0, no_room
        if fresh:
            start = len(results)
            run = self._run(instance_id, index, batch, start, start + fresh)
            session.keep(run)
            results += run.results
            if run.errors or run.is_withdrawn:
                notes.update(fresh_notes(run, start))
            if len(run.results) < fresh:
                reason = f"the results before it are over {RESULT_BYTES_MAX} bytes"
        table.kept_bytes += session.kept_bytes - kept_bytes
        refused = count - len(results)
        if refused:
            note = Note(NoteCode.OVERLOADED if no_room else NoteCode.GAP, reason, 0, 0)
            notes.update(dict.fromkeys(range(len(results), count), note))
            results += (None,) * refused
        if batch.lowest_open >= END_OF_SESSION:
            table.end(batch.session)
        return EntryResult(instance_id, index, results, notes)

    def _run(
        self, instance_id: int, index: int, batch: CommandBatch, start: int, end: int
    ) -> KeptRun:
        """Execute the commands from `start` to `end` of a batch, whose turn it is.

        Returns:
            What they returned: of all of them, or of the first ones where the results are so
            long that the rest has to be sent again.
        """
        number = batch.first_number + start
        index += start
        machine = self._machines.get(batch.machine)
        if machine is None:
            count = end - start
            if batch.machine == WITHDRAWAL:
                byte_count = count * RESULT_OVERHEAD_BYTES
                return KeptRun(number, instance_id, index, (None,) * count, {}, byte_count, True)
            text = encodable(f'the group has no machine "{batch.machine}"')
            errors = dict.fromkeys(range(count), text)
            byte_count = count * RESULT_OVERHEAD_BYTES + len(text)
            return KeptRun(number, instance_id, index, (None,) * count, errors, byte_count)
        context = self._context
        context.instance_id = instance_id
        context.log_time_ns = self.log_time_ns
        context.session = batch.session
        try:
            results, errors, byte_count = execute(
                machine, batch.commands[start:end], context, index, number
            )
        except (Exception, SystemExit) as error:
            # R12, and the one place for it: machines are the users' code, and whatever goes wrong
            # in one is this group's matter on this member. `exit()` would end all its groups.
            raise self._stop(batch.machine, instance_id, exception_text(error)) from error
        if context.topics:
            self._note_topics(batch.machine, context)
        byte_count += len(results) * RESULT_OVERHEAD_BYTES
        return KeptRun(number, instance_id, index, tuple(results), errors, byte_count)

    def _note_topics(self, machine: str, context: ApplyContext) -> None:
        self.topics.update((machine, topic) for topic in context.topics)
        context.topics.clear()

    def _stop(self, machine: str, instance_id: int, cause: str) -> ApplyStoppedError:
        """Answer nothing any more; for the caller to raise."""
        self._stopped = ApplyStoppedError(self._group, machine, instance_id, cause)
        return self._stopped
