"""Which node each member goes to."""

from __future__ import annotations

import itertools

import pytest

from ray_paxos.actors.placement import Pin, RayNode, choose_nodes, free_nodes, going_nodes
from ray_paxos.errors import PlacementError


def node(name: str, *, is_head: bool = False, resources: str = "", **labels: str) -> RayNode:
    return RayNode(name, name, is_head, labels, frozenset(resources.split()))


def pins(*names: str) -> dict[str, Pin]:
    return {name: Pin() for name in names}


def test_one_node_holds_everything() -> None:
    assert choose_nodes(pins("a", "b", "c"), [node("x", is_head=True)]) == dict.fromkeys("abc", "x")


def test_members_go_to_nodes_of_their_own_and_spare_the_head() -> None:
    nodes = [node("head", is_head=True), node("z"), node("y"), node("x")]
    chosen = choose_nodes(pins("a", "b", "c"), nodes)
    assert sorted(chosen.values()) == ["x", "y", "z"]


def test_the_head_is_used_where_the_others_do_not_suffice() -> None:
    nodes = [node("head", is_head=True), node("y"), node("x")]
    assert sorted(choose_nodes(pins("a", "b", "c"), nodes).values()) == ["head", "x", "y"]


def test_too_few_nodes_are_named() -> None:
    with pytest.raises(PlacementError, match=r"3 members need 3 Ray nodes.*2 are alive \(x, y\)"):
        choose_nodes(pins("a", "b", "c"), [node("x"), node("y")])
    with pytest.raises(PlacementError, match="no live node"):
        choose_nodes(pins("a"), [])


def test_a_pin_is_held_even_if_another_member_has_to_move() -> None:
    for order in itertools.permutations(["a", "b", "c"]):
        wanted = {"a": Pin(), "b": Pin({"disk": "one"}), "c": Pin(resource="ssd")}
        nodes = [node("w", disk="one", resources="ssd"), node("x", resources="ssd"), node("y")]
        chosen = choose_nodes({name: wanted[name] for name in order}, nodes)
        assert chosen == {"a": "y", "b": "w", "c": "x"}


def test_a_pin_may_name_the_head() -> None:
    nodes = [node("head", is_head=True, disk="one"), node("x"), node("y"), node("z")]
    chosen = choose_nodes({"a": Pin({"disk": "one"}), "b": Pin(), "c": Pin()}, nodes)
    assert chosen["a"] == "head"
    assert len(set(chosen.values())) == 3


def test_a_pin_that_no_node_allows_names_it() -> None:
    with pytest.raises(PlacementError, match="member b: no live Ray node has label disk=two"):
        choose_nodes({"a": Pin(), "b": Pin({"disk": "two"})}, [node("x", disk="one")])
    with pytest.raises(PlacementError, match="resource ssd"):
        choose_nodes({"a": Pin(resource="ssd")}, [node("x")])


def test_what_is_placed_stays_where_it_is() -> None:
    nodes = [node("x"), node("y"), node("z")]
    assert choose_nodes(pins("c"), nodes, {"a": "x", "b": "y"}) == {"c": "z"}
    with pytest.raises(PlacementError, match="3 members"):
        choose_nodes(pins("c"), nodes[:2], {"a": "x", "b": "y"})


def test_a_node_that_is_drained_is_given_nothing() -> None:
    going = RayNode("x", "x", is_going=True)
    assert set(choose_nodes(pins("a", "b"), [going, node("y"), node("z")]).values()) == {"y", "z"}
    with pytest.raises(PlacementError, match=r"2 members need 2 Ray nodes.*and Ray drains x"):
        # Nor do all go to the one that is left, as where there is one in all.
        choose_nodes(pins("a", "b"), [going, node("y")])
    with pytest.raises(PlacementError, match=r"no live node that is not being drained.*x\)"):
        choose_nodes(pins("a"), [going])
    assert going_nodes([going, node("y")]) == {"x"}


def test_free_nodes_are_those_without_a_member_that_stay() -> None:
    head, going = node("head", is_head=True), RayNode("x", "x", is_going=True)
    assert free_nodes([head, going, node("z"), node("y")], ["z"]) == ("y",)
    assert free_nodes([head], []) == ("head",), "where it is alone"
    assert free_nodes([head, going], []) == (), "it will not be alone for long"


def test_free_nodes_may_be_only_those_with_a_resource() -> None:
    nodes = [node("x", resources="disk CPU"), node("y", resources="CPU")]
    assert free_nodes(nodes, [], "disk") == ("x",)
    assert free_nodes(nodes, []) == ("x", "y")
