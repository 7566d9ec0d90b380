"""What a run was measured on, and how it was asked for: the same for every job that reports."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from ray_paxos.config import ClusterConfiguration

LIBRARIES = ("ray", "pyarrow", "msgspec", "ray_paxos")


def machine() -> dict[str, Any]:
    """The machine as it is now, for the JSON document."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _first_value(Path("/proc/cpuinfo"), "model name"),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "load_average_at_begin": load_average(),
    }


def machine_text(told: dict[str, Any]) -> str:
    """The machine in one line."""
    libraries = ", ".join(f"{name} {told['libraries'][name]}" for name in ("ray", "pyarrow"))
    loads = _loads(told["load_average_at_begin"])
    return (
        f"{told['cores']} cores ({told['processor']}), {told['memory_gb']:g} GB, Python "
        f"{told['python']}, {libraries}; load average at the beginning {loads}"
    )


def load_average() -> list[float]:
    """Of the machine, over 1, 5 and 15 minutes."""
    return [round(load, 2) for load in os.getloadavg()]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _first_value(path: Path, name: str) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return "unknown"
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(found, "unknown")


def now_text() -> str:
    """The time by the wall clock, to the second, in UTC."""
    return datetime.now(timezone.utc).isoformat(sep=" ", timespec="seconds")


def command_text(arguments: Sequence[str] | None = None) -> str:
    """A command line as a shell takes it; by default that of this process."""
    return shlex.join(["python", *(sys.argv if arguments is None else arguments)])


def configuration_text(configuration: ClusterConfiguration) -> str:
    """A configuration as YAML, with every default."""
    return yaml.safe_dump(configuration.model_dump(mode="json"), sort_keys=False)


@dataclass
class Circumstances:
    """How a run was asked for, when it was, and on what.

    Attributes:
        command: As a shell takes it.
        seed: Of everything that is drawn.
        configuration: As YAML.
        machine: As `machine` gives it.
        began_at: In UTC.
        ended_at: Likewise; empty while it goes on.
        load_at_end: Load averages; empty while it goes on.
    """

    command: str
    seed: int
    configuration: str
    machine: dict[str, Any]
    began_at: str
    ended_at: str = ""
    load_at_end: Sequence[float] = ()

    @classmethod
    def begin(cls, seed: int, configuration: ClusterConfiguration) -> Circumstances:
        """Of a run that begins now, in this process."""
        text = configuration_text(configuration)
        return cls(command_text(), seed, text, machine(), now_text())

    def end(self) -> None:
        """The run is over."""
        self.ended_at, self.load_at_end = now_text(), load_average()

    def document(self) -> dict[str, Any]:
        """For a JSON document; `machine` has the rest."""
        return {
            "command": self.command,
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "configuration": self.configuration,
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """For a table."""
        told = self.machine
        yield "seed", str(self.seed)
        yield "began", self.began_at
        yield "ended", self.ended_at
        yield "processor", f"{told['cores']} cores, {told['processor']}"
        yield "memory", f"{told['memory_gb']:g} GB"
        yield "system", told["system"]
        yield "Python", told["python"]
        yield from told["libraries"].items()
        yield "load average at the beginning", _loads(told["load_average_at_begin"])
        yield "load average at the end", _loads(self.load_at_end)


def _loads(loads: Sequence[float]) -> str:
    return ", ".join(f"{load:g}" for load in loads)
