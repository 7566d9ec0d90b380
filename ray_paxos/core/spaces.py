"""Where the keys of a space are: which of its groups has a key, and under which name; pure.

The owner of a key is a hash of the space's name and the key, modulo the number of the space's
groups, which never change (`core.wanted`). So whoever knows the space finds the owner of any key
without asking, and groups that are made later change nothing. Where a group's *members* are is
another matter, which its clients find out: a group keeps its number and its keys while it moves.

Several spaces may have the same group, and share its one `kv` machine. There a key stands under its
space's name, between two separators that no name of a space contains, so that no key of one space
can stand where another space has a key, whatever is in it. Who writes to that machine directly is
to leave keys that begin with the separator alone.

More of a space's own (how long a key lives, who is told of its changes, several keys at once) is
the machine's and the driver's business: all it needs from here is the group and the name of a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ray_paxos.core.wanted import WantedSpace

SPACE_MACHINE = "kv"
"""Name and kind of the machine that holds keys of spaces, in each of their groups."""
_SEPARATOR = "\x1f"
"""ASCII's own for the purpose, and in no key by accident."""
_HASH_BYTES = 8


def prefix_of(space: str) -> str:
    """What all keys of a space begin with in their groups' machines."""
    return f"{_SEPARATOR}{space}{_SEPARATOR}"


def owner_of(space: WantedSpace, key: str) -> int:
    """The group that has a key.

    Args:
        space: Whose key.
        key: As users name it; can be encoded in UTF-8.
    """
    # With the space's name: keys that all spaces have, such as "leader", are not all in one group.
    named = f"{prefix_of(space.name)}{key}".encode()
    digest = hashlib.blake2b(named, digest_size=_HASH_BYTES).digest()
    return space.groups[int.from_bytes(digest, "big") % len(space.groups)]


def keys_by_owner(space: WantedSpace, keys: Iterable[str]) -> dict[int, list[str]]:
    """Keys by the group that has them, in their order; as of `owner_of`."""
    owners: dict[int, list[str]] = {}
    for key in keys:
        owners.setdefault(owner_of(space, key), []).append(key)
    return owners
