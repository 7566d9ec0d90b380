"""The other members that have a group, as its configuration names them now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload


class Peers(Sequence[int]):
    """Members, ascending, of which several parts of a role hold one view.

    Who it is made for follows the log, and `replace` changes it for all that hold it.
    """

    def __init__(self, member_ids: Iterable[int]) -> None:
        """Begin with these."""
        self._member_ids = tuple(sorted(member_ids))

    def replace(self, member_ids: Iterable[int]) -> None:
        """Name others from here on."""
        self._member_ids = tuple(sorted(member_ids))

    def name(self, member_ids: Iterable[int]) -> None:
        """These have the group, too, by a configuration that the log has not come to.

        They are forgotten with the next one that it comes to, which names those that there are.
        """
        self._member_ids = tuple(sorted({*self._member_ids, *member_ids}))

    def __len__(self) -> int:
        return len(self._member_ids)

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...

    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        return self._member_ids[index]
