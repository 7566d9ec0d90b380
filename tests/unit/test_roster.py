"""Which members a process knows."""

from __future__ import annotations

from ray_paxos.actors.roster import Roster, roster_of
from ray_paxos.actors.spec import make_spec
from ray_paxos.config import parse_configuration
from ray_paxos.core.genesis import Genesis, MemberSpec

GENESIS = Genesis(1, "known", "7" * 32, (MemberSpec("a", 1), MemberSpec("b", 2)), ())


def test_it_begins_with_the_genesis_and_only_grows() -> None:
    roster = Roster(GENESIS)
    names = roster.names
    assert dict(names) == {1: "a", 2: "b"}
    assert not roster.joined
    roster.meet([MemberSpec("c", 3), MemberSpec("other", 1)])
    assert dict(names) == {1: "a", 2: "b", 3: "c"}, "a name is one member's for ever"
    assert roster.joined == (MemberSpec("c", 3),)
    assert roster.ids == {"a": 1, "b": 2, "c": 3}
    assert roster.name(3) == "c"
    assert roster.name(9) == "9", "without Ray nobody can be asked"


def test_all_handles_of_a_cluster_share_one() -> None:
    spec = make_spec(GENESIS, parse_configuration("cluster: known\n"))
    first = roster_of(spec)
    first.meet([MemberSpec("c", 3)])
    assert roster_of(spec) is first
    other = make_spec(
        Genesis(1, "known", "8" * 32, GENESIS.members, ()), parse_configuration("cluster: known\n")
    )
    assert roster_of(other) is not first
