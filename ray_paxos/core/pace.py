"""How fast a role gives others what they miss.

Whoever is behind takes all it can get, and several may be behind at once: together they would
starve the commands of those that are not. So a role that answers them says, with each answer, how
long to wait before asking for more, such that all its answers together stay under a rate. Askers
keep to it; one answer is never cut short.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


class Pace:
    """A rate in bytes a second, over all that is given out."""

    def __init__(self, bytes_per_s: int) -> None:
        """Start with nothing given out.

        Args:
            bytes_per_s: At least 1.
        """
        self._bytes_per_s = bytes_per_s
        self._free_ns = 0

    def take(self, byte_count: int, now_ns: int) -> int:
        """Give out so many bytes now.

        Args:
            byte_count: Of the answer.
            now_ns: The clock.

        Returns:
            After how many milliseconds the rate allows the next answer.
        """
        cost_ns = byte_count * SECOND_NS // self._bytes_per_s
        self._free_ns = max(self._free_ns, now_ns) + cost_ns
        return (self._free_ns - now_ns) // MILLISECOND_NS
