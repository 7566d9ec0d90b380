"""Facts of a good machine for tests of `ray-paxos doctor`, and what a check makes of others."""

from __future__ import annotations

from pathlib import Path

from ray_paxos.cli.doctor import CHECKS
from ray_paxos.cli.doctor_facts import (
    DEFAULTS,
    DiskFacts,
    Facts,
    Finding,
    FolderFacts,
    MachineFacts,
    NodeFacts,
    Package,
    RayFacts,
    Status,
)
from ray_paxos.config import parse_configuration

OK, WARNING, PROBLEM = Status.OK, Status.WARNING, Status.PROBLEM
DATA = Path("/data")
NONE_RUNS = "no Ray cluster runs on this machine; start one by `ray start`"
MACHINE = MachineFacts(
    python="3.11.7",
    python_wanted="3.10",
    packages=(Package("ray", "2.60", "2.60.0"), Package("click", "8.5", "8.5.1")),
    open_files=1_024,
    open_files_hard=4_096,
    memory_bytes=16_000_000_000,
    available_bytes=8_000_000_000,
    processors=4,
    clock_source="tsc",
    has_boottime=True,
)
DISK = DiskFacts(DATA, DATA, "", 100_000_000_000, "ext4", "/", (0.2,) * 20, True)
NODE = NodeFacts("one", {}, frozenset({"CPU"}))
SETTINGS = DEFAULTS.ray.environment()
JOINED = RayFacts(
    "10.0.0.1:6379",
    "ray.address",
    "10.0.0.1:6379",
    nodes=(NODE,) * 3,
    raylets={7: SETTINGS},
    own={},
)


def facts(
    text: str = "cluster: demo",
    *,
    machine: MachineFacts = MACHINE,
    disk: DiskFacts = DISK,
    folders: tuple[FolderFacts, ...] | None = (),
    ray: RayFacts = JOINED,
    error: str = "",
    path: str = "demo.yaml",
) -> Facts:
    """A good machine, with three nodes of Ray; but for what is given."""
    return Facts(path, parse_configuration(text), error, machine, disk, folders, ray)


def found(check: str, given: Facts) -> Finding:
    """The worst finding of a check."""
    findings = list(CHECKS[check](given))
    return max(findings, key=lambda finding: list(Status).index(finding.status))


def status(check: str, given: Facts) -> Status:
    return found(check, given).status
