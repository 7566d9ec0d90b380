"""The spaces of keys of a cluster: found in group 0, made where they are not, and dropped.

A space never changes as long as it is there, so one that was found is not asked for again.

A cluster that was restored has a group 0 that knows no space, and groups that may hold keys of one.
It is there again, with them, when it is made over the same groups. Over others most keys would be
looked for where they are not. So before a space is made it is seen whether its groups hold keys of
that name, which have to be where the space would have them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from ray_paxos.actors.sender import check_name
from ray_paxos.core.spaces import SPACE_MACHINE, owner_of, prefix_of
from ray_paxos.core.wanted import SpaceState, Wanted, WantedSpace
from ray_paxos.core.wanted_changes import DropSpace, MakeSpace, changed_wanted
from ray_paxos.core.wanted_spaces import SPACE_GROUPS_MAX, may_have_keys
from ray_paxos.errors import CommandError, ConfigurationError
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines import kv
from ray_paxos.system_group import SystemGroup

ATTEMPTS = 5
KEYS_LOOKED_AT = 1_000
"""Of each group. A key is by chance where other groups would have it, too; so many never are."""
LOOK_TIMEOUT_S = 60.0
"""For the groups of one space together."""


class Spaces:
    """Made by `Cluster.spaces`. May be used by several threads.

    Every method raises `RequestError` where a group does not answer in time: group 0, or one over
    which a space is to be made. Asking again is safe.
    """

    def __init__(self, system: SystemGroup, clients: GroupClients) -> None:
        """Know none yet.

        Args:
            system: Group 0.
            clients: Of the other groups.
        """
        self._system = system
        self._clients = clients
        self._known: dict[str, WantedSpace] = {}

    def present(self) -> tuple[WantedSpace, ...]:
        """All that are there, by name; without those that were dropped."""
        return _present(self._system.wanted())

    def open(
        self, name: str, groups: Iterable[int] | None = None, *, creates: bool = True
    ) -> WantedSpace:
        """A space; made where there is none of that name.

        Args:
            name: Lower-case letters, digits, `-` and `_`, up to 63 characters.
            groups: Numbers of the groups that hold its keys, if it has to be made; by default all
                that have a machine `kv`, the first 1,024 of them where there are more.
            creates: Whether it is made where it is not there.

        Raises:
            ConfigurationError: It cannot be made, or is not to be; it was dropped; it is there with
                other groups than those asked for; or its groups hold keys of that name from before
                a restore, which were spread over others.
        """
        check_name("name of a space", name)
        asked = None if groups is None else _checked_groups(groups)
        space = self._known.get(name)
        if space is None:
            space = self._found_or_made(name, asked, creates=creates)
        if asked is not None and asked != space.groups:
            raise ConfigurationError(
                f"space {name} is there, with the groups {_listed(space.groups)}: they never "
                f"change, and are not {_listed(asked)}"
            )
        self._known[name] = space
        return space

    def drop(self, name: str) -> None:
        """Have a space no more, for ever; its name is never used again.

        Its keys stay where they are until its groups are dropped, which they can be from now on.
        Whoever has the space open goes on reading and writing there.

        Args:
            name: Its name; one that was dropped is no error.

        Raises:
            ConfigurationError: There was never one of that name.
        """
        try:
            self._system.change(DropSpace(name))
        except CommandError as error:
            raise ConfigurationError(f"{error}; nothing was changed") from error
        self._known.pop(name, None)

    def _found_or_made(
        self, name: str, asked: tuple[int, ...] | None, *, creates: bool
    ) -> WantedSpace:
        tried: tuple[int, ...] | None = None
        refusal = ""
        # Another driver may have made it meanwhile, over the groups that it saw; or groups have
        # gone. What is refused though nothing has changed cannot be.
        for _ in range(ATTEMPTS):
            wanted = self._system.wanted()
            space = wanted.spaces.get(name)
            if space is not None and space.state is SpaceState.GONE:
                raise ConfigurationError(f"space {name} was dropped; a name is never used again")
            if space is not None:
                return space
            if not creates:
                there = ", ".join(each.name for each in _present(wanted)) or "none"
                raise ConfigurationError(f"there is no space {name}; those that are there: {there}")
            numbers = _fit_groups(wanted) if asked is None else asked
            if numbers == tried:
                break
            if not numbers and asked is None:
                raise ConfigurationError(f"space {name}: no group that is present has a machine kv")
            tried = numbers
            refusal = self._make(wanted, MakeSpace(name, numbers))
        raise ConfigurationError(f"{refusal}; nothing was changed")

    def _make(self, wanted: Wanted, order: MakeSpace) -> str:
        """Make a space; gives what speaks against it, or nothing."""
        try:
            # What group 0 would refuse is refused before groups are asked that may not be there.
            made = changed_wanted(wanted, order).spaces[order.name]
            misplaced = self._misplaced(made)
            if misplaced is None:
                self._system.change(order)
                return ""
        except CommandError as error:
            return str(error)
        return (
            f"group {misplaced} holds keys of a space {made.name} that was spread over other "
            f"groups than {_listed(made.groups)}: name those that it had, or take another name"
        )

    def _misplaced(self, space: WantedSpace) -> int | None:
        """The first group that holds a key of a space which another group would have."""
        prefix = prefix_of(space.name)
        request = kv.encode_dump(prefix, limit=KEYS_LOOKED_AT)
        deadline = time.monotonic() + LOOK_TIMEOUT_S
        # One after the other: reads that go together take a thread of each client, for ever.
        for group in space.groups:
            left_s = max(deadline - time.monotonic(), 0.0)
            answer = self._clients.at(group).query(request, SPACE_MACHINE, timeout_s=left_s)
            for entry in kv.decode_page(answer).entries:
                if owner_of(space, entry.key.removeprefix(prefix)) != group:
                    return group
        return None


def _present(wanted: Wanted) -> tuple[WantedSpace, ...]:
    spaces = (space for _, space in sorted(wanted.spaces.items()))
    return tuple(space for space in spaces if space.state is SpaceState.PRESENT)


def _fit_groups(wanted: Wanted) -> tuple[int, ...]:
    fit = (number for number, group in sorted(wanted.groups.items()) if may_have_keys(group))
    return tuple(fit)[:SPACE_GROUPS_MAX]


def _checked_groups(groups: Iterable[int]) -> tuple[int, ...]:
    numbers = tuple(groups)
    if any(type(number) is not int for number in numbers):
        raise ConfigurationError(f"groups: found {numbers!r}; allowed: numbers of groups")
    return tuple(sorted(set(numbers)))


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"
