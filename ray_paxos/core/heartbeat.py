"""A master's rounds of heartbeats, and whether a majority confirms them."""

from __future__ import annotations

from ray_paxos.core.genesis import Configuration
from ray_paxos.core.quorum import majority_value


class HeartbeatRounds:
    """Counts confirmations, round by round.

    A round counts from when it was sent, never from when its replies came: what an acceptor
    confirmed is true at some time after the sending, and nothing later is known. So a reply names
    the round that it answers, and a vote the newest round that had begun when its accept left. Who
    confirms a round confirms every earlier one, too. Replies may take longer than the time between
    two rounds: every round stays open until it, or a later one, is confirmed.

    Attributes:
        sequence: Of the latest round begun; 0 before the first.
        due_ns: When the next regular round is to be sent.
        confirmed_sequence: The latest round that a majority confirmed; 0 for none.
        confirmed_ns: When that round was sent.
        is_confirmed: Whether a majority confirmed a further round since the latest regular one.
    """

    def __init__(self, configuration: Configuration, now_ns: int) -> None:
        """Begin a reign; its promises stand for a first confirmation, but grant no lease."""
        self.sequence = 0
        self.due_ns = now_ns
        self.confirmed_sequence = 0
        self.confirmed_ns = now_ns
        self.is_confirmed = False
        self._configuration = configuration
        # By sequence, ascending: when each open round was sent. Few, since a reign ends that gets
        # none confirmed for an election timeout, and one read round is open at a time.
        self._sent_ns: dict[int, int] = {}
        self._confirmed_by: dict[int, int] = {}

    def begin(self, now_ns: int) -> int:
        """Start a round of its own, for reads.

        Args:
            now_ns: When it is sent.

        Returns:
            The round's sequence number.
        """
        self.sequence += 1
        self._sent_ns[self.sequence] = now_ns
        return self.sequence

    def begin_regular(self, now_ns: int, due_ns: int) -> int:
        """Start a regular round, as `begin`; the next one is due at `due_ns`."""
        self.due_ns = due_ns
        self.is_confirmed = False
        return self.begin(now_ns)

    def count(self, sequence: int, replica_id: int) -> bool:
        """One voter confirmed a round.

        Returns:
            Whether a majority has thereby confirmed a further one.
        """
        known = self._confirmed_by.get(replica_id, 0)
        if sequence <= known or sequence > self.sequence:
            return False
        self._confirmed_by[replica_id] = sequence
        voters = self._configuration.voters
        by_voter = [self._confirmed_by.get(voter.replica_id, 0) for voter in voters]
        confirmed = majority_value(by_voter, len(by_voter))
        if confirmed <= self.confirmed_sequence:
            return False
        self.confirmed_sequence = confirmed
        self.confirmed_ns = self._sent_ns[confirmed]
        self.is_confirmed = True
        for earlier in [s for s in self._sent_ns if s <= confirmed]:
            del self._sent_ns[earlier]
        return True
