"""The host's rules: order, mounting, dispatch by name, results, failing machines."""

from __future__ import annotations

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.values import (
    CommandBatch,
    Entry,
    MachineMount,
    MasterRecord,
    SessionId,
    SessionOpen,
    Value,
)
from ray_paxos.errors import (
    ApplyStoppedError,
    CommandError,
    ConfigurationError,
    InvariantViolationError,
    QueryError,
)
from ray_paxos.machines import batches, host
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from tests.unit.group_log import GroupLog, Recorder


class Failing(StateMachine):
    """Does what its command says."""

    kind = "failing"

    def __init__(self) -> None:
        self.count = 0

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.count += 1
        if command == b"raise":
            raise ZeroDivisionError("by nothing")
        if command == b"exit":
            raise SystemExit(3)
        if command == b"unprintable":
            raise Unprintable
        if command == b"text":
            return "text"  # type: ignore[return-value]
        if command == b"buffer":
            return bytearray(b"x")  # type: ignore[return-value]
        if command.startswith(b"long "):
            return bytes(int(command[5:]))
        if command.startswith(b"refuse "):
            raise CommandError("\ud800" + "x" * int(command[7:]))
        return b"%d" % self.count

    def query(self, request: bytes) -> bytes:
        if request == b"raise":
            raise ZeroDivisionError("by nothing")
        if request == b"refuse":
            raise QueryError("not today")
        if request == b"text":
            return "text"  # type: ignore[return-value]
        return b"%d" % self.count

    def digest(self) -> bytes:
        if self.count > 10:
            raise ZeroDivisionError("by nothing")
        return b"%d" % self.count


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot print")


class Interruption(BaseException):
    """Stands for KeyboardInterrupt, which would end the test run where it is not caught."""


class BrokenConstructor(Recorder):
    kind = "broken"

    def __init__(self) -> None:
        raise OSError("no such device")


class RecorderTwo(Recorder):
    version = 2


@pytest.fixture
def log() -> GroupLog:
    return GroupLog(Failing, BrokenConstructor, RecorderTwo)


@pytest.fixture
def failing(log: GroupLog) -> GroupLog:
    log.append(MachineMount("failing", "failing", 1))
    return log


# Order, log time, the shape of results.


def test_instances_are_applied_in_order_once_each(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"a")
    before = log.host.digest()
    for instance_id in (1, 3, 5):
        with pytest.raises(InvariantViolationError, match=f"instance {instance_id} "):
            log.host.apply(instance_id, Value(0, (SessionOpen("x"),)))
    assert log.host.applied_through == 3
    assert log.host.digest() == before


def test_an_apply_cut_short_cannot_be_repeated_over_what_it_changed(log: GroupLog) -> None:
    class Interrupted(StateMachine):
        kind = "interrupted"

        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            raise Interruption

        def query(self, request: bytes) -> bytes:
            return b""

    log = GroupLog(Interrupted)
    session = log.open_session()
    log.append(MachineMount("interrupted", "interrupted", 1))
    batches_of_two = (
        CommandBatch(session, 1, 1, "recorder", (b"a",)),
        CommandBatch(session, 1, 2, "interrupted", (b"b",)),
    )
    with pytest.raises(Interruption):
        log.append(*batches_of_two)
    with pytest.raises(InvariantViolationError):
        log.host.apply(4, log.values[-1])
    assert log.applied == [b"a"]


def test_no_op_has_no_results_and_counts(log: GroupLog) -> None:
    assert log.append() == ()
    assert log.host.applied_through == 2


def test_log_time_never_falls(log: GroupLog) -> None:
    session = log.open_session()
    times = []
    for number, log_time_ns in enumerate((5, 3, 0, 5, 9), start=1):
        log.append(CommandBatch(session, 1, number, "recorder", (b"x",)), log_time_ns=log_time_ns)
        times.append(log.host.log_time_ns)
    assert times == [5, 5, 5, 5, 9]
    recorder = log.machine()
    assert isinstance(recorder, Recorder)
    assert [place[2] for place in recorder.places] == times


