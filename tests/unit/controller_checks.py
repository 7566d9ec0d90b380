"""What holds of every plan of the controller, and of every step that is taken."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

from ray_paxos.core.reconciliation import (
    AddMember,
    ChangeGroup,
    EndMember,
    LaunchMember,
    MakeMember,
    Policy,
    RetireMember,
    Step,
)
from ray_paxos.core.values import MembershipKind
from ray_paxos.core.wanted import GroupState, MemberState
from tests.unit.controlled_cluster import LOST_AFTER, ControlledCluster, Controller, Look


def check_plan(look: Look, policy: Policy, steps: list[Step]) -> None:
    """What holds of every plan, by what it was made on."""
    changes = [step for step in steps if isinstance(step, ChangeGroup)]
    assert len({step.group for step in changes}) == len(changes), "one change of a group at a time"
    assert all(step.version == look.seen.groups[step.group].version for step in changes)
    of_members = [step for step in steps if isinstance(step, MakeMember | LaunchMember | EndMember)]
    assert len({step.member for step in of_members}) == len(of_members)
    for step in steps:
        if isinstance(step, EndMember):
            _check_end(look, step)
        if isinstance(step, AddMember):
            _check_added(look, step)
        if isinstance(step, RetireMember):
            _check_retired(look, step.member)
    for change in changes:
        _check_change(look, policy, change)


def _check_end(look: Look, step: EndMember) -> None:
    state = look.wanted.members[step.member].state
    assert state in (MemberState.LEAVING, MemberState.ENDING)
    if state is not MemberState.ENDING:
        _check_named_by_none(look, step.member)


def _check_retired(look: Look, name: str) -> None:
    member = look.wanted.members[name]
    if member.state is MemberState.JOINING:
        assert member.node_id not in look.seen.nodes, "it can be made"
        return
    assert member.state is MemberState.PRESENT
    assert name in look.seen.lost | look.seen.going
    _check_named_by_none(look, name)


def _check_named_by_none(look: Look, member: str) -> None:
    for number, group in look.wanted.groups.items():
        if group.state in (GroupState.PRESENT, GroupState.MAKING):
            assert number in look.seen.groups, "every group was asked"
            assert member not in look.seen.groups[number].members


def _check_added(look: Look, step: AddMember) -> None:
    made = (MemberState.PRESENT, MemberState.LEAVING, MemberState.DRAINED)
    for name, member in look.wanted.members.items():
        assert member.node_id != step.node_id
        if member.state in made and name not in look.seen.lost:
            assert name in look.seen.places, f"the node may be that of {name}"


def _check_change(look: Look, policy: Policy, step: ChangeGroup) -> None:
    group, has = look.wanted.groups[step.group], look.seen.groups[step.group]
    present = {member.spec.name for member in look.wanted.present}
    silent = {name for name in has.voters if name not in look.seen.places}
    missing = present - look.seen.places.keys()
    assert group.state is GroupState.PRESENT
    if step.kind is MembershipKind.ADD:
        assert step.member not in has.members
    elif step.kind is MembershipKind.PROMOTE:
        assert step.member in has.followers
        assert len(has.voters) <= group.voters, "one more at a time"
    else:
        assert step.kind is MembershipKind.REMOVE
        assert step.member in has.members
        _check_removed(look, step)
    if step.kind is not MembershipKind.REMOVE:
        assert step.member in present & look.seen.places.keys(), "it is there, and answers"
        assert step.member not in look.seen.going, "its node is about to be ended"
        is_replacing = len(has.voters) >= group.voters and set(has.voters) <= present
        if len(missing) > policy.missing_max and is_replacing and not group.placed:
            raise AssertionError("nothing is replaced in an outage")
    changes_voters = step.kind is MembershipKind.PROMOTE or step.member in has.voters
    if step.group == 0 and changes_voters:
        assert len(silent) <= 1, "group 0 while several are missing"
        if step.kind is MembershipKind.REMOVE:
            assert silent <= {step.member}, "group 0 while another one is missing"
        elif not group.placed:
            assert not silent & present - look.seen.lost, "group 0 while another one is missing"


def _check_removed(look: Look, step: ChangeGroup) -> None:
    group, has = look.wanted.groups[step.group], look.seen.groups[step.group]
    state = look.wanted.members[step.member].state
    if step.member in has.followers:
        assert state is not MemberState.PRESENT or step.member in look.seen.lost | look.seen.going
        return
    if state is not MemberState.PRESENT:
        return
    is_going = step.member in look.seen.going
    is_spare = is_going and len(has.voters) in (4, 6, 8)
    assert len(has.voters) > group.voters or is_spare, "where nobody has its place it stays"
    if step.member in look.seen.places:
        live = [n for n in has.voters if n in look.seen.places and n != step.member]
        live_min = len(has.voters[1:]) // 2 + 1 if is_going else group.voters
        assert len(live) >= live_min, "a voter that answers leaves too few that do"


def take_checked(
    cluster: ControlledCluster, step: Step, look: Look, *, breaks_off: bool = False
) -> bool:
    """Take a step, and check what became of the group."""
    if not isinstance(step, ChangeGroup) or step.group not in cluster.configurations:
        return cluster.carry_out(step, look, breaks_off=breaks_off)
    group = look.wanted.groups[step.group]
    before, live_before = cluster.voters(step.group), cluster.live_voters(step.group)
    done = cluster.carry_out(step, look, breaks_off=breaks_off)
    voters, live = cluster.voters(step.group), cluster.live_voters(step.group)
    enough = group.voters // 2 + 1
    is_ordered = group.placed or look.wanted.members[step.member].state is not MemberState.PRESENT
    if len(live_before) >= enough and not is_ordered:
        enough = min(enough, len(voters) // 2 + 1)
        assert len(live) >= enough, f"{step} leaves {live} of {voters}"
    assert len(voters) <= max(len(before), group.voters + 1)
    return done


def loads(cluster: ControlledCluster) -> Mapping[str, int]:
    """How many groups each present member votes in."""
    load = Counter({member.spec.name: 0 for member in cluster.wanted.present})
    for number, group in cluster.wanted.groups.items():
        if group.state is GroupState.PRESENT:
            load.update(cluster.voters(number))
    return load


def run_rounds(
    cluster: ControlledCluster,
    controller: Controller,
    randomness: random.Random,
    *,
    rounds_max: int,
    at_once: int = 1_000,
) -> int:
    """Run rounds until there is nothing to do.

    Args:
        cluster: Where.
        controller: Who runs them.
        randomness: In which order steps are taken.
        rounds_max: It has to be settled after so many.
        at_once: So many steps of a plan are taken, at most.

    Returns:
        How many it took.
    """
    for number in range(rounds_max):
        look = controller.look(cluster)
        steps = controller.steps(look)
        check_plan(look, controller.policy, steps)
        there = {n for n, m in look.wanted.members.items() if m.state is not MemberState.GONE}
        waiting = set(look.seen.places) != there and any(
            0 < controller.silent[n] < LOST_AFTER for n in there
        )
        if not steps and not waiting:
            return number
        randomness.shuffle(steps)
        for step in steps[:at_once]:
            take_checked(cluster, step, look)
        cluster.learn()
    raise AssertionError(f"not settled after {rounds_max} rounds: {steps}")
