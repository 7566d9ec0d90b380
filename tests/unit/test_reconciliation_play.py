"""The controller against a cluster in which things happen: played from seeds.

Members die and come back, join, leave, are drained; their nodes are about to be ended, and are, or
are not; groups are made, placed, dropped; two controllers run at once, hear only some members, go
by what they saw long ago, and die half way. Every plan and every step is checked; when it has
become quiet, all comes to what is wanted.
"""

from __future__ import annotations

import math
import random

import pytest

from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.reconciliation import Policy, Step
from ray_paxos.core.wanted import GroupState, MemberState, WantedMember
from ray_paxos.core.wanted_changes import (
    DrainMember,
    DropGroup,
    JoinMember,
    LeaveMember,
    PlaceGroup,
    StayMember,
)
from tests.unit.controlled_cluster import ControlledCluster, Controller, Look, make_group
from tests.unit.controller_checks import check_plan, loads, run_rounds, take_checked

SEEDS = 300
TICKS = 60


class Play:
    """One seed's course of events."""

    def __init__(self, seed: int) -> None:
        """Set the scene."""
        self.randomness = random.Random(seed)
        chance = self.randomness
        self.cluster = ControlledCluster(
            chance.randint(3, 7),
            chance.randint(1, 8),
            chance.choice([3, 3, 3, 4, 5]),
            chance.choice([("",), ("",), ("a", "b", "c"), ("a", "b")]),
        )
        self.policy = Policy(chance.choice([1, 1, 2]), True, chance.random() < 0.2)
        self.controllers = [Controller(self.policy), Controller(self.policy)]
        self.planned: list[tuple[Look, list[Step]]] = []
        self.names = 0
        self.groups = 100
        self.events: list[str] = []

    def run(self) -> None:
        """All of it."""
        for _ in range(TICKS):
            if self.randomness.random() < 0.35:
                self.happen()
            if self.randomness.random() < 0.6:
                self.look()
            if self.planned and self.randomness.random() < 0.7:
                self.take()
            if self.randomness.random() < 0.8:
                self.cluster.learn()

    def happen(self) -> None:
        """One thing happens to the cluster, or is ordered of it."""
        what = self.randomness.choice(
            [
                self.crash,
                self.lose_node,
                self.bring_back,
                self.bring_back,
                self.go,
                self.go,
                self.call_off,
                self.add_node,
                self.join,
                self.leave,
                self.drain,
                self.stay,
                self.place,
                self.unplace,
                self.make,
                self.drop,
                self.change_controllers,
            ]
        )
        what()

    def some(self, names: list[str]) -> str:
        return self.randomness.choice(sorted(names)) if names else ""

    def crash(self) -> None:
        if name := self.some(list(self.cluster.alive)):
            self.events.append(f"crash {name}")
            self.cluster.crash(name)

    def lose_node(self) -> None:
        down = [n for n, node in self.cluster.node_of.items() if not self.cluster.nodes[node].is_up]
        if len(down) < 2 and (name := self.some(list(self.cluster.alive))):
            self.events.append(f"lose node of {name}")
            self.cluster.lose_node(name)

    def bring_back(self) -> None:
        if name := self.some(list(self.cluster.folders - self.cluster.alive)):
            self.events.append(f"bring back {name}")
            if self.cluster.state(name) is not MemberState.JOINING:
                self.cluster.bring_back(name)

    def go(self) -> None:
        names = set(self.cluster.alive) - self.cluster.going
        if len(self.cluster.going) < 3 and (name := self.some(list(names))):
            self.events.append(f"node of {name} goes")
            self.cluster.nodes[self.cluster.node_of[name]].is_going = True

    def call_off(self) -> None:
        if name := self.some(list(self.cluster.going)):
            self.events.append(f"node of {name} goes no more")
            self.cluster.nodes[self.cluster.node_of[name]].is_going = False

    def add_node(self) -> None:
        if len(self.cluster.nodes) < 10:
            self.events.append(f"add {self.cluster.new_node()}")

    def join(self) -> None:
        taken = {member.node_id for member in self.cluster.wanted.members.values()}
        free = [n for n in self.cluster.nodes if n not in {*taken, *self.cluster.node_of.values()}]
        if node := self.some(free):
            self.names += 1
            spec = MemberSpec(f"j{self.names}", 500 + self.names)
            self.events.append(f"join {spec.name} on {node}")
            assert self.cluster.change(JoinMember(WantedMember(spec, MemberState.JOINING, node)))

    def leave(self) -> None:
        name = self.some(list(self.cluster.wanted.members))
        self.events.append(f"leave {name}: {self.cluster.change(LeaveMember(name))}")

    def drain(self) -> None:
        name = self.some(list(self.cluster.wanted.members))
        self.events.append(f"drain {name}: {self.cluster.change(DrainMember(name))}")

    def stay(self) -> None:
        names = set(self.cluster.wanted.members) - self.cluster.ending
        name = self.some(list(names))
        self.events.append(f"stay {name}: {self.cluster.change(StayMember(name))}")

    def group(self) -> int:
        return self.randomness.choice(sorted(self.cluster.wanted.groups))

    def place(self) -> None:
        present = [member.spec.name for member in self.cluster.wanted.present]
        if len(present) >= 3:
            names, group = tuple(self.randomness.sample(present, 3)), self.group()
            self.events.append(
                f"place {group} at {names}: {self.cluster.change(PlaceGroup(group, names))}"
            )

    def unplace(self) -> None:
        placed = [n for n, group in sorted(self.cluster.wanted.groups.items()) if group.placed]
        for group in placed:
            self.events.append(f"unplace {group}")
            self.cluster.change(PlaceGroup(group, ()))

    def make(self) -> None:
        present = [member.spec.name for member in self.cluster.wanted.present]
        if len(present) >= 3 and self.groups < 103:
            self.groups += 1
            names = self.randomness.sample(present, 3)
            self.events.append(f"make group {self.groups} at {names}")
            assert make_group(self.cluster, self.groups, names)

    def drop(self) -> None:
        group = self.group()
        if self.randomness.random() < 0.3:
            self.events.append(f"drop {group}: {self.cluster.change(DropGroup(group))}")

    def change_controllers(self) -> None:
        """One of them dies; another one begins, which knows nothing."""
        self.events.append("another controller")
        self.controllers = [self.randomness.choice(self.controllers), Controller(self.policy)]

    # Controllers.

    def look(self) -> None:
        controller = self.randomness.choice(self.controllers)
        unheard = []
        if self.randomness.random() < 0.2:
            names = sorted(self.cluster.alive)
            unheard = self.randomness.sample(names, self.randomness.randint(0, len(names)))
        look = controller.look(self.cluster, unheard)
        steps = controller.steps(look)
        check_plan(look, self.policy, steps)
        self.planned = [*self.planned[-4:], (look, steps)]

    def take(self) -> None:
        look, steps = self.planned.pop(
            self.randomness.randrange(len(self.planned)) if self.randomness.random() < 0.3 else -1
        )
        self.randomness.shuffle(steps)
        kept = steps[: self.randomness.randint(0, len(steps))]
        for step in kept:
            breaks_off = self.randomness.random() < 0.1
            done = take_checked(self.cluster, step, look, breaks_off=breaks_off)
            self.events.append(f"{step}: {done}{' broken off' if breaks_off else ''}")
            if self.randomness.random() < 0.1:
                break

    # The end.

    def become_quiet(self) -> str:
        """Nothing more happens; all come back, but for one at most. Its name."""
        cluster, wanted = self.cluster, self.cluster.wanted
        joining = {m.node_id for m in wanted.members.values() if m.state is MemberState.JOINING}
        is_called_off = self.randomness.random() < 0.5
        for name, node in cluster.nodes.items():
            # What has ended comes back as a node that nobody wants to end.
            node.is_going &= node.is_up and name not in joining and not is_called_off
            node.is_up = True
        gone = {name for name, m in wanted.members.items() if m.state is MemberState.GONE}
        dead = sorted(cluster.folders - cluster.alive - gone)
        kept_dead = self.some(dead) if self.randomness.random() < 0.7 else ""
        if kept_dead and not self.may_stay_dead(kept_dead):
            kept_dead = ""
        if kept_dead:
            cluster.lose_node(kept_dead)
        for name in dead:
            if name != kept_dead and cluster.state(name) is not MemberState.JOINING:
                cluster.bring_back(name)
        cluster.learn()
        going = sorted(cluster.going)
        self.events.append(f"quiet; {kept_dead or 'none'} stays dead, {going} go")
        return kept_dead

    def may_stay_dead(self, name: str) -> bool:
        """Whether each group can do without it, and none waits for it."""
        cluster = self.cluster
        states = {group.state for group in cluster.wanted.groups.values()}
        is_waited_for = states & {GroupState.MAKING, GroupState.DROPPING}
        is_placed = any(name in group.placed for group in cluster.wanted.groups.values())
        if is_waited_for or is_placed or cluster.state(name) is MemberState.JOINING:
            return False
        if list(cluster.node_of.values()).count(cluster.node_of[name]) > 1:
            return False
        able = {member.spec.name for member in cluster.wanted.present} - {name} - cluster.going
        voters = {each for number in cluster.configurations for each in cluster.voters(number)}
        is_short = any(len(able) < group.voters for group in cluster.wanted.groups.values())
        if is_short and not voters <= {*able, name}:
            # Who is to leave waits for who has nobody in its place (rule 4, and a majority).
            return False
        return all(
            len(set(cluster.voters(n)) - {name}) >= configuration.majority
            for n, configuration in cluster.configurations.items()
        )