def test_rows_and_context_count_through_an_instance(log: GroupLog) -> None:
    one, two = log.open_session(), log.open_session()
    results = log.append(
        CommandBatch(one, 1, 1, "recorder", (b"a", b"b")),
        SessionOpen("third"),
        CommandBatch(two, 1, 1, "recorder", ()),
        CommandBatch(two, 1, 1, "recorder", (b"c",)),
        log_time_ns=7,
    )
    assert results == (
        EntryResult(4, 0, (b"a", b"b"), {}),
        EntryResult(4, 2, (None,), {}),
        EntryResult(4, 3, (), {}),
        EntryResult(4, 3, (b"c",), {}),
    )
    recorder = log.machine()
    assert isinstance(recorder, Recorder)
    assert recorder.places == [(4, 0, 7, one, 1), (4, 1, 7, one, 2), (4, 3, 7, two, 1)]


def test_context_counts_on_behind_numbers_that_are_not_new(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"a", b"b", b"c")
    log.submit(session, 1, b"a", b"b", b"c", b"d", b"e", lowest_open=2)
    recorder = log.machine()
    assert isinstance(recorder, Recorder)
    assert [place[:2] + place[4:] for place in recorder.places[3:]] == [(4, 3, 4), (4, 4, 5)]


def test_master_record_is_known_with_its_instance_as_version(log: GroupLog) -> None:
    assert not log.host.master
    assert log.host.master_version == 0
    record = MasterRecord(Ballot(3, 77, 2))
    assert log.append(SessionOpen("s"), record)[1] == EntryResult(2, 1, (None,), {})
    assert log.host.master == record
    assert log.host.master_version == 2
    later = MasterRecord(Ballot(4, 5, 1))
    log.append()
    log.append(later)
    assert log.host.master == later
    assert log.host.master_version == 4


# Mounting and dispatch.


def test_machines_are_mounted_and_dispatched_by_name(log: GroupLog) -> None:
    log.append(MachineMount("other", "recorder", 1), MachineMount("lines", "log", 1))
    session = log.open_session()
    log.submit(session, 1, b"a", machine="recorder")
    log.submit(session, 2, b"b", machine="other")
    assert log.submit(session, 3, b"c", machine="lines").results == (b"1",)
    assert log.host.query("recorder", b"") == b"a"
    assert log.host.query("other", b"") == b"b"
    assert log.host.mounted == (
        MachineSpec("recorder", "recorder", 1),
        MachineSpec("other", "recorder", 1),
        MachineSpec("lines", "log", 1),
    )


def test_mounting_the_same_again_changes_nothing(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"a")
    before = log.host.digest()
    assert log.append(MachineMount("recorder", "recorder", 1)) == (EntryResult(4, 0, (None,), {}),)
    assert log.host.digest() == before
    assert log.applied == [b"a"]


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (MachineMount("recorder", "kv", 1), 'is mounted as "recorder" version 1'),
        (MachineMount("recorder", "recorder", 2), 'is mounted as "recorder" version 1'),
        (MachineMount("new", "unheard", 1), 'no machine of kind "unheard" version 1'),
        (MachineMount("new", "kv", 9), 'no machine of kind "kv" version 9'),
    ],
)
def test_mount_conflicts_are_results(log: GroupLog, mount: MachineMount, message: str) -> None:
    session = log.open_session()
    log.submit(session, 1, b"a")
    (result,) = log.append(mount)
    assert result.results == (None,)
    assert list(result.notes) == [0]
    note = result.notes[0]
    assert (note.code, note.instance_id, note.index) == (NoteCode.ERROR, 4, 0)
    assert message in note.message
    assert log.host.mounted == (MachineSpec("recorder", "recorder", 1),)
    assert log.submit(session, 2, b"b").results == (b"b",)


def test_versions_of_a_kind_are_mounted_side_by_side(log: GroupLog) -> None:
    log.append(MachineMount("new", "recorder", 2))
    assert type(log.machine("new")) is RecorderTwo
    assert type(log.machine("recorder")) is Recorder


