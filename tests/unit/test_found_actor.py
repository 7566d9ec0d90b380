"""Actors are called over the connection that they were found by, and Ray is not started unasked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

from ray_paxos.actors import found_actor
from ray_paxos.actors.found_actor import CallFailedError, FoundActor, NotConnectedError
from ray_paxos.actors.role_line import NOT_MADE


class FakeRay:
    """As much of Ray as is used; fails where Ray would start a cluster of its own.

    Attributes:
        connection: Ids of the node and the job; empty for none.
        error: What calling an actor raises.
    """

    def __init__(self) -> None:
        self.connection: tuple[str, ...] = ("node", "1")
        self.error: Exception | None = None

    def is_initialized(self) -> bool:
        return bool(self.connection)

    def get_runtime_context(self) -> Any:
        assert self.connection
        node_id, job_id = self.connection
        return SimpleNamespace(get_node_id=lambda: node_id, get_job_id=lambda: job_id)

    def get_actor(self, name: str, namespace: str) -> Any:
        assert self.connection

        def remote(*batch: bytes) -> tuple[str | bytes, ...]:
            if self.error is not None:
                raise self.error
            return (name, *batch)

        return SimpleNamespace(submit=SimpleNamespace(remote=remote))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(found_actor, "ray", fake)
    return fake


def test_an_actor_is_called_by_name_of_the_method(ray: FakeRay) -> None:
    assert FoundActor("demo/m1/proposer").call("submit", b"x") == ("demo/m1/proposer", b"x")


def test_without_a_connection_nothing_is_looked_up_or_called(ray: FakeRay) -> None:
    actor = FoundActor("demo/m1/proposer")
    ray.connection = ()
    with pytest.raises(NotConnectedError):
        actor.call("submit", b"x")
    with pytest.raises(NotConnectedError):
        FoundActor("demo/m1/proposer")


@pytest.mark.parametrize("connection", [("another node", "1"), ("node", "2")])
def test_over_another_connection_it_has_to_be_looked_up_again(
    ray: FakeRay, connection: tuple[str, str]
) -> None:
    actor = FoundActor("demo/m1/proposer")
    ray.connection = connection
    with pytest.raises(ActorDiedError):
        actor.call("submit", b"x")
    assert FoundActor("demo/m1/proposer").call("submit")


def test_a_bare_exception_of_ray_is_an_error_of_ray_like_any_other(ray: FakeRay) -> None:
    actor = FoundActor("demo/m1/proposer")
    ray.error = Exception("Ray has not been started yet")
    with pytest.raises(CallFailedError, match="not been started") as caught:
        actor.call("submit", b"x")
    assert isinstance(caught.value, RayError)
    assert not isinstance(caught.value, NOT_MADE), "nobody knows"


@pytest.mark.parametrize(
    "error",
    [ActorDiedError(), ActorUnavailableError("restarting", None), TypeError("a bug of ours")],
)
def test_errors_that_say_what_happened_are_left_as_they_are(ray: FakeRay, error: Exception) -> None:
    actor = FoundActor("demo/m1/proposer")
    ray.error = error
    with pytest.raises(type(error)) as caught:
        actor.call("submit", b"x")
    assert caught.value is error
