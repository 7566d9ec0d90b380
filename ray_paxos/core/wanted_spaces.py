"""The spaces of keys that are wanted: how one is made, and dropped; pure.

A space is made over groups that are present, and keeps them: they cannot be dropped before it is. A
space that was dropped leaves its keys in its groups, where they go with the groups. So its name is
never used again, or what it held would come to light in another space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.core.spaces import SPACE_MACHINE
from ray_paxos.core.wanted import GroupState, SpaceState, WantedGroup, WantedSpace
from ray_paxos.errors import CommandError

SPACES_KNOWN_MAX = 1_000
"""So many spaces may ever be known, those that are gone included."""
SPACE_GROUPS_MAX = 1_024
"""A space has so many groups at most: a scan holds a page of each."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def make_space(
    spaces: dict[str, WantedSpace],
    groups: Mapping[int, WantedGroup],
    name: str,
    numbers: tuple[int, ...],
) -> None:
    """Have a space over some groups; changes nothing where it is there with just these.

    Args:
        spaces: All by name; changed in place.
        groups: All by number.
        name: Of the space.
        numbers: Of its groups, ascending.

    Raises:
        CommandError: It cannot be; says why.
    """
    before = spaces.get(name)
    if before is not None and before.state is SpaceState.GONE:
        raise CommandError(f"space {name} was dropped; a name is never used again")
    if before is not None and before.groups == numbers:
        return
    if before is not None:
        raise CommandError(f"space {name} exists, with the groups {_listed(before.groups)}")
    if _NAME.fullmatch(name) is None:
        # Without the name: it may hold anything, and how that is shown differs between releases.
        raise CommandError(
            "name of a space: allowed: lower-case letters, digits, - and _, beginning with a "
            "letter or a digit, up to 63 characters"
        )
    if len(spaces) >= SPACES_KNOWN_MAX:
        raise CommandError(f"{SPACES_KNOWN_MAX:,} spaces were made; no more are known")
    if not 1 <= len(numbers) <= SPACE_GROUPS_MAX:
        raise CommandError(
            f"space {name}: found {len(numbers):,} groups; allowed: 1 to {SPACE_GROUPS_MAX:,}"
        )
    if numbers != tuple(sorted(set(numbers))):
        raise CommandError(f"space {name}: its groups are to be named once each, ascending")
    for number in numbers:
        _check_may_have_keys(groups.get(number), number, name)
    spaces[name] = WantedSpace(name, numbers, SpaceState.PRESENT)


def drop_space(spaces: dict[str, WantedSpace], name: str) -> None:
    """Have a space no more, for ever; changes nothing where it has gone.

    Args:
        spaces: All by name; changed in place.
        name: Of the space.

    Raises:
        CommandError: There was never one of that name.
    """
    space = spaces.get(name)
    if space is None:
        raise CommandError(f"there is no space {name}")
    spaces[name] = msgspec.structs.replace(space, state=SpaceState.GONE)


def check_is_in_no_space(spaces: Mapping[str, WantedSpace], number: int) -> None:
    """Make sure that a group can go without taking keys of a space with it.

    Raises:
        CommandError: A space has it; names the first.
    """
    for name, space in sorted(spaces.items()):
        if space.state is SpaceState.PRESENT and number in space.groups:
            raise CommandError(f"group {number} holds keys of space {name}; drop the space first")


def may_have_keys(group: WantedGroup) -> bool:
    """Whether a space may be made over a group."""
    return (
        group.spec.group != SYSTEM_GROUP
        and group.state is GroupState.PRESENT
        and any(each.name == each.kind == SPACE_MACHINE for each in group.spec.machines)
    )


def _check_may_have_keys(group: WantedGroup | None, number: int, name: str) -> None:
    if number == SYSTEM_GROUP:
        raise CommandError(f"space {name}: group 0 is the system's own")
    if group is None:
        raise CommandError(f"space {name}: there is no group {number}")
    if group.state is not GroupState.PRESENT:
        raise CommandError(f"space {name}: group {number} is {group.state.name.lower()}")
    if not may_have_keys(group):
        raise CommandError(f"space {name}: group {number} has no machine {SPACE_MACHINE}")


def _listed(numbers: tuple[int, ...]) -> str:
    """The first of them, and how many there are more."""
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown} and {len(numbers) - 10:,} more" if len(numbers) > 10 else shown
