"""Collects the facts that `ray-paxos doctor` judges by. All of its input and output is here.

Nothing is changed but for one scratch file, which goes again: in the data directory, or where that
is not there yet in the nearest folder above it, which is on the same disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import re
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from ray_paxos.cli.doctor_facts import DiskFacts, FolderFacts, MachineFacts, Package
from ray_paxos.errors import PaxosError, ReleaseError
from ray_paxos.storage.cluster_version import read_cluster_version
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import FoundMember, find_members

SYNCS = 20
SYNC_BYTES = 4_096
CLUSTERS_MAX = 1_000
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?:[^;]*,)?>=([0-9.]+)[^;]*$")
_CGROUP = Path("/sys/fs/cgroup")
_CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def look_at_machine() -> MachineFacts:
    """The machine, as this process sees it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    python_wanted, packages = _requirements()
    memory = _meminfo(_read(Path("/proc/meminfo")))
    limit, used = _number(_read(_CGROUP / "memory.max")), _number(_read(_CGROUP / "memory.current"))
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    if limit is not None and total is not None and available is not None:
        total, available = min(total, limit), min(available, max(0, limit - (used or 0)))
    return MachineFacts(
        python=platform.python_version(),
        python_wanted=python_wanted,
        packages=packages,
        open_files=_limit(soft),
        open_files_hard=_limit(hard),
        memory_bytes=total,
        available_bytes=available,
        processors=processors(len(os.sched_getaffinity(0)), _read(_CGROUP / "cpu.max")),
        clock_source=_read(_CLOCK_SOURCE).strip(),
        has_boottime=_has_boottime(),
    )


def look_at_disk(data_dir: Path) -> DiskFacts:
    """The disk that a data directory is to lie on; writes and syncs one scratch file there."""
    place = data_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    free_bytes = None
    with contextlib.suppress(OSError):
        figures = os.statvfs(place)
        free_bytes = figures.f_bavail * figures.f_frsize
    kind, mount_point = file_system_of(place, _read(Path("/proc/self/mountinfo")))
    error, excludes = "", None
    sync_ms: tuple[float, ...] = ()
    if not place.is_dir():
        error = f"{place} is a file"
    else:
        try:
            with tempfile.NamedTemporaryFile(dir=place, prefix=".ray_paxos_doctor_") as scratch:
                sync_ms = _measure(scratch.fileno())
                excludes = _excludes(scratch.name)
        except OSError as caught:
            error = f"no file can be written in {place}: {caught.strerror}"
    return DiskFacts(data_dir, place, error, free_bytes, kind, mount_point, sync_ms, excludes)


def look_at_folders(data_dir: Path) -> tuple[FolderFacts, ...] | None:
    """The members' folders below a data directory; None where it cannot be listed."""
    if not data_dir.exists():
        return ()
    try:
        clusters = sorted(path for path in data_dir.iterdir() if path.is_dir())[:CLUSTERS_MAX]
        return tuple(
            _folder_facts(cluster.name, found)
            for cluster in clusters
            if not cluster.name.startswith(".")
            for found in find_members(cluster)
            # As a start does: there is nothing in it yet, or it is no member's at all.
            if found.state != "unfinished"
        )
    except (OSError, PaxosError):
        return None


def file_system_of(path: Path, mountinfo: str) -> tuple[str, str]:
    """Type and mount point of the file system that a path is on.

    Args:
        path: An absolute path.
        mountinfo: What /proc/self/mountinfo says.

    Returns:
        Empty texts where it says nothing about the path.
    """
    resolved = path.resolve()
    best = ("", "")
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split()
        if not dash or len(fields) < 5:
            continue
        mount_point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        is_above = resolved == Path(mount_point) or Path(mount_point) in resolved.parents
        # Of two at one place the later hides the earlier.
        if is_above and len(mount_point) >= len(best[1]):
            best = (after.split()[0], mount_point)
    return best


def processors(usable: int, cpu_max: str) -> float:
    """How many processors this process has.

    Args:
        usable: Those that it may run on.
        cpu_max: The container's quota, as its cgroup says: `QUOTA PERIOD`, or `max PERIOD`.
    """
    quota, _, period = cpu_max.strip().partition(" ")
    if not quota.isdigit() or not period.isdigit():
        return float(usable)
    return min(float(usable), int(quota) / int(period))


def requirement(text: str) -> tuple[str, str] | None:
    """Name and lowest version of a requirement as metadata gives it.

    Returns:
        None for one of an extra, and one without a lower bound.
    """
    found = _REQUIREMENT.match(text)
    return (found[1], found[2]) if found else None


def _requirements() -> tuple[str, tuple[Package, ...]]:
    try:
        metadata = importlib.metadata.metadata("ray_paxos")
        required = importlib.metadata.requires("ray_paxos") or []
    except importlib.metadata.PackageNotFoundError:
        return "", ()
    packages = []
    for name, wanted in filter(None, map(requirement, required)):
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = ""
        packages.append(Package(name, wanted, installed))
    bound = requirement(f"python{metadata['Requires-Python'] or ''}")
    return bound[1] if bound else "", tuple(packages)


def _measure(descriptor: int) -> tuple[float, ...]:
    """Milliseconds that each of some appends takes until it is durable, as a vote does."""
    taken = []
    for _ in range(SYNCS):
        began_ns = time.monotonic_ns()
        os.write(descriptor, b"\0" * SYNC_BYTES)
        os.fdatasync(descriptor)
        taken.append((time.monotonic_ns() - began_ns) / 1_000_000)
    return tuple(taken)


def _excludes(path: str) -> bool:
    """Whether a second flock of a file is refused while the first is held."""
    first, second = (os.open(path, os.O_RDWR | os.O_CLOEXEC) for _ in range(2))
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(first)
        os.close(second)
    return False


def _folder_facts(held_below: str, found: FoundMember) -> FolderFacts:
    identity = found.identity
    if identity is None:
        return FolderFacts(found.path, held_below, "", "", found.path.name, found.problem)
    problem, release_problem = found.problem, ""
    try:
        read_cluster_version(LocalDisk(found.path), identity)
    except ReleaseError as error:
        release_problem = str(error)
    except PaxosError as error:
        problem = problem or str(error)
    genesis = identity.genesis
    return FolderFacts(
        found.path,
        held_below,
        genesis.cluster,
        str(genesis.cluster_id),
        identity.name,
        problem,
        release_problem,
    )


def _meminfo(text: str) -> Mapping[str, int]:
    """Bytes by name; the kernel says kB and means 1,024 bytes."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(count) * 1_024 for name, count in found}


def _has_boottime() -> bool:
    try:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) > 0
    except (AttributeError, OSError):
        return False


def _limit(value: int) -> int:
    """A limit of the system; `unlimited` is as many as anybody asks for."""
    return value if value != resource.RLIM_INFINITY else 1 << 30


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _read(path: Path) -> str:
    """A file of the kernel's; empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
