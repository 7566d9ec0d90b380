"""ray_paxos: state that stays consistent, durable and available, for Ray programs.

The names below are loaded when they are first used, so that `import ray_paxos` and the pure parts
(`ray_paxos.core`, `ray_paxos.machines`, `ray_paxos.testing`) need no Ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_paxos.actors.masters import Master
    from ray_paxos.actors.outcomes import ManyResults, Result
    from ray_paxos.client import Client
    from ray_paxos.cluster import Cluster
    from ray_paxos.config import ClusterConfiguration, load_configuration
    from ray_paxos.errors import (
        CommandError,
        CompactedError,
        LeaseLostError,
        NotAppliedError,
        OutcomeUnknownError,
        OverloadedError,
        PaxosError,
        QueryError,
        WaitTimeoutError,
    )
    from ray_paxos.key_value import KeyValue
    from ray_paxos.machines.base import ApplyContext, StateMachine
    from ray_paxos.observability.status import ClusterStatus, MemberDigest
    from ray_paxos.replicated import Replicated, command, query
    from ray_paxos.starting import connect, start

__all__ = [
    "ApplyContext",
    "Client",
    "Cluster",
    "ClusterConfiguration",
    "ClusterStatus",
    "CommandError",
    "CompactedError",
    "KeyValue",
    "LeaseLostError",
    "ManyResults",
    "Master",
    "MemberDigest",
    "NotAppliedError",
    "OutcomeUnknownError",
    "OverloadedError",
    "PaxosError",
    "QueryError",
    "Replicated",
    "Result",
    "StateMachine",
    "WaitTimeoutError",
    "command",
    "connect",
    "load_configuration",
    "query",
    "start",
]

_MODULES = {
    "ApplyContext": "ray_paxos.machines.base",
    "Client": "ray_paxos.client",
    "Cluster": "ray_paxos.cluster",
    "ClusterConfiguration": "ray_paxos.config",
    "ClusterStatus": "ray_paxos.observability.status",
    "CommandError": "ray_paxos.errors",
    "CompactedError": "ray_paxos.errors",
    "KeyValue": "ray_paxos.key_value",
    "LeaseLostError": "ray_paxos.errors",
    "ManyResults": "ray_paxos.actors.outcomes",
    "Master": "ray_paxos.actors.masters",
    "MemberDigest": "ray_paxos.observability.status",
    "NotAppliedError": "ray_paxos.errors",
    "OutcomeUnknownError": "ray_paxos.errors",
    "OverloadedError": "ray_paxos.errors",
    "PaxosError": "ray_paxos.errors",
    "QueryError": "ray_paxos.errors",
    "Replicated": "ray_paxos.replicated",
    "Result": "ray_paxos.actors.outcomes",
    "StateMachine": "ray_paxos.machines.base",
    "WaitTimeoutError": "ray_paxos.errors",
    "command": "ray_paxos.replicated",
    "connect": "ray_paxos.starting",
    "load_configuration": "ray_paxos.config",
    "query": "ray_paxos.replicated",
    "start": "ray_paxos.starting",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
