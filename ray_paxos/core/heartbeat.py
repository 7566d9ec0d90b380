"""A master's rounds of heartbeats, and whether a majority confirms them."""

from __future__ import annotations

from ray_paxos.core.genesis import Configuration


class HeartbeatRounds:
    """Counts confirmations of the latest round.

    A round counts from when it was sent, never from when its replies came: what an acceptor
    confirmed is true at some time after the sending, and nothing later is known.

    Attributes:
        due_ns: When the next round is to be sent.
        confirmed_ns: When the last round was sent that a majority confirmed.
    """

    def __init__(self, configuration: Configuration, now_ns: int) -> None:
        """Begin a reign; its promises stand for a first confirmation."""
        self._configuration = configuration
        self._sequence = 0
        self._sent_ns = now_ns
        self._confirmed_by: set[int] = set()
        self.due_ns = now_ns
        self.confirmed_ns = now_ns

    @property
    def is_confirmed(self) -> bool:
        """Whether a majority confirmed the latest round."""
        return len(self._confirmed_by) >= self._configuration.majority

    def begin(self, now_ns: int, due_ns: int) -> int:
        """Start a round.

        Args:
            now_ns: When it is sent.
            due_ns: When the next one is.

        Returns:
            The round's sequence number.
        """
        self._sequence += 1
        self._sent_ns = now_ns
        self._confirmed_by = set()
        self.due_ns = due_ns
        return self._sequence

    def count(self, sequence: int, replica_id: int) -> None:
        """One voter confirmed a round; only the latest one counts."""
        if sequence != self._sequence:
            return
        self._confirmed_by.add(replica_id)
        if self.is_confirmed:
            self.confirmed_ns = self._sent_ns
