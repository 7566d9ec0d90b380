"""Ray's part of a configuration: which cluster, and how one is started where none runs."""

from __future__ import annotations

from pydantic import Field, field_validator

from ray_paxos.config.explain import show
from ray_paxos.config.section import (
    DAY_MS,
    Section,
    bytes_field,
    milliseconds_field,
    refuse,
    whole_field,
)
from ray_paxos.core.settings import MILLISECOND_NS


class RayConfiguration(Section):
    """Which Ray cluster, and how one is started where none runs.

    From `inline_bytes_max` on these are settings of Ray's own processes: they take effect where we
    start Ray, and are what they are in a Ray cluster that somebody else started.
    """

    address: str | None = Field(
        None,
        min_length=1,
        description="Address of a running Ray cluster; `auto`: the one that runs on this machine; "
        "`local`: a new one. Without any: $RAY_ADDRESS, else as `auto` where one runs, else as "
        "`local`.",
        json_schema_extra={"allowed": "HOST:PORT, auto, local, or nothing"},
    )
    nodes_min: int = whole_field(
        1,
        1,
        15,
        "Live Ray nodes that it takes to start. Members are spread over all nodes there are; with "
        "fewer than this, nothing is started.",
    )
    start_timeout_ms: float = milliseconds_field(
        180_000 * MILLISECOND_NS,
        "How long all roles of all members may take until they serve. Twelve processes of three "
        "members took over a minute on two busy cores.",
    )
    inline_bytes_max: int = bytes_field(
        2_000_000,
        100_000,
        16_000_000,
        "A call's argument up to this size travels in the call (RAY_max_direct_call_object_size); "
        "a larger one takes the slower way through the object store.",
    )
    inline_call_bytes_max: int = bytes_field(
        50_000_000,
        1_000_000,
        400_000_000,
        "All arguments of one call that travel in it (RAY_task_rpc_inlined_bytes_limit).",
    )
    keepalive_time_ms: int = whole_field(
        1_000,
        100,
        DAY_MS,
        "How often Ray probes a quiet link (RAY_grpc_client_keepalive_time_ms).",
        unit="milliseconds, a whole number",
    )
    keepalive_timeout_ms: int = whole_field(
        1_000,
        100,
        DAY_MS,
        "How long a probe may stay unanswered (RAY_grpc_client_keepalive_timeout_ms).",
        unit="milliseconds, a whole number",
    )
    worker_niceness: int = whole_field(
        0, 0, 19, "Scheduling niceness of actors (RAY_worker_niceness; Ray's own default is 15)."
    )

    @field_validator("address")
    @classmethod
    def _check_address(cls, address: str | None) -> str | None:
        if address is not None and address.startswith("ray://"):
            raise refuse(
                f"found {show(address)}: Ray Client is not supported; allowed: HOST:PORT of the "
                "cluster's GCS (run the job on one of its nodes, or by `ray job submit`)"
            )
        return address

    def environment(self) -> dict[str, str]:
        """Variables for the environment of every Ray process that we start ourselves."""
        return {
            "RAY_max_direct_call_object_size": str(self.inline_bytes_max),
            "RAY_task_rpc_inlined_bytes_limit": str(self.inline_call_bytes_max),
            "RAY_grpc_client_keepalive_time_ms": str(self.keepalive_time_ms),
            "RAY_grpc_client_keepalive_timeout_ms": str(self.keepalive_timeout_ms),
            "RAY_worker_niceness": str(self.worker_niceness),
        }
