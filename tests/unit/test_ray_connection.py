"""What a process takes over from the configuration before it connects to a Ray cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import ray

from ray_paxos.actors import ray_connection
from ray_paxos.actors.ray_connection import connect_ray, shown_token
from ray_paxos.config import RayConfiguration
from ray_paxos.errors import ClusterError

VARIABLES = RayConfiguration().environment()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One on which every address answers and no Ray is ever started or joined."""
    for name in (*VARIABLES, "RAY_ADDRESS"):
        # Set first, so that it is taken back after the test, whatever that sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_connection, "is_listening", lambda address: True)
    monkeypatch.setattr(ray_connection, "_initialise", lambda address: None)
    monkeypatch.setattr(ray_connection, "_own_address", lambda: "127.0.0.1:1")
    monkeypatch.setattr(ray_connection, "_use_token_of_this_machine", lambda: None)
    monkeypatch.setattr(ray_connection, "recorded_address", lambda folder: None)
    monkeypatch.setattr(ray_connection, "_current_address", lambda: None)
    return monkeypatch


def taken(address: str | None) -> set[str]:
    connect_ray(address, RayConfiguration(), Path("nowhere"), keep=False)
    return {name for name in VARIABLES if name in os.environ}


@pytest.mark.parametrize("address", [None, "local"])
def test_a_ray_of_our_own_is_started_as_configured(
    machine: pytest.MonkeyPatch, address: str | None
) -> None:
    assert taken(address) == set(VARIABLES)


def test_one_that_was_started_so_and_kept_is_joined_likewise(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(ray_connection, "recorded_address", lambda folder: "127.0.0.1:1")
    assert taken(None) == set(VARIABLES)


def test_a_ray_of_others_is_joined_with_its_own_settings(machine: pytest.MonkeyPatch) -> None:
    assert taken("127.0.0.1:1") == set()
    machine.setattr(ray_connection, "_current_address", lambda: "127.0.0.1:1")
    assert taken(None) == set()
    assert taken("auto") == set()


class SlowRay:
    """Fails so often as Ray does where its node takes too long to start."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.inits: list[str] = []
        self.shutdowns = 0

    def init(self, *, address: str, **options: object) -> None:
        self.inits.append(address)
        self.left -= 1
        if self.left >= 0:
            raise Exception("The current node timed out during startup.")

    def shutdown(self) -> None:
        self.shutdowns += 1


def slow_ray(monkeypatch: pytest.MonkeyPatch, times: int) -> SlowRay:
    found = SlowRay(times)
    monkeypatch.setattr(ray, "init", found.init)
    monkeypatch.setattr(ray, "shutdown", found.shutdown)
    return found


def test_a_ray_that_was_too_slow_to_start_is_started_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = slow_ray(monkeypatch, times=1)
    ray_connection._initialise(None)
    assert found.inits == ["local", "local"]
    assert found.shutdowns == 1


def test_one_that_never_starts_is_told_as_our_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = slow_ray(monkeypatch, times=5)
    with pytest.raises(ClusterError, match=r"cannot start Ray here: .*timed out"):
        ray_connection._initialise(None)
    assert len(found.inits) == 2
    with pytest.raises(ClusterError, match="timed out"):
        ray_connection._initialise("127.0.0.1:1")
    assert len(found.inits) == 3, "somebody else's is not tried again"


HTTP = "ray._private.authentication.http_token_authentication"
UTILS = "ray._private.authentication.authentication_utils"


def test_the_token_is_what_ray_itself_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{UTILS}.is_token_auth_enabled", lambda: False)
    assert shown_token() is None
    monkeypatch.setattr(f"{UTILS}.is_token_auth_enabled", lambda: True)
    headers = {"Authorization": "Bearer  0123 "}
    monkeypatch.setattr(f"{HTTP}.get_auth_headers_if_auth_enabled", lambda _: headers)
    assert shown_token() == "0123"


@pytest.mark.parametrize("problem", ["module", "function", "header"])
def test_a_ray_that_keeps_its_token_elsewhere_is_said(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{UTILS}.is_token_auth_enabled", lambda: True)
    if problem == "module":
        monkeypatch.setitem(sys.modules, HTTP, None)
        # Also where it is an attribute of the package already.
        monkeypatch.delattr("ray._private.authentication.http_token_authentication", raising=False)
    elif problem == "function":
        monkeypatch.delattr(f"{HTTP}.get_auth_headers_if_auth_enabled")
    else:
        monkeypatch.setattr(f"{HTTP}.get_auth_headers_if_auth_enabled", lambda _: {})
    with pytest.raises(ClusterError, match="asks for a token, and for which, is not to be told"):
        shown_token()
