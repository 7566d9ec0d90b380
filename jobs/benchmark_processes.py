"""What processes take: CPU time and memory, by role, from /proc.

Memory is PSS: of pages that several processes share each is charged its part, so that a sum over
processes means something. CPU time is that of all threads, in ticks of 10 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_paxos.cluster import MemberStatus

PROC = Path("/proc")
RAY_PROCESSES = ("raylet", "gcs_server")


@dataclass(frozen=True)
class Process:
    """One process.

    Attributes:
        pid: Its id.
        role: What it is for; the same for its counterparts of other members.
        name: What a person calls it.
    """

    pid: int
    role: str
    name: str


def member_processes(members: Iterable[MemberStatus]) -> list[Process]:
    """The processes of a cluster's members; one that holds several roles has all their names."""
    found: dict[int, tuple[str, list[str]]] = {}
    for member in members:
        for role, status in member.roles.items():
            if status.pid:
                found.setdefault(status.pid, (member.name, []))[1].append(role)
    return [
        Process(pid, role, f"{member}/{role}")
        for pid, (member, roles) in found.items()
        for role in ["+".join(roles) if len(roles) < 4 else "fused"]
    ]


def own_processes(proc: Path = PROC) -> list[Process]:
    """This process, and what Ray runs beside the actors where this process started it."""
    pid = os.getpid()
    found = [Process(pid, "driver", "driver")]
    for child in _children(pid, proc):
        with suppress(OSError):
            name = (proc / str(child) / "comm").read_text().strip()
            if name in RAY_PROCESSES:
                found.append(Process(child, "ray", name))
    return found


def _children(pid: int, proc: Path) -> list[int]:
    found: list[int] = []
    for task in (proc / str(pid) / "task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(processes: Iterable[Process], proc: Path = PROC) -> dict[int, float]:
    """CPU time that each has taken so far, by id; those that are gone are left out."""
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    found = {}
    for process in processes:
        with suppress(OSError):
            text = (proc / str(process.pid) / "stat").read_text()
            # The name, in parentheses, may hold anything; utime and stime are 14 and 15.
            fields = text.rpartition(")")[2].split()
            found[process.pid] = (int(fields[11]) + int(fields[12])) / ticks_per_s
    return found


def pss_bytes(pid: int, proc: Path = PROC) -> int:
    """Memory of one process, its part of what it shares; 0 where it is gone."""
    with suppress(OSError):
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def memory_by_role(processes: Iterable[Process]) -> dict[str, int]:
    """PSS of all processes of each role together, in bytes."""
    found: dict[str, int] = {}
    for process in processes:
        found[process.role] = found.get(process.role, 0) + pss_bytes(process.pid)
    return found


def cpu_document(
    processes: Iterable[Process],
    before: Mapping[int, float],
    after: Mapping[int, float],
    operations: int,
    seconds: float,
) -> dict[str, Any]:
    """What each role and each process took, for the JSON document.

    Args:
        processes: Which.
        before: `cpu_seconds` when it began.
        after: And when it ended.
        operations: That were done.
        seconds: How long it was.
    """
    by_role: dict[str, float] = {}
    by_process: dict[str, dict[str, float]] = {}
    for process in processes:
        if process.pid not in before or process.pid not in after:
            continue
        spent_s = after[process.pid] - before[process.pid]
        by_role[process.role] = by_role.get(process.role, 0.0) + spent_s
        by_process[process.name] = {
            "cpu_s": round(spent_s, 2),
            "us_per_operation": round(spent_s * 1e6 / max(1, operations), 3),
        }
    return {
        "us_per_operation": {
            role: round(spent_s * 1e6 / max(1, operations), 3) for role, spent_s in by_role.items()
        },
        "cores": round(sum(by_role.values()) / max(seconds, 1e-9), 3),
        "by_process": by_process,
    }
