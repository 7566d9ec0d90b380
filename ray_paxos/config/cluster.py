"""The whole configuration: members, groups, and what contradicts what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ray_paxos.config.explain import show
from ray_paxos.config.observability import ObservabilityConfiguration
from ray_paxos.config.ray_section import RayConfiguration
from ray_paxos.config.roles import (
    AcceptorConfiguration,
    CheckpointerConfiguration,
    ControllerConfiguration,
    LearnerConfiguration,
    ProposerConfiguration,
)
from ray_paxos.config.section import Section, name_field, refuse
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.releases import NEWEST
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.own_classes import ALLOWED as OWN_ALLOWED
from ray_paxos.machines.own_classes import is_own
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.machines.system import SYSTEM_MACHINE
from ray_paxos.storage.archive_address import ALLOWED as ARCHIVE_ALLOWED
from ray_paxos.storage.archive_address import parse_address
from ray_paxos.storage.data_dir import DATA_DIR_DEFAULT, DATA_DIR_VARIABLE

SECTIONS = (
    "proposer",
    "acceptor",
    "learner",
    "checkpointer",
    "controller",
    "ray",
    "logging",
    "observability",
)
MEMBERS_MAX = 100
GROUPS_MAX = 1_024
GROUP_NUMBER_MAX = 1_000_000
MACHINES_MAX = 64
PRIORITY_MAX = 100
VOTERS_DEFAULT_MAX = 5
"""Two voters more survive one loss more, and let each command wait for one disk more."""

_LABEL_PART = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?")
# The system's own machine is for group 0 alone.
_REGISTRY = MachineRegistry()
_KINDS = sorted({kind for kind, _ in _REGISTRY.kinds} - {SYSTEM_MACHINE})


class MemberConfiguration(Section):
    """One member of the genesis, and how it is pinned to the Ray node that has its disk."""

    name: str = name_field("The member's name; part of its folder's path and of its actors' names.")
    node_labels: dict[str, str] = Field(
        {},
        description="Ray node labels that the member's node carries (`ray start --labels`).",
        json_schema_extra={"allowed": "a mapping from label to value, both text"},
    )
    resource: str | None = Field(
        None,
        min_length=1,
        description="Custom Ray resource that the member's node has (`ray start --resources`).",
        json_schema_extra={"allowed": "the name of a custom Ray resource"},
    )
    priority: int = Field(
        1,
        ge=0,
        le=PRIORITY_MAX,
        description="Who has the highest stands first, and is handed the lead once it keeps up.",
        json_schema_extra={"allowed": f"a whole number from 0 to {PRIORITY_MAX}"},
    )

    @field_validator("node_labels")
    @classmethod
    def _check_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        """As Ray's `--labels` takes them; an operator such as `!` or `in(...)` names no node."""
        for key, value in labels.items():
            prefix, slash, last = key.rpartition("/")
            parts = [last, value, prefix] if slash else [last, value]
            if not all(_LABEL_PART.fullmatch(part) for part in parts):
                raise refuse(
                    f"found {key}={value}; allowed: labels as `ray start --labels` takes them, "
                    "letters, digits, -, _ and . with an optional prefix before a / in the key"
                )
        return labels


class GroupConfiguration(Section):
    """One group of the genesis."""

    group: int = Field(
        ge=1,
        le=GROUP_NUMBER_MAX,
        description="The group's number; 0 is the system's own group.",
        json_schema_extra={"allowed": f"a whole number from 1 to {GROUP_NUMBER_MAX:,}"},
    )
    voters: int | None = Field(
        None,
        ge=1,
        le=MEMBERS_MAX,
        description="How many members vote in it; groups are spread evenly over the members. "
        f"Without a number: all of them, and {VOTERS_DEFAULT_MAX} where there are more.",
        json_schema_extra={"allowed": "a whole number from 1 to the number of members"},
    )
    machines: dict[str, str] = Field(
        {kind: kind for kind in _KINDS},
        description="The group's state machines: name of each, and its kind. By default one of "
        "each kind, under its name, which is what recipes look for; an empty one costs next to "
        "nothing. "
        f"Classes of your own are named as `{OWN_ALLOWED}`.",
        json_schema_extra={"allowed": "a mapping from a machine's name to its kind"},
    )

    @field_validator("machines")
    @classmethod
    def _check_machines(cls, machines: dict[str, str]) -> dict[str, str]:
        if not 1 <= len(machines) <= MACHINES_MAX:
            raise refuse(f"found {len(machines)} machines; allowed: 1 to {MACHINES_MAX}")
        for name, kind in machines.items():
            if not name.isidentifier() or not name.isascii() or len(name) > 63:
                raise refuse(
                    f"{show(name)} is no name for a machine; allowed: 1 to 63 letters, digits "
                    "and _, beginning with a letter"
                )
            if kind not in _KINDS and not is_own(kind):
                known = ", ".join(_KINDS)
                raise refuse(
                    f"{name}: found {show(kind)}; allowed kinds: {known}, or {OWN_ALLOWED}"
                )
        return machines

    def machine_specs(self, cluster_version: int = NEWEST) -> tuple[MachineSpec, ...]:
        """The machines as a new group names them.

        Args:
            cluster_version: Of the cluster; by default that of a new one.

        Returns:
            Each with the newest version of its kind that all members know then.

        Raises:
            ConfigurationError: Not all of them know any version of a kind; or a class of the
                user's cannot be imported here.
        """
        versions = _REGISTRY.newest_versions(cluster_version)
        for kind in filter(is_own, self.machines.values()):
            versions[kind] = _REGISTRY.own(kind).version
        unknown = sorted(set(self.machines.values()) - versions.keys())
        if unknown:
            raise ConfigurationError(
                f"machines: {unknown[0]} is not known to all members under cluster version "
                f"{cluster_version}; raise the cluster's version first"
            )
        return tuple(
            MachineSpec(name, kind, versions[kind]) for name, kind in sorted(self.machines.items())
        )


