"""The state machine of `phx_echo.py`, in a module of its own: members import it by its name.

In a configuration: `machines: {echo: "phx_echo_machine:Echo"}`.
"""

from __future__ import annotations

import msgspec

from ray_paxos import ApplyContext, StateMachine

LINES_KEPT = 1_000


class Echo(StateMachine):
    """Gives each line back, and keeps the latest ones, so that members can be compared."""

    kind = "echo"

    def __init__(self) -> None:
        """Nothing was said."""
        self._lines: list[tuple[int, bytes]] = []

    def apply(self, command: bytes, context: ApplyContext) -> bytes:
        """Execute: the line is the result.

        PhxEcho prints it here, on each member; ours may do nothing but change its state.
        """
        self._lines.append((context.instance_id, command))
        del self._lines[:-LINES_KEPT]
        return command

    def query(self, request: bytes) -> bytes:
        """The lines that are kept, each with its instance; for `decode_lines`."""
        return msgspec.msgpack.encode(self._lines)


def decode_lines(answer: bytes) -> list[tuple[int, bytes]]:
    """What a query answered."""
    return msgspec.msgpack.decode(answer, type=list[tuple[int, bytes]])
