"""A state machine of a user's, as a cluster finds it by its name."""

from __future__ import annotations

from ray_paxos import ApplyContext, CommandError, StateMachine


class Total(StateMachine):
    """Adds up numbers."""

    kind = "total"

    def __init__(self) -> None:
        """Begin with nothing."""
        self._total = 0

    def apply(self, command: bytes, context: ApplyContext) -> bytes:
        """Add a number; its digits are the command."""
        if not command.isdigit():
            raise CommandError("not a number")
        self._total += int(command)
        return str(self._total).encode()

    def query(self, request: bytes) -> bytes:
        """The sum."""
        return str(self._total).encode()