class LoggingConfiguration(Section):
    """What the actors write to Ray's log files."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        description="Least severity that is written.",
        json_schema_extra={"allowed": "DEBUG, INFO, WARNING or ERROR"},
    )


class ClusterConfiguration(Section):
    """A whole configuration file."""

    cluster: str = name_field("The cluster's name, within its Ray cluster and on disk.")
    members: tuple[MemberConfiguration, ...] = Field(
        tuple(MemberConfiguration(name=f"m{number}") for number in (1, 2, 3)),
        description="How many members (m1, m2, ...), or a list of names, or of mappings.",
        json_schema_extra={"allowed": f"a number from 1 to {MEMBERS_MAX}, or a list of members"},
    )
    data_dir: str | None = Field(
        None,
        description="Folder for all data, on each member's node. Without one: "
        f"${DATA_DIR_VARIABLE} there, else {DATA_DIR_DEFAULT}.",
        json_schema_extra={"allowed": "an absolute path, or one that begins with ~"},
    )
    archive: str | None = Field(
        None,
        description="Where members archive sealed segments and checkpoints, as they are made: a "
        "folder that is there on every member's node, or a bucket. Without one: nowhere.",
        json_schema_extra={"allowed": ARCHIVE_ALLOWED},
    )
    groups: tuple[GroupConfiguration, ...] = Field(
        (GroupConfiguration(group=1),),
        description="How many groups (1, 2, ...), a mapping of `count`, `voters` and `machines`, "
        "or a list.",
        json_schema_extra={
            "allowed": f"a number from 1 to {GROUPS_MAX:,}, a mapping of count, voters and "
            "machines, or a list of groups"
        },
    )
    roles: Literal["separate", "fused"] = Field(
        "separate",
        description="Whether each role of a member is a Ray actor of its own, or all four are one: "
        "faster and smaller, and they fail together. May be changed while the cluster is stopped.",
        json_schema_extra={"allowed": "separate or fused"},
    )
    proposer: ProposerConfiguration = ProposerConfiguration()
    acceptor: AcceptorConfiguration = AcceptorConfiguration()
    learner: LearnerConfiguration = LearnerConfiguration()
    checkpointer: CheckpointerConfiguration = CheckpointerConfiguration()
    controller: ControllerConfiguration = ControllerConfiguration()
    ray: RayConfiguration = RayConfiguration()
    logging: LoggingConfiguration = LoggingConfiguration()
    observability: ObservabilityConfiguration = ObservabilityConfiguration()

    @field_validator(*SECTIONS, mode="before")
    @classmethod
    def _fill_empty_section(cls, section: Any) -> Any:
        """A heading with nothing below it (all of it commented out) means the defaults."""
        return {} if section is None else section

    @field_validator("members", mode="before")
    @classmethod
    def _expand_members(cls, members: Any) -> Any:
        """A number stands for so many members, a text for a member of that name."""
        if isinstance(members, int) and not isinstance(members, bool):
            _check_count("members", members, MEMBERS_MAX)
            return tuple({"name": f"m{number}"} for number in range(1, members + 1))
        if isinstance(members, list | tuple):
            _check_count("members", len(members), MEMBERS_MAX)
            return tuple({"name": item} if isinstance(item, str) else item for item in members)
        return members

    @field_validator("groups", mode="before")
    @classmethod
    def _expand_groups(cls, groups: Any) -> Any:
        """A number stands for so many groups; a mapping gives their machines, too."""
        if isinstance(groups, list | tuple):
            _check_count("groups", len(groups), GROUPS_MAX)
            return tuple(groups)
        if isinstance(groups, int) and not isinstance(groups, bool):
            groups = {"count": groups}
        if not isinstance(groups, dict):
            return groups
        if "count" not in groups or groups.keys() - {"count", "machines", "voters"}:
            raise refuse(
                f"found a mapping of {', '.join(groups) or 'nothing'}; allowed: a mapping of "
                "`count` and, where they are not the default, `voters` and `machines`; or a list "
                "of groups"
            )
        count = groups["count"]
        if not isinstance(count, int) or isinstance(count, bool):
            raise refuse(f"count: found {show(count)}; allowed: 1 to {GROUPS_MAX:,}")
        _check_count("groups", count, GROUPS_MAX)
        shared = {name: groups[name] for name in ("machines", "voters") if name in groups}
        return tuple({"group": number, **shared} for number in range(1, count + 1))

    @field_validator("data_dir")
    @classmethod
    def _check_data_dir(cls, data_dir: str | None) -> str | None:
        """A relative path would mean another folder in every process."""
        if data_dir is not None and not data_dir.startswith(("/", "~")):
            raise refuse(
                f"found {show(data_dir)}; allowed: an absolute path, or one that begins with ~"
            )
        return data_dir

    @field_validator("archive")
    @classmethod
    def _check_archive(cls, archive: str | None) -> str | None:
        """Refuse now what no member could use later."""
        if archive is not None:
            try:
                parse_address(archive)
            except ConfigurationError as error:
                raise refuse(str(error)) from error
        return archive

    @model_validator(mode="after")
    def _check_together(self) -> ClusterConfiguration:
        """Refuse what is allowed by itself but contradicts something else."""
        _check_unique("members", (member.name for member in self.members))
        _check_unique("groups", (group.group for group in self.groups))
        for place, group in enumerate(self.groups):
            if group.voters is not None and group.voters > len(self.members):
                raise refuse(
                    f"found {group.voters} voters; allowed: at most one a member "
                    f"({len(self.members)})",
                    ("groups", place, "voters"),
                )
        proposer, learner = self.proposer, self.learner
        if proposer.election_timeout_ms < 2 * proposer.heartbeat_interval_ms:
            raise refuse(
                f"found {show(proposer.election_timeout_ms)}; allowed: at least twice "
                f"heartbeat_interval_ms ({show(proposer.heartbeat_interval_ms)}), or one late "
                "heartbeat unseats the master",
                ("proposer", "election_timeout_ms"),
            )
        if proposer.lease_ms and (
            proposer.lease_ms < 2 * proposer.heartbeat_interval_ms or proposer.lease_ms % 1
        ):
            raise refuse(
                f"found {show(proposer.lease_ms)}; allowed: 0, or whole milliseconds, at least "
                f"twice heartbeat_interval_ms ({show(proposer.heartbeat_interval_ms)}), or one "
                "late heartbeat ends the lease",
                ("proposer", "lease_ms"),
            )
        if proposer.learner_gap_ms <= learner.catch_up_retry_ms:
            raise refuse(
                f"found {show(proposer.learner_gap_ms)}; allowed: more than "
                f"learner.catch_up_retry_ms ({show(learner.catch_up_retry_ms)}), or a master "
                "prepares again before its learner has asked a second member",
                ("proposer", "learner_gap_ms"),
            )
        if self.ray.nodes_min > len(self.members):
            raise refuse(
                f"found {self.ray.nodes_min}; allowed: at most one node a member "
                f"({len(self.members)})",
                ("ray", "nodes_min"),
            )
        if proposer.retained_bytes_max < learner.seal_bytes:
            raise refuse(
                f"found {proposer.retained_bytes_max:,}; allowed: at least learner.seal_bytes "
                f"({learner.seal_bytes:,}), or the master waits for a segment that is not full yet",
                ("proposer", "retained_bytes_max"),
            )
        largest = max(proposer.batch_bytes_max, proposer.command_bytes_max)
        for section, field, limit in (
            ("proposer", "intake_bytes_max", proposer.intake_bytes_max),
            ("proposer", "retained_bytes_max", proposer.retained_bytes_max),
            ("learner", "pending_bytes_max", learner.pending_bytes_max),
        ):
            if limit < largest:
                raise refuse(
                    f"found {limit:,}; allowed: at least the larger of proposer.batch_bytes_max "
                    f"and proposer.command_bytes_max ({largest:,}), or such a value never fits",
                    (section, field),
                )
        return self

    def voters_of(self, group: GroupConfiguration) -> int:
        """How many members are to vote in a group."""
        return group.voters or min(len(self.members), VOTERS_DEFAULT_MAX)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but doubtful, each as one line for a person."""
        found = []
        counts = {self.voters_of(group) for group in self.groups}
        for count in sorted(count for count in counts if count % 2 == 0):
            found.append(
                f"members: {count} voters survive the loss of {(count - 1) // 2}, no more than "
                f"{count - 1} voters do, and each one more can be lost: use an odd number"
            )
        return tuple(found)


def _check_count(what: str, count: int, limit: int) -> None:
    if not 1 <= count <= limit:
        raise refuse(f"found {count:,}; allowed: 1 to {limit:,} {what}")


def _check_unique(field: str, values: Iterable[str | int]) -> None:
    seen: set[str | int] = set()
    for value in values:
        if value in seen:
            raise refuse(f"{value} is given twice; each needs its own", (field,))
        seen.add(value)
