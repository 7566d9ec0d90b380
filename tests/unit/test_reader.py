"""Which answers a client's reader takes for a linearizable read by an index."""

from __future__ import annotations

from typing import Any

import pytest

from ray_paxos.actors.reader import Reader
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryProblem,
    QueryResult,
    ReadIndex,
    ReadIndexConfirmed,
)
from ray_paxos.core.messages import Message, RoleName
from ray_paxos.errors import LeaseError, QueryError

OWN, LATER = Ballot(6, 1, 1), Ballot(7, 3, 1)


class PlayedReader(Reader):
    """A reader whose calls are answered by the test, in the order in which they are made."""

    def __init__(self, *answers: Message) -> None:
        super().__init__(cluster="played", genesis=b"", group=1, names={1: "m1"}, has_lease=False)
        self.answers = list(answers)
        self.asked: list[Message] = []

    def _start(self, member: int, role: RoleName, message: Message) -> Any:
        self.asked.append(message)
        return self.answers.pop(0)

    def _finish(self, member: int, started: Any, deadline: float) -> Any:
        return started

    def linearizable(self, timeout_s: float = 0.0) -> bytes:
        return self.read(
            b"?",
            "kv",
            Consistency.LINEARIZABLE,
            at_least=0,
            max_staleness_ms=None,
            timeout_s=timeout_s,
        )


def test_an_answer_as_of_the_index_counts_though_it_was_read_before() -> None:
    reader = PlayedReader(ReadIndexConfirmed(1, 50, OWN), QueryResult(2, 50, b"x", OWN))
    assert reader.linearizable() == b"x"
    assert [type(message) for message in reader.asked] == [ReadIndex, Query]


def test_an_older_answer_is_asked_for_again_at_the_index() -> None:
    reader = PlayedReader(
        ReadIndexConfirmed(1, 50, OWN), QueryResult(2, 49, b"old", OWN), QueryResult(3, 51, b"x")
    )
    assert reader.linearizable() == b"x"
    again = reader.asked[-1]
    assert isinstance(again, Query)
    assert again.at_least == 50


def test_an_answer_that_shows_a_later_reign_does_not_count() -> None:
    # The next master's own learner may not have applied yet what a deposed one's shows: a read by
    # its lease, later, would go back in time.
    reader = PlayedReader(ReadIndexConfirmed(1, 50, OWN), QueryResult(2, 52, b"x", LATER))
    with pytest.raises(QueryError, match="deposed"):
        reader.linearizable()


def test_a_refusal_counts_only_where_the_state_is_fresh_enough() -> None:
    refused = QueryFailed(2, 3, "no machine", QueryProblem.REFUSED)
    reader = PlayedReader(ReadIndexConfirmed(1, 50, OWN), refused, QueryResult(3, 50, b"x", OWN))
    assert reader.linearizable() == b"x"
    reader = PlayedReader(
        ReadIndexConfirmed(1, 3, OWN), QueryFailed(2, 3, "no machine", QueryProblem.REFUSED)
    )
    with pytest.raises(QueryError, match="no machine"):
        reader.linearizable(1.0)


class Rivals(PlayedReader):
    """Two members, each of which names the other as the master."""

    def __init__(self) -> None:
        super().__init__()
        self._ids, self._names, self._has_lease = [1, 2], {1: "m1", 2: "m2"}, True
        self._master = 1

    def _start(self, member: int, role: RoleName, message: Message) -> Any:
        self.asked.append(message)
        return QueryFailed(1, 0, "no lease", QueryProblem.NO_LEASE, 3 - member)


def test_members_that_name_each_other_are_not_asked_without_a_pause() -> None:
    reader = Rivals()
    with pytest.raises(LeaseError):
        reader.read(b"?", "kv", Consistency.LEASE, at_least=0, max_staleness_ms=None, timeout_s=0.2)
    assert len(reader.asked) < 20
