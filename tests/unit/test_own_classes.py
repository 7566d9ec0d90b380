"""Machines of users, by where their class is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ray_paxos.config import parse_configuration
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.errors import CheckpointError, ConfigurationError
from ray_paxos.machines.own_classes import is_own
from ray_paxos.machines.registry import MachineRegistry

SHOP = """
from ray_paxos import StateMachine

class Shop(StateMachine):
    kind = "shop"
    version = 3
    def apply(self, command, context):
        return command
    def query(self, request):
        return request

class Waits(Shop):
    async def apply(self, command, context):
        return command

def no_class():
    pass
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's, and its name."""
    (tmp_path / "own_shop.py").write_text(SHOP)
    (tmp_path / "own_broken.py").write_text("raise ValueError('not today')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("own_shop", "own_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "own_shop:Shop"


def test_a_class_is_found_by_where_it_is(shop: str) -> None:
    registry = MachineRegistry()
    found = registry.find(shop, 3)
    assert found is not None
    assert found.__name__ == "Shop"
    assert registry.find(shop, 3) is found
    assert registry.make(MachineSpec("s", shop, 3)).query(b"a") == b"a"


def test_one_of_another_version_is_not_taken_for_it(shop: str) -> None:
    registry = MachineRegistry()
    assert registry.find(shop, 2) is None
    with pytest.raises(CheckpointError, match="not registered"):
        registry.make(MachineSpec("s", shop, 2))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("own_nowhere:Shop", "own_nowhere cannot be imported here .ModuleNotFoundError"),
        ("own_broken:Shop", "cannot be imported here .ValueError: not today"),
        ("own_shop:Shelf", "own_shop has no class Shelf"),
        ("own_shop:no_class", "own_shop has no class no_class"),
        ("own_shop:Waits", "`apply` is an `async def`"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(shop: str, kind: str, why: str) -> None:
    registry = MachineRegistry()
    with pytest.raises(ConfigurationError, match=why):
        registry.own(kind)
    # On a member the log says so, and the mount is refused.
    assert registry.find(kind, 3) is None


def test_a_configuration_may_name_it(shop: str) -> None:
    text = f"cluster: x\ngroups: [{{group: 1, machines: {{kv: kv, s: '{shop}'}}}}]"
    (group,) = parse_configuration(text).groups
    assert group.machine_specs() == (MachineSpec("kv", "kv", 1), MachineSpec("s", shop, 3))
    missing = parse_configuration("cluster: x\ngroups: {count: 1, machines: {s: 'own_no:Shop'}}")
    with pytest.raises(ConfigurationError, match="own_no cannot be imported here"):
        missing.groups[0].machine_specs()


@pytest.mark.parametrize(
    "kind",
    ["kv", "", "a:", ":B", "a b:C", "a..b:C", "a:B.C", "a:" + "b" * 600],
)
def test_a_path_is_a_module_and_a_class(kind: str) -> None:
    assert not is_own(kind)
