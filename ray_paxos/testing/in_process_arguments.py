"""What users hand to an in-process cluster and its clients, checked as `ray_paxos.Client` does."""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.client_messages import Consistency
from ray_paxos.core.query_calls import ReadTerms
from ray_paxos.errors import ConfigurationError
from ray_paxos.testing.options import SECOND_NS

LENGTH_MAX_S = 1e6
NUMBER_MAX = (1 << 63) - 1
"""What goes over the wire."""
_CONSISTENCIES = ("linearizable", "lease", "follower", "stale")


def length_ns(what: str, seconds: float) -> int:
    """A length of time, in nanoseconds.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(seconds, int | float) or not seconds >= 0:
        raise ConfigurationError(f"{what}: found {seconds!r}; allowed: seconds, 0 or more")
    return int(min(seconds, LENGTH_MAX_S) * SECOND_NS)


def checked_bytes(what: str, found: object) -> bytes:
    """What a machine is to be given.

    Raises:
        ConfigurationError: It is not bytes itself.
    """
    if type(found) is not bytes:
        kind = type(found).__qualname__
        hint = "; encode it, as by .encode()" if isinstance(found, str) else ""
        raise ConfigurationError(f"{what}: found {kind}; allowed: bytes{hint}")
    return found


def checked_sequence(what: str, found: object) -> tuple[bytes, ...]:
    """Several of them.

    Raises:
        ConfigurationError: They are no sequence of bytes.
    """
    if isinstance(found, bytes | str) or not isinstance(found, Sequence):
        kind = type(found).__qualname__
        raise ConfigurationError(f"{what}: found {kind}; allowed: a sequence of bytes")
    return tuple(checked_bytes(f"one of {what}", each) for each in found)


def read_terms(
    machine: str, consistency: str, at_least: int | None, max_staleness_ms: int | None
) -> ReadTerms:
    """What a read asks for; see `ray_paxos.Client.query`.

    Raises:
        ConfigurationError: One of the arguments means nothing.
    """
    if consistency not in _CONSISTENCIES:
        offered = ", ".join(_CONSISTENCIES)
        raise ConfigurationError(f"consistency: found {consistency!r}; allowed: {offered}")
    wanted = Consistency[consistency.upper()]
    for name, number in (("at_least", at_least), ("max_staleness_ms", max_staleness_ms)):
        if number is not None and (type(number) is not int or not 0 <= number <= NUMBER_MAX):
            raise ConfigurationError(f"{name}: found {number!r}; allowed: 0 or more")
    if max_staleness_ms is not None and wanted is not Consistency.FOLLOWER:
        raise ConfigurationError(
            f"max_staleness_ms goes with consistency follower, not {consistency}"
        )
    if at_least is None and wanted is not Consistency.FOLLOWER:
        at_least = 0
    return ReadTerms(machine, wanted, at_least, max_staleness_ms)