def test_machines_are_bounded(log: GroupLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MACHINES_MAX", 2)
    log.append(MachineMount("second", "log", 1))
    (result,) = log.append(MachineMount("third", "log", 1))
    assert "2 machines" in result.notes[0].message
    # What is mounted stays usable, and can be named again.
    assert not log.append(MachineMount("second", "log", 1))[0].notes


def test_a_constructor_that_fails_stops_applying(log: GroupLog) -> None:
    with pytest.raises(ApplyStoppedError, match="no such device") as caught:
        log.append(MachineMount("device", "broken", 1))
    assert (caught.value.machine, caught.value.instance_id) == ("device", 2)


def test_unknown_machine_is_a_result_and_takes_its_number(log: GroupLog) -> None:
    session = log.open_session()
    result = log.submit(session, 1, b"a", b"b", machine="nowhere")
    message = 'the group has no machine "nowhere"'
    assert result.results == (None, None)
    assert result.notes == {
        0: Note(NoteCode.ERROR, message, 3, 0),
        1: Note(NoteCode.ERROR, message, 3, 1),
    }
    # Mounted later, the machine must not execute what was answered with an error.
    log.append(MachineMount("nowhere", "recorder", 1))
    again = log.submit(session, 1, b"a", b"b", b"c", machine="nowhere")
    assert [note.code for note in again.notes.values()] == [NoteCode.KEPT_ERROR] * 2
    assert log.host.query("nowhere", b"") == b"c"


def test_a_registry_refuses_what_it_could_not_tell_apart() -> None:
    registry = MachineRegistry()
    kinds = "barriers counters kv ledgers log objects permits queues system"
    assert registry.kinds == tuple((kind, 1) for kind in kinds.split())
    registry.register(Recorder)
    registry.register(Recorder)
    registry.register(RecorderTwo)

    class Impostor(Recorder):
        pass

    with pytest.raises(ConfigurationError, match=r"'recorder' version 1 .* Recorder"):
        registry.register(Impostor)
    assert registry.find("recorder", 1) is Recorder
    assert registry.find("recorder", 2) is RecorderTwo
    assert registry.find("recorder", 3) is None

    class Nameless(StateMachine):
        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            return None

        def query(self, request: bytes) -> bytes:
            return b""

    with pytest.raises(ConfigurationError, match="Nameless has no `kind`"):
        registry.register(Nameless)


# Errors as results, and failures that stop.


def test_a_command_error_is_a_result(log: GroupLog) -> None:
    session = log.open_session()
    result = log.submit(session, 1, b"a", b"refuse", b"none", b"b")
    assert result.results == (b"a", None, None, b"b")
    assert result.notes == {1: Note(NoteCode.ERROR, "refused: refuse", 3, 1)}
    assert log.applied == [b"a", b"refuse", b"none", b"b"]


def test_error_texts_are_bounded_and_can_be_encoded(failing: GroupLog) -> None:
    session = failing.open_session()
    # `GroupLog` encodes: a lone surrogate would fail there.
    note = failing.submit(session, 1, b"refuse 5000", machine="failing").notes[0]
    assert note.message == "?" + "x" * (batches.ERROR_CHARACTERS_MAX - 1)


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (b"raise", "ZeroDivisionError: by nothing"),
        (b"exit", "SystemExit: 3"),
        (b"unprintable", "Unprintable"),
        (b"text", "apply returned str, not bytes or None"),
        (b"buffer", "apply returned bytearray, not bytes or None"),
    ],
)
def test_any_other_failure_stops_this_member(failing: GroupLog, command: bytes, cause: str) -> None:
    session = failing.open_session()
    with pytest.raises(ApplyStoppedError) as caught:
        failing.submit(session, 1, b"ok", command, b"ok", machine="failing")
    stopped = caught.value
    assert (stopped.machine, stopped.instance_id) == ("failing", 4)
    assert cause in stopped.cause
    for part in ("'failing'", "group 1", "instance 4", cause):
        assert part in str(stopped)
    # The host may be half changed: it applies nothing more and answers nothing.
    with pytest.raises(ApplyStoppedError, match="instance 4"):
        failing.host.apply(5, Value(0, ()))
    for machine in ("failing", "recorder"):
        with pytest.raises(QueryError, match="instance 4"):
            failing.host.query(machine, b"")
    with pytest.raises(QueryError, match="instance 4"):
        failing.host.digest()


def test_failures_that_look_like_results_of_other_kinds_stop_too() -> None:
    class Confused(StateMachine):
        kind = "confused"

        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            raise QueryError("this is no query")

        def query(self, request: bytes) -> bytes:
            return b""

    log = GroupLog(Confused, machine="confused")
    session = log.open_session()
    with pytest.raises(ApplyStoppedError, match="this is no query"):
        log.submit(session, 1, b"a", machine="confused")


def test_one_groups_failure_does_not_concern_another(failing: GroupLog) -> None:
    other = MachineHost(MachineRegistry((Recorder,)), group=2)
    session = failing.open_session()
    with pytest.raises(ApplyStoppedError):
        failing.submit(session, 1, b"raise", machine="failing")
    other.apply(1, Value(0, (MachineMount("r", "recorder", 1), SessionOpen(""))))
    (result,) = other.apply(2, Value(0, (CommandBatch(SessionId(1, 1), 1, 1, "r", (b"ab",)),)))
    assert result.results == (b"ba",)


