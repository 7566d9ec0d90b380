"""What a driver tells of a group's machines: by group 0, or by the genesis where that is silent."""

from __future__ import annotations

from typing import Any, cast

from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.spec import make_spec
from ray_paxos.client import Client
from ray_paxos.config import parse_configuration
from ray_paxos.core.genesis import MachineSpec, group_spec
from ray_paxos.core.wanted import GroupState, Wanted, WantedGroup, encode_wanted
from ray_paxos.errors import RequestError
from ray_paxos.system_group import SystemGroup

CONFIGURATION = parse_configuration("cluster: demo\nmembers: 3\ngroups: 2\n")
GENESIS = make_genesis(CONFIGURATION)
TIMEOUT_S = 0.25


class GroupZero:
    """Its client; answers with what is wanted, or not at all."""

    def __init__(self, wanted: Wanted | None) -> None:
        self.wanted = wanted
        self.asked: list[dict[str, Any]] = []

    def query(self, query: bytes, **how: Any) -> bytes:
        self.asked.append(how)
        if self.wanted is None:
            raise RequestError("nobody answers")
        return encode_wanted(self.wanted)


def system_of(wanted: Wanted | None) -> tuple[SystemGroup, GroupZero]:
    client = GroupZero(wanted)
    return SystemGroup(make_spec(GENESIS, CONFIGURATION), lambda: cast(Client, client)), client


def test_the_machines_of_a_group_that_was_made_later_are_told_by_group_0() -> None:
    made = group_spec(GENESIS, 1)
    machines = (MachineSpec("orders", "kv", 1), MachineSpec("audit", "log", 1))
    made = type(made)(group=7, voters=made.voters, machines=machines)
    system, client = system_of(Wanted(1, groups={7: WantedGroup(made, GroupState.PRESENT, 3)}))
    assert system.machines(7, timeout_s=TIMEOUT_S) == {"orders": "kv", "audit": "log"}
    (how,) = client.asked
    assert (how["consistency"], how["timeout_s"]) == ("stale", TIMEOUT_S), "it may be old"


def test_where_group_0_is_silent_or_not_begun_the_genesis_tells_what_it_knows() -> None:
    first = {each.name: each.kind for each in group_spec(GENESIS, 1).machines}
    assert first
    for wanted in (None, Wanted()):
        system, _ = system_of(wanted)
        assert system.machines(1, timeout_s=TIMEOUT_S) == first
        assert system.machines(99, timeout_s=TIMEOUT_S) == {}
