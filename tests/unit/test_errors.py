"""The tree of errors: complete, true to its picture, and whole after a trip between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from ray_paxos import errors
from ray_paxos.errors import (
    ApplyStoppedError,
    CommandError,
    NotAppliedError,
    OutcomeUnknownError,
    OverloadedError,
    PaxosError,
    SessionExpiredError,
)

CLASSES = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, PaxosError)
]


def picture() -> dict[str, str]:
    """Each name in the module's picture, with the name it hangs under."""
    assert errors.__doc__ is not None
    lines = errors.__doc__.split("```")[1].strip().splitlines()
    above: list[str] = [lines[0].strip()]
    found = {}
    for line in lines[1:]:
        indent = line.index("─ ") - 2
        name = line[indent + 4 :].split()[0]
        depth = indent // 4 + 1
        del above[depth:]
        found[name] = above[-1]
        above.append(name)
    return found


def test_the_picture_shows_every_class_where_it_hangs() -> None:
    assert picture() == {
        kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES if kind is not PaxosError
    }


def made(kind: type[PaxosError]) -> PaxosError:
    if kind is ApplyStoppedError:
        return ApplyStoppedError(1, "kv", 7, "ValueError: no")
    return kind("what happened")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_crosses_processes_whole(kind: type[PaxosError]) -> None:
    error = made(kind)
    error.retry_after_s = 2.5
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_what_an_error_carries_crosses_too() -> None:
    unknown = pickle.loads(pickle.dumps(OutcomeUnknownError("no answer", 41, 0.5)))
    assert (unknown.number, unknown.retry_after_s, unknown.may_have_applied) == (41, 0.5, True)
    expired = pickle.loads(pickle.dumps(SessionExpiredError("gone", False)))
    assert not expired.may_have_applied
    assert pickle.loads(pickle.dumps(OverloadedError("full", 0.3))).retry_after_s == 0.3
    stopped = pickle.loads(pickle.dumps(made(ApplyStoppedError)))
    assert (stopped.group, stopped.machine, stopped.instance_id) == (1, "kv", 7)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_says_what_it_means(kind: type[PaxosError]) -> None:
    assert kind.__doc__
    assert kind.__doc__[0].isupper()
    if issubclass(kind, NotAppliedError):
        assert not made(kind).may_have_applied, "its name says so"


def test_what_may_have_been_applied() -> None:
    assert {kind.__name__ for kind in CLASSES if kind.may_have_applied} == {
        CommandError.__name__,
        ApplyStoppedError.__name__,
        OutcomeUnknownError.__name__,
        SessionExpiredError.__name__,
    }


def test_an_unknown_outcome_names_its_number() -> None:
    error = OutcomeUnknownError("no answer", 7, 1.0)
    assert str(error) == "number 7: no answer"
    assert str(error.for_number(9)) == "number 9: no answer"
    assert error.for_number(9).retry_after_s == 1.0
    assert str(OutcomeUnknownError("closed")) == "closed"
