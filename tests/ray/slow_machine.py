"""A state machine that takes as long as its commands say."""

from __future__ import annotations

import time

from ray_paxos import ApplyContext, StateMachine


class Sleeper(StateMachine):
    """Sleeps in `apply`, which no machine should do: tests look for who did."""

    kind = "sleeper"

    def apply(self, command: bytes, context: ApplyContext) -> bytes:
        """Sleep so many milliseconds; the digits are the command."""
        time.sleep(int(command) / 1_000)
        return command

    def query(self, request: bytes) -> bytes:
        """Nothing."""
        return b""
