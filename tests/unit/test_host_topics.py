"""The topics that machines notify: those of one instance, by machine; and queries that wait."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ray_paxos.core.values import CommandBatch, MachineMount
from ray_paxos.errors import ApplyStoppedError, CommandError, NotYetError, QueryError
from ray_paxos.machines.base import ApplyContext, StateMachine
from tests.unit.group_log import GroupLog


class Bell(StateMachine):
    """A command is a topic that is notified; `refuse ...` is refused after that.

    `at ...` has a topic notified at a log time, by `on_due`. A query waits for its topic.
    """

    kind = "bell"
    at: tuple[int, str] | None = None

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        kind, _, topic = command.decode().partition(" ")
        match kind:
            case "ring":
                context.notify(topic)
            case "refuse":
                context.notify(topic)
                raise CommandError("refused")
            case "at":
                time, _, name = topic.partition(" ")
                self.at = int(time), name
            case "wrong":
                context.notify(7)  # type: ignore[arg-type]
        return None

    @property
    def due_ns(self) -> int | None:
        return self.at[0] if self.at is not None else None

    def on_due(self, context: ApplyContext) -> None:
        assert self.at is not None
        context.notify(self.at[1])
        self.at = None

    def query(self, request: bytes) -> bytes:
        if request == b"wrong":
            raise NotYetError(7)  # type: ignore[arg-type]
        raise NotYetError(request.decode(), "nobody has rung")


class Chimes(Bell):
    """Executes a whole run of commands in one go."""

    kind = "chimes"

    def apply_many(
        self, commands: Sequence[bytes], context: ApplyContext, bytes_max: int
    ) -> Sequence[bytes | None]:
        return [self.apply(command, context) for command in commands]


@pytest.fixture
def log() -> GroupLog:
    """Two machines of one kind, and one that executes runs; and a session."""
    found = GroupLog(Bell, Chimes, machine="bell")
    found.append(MachineMount("other", "bell", 1), MachineMount("chimes", "chimes", 1))
    return found


def test_topics_are_those_of_the_instance_applied_last(log: GroupLog) -> None:
    session = log.open_session()
    assert log.host.topics == set()
    log.submit(session, 1, b"ring a", b"ring b", b"ring a", machine="bell")
    assert log.host.topics == {("bell", "a"), ("bell", "b")}
    log.submit(session, 4, b"ring c", machine="bell")
    assert log.host.topics == {("bell", "c")}
    log.append()
    assert log.host.topics == set(), "nothing is left over to the next one"


def test_nothing_is_left_over_where_the_next_command_notifies_nothing(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"ring a", machine="bell")
    log.submit(session, 2, b"nothing", machine="bell")
    assert log.host.topics == set()
    log.submit(session, 3, b"nothing", machine="other")
    assert log.host.topics == set()


def test_one_name_in_two_machines_is_two_topics(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"ring a", machine="other")
    assert log.host.topics == {("other", "a")}
    log.append(
        CommandBatch(session, 1, 2, "bell", (b"ring a",)),
        CommandBatch(session, 1, 3, "other", (b"ring a", b"ring b")),
        CommandBatch(session, 1, 5, "bell", (b"nothing",)),
    )
    assert log.host.topics == {("bell", "a"), ("other", "a"), ("other", "b")}


def test_a_run_that_is_executed_in_one_go_notifies_all_its_topics(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"ring a", b"ring b", machine="chimes")
    assert log.host.topics == {("chimes", "a"), ("chimes", "b")}


def test_a_command_that_was_applied_before_notifies_nothing(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"ring a", machine="bell")
    log.submit(session, 1, b"ring a", machine="bell")
    assert log.host.topics == set()


def test_what_a_refused_command_has_notified_counts(log: GroupLog) -> None:
    # What it changed before it was refused stays changed.
    session = log.open_session()
    result = log.submit(session, 1, b"refuse a", b"ring b", machine="bell")
    assert list(result.notes) == [0]
    assert log.host.topics == {("bell", "a"), ("bell", "b")}


def test_what_ends_by_itself_notifies_in_the_instance_in_which_it_ends(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"at 50 a", machine="bell")
    log.submit(session, 2, b"at 50 b", machine="other")
    assert log.host.topics == set()
    log.append(CommandBatch(session, 1, 3, "bell", (b"ring c",)), log_time_ns=60)
    assert log.host.topics == {("bell", "a"), ("other", "b"), ("bell", "c")}
    log.append(log_time_ns=70)
    assert log.host.topics == set()


def test_topics_are_no_part_of_the_state(log: GroupLog) -> None:
    silent = GroupLog(Bell, Chimes, machine="bell")
    silent.append(MachineMount("other", "bell", 1), MachineMount("chimes", "chimes", 1))
    for each, command in ((log, b"ring a"), (silent, b"nothing")):
        each.submit(each.open_session(), 1, command, machine="bell")
    assert log.host.topics != silent.host.topics
    assert log.host.digest() == silent.host.digest()


def test_a_topic_that_is_no_text_is_a_failure_of_the_machine(log: GroupLog) -> None:
    # Else it would be found only where somebody waits, by a learner that looks for topics.
    session = log.open_session()
    with pytest.raises(ApplyStoppedError, match="a topic is a str, not int"):
        log.submit(session, 1, b"wrong", machine="bell")


def test_a_query_without_an_answer_says_what_it_waits_for(log: GroupLog) -> None:
    with pytest.raises(NotYetError, match="nobody has rung") as caught:
        log.host.query("bell", b"a")
    assert caught.value.topic == "a"


def test_a_query_that_waits_for_no_text_fails(log: GroupLog) -> None:
    with pytest.raises(QueryError, match="machine 'bell' waits for a topic of int") as caught:
        log.host.query("bell", b"wrong")
    assert not isinstance(caught.value, NotYetError)
