"""The spaces of keys of a cluster: found in group 0, made where they are not, and dropped.

A space never changes as long as it is there, so one that was found is not asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray_paxos.actors.sender import check_name
from ray_paxos.core.wanted import SpaceState, Wanted, WantedSpace
from ray_paxos.core.wanted_changes import DropSpace, MakeSpace
from ray_paxos.core.wanted_spaces import SPACE_GROUPS_MAX, may_have_keys
from ray_paxos.errors import CommandError, ConfigurationError
from ray_paxos.system_group import SystemGroup

ATTEMPTS = 5


class Spaces:
    """Made by `Cluster.spaces`. May be used by several threads.

    Every method raises `RequestError` where group 0 does not answer in time; asking again is safe.
    """

    def __init__(self, system: SystemGroup) -> None:
        """Know none yet.

        Args:
            system: Group 0.
        """
        self._system = system
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
            ConfigurationError: It cannot be made, or is not to be; it was dropped; or it is there
                with other groups than those asked for.
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
        refusal: CommandError | None = None
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
            try:
                self._system.change(MakeSpace(name, numbers))
            except CommandError as error:
                refusal = error
        raise ConfigurationError(f"{refusal}; nothing was changed") from refusal


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
