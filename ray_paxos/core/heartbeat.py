"""A master's rounds of heartbeats, and whether a majority confirms them."""

from __future__ import annotations

from ray_paxos.core.genesis import Configuration


class HeartbeatRounds:
    """Counts confirmations, round by round.

    A round counts from when it was sent, never from when its replies came: what an acceptor
    confirmed is true at some time after the sending, and nothing later is known. Replies may take
    longer than the time between two rounds, so every round stays open until it, or a later one,
    is confirmed.

    Attributes:
        due_ns: When the next round is to be sent.
        confirmed_ns: When the last round was sent that a majority confirmed.
        is_confirmed: Whether a majority confirmed a further round since the latest was sent.
    """

    def __init__(self, configuration: Configuration, now_ns: int) -> None:
        """Begin a reign; its promises stand for a first confirmation."""
        self._configuration = configuration
        self._sequence = 0
        # By sequence, ascending: when the round was sent, and the voters that confirmed it. Few,
        # since a reign ends that gets none confirmed for an election timeout.
        self._open: dict[int, tuple[int, set[int]]] = {}
        self.due_ns = now_ns
        self.confirmed_ns = now_ns
        self.is_confirmed = False

    def begin(self, now_ns: int, due_ns: int) -> int:
        """Start a round.

        Args:
            now_ns: When it is sent.
            due_ns: When the next one is.

        Returns:
            The round's sequence number.
        """
        self._sequence += 1
        self._open[self._sequence] = (now_ns, set())
        self.due_ns = due_ns
        self.is_confirmed = False
        return self._sequence

    def count(self, sequence: int, replica_id: int) -> None:
        """One voter confirmed a round."""
        if sequence not in self._open:
            return
        sent_ns, confirmed_by = self._open[sequence]
        confirmed_by.add(replica_id)
        if len(confirmed_by) >= self._configuration.majority:
            self.confirmed_ns = sent_ns
            self.is_confirmed = True
            for earlier in [s for s in self._open if s <= sequence]:
                del self._open[earlier]
