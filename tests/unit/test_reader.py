"""Which answers a client's reader takes for a linearizable read, and whom it asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest

from ray_paxos.actors import quorum_reader
from ray_paxos.actors.quorum_reader import QuorumReadTurn
from ray_paxos.actors.read_calls import ReadCall, ReadCalls, Started
from ray_paxos.actors.reader import TRY_NS, Reader
from ray_paxos.actors.roster import Roster
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryProblem,
    QueryResult,
    QuorumRead,
    QuorumReadAnswer,
    ReadIndex,
    ReadIndexConfirmed,
)
from ray_paxos.core.genesis import Genesis, MemberSpec, Voter
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.patience import SEARCH_NS, Patience
from ray_paxos.core.read_problems import ReadProblem
from ray_paxos.errors import LeaseError, QueryError

OWN, LATER = Ballot(6, 1, 1), Ballot(7, 3, 1)
NAMES = {1: "m1", 2: "m2", 3: "m3"}
PLAYED = Roster(
    Genesis(1, "played", "0" * 32, tuple(MemberSpec(name, m) for m, name in NAMES.items()), ())
)
VOTERS = tuple(Voter(member_id, member_id) for member_id in NAMES)
SILENT = ReadProblem("silent")

Play = Callable[[int, RoleName, Message], Message | ReadProblem]


class PlayedCalls(ReadCalls):
    """Calls that a test answers, at once.

    Attributes:
        asked: Member, role and message of each call, in order.
    """

    def __init__(self, play: Play, roster: Roster = PLAYED) -> None:
        super().__init__(roster=roster, group=1, client_id=9)
        self.asked: list[tuple[int, RoleName, Message]] = []
        self._play = play

    def start(
        self, role: RoleName, message: Message, *members: int, within_s: float
    ) -> list[Started]:
        return [self._played(member, role, message) for member in members]

    def _played(self, member: int, role: RoleName, message: Message) -> Started:
        self.asked.append((member, role, message))
        answer = self._play(member, role, message)
        if isinstance(answer, ReadProblem):
            return answer
        sender = Address(member, role)
        return ReadCall(member, Envelope(b"", 1, sender, member, 1, 0, answer))

    def finish(self, started: Sequence[Started], patience_s: float) -> list[Envelope | ReadProblem]:
        return [call.reference if isinstance(call, ReadCall) else call for call in started]


class PlayedReader(Reader):
    """A reader of members 1 to 3, which takes member 1 for the master."""

    def __init__(
        self,
        play: Play,
        *,
        turn: QuorumReadTurn | None = None,
        has_lease: bool = False,
        roster: Roster = PLAYED,
    ) -> None:
        turn = turn or QuorumReadTurn()
        patience = Patience(sorted(roster.names))
        super().__init__(roster=roster, patience=patience, group=1, has_lease=has_lease, turn=turn)
        self.calls = self._calls = PlayedCalls(play, roster)
        self._by_quorum = quorum_reader.QuorumReader(self.calls, self._ids, turn)
        self._master = 1

    def linearizable(self, timeout_s: float = 0.0, at_least: int = 0) -> bytes:
        return self.read(
            b"?",
            "kv",
            Consistency.LINEARIZABLE,
            at_least=at_least,
            max_staleness_ms=None,
            timeout_s=timeout_s,
        )

    def kinds(self) -> list[type[Message]]:
        return [type(message) for _, _, message in self.calls.asked]


def in_turn(*answers: Message | ReadProblem) -> Play:
    """These answers, in the order in which the calls are made."""
    left = list(answers)
    return lambda member, role, message: left.pop(0)


def by_index(*answers: Message | ReadProblem) -> PlayedReader:
    """A reader whom others keep from asking acceptors."""
    turn = QuorumReadTurn()
    assert turn.take()
    return PlayedReader(in_turn(*answers), turn=turn)


def accepted(through: int) -> QuorumReadAnswer:
    return QuorumReadAnswer(1, through, VOTERS)


def test_a_query_says_how_long_somebody_waits_for_it() -> None:
    reader = by_index(ReadIndexConfirmed(1, 5, OWN), QueryResult(2, 5, b"x", OWN))
    reader.linearizable(timeout_s=0.5)
    long = by_index(ReadIndexConfirmed(1, 5, OWN), QueryResult(2, 5, b"x", OWN))
    long.linearizable(timeout_s=60.0)
    (short_query,) = (m for _, _, m in reader.calls.asked if isinstance(m, Query))
    (long_query,) = (m for _, _, m in long.calls.asked if isinstance(m, Query))
    assert 400 <= short_query.timeout_ms <= 500
    assert 1_900 <= long_query.timeout_ms <= 2_000, "one try, after which it is asked again"


# By the master's index.


def test_an_answer_as_of_the_index_counts_though_it_was_read_before() -> None:
    reader = by_index(ReadIndexConfirmed(1, 50, OWN), QueryResult(2, 50, b"x", OWN))
    assert reader.linearizable() == b"x"
    assert reader.kinds() == [ReadIndex, Query]


def test_an_older_answer_is_asked_for_again_at_the_index() -> None:
    reader = by_index(
        ReadIndexConfirmed(1, 50, OWN), QueryResult(2, 49, b"old", OWN), QueryResult(3, 51, b"x")
    )
    assert reader.linearizable() == b"x"
    again = reader.calls.asked[-1][2]
    assert isinstance(again, Query)
    assert again.at_least == 50


def test_an_answer_that_shows_a_later_reign_does_not_count() -> None:
    # The next master's own learner may not have applied yet what a deposed one's shows: a read by
    # its lease, later, would go back in time.
    reader = by_index(ReadIndexConfirmed(1, 50, OWN), QueryResult(2, 52, b"x", LATER))
    with pytest.raises(QueryError, match="deposed"):
        reader.linearizable()


def test_a_refusal_counts_only_where_the_state_is_fresh_enough() -> None:
    refused = QueryFailed(2, 3, "no machine", QueryProblem.REFUSED)
    reader = by_index(ReadIndexConfirmed(1, 50, OWN), refused, QueryResult(3, 50, b"x", OWN))
    assert reader.linearizable() == b"x"
    reader = by_index(
        ReadIndexConfirmed(1, 3, OWN), QueryFailed(2, 3, "no machine", QueryProblem.REFUSED)
    )
    with pytest.raises(QueryError, match="no machine"):
        reader.linearizable(1.0)


# By a quorum of acceptors.


def test_a_lone_read_asks_a_majority_and_a_learner_at_once() -> None:
    reader = PlayedReader(in_turn(accepted(49), accepted(50), QueryResult(2, 50, b"x", OWN)))
    assert reader.linearizable() == b"x"
    assert [(member, role) for member, role, _ in reader.calls.asked] == [
        (1, RoleName.ACCEPTOR),
        (2, RoleName.ACCEPTOR),
        (1, RoleName.LEARNER),
    ]


def test_a_learner_behind_the_index_is_asked_again_once() -> None:
    reader = PlayedReader(
        in_turn(
            accepted(50),
            accepted(3),
            QueryResult(2, 49, b"old", OWN),
            QueryResult(2, 50, b"x", OWN),
        )
    )
    assert reader.linearizable() == b"x"
    again = reader.calls.asked[-1][2]
    assert isinstance(again, Query)
    assert (again.at_least, again.consistency) == (50, Consistency.STALE)


@pytest.mark.parametrize(
    "answers",
    [
        (accepted(50), accepted(50), QueryResult(2, 50, b"y", LATER)),
        (accepted(50), accepted(50), QueryResult(2, 50, b"y", None)),
        (accepted(50), accepted(50), QueryFailed(2, 50, "?", QueryProblem.REFUSED)),
        (accepted(50), SILENT, QueryResult(2, 50, b"y", OWN)),
        (accepted(50), accepted(50), SILENT),
        (
            accepted(50),
            accepted(50),
            QueryResult(2, 49, b"old", OWN),
            QueryFailed(2, 49, "?", QueryProblem.BEHIND),
        ),
    ],
    ids=["another reign", "nothing learned", "refused", "no majority", "no learner", "behind"],
)
def test_what_does_not_count_is_read_by_the_index(
    answers: tuple[Message | ReadProblem, ...],
) -> None:
    confirmed = ReadIndexConfirmed(1, 50, OWN)
    reader = PlayedReader(in_turn(*answers, confirmed, QueryResult(3, 50, b"x", OWN)))
    assert reader.linearizable() == b"x"
    assert reader.kinds()[-2:] == [ReadIndex, Query]


def test_what_an_instance_is_asked_for_it_has_to_hold_either_way() -> None:
    reader = PlayedReader(
        in_turn(
            accepted(50),
            accepted(3),
            QueryResult(2, 49, b"old", OWN),
            QueryResult(2, 70, b"x", OWN),
        )
    )
    assert reader.linearizable(at_least=60) == b"x"
    asked = [message.at_least for _, _, message in reader.calls.asked if isinstance(message, Query)]
    assert asked == [60, 60]


def test_reads_that_come_meanwhile_go_by_the_index() -> None:
    turn = QuorumReadTurn()
    confirmed = (ReadIndexConfirmed(1, 50, OWN), QueryResult(3, 50, b"x", OWN))
    second = PlayedReader(in_turn(*confirmed, *confirmed), turn=turn)
    quorum = in_turn(accepted(50), accepted(50), QueryResult(2, 50, b"x", OWN))

    def play(member: int, role: RoleName, message: Message) -> Message | ReadProblem:
        if not second.calls.asked:
            assert second.linearizable() == b"x"
        return quorum(member, role, message)

    first = PlayedReader(play, turn=turn)
    assert first.linearizable() == b"x"
    assert first.kinds() == [QuorumRead, QuorumRead, Query]
    assert second.kinds() == [ReadIndex, Query]
    assert turn.take(), "the turn was given back"


def test_after_one_that_did_not_answer_nobody_asks_for_a_while_and_then_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    silent = {2}

    def play(member: int, role: RoleName, message: Message) -> Message | ReadProblem:
        if isinstance(message, ReadIndex):
            return ReadIndexConfirmed(1, 50, OWN)
        if isinstance(message, QuorumRead):
            return SILENT if member in silent else accepted(50)
        return QueryResult(3, 50, b"x", OWN)

    turn = QuorumReadTurn()
    reader, other = PlayedReader(play, turn=turn), PlayedReader(play, turn=turn)
    assert reader.linearizable() == b"x"
    assert reader.kinds()[-2:] == [ReadIndex, Query]
    assert other.linearizable() == b"x"
    assert other.kinds() == [ReadIndex, Query], "it would wait for member 2, too"
    for _ in range(2):
        now_s += quorum_reader.REST_S
        reader.calls.asked.clear()
        assert reader.linearizable() == b"x"
    assert [(m, role) for m, role, _ in reader.calls.asked] == [
        (3, RoleName.ACCEPTOR),
        (1, RoleName.ACCEPTOR),
        (1, RoleName.LEARNER),
    ]


def test_a_bug_in_a_read_leaves_the_turn_to_others() -> None:
    def play(member: int, role: RoleName, message: Message) -> Message | ReadProblem:
        raise ZeroDivisionError

    turn = QuorumReadTurn()
    with pytest.raises(ZeroDivisionError):
        PlayedReader(play, turn=turn).linearizable()
    assert turn.take()


# Under a lease, and without a master.


def test_under_a_lease_one_call_is_enough() -> None:
    reader = PlayedReader(in_turn(QueryResult(1, 50, b"x", OWN)), has_lease=True)
    assert reader.linearizable() == b"x"
    assert reader.kinds() == [Query]


def test_a_master_without_its_lease_is_read_by_a_quorum() -> None:
    none = QueryFailed(1, 50, "no lease", QueryProblem.NO_LEASE, 1)
    result = QueryResult(2, 50, b"x", OWN)
    reader = PlayedReader(in_turn(none, accepted(50), accepted(50), result), has_lease=True)
    assert reader.linearizable() == b"x"
    assert reader.kinds() == [Query, QuorumRead, QuorumRead, Query]


def lease_read(play: Play, timeout_s: float) -> PlayedReader:
    """A reader that asks for what only a lease gives, in vain."""
    reader = PlayedReader(play, has_lease=True)
    reader.read(
        b"?", "kv", Consistency.LEASE, at_least=0, max_staleness_ms=None, timeout_s=timeout_s
    )
    return reader


def test_silence_when_the_time_is_up_hides_nothing() -> None:
    """The last try has no time for an answer; what the read waited for was told before."""
    asked: list[int] = []

    def play(member: int, role: RoleName, message: Message) -> Message | ReadProblem:
        asked.append(member)
        refused = QueryFailed(1, 5, "no lease here", QueryProblem.NO_LEASE, 1)
        return refused if len(asked) == 1 else SILENT

    with pytest.raises(LeaseError, match="no lease here"):
        lease_read(play, 0.05)
    assert len(asked) > 1


@pytest.mark.parametrize("problem", [QueryProblem.NOT_MASTER, None])
def test_silence_is_told_where_nothing_else_was_waited_for(problem: QueryProblem | None) -> None:
    asked: list[int] = []

    def play(member: int, role: RoleName, message: Message) -> Message | ReadProblem:
        asked.append(member)
        return ReadProblem("first", problem) if len(asked) == 1 else SILENT

    with pytest.raises(QueryError, match="silent") as raised:
        lease_read(play, 0.05)
    assert type(raised.value) is QueryError


def test_a_master_is_asked_that_others_of_the_process_have_met() -> None:
    """It joined after the reader was made, and nobody has to look for it any more."""

    def play(member: int, role: RoleName, message: Message) -> Message | ReadProblem:
        if member == 4:
            return QueryResult(1, 9, b"x")
        return QueryFailed(1, 0, "no lease", QueryProblem.NO_LEASE, 4)

    roster = Roster(PLAYED.genesis)
    reader = PlayedReader(play, has_lease=True, roster=roster)
    roster.meet([MemberSpec("m4", 4)])
    assert reader.linearizable(timeout_s=5.0) == b"x"


def test_members_that_name_each_other_are_not_asked_without_a_pause() -> None:
    def rivals(member: int, role: RoleName, message: Message) -> Message | ReadProblem:
        return QueryFailed(1, 0, "no lease", QueryProblem.NO_LEASE, 3 - member)

    reader = PlayedReader(rivals, has_lease=True)
    with pytest.raises(LeaseError):
        reader.read(b"?", "kv", Consistency.LEASE, at_least=0, max_staleness_ms=None, timeout_s=0.2)
    assert len(reader.calls.asked) < 20


@pytest.mark.parametrize(
    ("members", "timeout_s", "reads"), [(5, 9.0, 1), (5, 0.1, 6), (24, 1.0, 4)]
)
def test_members_that_were_left_behind_do_not_keep_a_reader_from_the_master(
    members: int, timeout_s: float, reads: int
) -> None:
    """4 was removed while it was away, and names 3, which has left since; neither knows of 5.

    Also where no read has the time for it: the next one goes on.
    """

    def left_behind(member: int, role: RoleName, message: Message) -> Message | ReadProblem:
        match member:
            case 5:
                return QueryResult(1, 9, b"x")
            case 4:
                return QueryFailed(1, 0, "no lease", QueryProblem.NO_LEASE, 3)
        return QueryFailed(1, 0, "not here", QueryProblem.NO_GROUP)

    roster = Roster(PLAYED.genesis)
    roster.meet([MemberSpec(f"m{m}", m) for m in range(4, members + 1)])
    reader = PlayedReader(left_behind, has_lease=True, roster=roster)
    found = False
    for _ in range(reads):
        with suppress(QueryError):
            found = found or reader.linearizable(timeout_s=timeout_s) == b"x"
    assert found
    asked = [member for member, _, _ in reader.calls.asked]
    assert set(asked[: asked.index(5)]) == {1, 2, 3, 4}
    reader.linearizable()
    assert [member for member, _, _ in reader.calls.asked] == [*asked, 5], "it begins there"


# Members that give no answer.


def only(member: int) -> Play:
    """One member answers, and leads; nothing comes of calls to the others."""

    def play(asked: int, role: RoleName, message: Message) -> Message | ReadProblem:
        return QueryResult(1, 9, b"x") if asked == member else SILENT

    return play


def test_reads_without_the_time_for_a_second_try_do_not_go_on_asking_who_is_silent() -> None:
    """Each has less time than a try: the first one finds nobody, the next ones begin elsewhere."""
    reader = PlayedReader(only(3), has_lease=True)
    failed = 0
    while failed < 10:
        try:
            assert reader.linearizable(timeout_s=0.0) == b"x"
        except QueryError:
            failed += 1
        else:
            break
    assert failed == 2
    reader.linearizable(timeout_s=0.0)
    assert [member for member, _, _ in reader.calls.asked] == [1, 2, 3, 3]


def test_a_silent_member_is_given_less_time_than_one_that_answers() -> None:
    reader = PlayedReader(only(3), has_lease=True)
    reader.linearizable(timeout_s=60.0)
    limits_ms = [m.timeout_ms for _, _, m in reader.calls.asked if isinstance(m, Query)]
    full_ms, search_ms = TRY_NS // 1_000_000, SEARCH_NS // 1_000_000
    assert full_ms - 100 <= limits_ms[0] <= full_ms
    assert search_ms - 100 <= min(limits_ms[1:]) <= max(limits_ms[1:]) <= search_ms
