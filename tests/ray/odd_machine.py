"""A state machine that is not deterministic: what no user must write, and what has to be seen."""

from __future__ import annotations

import os
from pathlib import Path

from ray_paxos import ApplyContext, StateMachine

ODD = b"odd"
UNSAVABLE = b"unsavable"


class Odd(StateMachine):
    """Counts, and tells its process where it is asked to be odd."""

    kind = "odd"

    def __init__(self) -> None:
        """Begin at 0."""
        self._count = 0
        self._is_unsavable = False

    def apply(self, command: bytes, context: ApplyContext) -> bytes:
        """Count; `odd` gives another result in each process."""
        self._count += 1
        self._is_unsavable |= command == UNSAVABLE
        return str(os.getpid() if command == ODD else self._count).encode()

    def save(self, directory: Path) -> None:
        """As machines do, unless it was told not to."""
        if self._is_unsavable:
            raise ValueError("it was told not to be saved")
        super().save(directory)

    def query(self, request: bytes) -> bytes:
        """The count."""
        return str(self._count).encode()
