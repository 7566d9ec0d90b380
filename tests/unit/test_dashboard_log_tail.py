"""Reading the end of a log from learners: bounded, decoded, and never the beginning of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.learner_messages import ChosenValue, LearnReply, LearnRequest
from ray_paxos.core.messages import Message
from ray_paxos.core.values import CommandBatch, MachineMount, SessionId, Value, encode_value
from ray_paxos.dashboard.log_tail import BYTES_MAX, COUNT_MAX, LINES_MAX, QUESTIONS_MAX, read_tail
from ray_paxos.errors import ClusterError
from ray_paxos.machines import kv

BALLOT = Ballot(1, 1, 1)


class Learners:
    """Members with logs, asked as the page asks them; those without a log do not answer."""

    def __init__(self, **logs: ChosenLog | None) -> None:
        self.logs = logs
        self.asked: list[str] = []
        self.sent_bytes = 0

    def ask(self, member: str, message: Message) -> Sequence[Message]:
        self.asked.append(member)
        log = self.logs[member]
        if log is None:
            return ()
        assert isinstance(message, LearnRequest)
        values = log.read(message.from_instance, message.bytes_max)
        self.sent_bytes += sum(len(chosen.value) for chosen in values)
        return (
            LearnReply(
                message.from_instance, tuple(values), log.learned_through, log.memory_floor, 1
            ),
        )


def log_of(*values: bytes, base: int = 0) -> ChosenLog:
    log = ChosenLog(1 << 40, base)
    for instance_id, value in enumerate(values, base + 1):
        log.add(ChosenValue(instance_id, BALLOT, value))
    return log


def value_of(*commands: bytes, machine: str = "kv") -> bytes:
    batch = CommandBatch(SessionId(1, 0), 1, 1, machine, commands)
    return encode_value(Value(7, (batch,)))


def put(key: str, value: bytes = b"v") -> bytes:
    return value_of(kv.encode_put(key, value))


def test_the_last_instances_are_read_and_decoded() -> None:
    learners = Learners(m1=log_of(*(put(f"key{number}") for number in range(1, 101))))
    tail = read_tail(3, ["m1"], learners.ask, 5, {"kv": "kv"})
    assert (tail.group, tail.member, tail.learned_through, tail.left_out) == (3, "m1", 100, 0)
    assert [line.instance_id for line in tail.lines] == [96, 97, 98, 99, 100]
    last = tail.lines[-1]
    assert (last.kind, last.machine, last.session, last.ballot) == ("command", "kv", "1.0", "1.1.1")
    assert last.text == 'put key="key100" value="v"'
    assert len(learners.asked) == 2


def test_a_machine_that_is_not_known_is_shown_as_bytes_until_its_mount_is_seen() -> None:
    mount = encode_value(Value(0, (MachineMount("other", "log", 1),)))
    log = log_of(value_of(b"\x00", machine="strange"), mount, value_of(b"hello", machine="other"))
    tail = read_tail(1, ["m1"], Learners(m1=log).ask, 50, {})
    kinds = [line.kind for line in tail.lines]
    assert kinds == ["command", "machine", "command"]
    assert tail.lines[2].text == 'line "hello"'
    assert tail.lines[0].text == "1 bytes 00"


def test_a_script_is_text_and_a_control_character_is_escaped() -> None:
    tail = read_tail(
        1,
        ["m1"],
        Learners(m1=log_of(put('<script>"\x1b[2J', b"<img onerror=1>"))).ask,
        1,
        {"kv": "kv"},
    )
    assert tail.lines[0].text == r'put key="<script>"\x1b[2J" value="<img onerror=1>"'


def test_what_no_release_can_read_is_shown_all_the_same() -> None:
    tail = read_tail(1, ["m1"], Learners(m1=log_of(b"\xc1 nonsense")).ask, 1, {})
    assert tail.lines[0].kind == "opaque"


def test_the_next_member_is_asked_where_one_does_not_answer() -> None:
    learners = Learners(m1=None, m2=log_of(put("a")))
    assert read_tail(1, ["m1", "m2"], learners.ask, 5, {}).member == "m2"
    with pytest.raises(ClusterError, match="no learner answers for the log of group 1"):
        read_tail(1, ["m1"], learners.ask, 5, {})
    with pytest.raises(ClusterError):
        read_tail(1, [], learners.ask, 5, {})


def test_an_empty_log_and_one_that_is_on_disk_only_have_no_lines() -> None:
    tail = read_tail(1, ["m1"], Learners(m1=log_of()).ask, 5, {})
    assert (tail.lines, tail.learned_through) == ((), 0)
    started_anew = log_of(base=70)
    tail = read_tail(1, ["m1"], Learners(m1=started_anew).ask, 5, {})
    assert (tail.lines, tail.learned_through, tail.memory_floor) == ((), 70, 71)
    started_anew.add(ChosenValue(71, BALLOT, put("a")))
    tail = read_tail(1, ["m1"], Learners(m1=started_anew).ask, 5, {})
    assert [line.instance_id for line in tail.lines] == [71]
    for instance_id in range(72, 80):
        started_anew.add(ChosenValue(instance_id, BALLOT, put("a")))
    tail = read_tail(1, ["m1"], Learners(m1=started_anew).ask, 50, {})
    assert [line.instance_id for line in tail.lines] == list(range(71, 80)), "all that it has"


def test_of_an_instance_with_many_commands_the_last_are_shown() -> None:
    commands = [kv.encode_put(f"k{number}", b"") for number in range(LINES_MAX + 30)]
    tail = read_tail(1, ["m1"], Learners(m1=log_of(value_of(*commands))).ask, 5, {"kv": "kv"})
    assert len(tail.lines) == LINES_MAX
    assert tail.left_out == 30
    assert f'"k{LINES_MAX + 29}"' in tail.lines[-1].text


def test_a_shorter_end_is_cut_from_a_longer_one() -> None:
    values = [
        value_of(*(kv.encode_put(f"k{number}", b"") for number in range(40))) for _ in range(20)
    ]
    learners = Learners(m1=log_of(*values))
    longest = read_tail(1, ["m1"], learners.ask, COUNT_MAX, {"kv": "kv"})
    assert "left_out_of" not in longest.to_dict()
    for count in (1, 4, 5, 6, 20, COUNT_MAX):
        wanted = read_tail(1, ["m1"], learners.ask, count, {"kv": "kv"})
        assert longest.last(count) == wanted
    assert longest.last(6).left_out == 40
    empty = read_tail(1, ["m1"], Learners(m1=log_of()).ask, 5, {})
    assert empty.last(1) == empty


def test_where_the_values_are_large_about_as_many_are_given_as_there_is_room_for() -> None:
    log = log_of(*(b"\xc1" * 2_500 for _ in range(COUNT_MAX)))
    tail = read_tail(1, ["m1"], Learners(m1=log).ask, COUNT_MAX, {})
    assert len(tail.lines) >= BYTES_MAX // 2_500 // 2


def test_no_more_instances_are_read_than_there_is_a_bound_for() -> None:
    log = log_of(*(put("a") for _ in range(COUNT_MAX + 100)))
    tail = read_tail(1, ["m1"], Learners(m1=log).ask, 10 * COUNT_MAX, {})
    assert tail.left_out + len(tail.lines) == COUNT_MAX


@given(
    st.lists(st.sampled_from([10, 1_000, 90_000, 400_000]), min_size=1, max_size=60),
    st.integers(1, 2 * COUNT_MAX),
)
def test_whatever_the_sizes_it_ends_with_the_last_instance_and_is_bounded(
    sizes: list[int], count: int
) -> None:
    learners = Learners(m1=log_of(*(b"\xc1" * size for size in sizes)))
    tail = read_tail(1, ["m1"], learners.ask, count, {})
    shown = [line.instance_id for line in tail.lines]
    assert shown[-1] == len(sizes)
    assert shown == list(range(shown[0], len(sizes) + 1))
    assert len(shown) <= count
    assert len(learners.asked) <= QUESTIONS_MAX + 1
    largest = max(sizes)
    assert learners.sent_bytes <= QUESTIONS_MAX * (BYTES_MAX + largest)
    if sum(sizes) <= BYTES_MAX:
        assert len(shown) == min(count, COUNT_MAX, len(sizes))
