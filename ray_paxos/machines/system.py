"""The system group's machine: what is wanted of the cluster.

Commands are changes, the one query is empty and gives all of it, both in the encoding of
`core.wanted`. A change that does not fit is refused, with its reason, the same on all members.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import msgspec

from ray_paxos.core.wanted import Wanted, decode_wanted, encode_wanted
from ray_paxos.core.wanted_changes import changed_wanted, decode_change
from ray_paxos.errors import CommandError, QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext, StateMachine

SYSTEM_MACHINE = "system"
"""Its name in group 0, and its kind."""
_STATE_FILE = "wanted"


class SystemMachine(StateMachine):
    """Holds one `Wanted`."""

    kind: ClassVar[str] = SYSTEM_MACHINE
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """Want nothing yet."""
        self._wanted = Wanted()

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Make a change.

        Returns:
            The version of what is wanted after it, in decimal digits.

        Raises:
            CommandError: It does not fit, or is no change; nothing has changed.
        """
        try:
            self._wanted = changed_wanted(self._wanted, decode_change(command))
        except msgspec.DecodeError:
            # The decoder's own words may differ between releases.
            raise CommandError("not a change of what is wanted") from None
        return b"%d" % self._wanted.version

    def query(self, request: bytes) -> bytes:
        """All that is wanted.

        Raises:
            QueryError: The request is not empty.
        """
        if request:
            raise QueryError("the system machine knows one query, the empty one")
        return encode_wanted(self._wanted)

    def save(self, directory: Path) -> None:
        """Write it into one file."""
        (directory / _STATE_FILE).write_bytes(encode_wanted(self._wanted))

    def load(self, directory: Path) -> None:
        """Read it back."""
        self._wanted = decode_wanted((directory / _STATE_FILE).read_bytes())

    def digest(self) -> bytes:
        """Over its one encoding."""
        encoded = encode_wanted(self._wanted)
        return hashlib.blake2b(encoded, digest_size=DIGEST_BYTES).digest()