# Results that are too long.


def test_a_result_over_the_limit_is_an_error_and_the_command_is_applied(
    failing: GroupLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "RESULT_BYTES_MAX", 100)
    session = failing.open_session()
    result = failing.submit(session, 1, b"long 100", machine="failing")
    assert result.results == (bytes(100),)
    result = failing.submit(session, 2, b"long 101", machine="failing")
    assert result.results == (None,)
    assert result.notes[0].code is NoteCode.ERROR
    assert "over 100 bytes" in result.notes[0].message
    state = failing.host._sessions.use(session, 0)
    assert state is not None
    assert 100 < state.kept_bytes < 200
    again = failing.submit(session, 2, b"long 101", b"count", machine="failing")
    assert again.notes[0].code is NoteCode.KEPT_ERROR
    assert again.results == (None, b"3")


def test_a_batch_whose_results_grow_too_long_is_cut_and_goes_on_when_sent_again(
    failing: GroupLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "RESULT_BYTES_MAX", 100)
    session = failing.open_session()
    commands = (b"long 60",) * 5
    first = failing.submit(session, 1, *commands, machine="failing")
    assert first.results == (bytes(60), bytes(60), None, None, None)
    assert {note.code for note in first.notes.values()} == {NoteCode.GAP}
    assert list(first.notes) == [2, 3, 4]
    second = failing.submit(session, 3, *commands[2:], lowest_open=3, machine="failing")
    assert second.results == (bytes(60), bytes(60), None)
    third = failing.submit(session, 5, b"count", lowest_open=5, machine="failing")
    assert third.results == (b"5",)


# Queries.


def test_queries_answer_or_fail_by_themselves(failing: GroupLog) -> None:
    assert failing.host.query("failing", b"") == b"0"
    for machine, request, message in [
        ("nowhere", b"", "no machine 'nowhere'"),
        ("failing", b"raise", "ZeroDivisionError"),
        ("failing", b"refuse", "not today"),
        ("failing", b"text", "with str"),
    ]:
        with pytest.raises(QueryError, match=message):
            failing.host.query(machine, request)
    session = failing.open_session()
    assert failing.submit(session, 1, b"a", machine="failing").results == (b"1",)


# Digests.


def test_a_digest_that_fails_is_a_failed_read(failing: GroupLog) -> None:
    session = failing.open_session()
    failing.submit(session, 1, *(b"a",) * 10, machine="failing")
    failing.host.digest()
    failing.submit(session, 11, b"a", machine="failing")
    with pytest.raises(QueryError, match="machine 'failing' has no digest: ZeroDivisionError"):
        failing.host.digest()
    assert failing.submit(session, 12, b"a", machine="failing").results == (b"12",)


def test_digest_covers_all_that_was_applied(log: GroupLog) -> None:
    session = log.open_session()
    seen = [log.host.digest()]
    steps: list[tuple[tuple[Entry, ...], int]] = [
        ((SessionOpen(""),), 0),
        ((SessionOpen("label"),), 0),
        ((MachineMount("lines", "log", 1),), 0),
        ((CommandBatch(session, 1, 1, "lines", (b"x",)),), 0),
        ((CommandBatch(session, 2, 2, "lines", ()),), 0),
        ((MasterRecord(Ballot(1, 2, 3)),), 0),
        ((MasterRecord(Ballot(1, 2, 3)),), 0),
        ((), 1),
    ]
    for entries, log_time_ns in steps:
        log.append(*entries, log_time_ns=log_time_ns)
        seen.append(log.host.digest())
    assert len(set(seen)) == len(seen)
    assert all(len(digest) == 16 for digest in seen)


def test_digest_covers_who_is_master() -> None:
    digests = []
    for member_id in (1, 2):
        log = GroupLog()
        log.append(MasterRecord(Ballot(1, member_id, 1)))
        digests.append(log.host.digest())
    assert digests[0] != digests[1]


def test_digests_do_not_depend_on_the_order_of_mounting() -> None:
    digests = []
    for names in (("a", "b"), ("b", "a")):
        machine_host = MachineHost(MachineRegistry(), group=1)
        mounts = tuple(MachineMount(name, "log", 1) for name in names)
        machine_host.apply(1, Value(0, mounts))
        digests.append(machine_host.machine_digest())
    assert digests[0] == digests[1]
