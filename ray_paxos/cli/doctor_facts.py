"""What `ray-paxos doctor` knows of a machine and a configuration: facts, and nothing judged.

Rules:

1. Facts are plain data. `doctor_looking` and `doctor_ray_look` collect them; the checks
   (`doctor_machine`, `doctor_disk`, `doctor_ray`) are pure functions of them, so that a test needs
   no slow disk and no Ray.
2. A fact that could not be found out says so (None, or an error's text): no check takes silence for
   a good sign.
3. Where no configuration is given, or the one that is given is wrong, the defaults stand in for it:
   the machine can be looked at all the same.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ray_paxos.config import ClusterConfiguration, parse_configuration

DEFAULTS = parse_configuration("cluster: unnamed", "the defaults")


class Status(enum.Enum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        status: How it is to be taken.
        found: What is there, for a person.
        change: What to change; empty where nothing is to be changed.
    """

    status: Status
    found: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that this one needs.

    Attributes:
        name: As the registry calls it.
        wanted: The lowest version that will do.
        installed: What is there; empty where it is not installed.
    """

    name: str
    wanted: str
    installed: str


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The machine, as this process sees it.

    Attributes:
        python: Its version.
        python_wanted: The lowest version that will do; empty where the metadata does not say.
        packages: Those that are needed, by the installed package's metadata.
        open_files: How many files a process may open (`ulimit -n`).
        open_files_hard: How far a process may raise that by itself.
        memory_bytes: Of the machine, or of the container where that has less; None: unknown.
        available_bytes: What of it is free; None: unknown.
        processors: That this process may use, or its container; a fraction is a quota.
        clock_source: What the kernel counts time with; empty where it does not say.
        has_boottime: Whether CLOCK_BOOTTIME can be read.
    """

    python: str
    python_wanted: str
    packages: tuple[Package, ...]
    open_files: int
    open_files_hard: int
    memory_bytes: int | None
    available_bytes: int | None
    processors: float
    clock_source: str
    has_boottime: bool


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The disk that the data lies on.

    Attributes:
        data_dir: The folder for all data; need not be there.
        place: The nearest folder above it that is there, or itself: what was tried.
        error: Why no file could be written there; empty where one was.
        free_bytes: For an ordinary user; None: unknown.
        file_system: Its type; empty where the kernel does not say.
        mount_point: Where it is mounted.
        sync_ms: How long each append with fdatasync took.
        lock_excludes: Whether a second flock of a file was refused; None: not tried.
    """

    data_dir: Path
    place: Path
    error: str = ""
    free_bytes: int | None = None
    file_system: str = ""
    mount_point: str = ""
    sync_ms: tuple[float, ...] = ()
    lock_excludes: bool | None = None


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A member's folder in the data directory.

    Attributes:
        path: Of the folder.
        held_below: The cluster whose folder it lies in, by that folder's name.
        cluster: Whose it is by its own identity; empty where that cannot be read.
        cluster_id: Likewise.
        member: Its name; the folder's where the identity cannot be read.
        problem: What is wrong with it; empty for nothing.
        release_problem: Why this release does not open it; empty where it does.
    """

    path: Path
    held_below: str
    cluster: str
    cluster_id: str
    member: str
    problem: str = ""
    release_problem: str = ""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A live Ray node.

    Attributes:
        name: For a person.
        labels: That it carries.
        resources: Names of those that it has.
    """

    name: str
    labels: Mapping[str, str]
    resources: frozenset[str]


@dataclass(frozen=True, slots=True)
class RayFacts:
    """The Ray cluster, as far as it can be seen from here.

    Attributes:
        wanted: HOST:PORT, `auto` or `local`.
        source: Who says so, for a person.
        address: Of the cluster that answered; empty where none did.
        error: Why none did; empty where one did, or none was asked.
        nodes: Its live nodes; None where they are unknown.
        raylets: What each raylet of it on this machine has in its environment, by process id.
        own: What this process has in its environment, of Ray's.
        has_token: Whether this machine or process has a token to show.
    """

    wanted: str = "auto"
    source: str = "no address is given"
    address: str = ""
    error: str = ""
    nodes: tuple[NodeFacts, ...] | None = None
    raylets: Mapping[int, Mapping[str, str]] | None = None
    own: Mapping[str, str] | None = None
    has_token: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the checks judge by.

    Attributes:
        path: Of the configuration; empty where none is given.
        configuration: The same, loaded; the defaults where there is none.
        error: Why it could not be loaded; empty where it was.
        machine: Where this process runs.
        disk: Where the data is to lie.
        folders: What lies there; None where it cannot be listed.
        ray: The Ray cluster.
    """

    path: str
    configuration: ClusterConfiguration
    error: str
    machine: MachineFacts
    disk: DiskFacts
    folders: tuple[FolderFacts, ...] | None
    ray: RayFacts

    @property
    def nodes(self) -> int:
        """How many nodes the members are spread over: as found, else as the file lets expect."""
        if self.ray.nodes is not None:
            return max(1, len(self.ray.nodes))
        pins = {
            (tuple(sorted(member.node_labels.items())), member.resource or "")
            for member in self.configuration.members
            if member.node_labels or member.resource
        }
        return max(self.configuration.ray.nodes_min, len(pins), 1)

    @property
    def members_here(self) -> int:
        """How many members one node has at most, spread evenly."""
        return -(-len(self.configuration.members) // self.nodes)

    @property
    def groups_each(self) -> int:
        """How many groups a member has at most, spread evenly; the system's among them."""
        configuration = self.configuration
        voters = sum(configuration.voters_of(group) for group in configuration.groups)
        return -(-voters // len(configuration.members)) + 1
