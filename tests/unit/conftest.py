"""Unit tests run without Ray."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def forbid_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Ray fails: a unit test that needs a cluster is none."""
    ray = pytest.importorskip("ray")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("unit tests do not use Ray; put this test into tests/ray")

    monkeypatch.setattr(ray, "init", refuse)
