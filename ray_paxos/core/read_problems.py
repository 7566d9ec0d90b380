"""Why a try to read gave no answer, whom to ask next, what is told in the end; pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ray_paxos.core.client_messages import QueryFailed, QueryProblem, Refused
from ray_paxos.core.master_search import MasterSearch
from ray_paxos.core.messages import Message
from ray_paxos.core.patience import Patience
from ray_paxos.errors import LeaseError, QueryError, StaleReadError

STAY_SHARE = 0.8
"""So often a member is asked again that may have what is wanted soon."""
_WAITED_FOR = (QueryProblem.BEHIND, QueryProblem.STALE, QueryProblem.NO_LEASE)
_WORTH_IT = (QueryProblem.BEHIND, QueryProblem.NO_LEASE, QueryProblem.OVERLOADED)


@dataclass(frozen=True, slots=True)
class ReadProblem:
    """Why one try gave no answer.

    Attributes:
        text: For a person.
        problem: As the member said; None where it said nothing.
        master: The member it named as the master; 0 for none.
    """

    text: str
    problem: QueryProblem | None = None
    master: int = 0


def problem_of(name: str, answer: Message | ReadProblem) -> ReadProblem:
    """What an answer that is none means.

    Args:
        name: Of the member.
        answer: What came of the call.
    """
    if isinstance(answer, ReadProblem):
        return answer
    if isinstance(answer, QueryFailed):
        return ReadProblem(f"member {name}: {answer.message}", answer.problem, answer.master)
    if isinstance(answer, Refused):
        return ReadProblem(f"member {name}: {answer.message}")
    return ReadProblem(f"member {name} answered with {type(answer).__name__}")


def following(
    member: int,
    problem: ReadProblem,
    patience: Patience,
    random: random.Random,
    search: MasterSearch,
) -> int:
    """Whom to ask next.

    Args:
        member: Who was asked.
        problem: What came of it.
        patience: Gets to know whether that was an answer.
        random: What knows no other master is asked again, but not for ever.
        search: Of whoever asks; gets to know of this try.
    """
    if problem.problem is None:
        patience.gave_no_answer(member)
    else:
        patience.answered(member)
    master = problem.master
    named = master if master != member and master in patience.members else 0
    if search.follows(named, len(patience.members)):
        return named
    is_worth_it = problem.problem in _WORTH_IT and not search.is_in_turn
    if is_worth_it and random.random() < STAY_SHARE:
        return member
    return patience.next_after(member)


def more_telling(
    earlier: ReadProblem | None, later: ReadProblem, *, is_cut_short: bool = False
) -> ReadProblem:
    """Which of two problems of a read to tell: the later one, unless there was only no time left.

    Shortly before its time is over a read is refused by members that take longer than that to get
    to it, or gets no answer any more. That says nothing of what it had waited for.

    Args:
        earlier: What has been told so far; None for nothing.
        later: What came of the latest try.
        is_cut_short: Whether that had less time than a member is given for an answer.
    """
    is_out_of_time = later.problem is QueryProblem.OVERLOADED
    if is_cut_short and later.problem is None and earlier is not None:
        is_out_of_time = earlier.problem in _WAITED_FOR
    return earlier if earlier is not None and is_out_of_time else later


def late(problem: ReadProblem, when: str) -> QueryError:
    """The error of a read whose time is over.

    Args:
        problem: The most telling one.
        when: There was no answer, such as `within 5 s`.
    """
    text = f"no answer {when}: {problem.text}. A read changes nothing: ask again"
    if problem.problem is QueryProblem.NO_LEASE:
        return LeaseError(text)
    if problem.problem in (QueryProblem.STALE, QueryProblem.BEHIND):
        return StaleReadError(text)
    return QueryError(text)
