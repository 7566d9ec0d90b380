"""What users hand to a client, checked, and the bounds that follow from where it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ray_paxos.actors.feeds import carried_bytes_max
from ray_paxos.actors.reader import consistency_of
from ray_paxos.actors.sender import WAIT_MAX_S, check_name
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.core.client_calls import ClientSettings
from ray_paxos.core.client_messages import Consistency
from ray_paxos.core.query_calls import QuerySettings, ReadTerms
from ray_paxos.errors import ConfigurationError

ANSWER_BYTES_MAX = 1_000_000
"""Of one reply to many reads, where Ray takes so much within a call."""
NUMBER_MAX = (1 << 63) - 1
"""What goes over the wire."""
_NUMBERS = (int, float)


def deadline_of(timeout_s: float) -> int:
    """When so much time is over, on the client's clock, in nanoseconds.

    Raises:
        ConfigurationError: The time means nothing.
    """
    if not isinstance(timeout_s, _NUMBERS) or not timeout_s >= 0:
        raise ConfigurationError(f"timeout_s: found {timeout_s!r}; allowed: seconds, 0 or more")
    return time.monotonic_ns() + int(min(timeout_s, WAIT_MAX_S) * 1e9)


def read_terms(
    machine: str, consistency: str, at_least: int | None, max_staleness_ms: int | None
) -> ReadTerms:
    """What a read asks for; see `Client.query`.

    Raises:
        ConfigurationError: One of the arguments means nothing.
    """
    check_name("machine", machine)
    wanted = consistency_of(consistency)
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


def checked_requests(requests: object) -> tuple[bytes, ...]:
    """The requests of several reads.

    Raises:
        ConfigurationError: They are no sequence of bytes.
    """
    if isinstance(requests, bytes | str) or not isinstance(requests, Sequence):
        kind = type(requests).__qualname__
        raise ConfigurationError(f"requests: found {kind}; allowed: a sequence of bytes")
    for position, request in enumerate(requests):
        if type(request) is not bytes:
            raise no_bytes(f"request {position}", request)
    return tuple(requests)


def no_bytes(what: str, found: object) -> ConfigurationError:
    """The error of a request that is none."""
    return ConfigurationError(f"{what}: found {type(found).__qualname__}; allowed: bytes")


def client_settings(spec: ClusterSpec) -> ClientSettings:
    """Bounds of a client's commands, by those of the cluster."""
    return ClientSettings(
        request_bytes_max=carried_bytes_max(spec.proposer.batch_bytes_max),
        command_bytes_max=spec.proposer.command_bytes_max,
    )


def query_settings() -> QuerySettings:
    """Bounds of a client's reads: calls and replies stay within Ray's inlining limit."""
    return QuerySettings(
        request_bytes_max=carried_bytes_max(QuerySettings().request_bytes_max),
        answer_bytes_max=carried_bytes_max(ANSWER_BYTES_MAX),
    )
