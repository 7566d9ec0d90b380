"""The configuration of a cluster: a YAML file, checked whole before anything starts.

Rules:

1. Every field but `cluster` has a default, and the defaults of times and limits are those of
   `ray_paxos.core.settings`: the file says only what differs.
2. Units stand in names: `_ms` milliseconds (fractions allowed), `_bytes` bytes, `_max` a limit.
   The core works in whole nanoseconds; `settings()` of each section converts.
3. A field that is not known, a value that is not allowed, and values that contradict each other
   are refused with file, line and field. What is allowed but doubtful is in `warnings`.
4. The file is read on the driver's node, but `data_dir` speaks of each member's own node: `~`
   and $RAY_PAXOS_HOME mean what they mean there, so they are kept as written until a member's
   actors call `resolve_data_dir`.

The members and groups of the file are for the genesis only: once a cluster exists, its own
records say who its members are.
"""

from ray_paxos.config.cluster import (
    ClusterConfiguration,
    GroupConfiguration,
    LoggingConfiguration,
    MemberConfiguration,
)
from ray_paxos.config.load import load_configuration, parse_configuration, with_ray_address
from ray_paxos.config.ray_section import RayConfiguration
from ray_paxos.config.roles import (
    AcceptorConfiguration,
    CheckpointerConfiguration,
    ControllerConfiguration,
    LearnerConfiguration,
    ProposerConfiguration,
)

__all__ = [
    "AcceptorConfiguration",
    "CheckpointerConfiguration",
    "ClusterConfiguration",
    "ControllerConfiguration",
    "GroupConfiguration",
    "LearnerConfiguration",
    "LoggingConfiguration",
    "MemberConfiguration",
    "ProposerConfiguration",
    "RayConfiguration",
    "load_configuration",
    "parse_configuration",
    "with_ray_address",
]
