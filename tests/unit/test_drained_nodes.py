"""What is done about nodes that Ray drains, as far as it takes no Ray to see it."""

from __future__ import annotations

import sys

import pytest

from ray_paxos.actors import folders, member_making
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.controller import is_to_move
from ray_paxos.actors.placement import RayNode
from ray_paxos.actors.spec import make_spec
from ray_paxos.config import parse_configuration
from ray_paxos.errors import PlacementError

STAYS, GOES = RayNode("stays", "stays"), RayNode("goes", "goes", is_going=True)


def test_the_controller_moves_off_its_node_where_there_is_another_one() -> None:
    assert is_to_move("goes", [STAYS, GOES])
    assert not is_to_move("stays", [STAYS, GOES])
    assert not is_to_move("goes", [GOES]), "it would not be made again"


def test_a_node_that_is_drained_is_not_asked_what_it_holds() -> None:
    """Ray would refuse the task; but it may hold something, and so has not answered."""
    (report,) = folders.look_into("demo", None, [GOES])
    assert not report.answered
    assert report.reason == "Ray drains it, and begins no task there"


def test_no_member_is_made_on_one_by_order() -> None:
    configuration = parse_configuration("cluster: demo\nmembers: 1\n")
    spec = make_spec(make_genesis(configuration), configuration)
    with pytest.raises(PlacementError, match="Ray drains node goes: it will be ended"):
        member_making.check_new_member(spec, "m9", "goes", [STAYS, GOES])


def test_where_ray_does_not_say_it_any_more_no_node_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray._private.state", None)
    assert list(folders._draining_nodes()) == []
