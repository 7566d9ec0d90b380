"""The ledgers machine: one owner and one outcome of a key, whoever is late."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines import ledger_messages as messages
from ray_paxos.machines import ledgers
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.ledger_messages import (
    Aborted,
    Done,
    Forgotten,
    KeyState,
    LedgerResult,
    Lost,
    Page,
    Running,
    Unknown,
    Won,
)
from ray_paxos.machines.ledgers import LedgersMachine

MS = 1_000_000
IDLE_MS = ledgers.IDLE_MS


class Group:
    """A machine, its log time in milliseconds, and what the latest step notified."""

    def __init__(self) -> None:
        self.machine = LedgersMachine()
        self.now_ms = 0
        self.topics: set[str] = set()

    def at(self, milliseconds: int) -> Group:
        """Let log time come so far, as the host does."""
        self.now_ms = milliseconds
        context = ApplyContext(1, 0, milliseconds * MS)
        while (due_ns := self.machine.due_ns) is not None and due_ns <= milliseconds * MS:
            self.machine.on_due(context)
        self.topics = context.topics
        return self

    def apply(self, command: bytes) -> LedgerResult:
        context = ApplyContext(1, 0, self.now_ms * MS)
        self.topics = context.topics
        result = self.machine.apply(command, context)
        assert result is not None
        return messages.decode_result(result)

    def begin(
        self, owner: str, lease_ms: int = 100, key: str = "k", ledger: str = "l"
    ) -> LedgerResult:
        return self.apply(messages.encode_begin(ledger, key, owner, lease_ms))

    def renew(self, token: int, lease_ms: int = 100, key: str = "k") -> LedgerResult:
        return self.apply(messages.encode_renew("l", key, token, lease_ms))

    def commit(
        self, token: int, outcome: bytes = b"out", keep_ms: int = 0, key: str = "k"
    ) -> LedgerResult:
        return self.apply(messages.encode_commit("l", key, token, outcome, keep_ms))

    def abort(self, token: int, key: str = "k") -> LedgerResult:
        return self.apply(messages.encode_abort("l", key, token))

    def forget(self, key: str = "k") -> LedgerResult:
        return self.apply(messages.encode_forget("l", key))

    def look(self, key: str = "k", ledger: str = "l") -> KeyState:
        return messages.decode_key_state(self.machine.query(messages.encode_look(ledger, key)))

    def outcome(self, key: str = "k", ledger: str = "l") -> KeyState:
        request = messages.encode_await_outcome(ledger, key)
        return messages.decode_key_state(self.machine.query(request))

    def topic(self, key: str = "k", ledger: str = "l") -> str:
        with pytest.raises(NotYetError) as caught:
            self.outcome(key, ledger)
        return caught.value.topic

    def page(self, *arguments: Any) -> Page:
        request = messages.encode_list_keys("l", *arguments)
        return messages.decode_page(self.machine.query(request))

    def list(self, *arguments: Any) -> list[str]:
        return [key for key, _ in self.page(*arguments).keys]


@pytest.fixture
def group() -> Group:
    return Group()


DONE = Done(b"out", "a", 1, 1)


def test_a_key_is_done_once(group: Group) -> None:
    assert group.look() == Unknown(0)
    assert group.begin("a") == Won(1, 1)
    assert group.begin("b") == Running("a", 1)
    assert group.look() == Running("a", 1)
    assert group.commit(1) == DONE
    for owner in ("a", "b"):
        assert group.begin(owner) == DONE
    assert group.look() == group.outcome() == DONE
    assert group.machine.due_ns is None
    assert group.at(10 * IDLE_MS).look() == DONE


def test_tokens_rise_over_all_keys_and_ledgers(group: Group) -> None:
    assert group.begin("a") == Won(1, 1)
    assert group.begin("a", key="other") == Won(2, 1)
    assert group.begin("a", ledger="m") == Won(3, 1)
    group.abort(1)
    assert group.begin("a") == Won(4, 2)


def test_to_begin_again_lets_the_lease_run_anew_and_never_shorter(group: Group) -> None:
    group.begin("a", 100)
    assert group.at(60).begin("a", 100) == Won(1, 1)
    assert group.at(159).look() == Running("a", 1)
    assert group.begin("a", 500) == Won(1, 1)
    assert group.begin("a", 1) == Won(1, 1)
    assert group.renew(1, 1) == Won(1, 1)
    assert group.at(658).look() == Running("a", 1)
    assert group.at(659).look() == Unknown(1)


def test_a_lease_that_ends_lets_another_begin(group: Group) -> None:
    group.begin("a", 100)
    assert group.at(99).begin("b") == Running("a", 1)
    assert group.at(100).begin("b") == Won(2, 2)
    before = group.machine.digest()
    assert group.commit(1) == Lost(Running("b", 2))
    assert group.renew(1) == Lost(Running("b", 2))
    assert group.abort(1) == Aborted(was_running=False)
    assert group.machine.digest() == before
    assert group.commit(2, b"by b") == Done(b"by b", "b", 2, 2)
    before = group.machine.digest()
    assert group.commit(1, b"by b") == Lost(Done(b"by b", "b", 2, 2))
    assert group.renew(1) == Lost(Done(b"by b", "b", 2, 2))
    assert group.renew(2) == Lost(Done(b"by b", "b", 2, 2))
    assert group.abort(2) == Aborted(was_running=False)
    assert group.machine.digest() == before


def test_one_that_is_late_goes_on_as_long_as_nobody_else_has_begun(group: Group) -> None:
    group.begin("a", 100)
    group.begin("a", 100, "other")
    assert group.at(200).look() == Unknown(1)
    assert group.renew(1, 100) == Won(1, 1)
    assert group.begin("b") == Running("a", 1)
    assert group.at(299).look() == Running("a", 1)
    assert group.at(300).commit(1) == DONE
    assert group.commit(2, key="other") == Done(b"out", "a", 1, 2)


def test_one_that_begins_again_after_its_lease_has_another_token(group: Group) -> None:
    group.begin("a", 100)
    assert group.at(100).begin("a") == Won(2, 2)
    assert group.commit(1) == Lost(Running("a", 2))


def test_an_old_token_is_good_for_nothing_even_when_all_since_is_forgotten(group: Group) -> None:
    group.begin("a", 100)
    group.at(100).begin("b")
    group.commit(2)
    group.forget()
    assert group.commit(1) == Lost(Unknown(0))
    assert group.commit(2) == Lost(Unknown(0))
    assert group.renew(1) == Lost(Unknown(0))
    assert group.machine.digest() != LedgersMachine().digest(), "tokens go on"
    assert group.begin("c") == Won(3, 1)
    assert group.commit(2) == Lost(Running("c", 1))


def test_who_aborts_lets_others_begin_at_once_and_commits_nothing(group: Group) -> None:
    group.begin("a")
    assert group.abort(1) == Aborted(was_running=True)
    assert group.look() == Unknown(1)
    assert group.abort(1) == Aborted(was_running=False)
    assert group.commit(1) == Lost(Unknown(1))
    assert group.renew(1) == Lost(Unknown(1))
    for nobodys in (0, -1):
        assert group.commit(nobodys) == Lost(Unknown(1))
        assert group.renew(nobodys) == Lost(Unknown(1))
    assert group.begin("b") == Won(2, 2)


def test_who_aborts_late_commits_nothing_either(group: Group) -> None:
    group.begin("a", 100)
    assert group.at(100).abort(1) == Aborted(was_running=False)
    assert group.commit(1) == Lost(Unknown(1))


def test_the_same_commit_again_is_done_and_another_is_lost(group: Group) -> None:
    group.begin("a")
    assert group.commit(1, keep_ms=50) == DONE
    before = group.machine.digest()
    assert group.at(20).commit(1, keep_ms=900) == DONE
    assert group.commit(1, b"else") == Lost(DONE)
    assert group.commit(2) == Lost(DONE)
    assert group.machine.digest() == before
    assert group.at(50).look() == Unknown(0)


def test_an_outcome_is_kept_as_long_as_it_says(group: Group) -> None:
    group.begin("a", 10)
    group.commit(1, keep_ms=100)
    assert group.at(99).begin("b") == DONE
    assert group.at(100).begin("b") == Won(2, 1)
    assert group.commit(1) == Lost(Running("b", 1))


def test_only_what_is_done_is_forgotten(group: Group) -> None:
    assert group.forget() == Forgotten(was_done=False)
    group.begin("a")
    assert group.forget() == Forgotten(was_done=False)
    assert group.look() == Running("a", 1)
    group.abort(1)
    assert group.forget() == Forgotten(was_done=False)
    assert group.look() == Unknown(1)
    group.begin("a")
    group.commit(2, keep_ms=50)
    assert group.forget() == Forgotten(was_done=True)
    assert group.forget() == Forgotten(was_done=False)
    assert (group.look(), group.machine.due_ns) == (Unknown(0), None)


def test_a_ledger_without_keys_is_as_one_never_used() -> None:
    one, other = Group(), Group()
    for group, key in ((one, "k"), (other, "j")):
        group.begin("a", key=key)
        assert group.list() == [key]
        group.commit(1, key=key)
        group.forget(key)
    other.begin("a", 100, ledger="m")
    one.begin("a", 100, ledger="n")
    for group in (one, other):
        group.at(100).at(100 + IDLE_MS)
    assert one.machine.digest() == other.machine.digest()


def test_a_key_that_nobody_is_at_is_forgotten_after_some_time(group: Group) -> None:
    group.begin("a", 100)
    assert group.at(99 + IDLE_MS).look() == Unknown(1)
    group = Group()
    group.begin("a", 100)
    group.at(100).at(99 + IDLE_MS + 1)
    assert (group.look(), group.machine.due_ns) == (Unknown(0), None)
    assert group.commit(1) == Lost(Unknown(0))
    assert group.renew(1) == Lost(Unknown(0))
    assert group.begin("b") == Won(2, 1)


def test_who_waits_is_told_the_outcome(group: Group) -> None:
    group.begin("a")
    group.begin("a", key="other")
    group.begin("a", ledger="m")
    topic, other, elsewhere = group.topic(), group.topic("other"), group.topic("k", "m")
    assert len({topic, other, elsewhere}) == 3
    group.renew(1)
    assert group.topics == set()
    group.commit(2, key="other")
    assert group.topics == {other}
    group.commit(1)
    assert group.topics == {topic}
    assert group.outcome() == DONE
    assert group.topic("k", "m") == elsewhere


def test_who_waits_learns_that_nobody_is_at_it(group: Group) -> None:
    assert group.outcome() == Unknown(0)
    group.begin("a", 100)
    group.begin("a", 900, "other")
    topic = group.topic()
    assert group.at(99).topics == set()
    assert group.at(100).topics == {topic}
    assert group.outcome() == Unknown(1)
    group.begin("b")
    assert group.topic() == topic
    group.abort(3)
    assert group.topics == {topic}
    assert group.outcome() == Unknown(2)


def test_a_topic_is_of_one_key_alone(group: Group) -> None:
    for ledger, key in (("a", "b/c"), ("a/b", "c")):
        group.begin("x", key=key, ledger=ledger)
    assert group.topic("b/c", "a") != group.topic("c", "a/b")


def test_pages_are_in_order_and_follow_each_other(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("b/2", "a", "b/10", "c", "b", "b/1"):
        group.begin("x", key=key)
    group.begin("x", key="b/3", ledger="m")
    group.commit(2, key="a")
    assert group.page("", "", 2) == Page(
        (("a", Done(b"out", "x", 1, 2)), ("b", Running("x", 1))), "b"
    )
    assert group.list("", "b", 2) == ["b/1", "b/10"]
    assert group.list("b/") == ["b/1", "b/10", "b/2"]
    assert group.page("b/", "b/10") == Page((("b/2", Running("x", 1)),), None)
    assert group.list("", "b/11") == ["b/2", "c"], "behind one that is not there"
    assert group.page("d") == Page((), None)
    group.begin("x", key="bb")
    assert group.list("b", "b/2") == ["bb"]
    group.forget("a")
    assert group.list() == ["b", "b/1", "b/10", "b/2", "bb", "c"]
    monkeypatch.setattr(ledgers, "PAGE_KEYS_MAX", 4)
    assert group.page("", "", 1_000).next_after == "b/2"
    with pytest.raises(QueryError, match="1 to 4 keys, not 0"):
        group.page("", "", 0)


def test_a_page_is_bounded_in_bytes(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "PAGE_BYTES_MAX", 1_000)
    for token in range(1, 6):
        group.begin("x", key=str(token))
        group.commit(token, b"o" * 600, key=str(token))
    assert group.list() == ["1", "2"]
    assert (group.list("", "2"), group.page("", "4").next_after) == (["3", "4"], None)


def test_a_list_changes_nothing_that_is_compared(group: Group) -> None:
    group.begin("x", key="b")
    group.begin("x", key="a")
    before = group.machine.digest()
    assert group.list() == ["a", "b"]
    group.page()
    group.machine.query(messages.encode_list_keys("nobody's"))
    assert group.machine.digest() == before


def test_keys_are_bounded(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "KEYS_MAX", 2)
    group.begin("a", 100)
    group.begin("a", 100, "l2", "m")
    before = group.machine.digest()
    for ledger in ("l", "new"):
        with pytest.raises(CommandError, match="2 keys already"):
            group.begin("a", key="third", ledger=ledger)
    assert group.machine.digest() == before
    assert group.begin("a") == Won(1, 1)
    group.commit(1)
    group.forget()
    assert group.begin("a", key="third") == Won(3, 1)
    group.at(100).at(100 + IDLE_MS)
    assert group.machine.due_ns is None
    assert (group.begin("a"), group.begin("a", key="n")) == (Won(4, 1), Won(5, 1))


def test_outcomes_are_bounded_together(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "OUTCOMES_BYTES_MAX", 10)
    for key in ("1", "2", "3"):
        group.begin("a", key=key)
    group.commit(1, b"o" * 8, key="1")
    before = group.machine.digest()
    with pytest.raises(CommandError, match="10 bytes already"):
        group.commit(2, b"o" * 3, key="2")
    assert group.machine.digest() == before
    group.commit(2, b"oo", keep_ms=50, key="2")
    group.forget("1")
    assert group.at(50).commit(3, b"o" * 10, key="3") == Done(b"o" * 10, "a", 1, 3)


LONG = "x" * (ledgers.LENGTH_MAX + 1)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (messages.encode_begin("l", "k", "b", 0), "lease_ms is 1 to"),
        (
            messages.encode_begin("l", "new", "b", ledgers.TIME_MS_MAX + 1),
            "lease_ms is 1 to",
        ),
        (messages.encode_renew("l", "k", 1, 0), "lease_ms is 1 to"),
        (messages.encode_commit("l", "k", 1, b"", -1), "keep_ms is 0 to"),
        (
            messages.encode_commit("l", "k", 1, b"o" * (ledgers.OUTCOME_BYTES_MAX + 1)),
            "bytes",
        ),
        *((messages.encode_begin(bad, "k", "b", 9), "1 to 500 characters") for bad in ("", LONG)),
        *((messages.encode_begin("l", bad, "b", 9), "1 to 500 characters") for bad in ("", LONG)),
        *((messages.encode_begin("l", "k", bad, 9), "1 to 500 characters") for bad in ("", LONG)),
    ],
    ids=range(11),
)
def test_what_means_nothing_changes_nothing(group: Group, command: bytes, why: str) -> None:
    group.begin("a")
    before = group.machine.digest()
    with pytest.raises(CommandError, match=why):
        group.apply(command)
    assert group.machine.digest() == before


def test_what_cannot_be_read_is_refused(group: Group) -> None:
    for wrong in (b"", b"junk", msgspec.msgpack.encode(["begin", "l", "k"])):
        with pytest.raises(CommandError, match="not a command of the ledgers machine"):
            group.machine.apply(wrong, ApplyContext(1))
        with pytest.raises(QueryError, match="not a query of the ledgers machine"):
            group.machine.query(wrong)


def test_many_that_end_at_once_end_in_parts(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "ENDS_MAX", 3)
    for number in range(5):
        group.begin("a", 10, str(number))
    context = ApplyContext(2, 0, 50 * MS)
    group.machine.on_due(context)
    assert (group.machine.due_ns, len(context.topics)) == (10 * MS, 3)
    group.machine.on_due(context)
    assert (group.machine.due_ns, len(context.topics)) == ((50 + IDLE_MS) * MS, 5)


def test_a_saved_state_goes_on_as_the_other(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "KEYS_MAX", 4)
    monkeypatch.setattr(ledgers, "OUTCOMES_BYTES_MAX", 10)
    for owner, key in (("a", "running"), ("b", "aborted"), ("c", "kept"), ("d", "done")):
        group.begin(owner, 100, key)
    group.abort(2, "aborted")
    group.commit(3, b"o" * 4, 70, "kept")
    group.commit(4, b"o" * 4, 0, "done")
    group.machine.save(tmp_path)
    loaded = Group()
    loaded.begin("x", 1, "else")
    assert loaded.list() == ["else"]
    loaded.machine.load(tmp_path)
    for each in (group, loaded):
        assert each.list() == ["aborted", "done", "kept", "running"]
        assert each.machine.due_ns == 70 * MS
        with pytest.raises(CommandError, match="4 keys already"):
            each.begin("x", key="fifth")
        with pytest.raises(CommandError, match="10 bytes already"):
            each.commit(1, b"o" * 3, key="running")
        assert each.at(70).list() == ["aborted", "done", "running"]
        assert each.at(100).look("running") == Unknown(1)
        assert each.begin("b", key="aborted") == Won(5, 2)
        assert each.commit(1, b"o" * 6, key="running") == Done(b"o" * 6, "a", 1, 1)
    assert loaded.machine.digest() == group.machine.digest()


# Against the obvious implementation.


@dataclass
class Plain:
    """One key, as the list of what was granted, of which only the last one counts."""

    grants: list[tuple[str, int]] = field(default_factory=list)
    ends_ms: int | None = None
    until_ms: int | None = None
    aborted: bool = False
    outcome: bytes | None = None

    def pass_to(self, now_ms: int) -> None:
        if self.ends_ms is not None and self.ends_ms <= now_ms:
            # The lease ends in the first instance that is so late, not before.
            self.ends_ms, self.until_ms = None, now_ms + IDLE_MS
        elif self.until_ms is not None and self.until_ms <= now_ms:
            vars(self).update(vars(Plain()))

    def state(self) -> KeyState:
        if not self.grants:
            return Unknown(0)
        (owner, token), attempt = self.grants[-1], len(self.grants)
        if self.outcome is not None:
            return Done(self.outcome, owner, attempt, token)
        return Running(owner, attempt) if self.ends_ms is not None else Unknown(attempt)

    def has(self, token: int) -> bool:
        return bool(self.grants) and self.grants[-1][1] == token and not self.aborted

    def begin(self, owner: str, lease_ms: int, now_ms: int, next_token: int) -> LedgerResult:
        state = self.state()
        if isinstance(state, Done) or (isinstance(state, Running) and state.owner != owner):
            return state
        if isinstance(state, Unknown):
            self.grants.append((owner, next_token))
        return self.run(lease_ms, now_ms)

    def run(self, lease_ms: int, now_ms: int) -> LedgerResult:
        self.ends_ms = max(self.ends_ms or 0, now_ms + lease_ms)
        self.until_ms, self.aborted = None, False
        return Won(self.grants[-1][1], len(self.grants))

    def renew(self, token: int, lease_ms: int, now_ms: int) -> LedgerResult:
        if self.outcome is not None or not self.has(token):
            return Lost(self.state())
        return self.run(lease_ms, now_ms)

    def commit(self, token: int, outcome: bytes, keep_ms: int, now_ms: int) -> LedgerResult:
        if not self.has(token) or self.outcome not in (None, outcome):
            return Lost(self.state())
        if self.outcome is None:
            self.outcome, self.ends_ms = outcome, None
            self.until_ms = now_ms + keep_ms if keep_ms else None
        return self.state()

    def abort(self, token: int, now_ms: int) -> LedgerResult:
        if self.outcome is not None or not self.has(token):
            return Aborted(was_running=False)
        was_running, self.aborted = self.ends_ms is not None, True
        if was_running:
            self.ends_ms, self.until_ms = None, now_ms + IDLE_MS
        return Aborted(was_running)

    def forget(self) -> LedgerResult:
        was_done = self.outcome is not None
        if was_done:
            vars(self).update(vars(Plain()))
        return Forgotten(was_done)


KEYS, OWNERS = st.sampled_from("kkj"), st.sampled_from("abc")
# A token as one of those that were given so far, the latest first.
TOKENS, TIMES = st.sampled_from([0, 0, 0, 1, 1, 2, 3]), st.integers(1, 9)
OUTCOMES = st.sampled_from([b"", b"o", b"o", b"p"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), KEYS, OWNERS, TIMES),
        st.tuples(st.just("begin"), KEYS, OWNERS, TIMES),
        st.tuples(st.just("renew"), KEYS, TOKENS, TIMES),
        st.tuples(st.just("commit"), KEYS, TOKENS, OUTCOMES, st.integers(0, 5)),
        st.tuples(st.just("commit"), KEYS, st.just(0), OUTCOMES, st.just(0)),
        st.tuples(st.just("abort"), KEYS, TOKENS),
        st.tuples(st.just("forget"), KEYS),
        st.tuples(st.just("pass"), st.integers(1, 6)),
        st.tuples(st.just("pass"), st.sampled_from([IDLE_MS - 3, IDLE_MS])),
        st.tuples(st.just("save")),
    ),
    max_size=40,
)


def expected_of(plain: Plain, step: list[Any], now_ms: int, next_token: int) -> LedgerResult:
    what, *arguments = step
    if what == "begin":
        arguments += [now_ms, next_token]
    elif what != "forget":
        arguments.append(now_ms)
    result: LedgerResult = getattr(plain, what)(*arguments)
    return result


@settings(max_examples=500, deadline=None)
@given(STEPS)
def test_it_does_what_a_list_of_grants_does(steps: list[tuple[Any, ...]]) -> None:
    group, replica = Group(), Group()
    plain, tokens = {"k": Plain(), "j": Plain()}, [0]
    outcomes: dict[int, bytes] = {}
    for what, *arguments in steps:
        if what == "save":
            loaded = Group()
            with TemporaryDirectory() as directory:
                replica.machine.save(Path(directory))
                loaded.machine.load(Path(directory))
            loaded.now_ms, replica = replica.now_ms, loaded
            continue
        topics = {key: group.topic(key) for key, each in plain.items() if each.ends_ms is not None}
        if what == "pass":
            for each in (group, replica):
                each.at(each.now_ms + arguments[0])
            for key_plain in plain.values():
                key_plain.pass_to(group.now_ms)
        else:
            key, *rest = arguments
            if what in ("renew", "commit", "abort"):
                rest[0] = tokens[-1 - min(rest[0], len(tokens) - 1)]
            command = getattr(messages, f"encode_{what}")("l", key, *rest)
            expected = expected_of(plain[key], [what, *rest], group.now_ms, tokens[-1] + 1)
            result = group.apply(command)
            assert replica.apply(command) == result == expected
            if isinstance(result, Won) and result.token not in tokens:
                assert result.token > tokens[-1]
                tokens.append(result.token)
            if isinstance(result, Done) and what == "commit":
                assert outcomes.setdefault(result.token, result.outcome) == rest[1]
        told = {topic for key, topic in topics.items() if plain[key].ends_ms is None}
        assert told <= group.topics
        assert group.topics == replica.topics
        for key, key_plain in plain.items():
            assert group.look(key) == key_plain.state()
            if key_plain.ends_ms is None:
                assert group.outcome(key) == key_plain.state()
            else:
                group.topic(key)
        assert group.list() == sorted(key for key, each in plain.items() if each.grants)
        assert group.machine.digest() == replica.machine.digest()
        assert group.machine.due_ns == replica.machine.due_ns
