"""How long a start waits for the actors of a cluster that it finds."""

from __future__ import annotations

import pytest

from ray_paxos.actors import bootstrapping
from ray_paxos.actors.bootstrapping import BootstrapActor, attach
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ClusterError


class NobodyAnswers:
    """Stands for `running_spec`: notes how long it was to wait."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def __call__(self, cluster: str, timeout_s: float) -> None:
        self.waited_s.append(timeout_s)
        raise ClusterError(f"cluster {cluster} has role actors, but none of them answered")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> NobodyAnswers:
    found = NobodyAnswers()
    monkeypatch.setattr(bootstrapping, "running_spec", found)
    return found


def test_actors_that_another_driver_has_just_made_are_waited_for(nobody: NobodyAnswers) -> None:
    """Their processes come up meanwhile; on a machine that is busy that takes its time."""
    configuration = parse_configuration("cluster: twice\nray: {start_timeout_ms: 70000}\n")
    outcome = BootstrapActor().start(configuration.model_dump_json())
    assert outcome["error"][0] == "ClusterError"
    with pytest.raises(ClusterError):
        attach("twice", 50.0)
    assert nobody.waited_s == [70.0, 50.0]
