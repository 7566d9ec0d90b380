"""Many reads in one message: each has an answer of its own, as far as they fit one reply."""

from __future__ import annotations

import pytest

from ray_paxos.core.client_messages import Consistency, QueryAnswers, QueryMany
from ray_paxos.errors import QueryError
from tests.unit.core_helpers import ballot, chosen, client, proposer_of, sent
from tests.unit.learner_bench import ME, LearnerBench

OWN = ballot(3, ME)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> LearnerBench:
    """A learner that has applied three instances, whose machine turns requests round."""
    found = LearnerBench()
    found.told(*(chosen(i, OWN) for i in range(1, 4)), of=proposer_of(ME))

    def query(machine: str, request: bytes) -> bytes:
        if request == b"bad":
            raise QueryError(f"{machine} refuses")
        return request[::-1]

    monkeypatch.setattr(found.host, "query", query)
    return found


def ask(bench: LearnerBench, *requests: bytes, bytes_max: int = 1_000) -> QueryAnswers:
    query = QueryMany(7, "kv", requests, 0, Consistency.STALE, None, 0, bytes_max)
    (answers,) = sent(bench.receive(client(), query), QueryAnswers)
    return answers


def test_a_bad_request_is_refused_alone(bench: LearnerBench) -> None:
    answers = ask(bench, b"ab", b"bad", b"cd")
    assert answers == QueryAnswers(7, 3, (b"ba", None, b"dc"), {1: "kv refuses"}, OWN)


def test_the_reply_ends_where_it_is_full(bench: LearnerBench) -> None:
    requests = (b"x" * 40, b"y" * 40, b"z" * 40, b"bad")
    assert len(ask(bench, *requests, bytes_max=90).results) == 2
    assert len(ask(bench, *requests, bytes_max=91).results) == 3
    assert len(ask(bench, *requests, bytes_max=1).results) == 1, "one comes in any case"
    assert len(ask(bench, b"bad", b"bad", b"bad", bytes_max=15).results) == 2