def waits_for_going(cluster: ControlledCluster, name: str) -> bool:
    """Whether one that is to have no group has one that only members that go could take."""
    spare = {member.spec.name for member in cluster.wanted.present} - cluster.going
    has = [group for n, group in cluster.wanted.groups.items() if name in cluster.named_by(n)]
    return any(cluster.going & set(group.placed) if group.placed else not spare for group in has)


def check_settled(cluster: ControlledCluster, dead: str, *, is_even: bool) -> None:
    """All is as wanted."""
    present = {member.spec.name for member in cluster.wanted.present}
    settled = (MemberState.PRESENT, MemberState.DRAINED, MemberState.GONE)
    to_let_go = cluster.wanted.members.keys() - present
    waiting = {name for name in to_let_go if waits_for_going(cluster, name)}
    for name, member in cluster.wanted.members.items():
        is_waiting = member.state is MemberState.LEAVING and name in waiting
        assert member.state in settled or is_waiting, f"{name} is {member.state.name}"
    for number, group in cluster.wanted.groups.items():
        if group.state is GroupState.GONE:
            assert number not in cluster.configurations
            continue
        assert group.state is GroupState.PRESENT
        voters = set(cluster.voters(number))
        able = present if dead in voters else present - {dead}
        # Who goes keeps what nobody else can take, and is given nothing.
        spare = able - cluster.going
        could = spare & set(group.placed) if group.placed else spare
        assert min(group.voters, len(could)) <= len(voters) <= group.voters, f"{number}: {voters}"
        if not cluster.going:
            assert len(voters) == min(group.voters, len(able)), f"group {number}: {voters}"
        assert voters <= present | waiting
        if group.placed:
            assert voters == set(group.placed) or cluster.going & set(group.placed)
        elif dead in voters:
            assert len(present - cluster.going) <= group.voters, "there is nobody in its place"
        elif voters & cluster.going:
            assert spare <= voters, f"group {number}: {voters}, and {spare} could have it"
        followers = cluster.named(cluster.configurations[number].followers)
        assert set(followers) <= present
    load = loads(cluster)
    if is_even:
        assert max(load.values()) - min(load.values()) <= 1, load


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_whatever_happens_it_does_no_harm_and_settles(first: int) -> None:
    for seed in range(first, first + 25):
        play = Play(seed)
        try:
            play.run()
            dead = play.become_quiet()
            play.cluster.adds.clear()
            run_rounds(play.cluster, Controller(play.policy), play.randomness, rounds_max=100)
            is_placed = any(
                g.placed and g.state is not GroupState.GONE
                for g in play.cluster.wanted.groups.values()
            )
            is_free = not dead and not is_placed and not play.cluster.going
            is_even = is_free and play.cluster.is_plain
            check_settled(play.cluster, dead, is_even=is_even)
            assert max(play.cluster.adds.values(), default=0) <= 2, play.cluster.adds
        except AssertionError as error:
            listed = "\n".join(play.events)
            raise AssertionError(f"seed {seed}: {error}\n{listed}") from error


@pytest.mark.parametrize("at_once", [4, 16, 1_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_new_member_gets_its_share_by_hardly_more_moves_than_it_takes(
    seed: int, at_once: int
) -> None:
    """Also where moves take their time, one longer than another, and the plan is made anew."""
    randomness = random.Random(seed)
    cluster = ControlledCluster(6, 100)
    run_rounds(cluster, Controller(Policy()), randomness, rounds_max=400, at_once=at_once)
    cluster.adds.clear()
    node = cluster.new_node()
    member = WantedMember(MemberSpec("m7", 107), MemberState.JOINING, node)
    assert cluster.change(JoinMember(member))
    run_rounds(cluster, Controller(Policy()), randomness, rounds_max=400, at_once=at_once)
    least = 300 // 7
    assert math.floor(least) <= cluster.adds.total() <= 1.2 * least
    load = loads(cluster)
    assert max(load.values()) - min(load.values()) <= 1
