"""Runs a cluster under a steady load and checks that disk, memory and open files stay flat.

    python jobs/soak.py --minutes 5 --json out.json

Starts a cluster of its own on this machine, in a folder that it removes, with checkpoints, merges
and cleaning so frequent that all of them come around many times. Samples what each member's folder
takes on the disk, and of each role's process the resident memory and the open files. Of the run
after its first third, the second half may not take more than the first, but for a margin, and no
folder may ever be over the bound that the configuration states (`ray_paxos.config.disk_bound`).

The JSON document: `minutes`, `load` (of the open load, as in `catch_up.py`), `bound_bytes`, `disk`
(by member: `most_bytes`, and of `log`, `checkpoints` and `journal` the most bytes in either half),
`processes` (by member and role: `rss_before_bytes`, `rss_after_bytes`, `files_before`,
`files_after`), `checkpoints` (the newest, by member), `samples` and `problems`. Exit statuses:
`job_exit.py`.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from job_console import JobConsole
from job_exit import GOOD, NOT_HELD, run_to_status
from job_files import check_output, write_json
from open_load import OpenLoad
from own_cluster import own_cluster
from ray_paxos.config.disk_bound import disk_bound
from ray_paxos.machines import kv
from ray_paxos.storage.journal import JournalSettings

if TYPE_CHECKING:
    from ray_paxos import Cluster

ROOT = Path(__file__).resolve().parent.parent
SECTIONS: dict[str, dict[str, Any]] = {
    "proposer": {"retained_bytes_max": 8_000_000},
    "learner": {
        "seal_bytes": 2_000_000,
        "memory_bytes": 4_000_000,
        "hold_count": 2_000,
        "log_bytes_max": 20_000_000,
    },
    "checkpointer": {
        "checkpoint_bytes": 20_000_000,
        "merge_bytes_max": 8_000_000,
        "scrub_bytes_per_s": 5_000_000,
        "scrub_interval_ms": 1_000,
    },
}
# Whole files of the journal go, once the votes in them are of no use any more.
PARTS = {"log": "learner", "checkpoints": "checkpointer", "journal": "acceptor"}
MARGINS = {"log": 10_000_000, "checkpoints": 10_000_000, "journal": JournalSettings().file_bytes}
VALUE_BYTES = 1_000
RECORD_BYTES_MAX = 100
"""What a key takes in a checkpoint beyond its value, uncompressed."""
SAMPLE_S = 2.0
MARGIN = 1.15
RSS_MARGIN_BYTES = 15_000_000
FILES_MARGIN = 4
FULL_RATE = 0.97


@dataclass
class Series:
    """One thing that was sampled, over time."""

    values: list[int] = field(default_factory=list)

    @property
    def halves(self) -> tuple[int, int]:
        """The most in either half of what comes after the first third."""
        settled = self.values[len(self.values) // 3 :]
        middle = max(1, len(settled) // 2)
        return max(settled[:middle], default=0), max(settled[middle:], default=0)

    def grew(self, margin: int) -> bool:
        """Whether the second half has more than the first, beyond a margin."""
        before, after = self.halves
        return after > before * MARGIN + margin


@dataclass
class Samples:
    """All series, by what they are of.

    Attributes:
        disk: Bytes, by member and part.
        rss: Resident bytes, by member and role.
        files: Open files, likewise.
    """

    disk: dict[tuple[str, str], Series] = field(default_factory=dict)
    rss: dict[tuple[str, str], Series] = field(default_factory=dict)
    files: dict[tuple[str, str], Series] = field(default_factory=dict)

    def take(self, folder: Path, pids: dict[tuple[str, str], int]) -> None:
        """Look at all folders and processes once."""
        for member in {name for name, _ in pids}:
            for part, role in PARTS.items():
                series = self.disk.setdefault((member, part), Series())
                series.values.append(disk_usage(folder / member / role))
        for place, pid in pids.items():
            self.rss.setdefault(place, Series()).values.append(resident_bytes(pid))
            count = len(os.listdir(f"/proc/{pid}/fd"))
            self.files.setdefault(place, Series()).values.append(count)

    def most(self) -> dict[str, int]:
        """The most that each member's folder ever took."""
        members = sorted({member for member, _ in self.disk})
        return {
            member: max(
                map(sum, zip(*(self.disk[member, part].values for part in PARTS), strict=True))
            )
            for member in members
        }

    def problems(self, bound: int) -> list[str]:
        """What is not flat, or over the bound."""
        found = []
        for member, most in self.most().items():
            if most > bound:
                found.append(f"{member}: {most:,} bytes on disk; the bound is {bound:,}")
        for (member, part), series in sorted(self.disk.items()):
            found += _growth(series, MARGINS[part], f"{member}: bytes of the {part}")
        for (member, role), series in sorted(self.rss.items()):
            found += _growth(series, RSS_MARGIN_BYTES, f"{member}/{role}: resident bytes")
        for (member, role), series in sorted(self.files.items()):
            found += _growth(series, FILES_MARGIN, f"{member}/{role}: open files")
        return found


def _growth(series: Series, margin: int, what: str) -> list[str]:
    before, after = series.halves
    return [f"{what} grew from {before:,} to {after:,}"] if series.grew(margin) else []


def disk_usage(folder: Path) -> int:
    """Bytes of all files below a folder, as the disk counts them."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name)).st_blocks * 512
            except FileNotFoundError:
                # Cleaned away meanwhile.
                continue
    return total


def resident_bytes(pid: int) -> int:
    """Of one process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Options:
    """The command line, as `--help` describes it."""

    config: str
    minutes: float
    rate: float
    keys: int
    json: str | None


def run(options: Options, console: JobConsole) -> int:
    """The job."""
    check_output(options.json, "--json")
    with own_cluster(options.config, "soak", SECTIONS) as (cluster, configuration, folder):
        state_bytes = options.keys * (VALUE_BYTES + RECORD_BYTES_MAX)
        bound = disk_bound(configuration, state_bytes).total
        group = min(each.group for each in configuration.groups)
        document = soak(cluster, group, folder, bound, options, console)
    for problem in document["problems"]:
        console.error(problem)
    if options.json is not None:
        write_json(options.json, document)
    return NOT_HELD if document["problems"] else GOOD


def soak(
    cluster: Cluster,
    group: int,
    folder: Path,
    bound: int,
    options: Options,
    console: JobConsole,
) -> dict[str, Any]:
    """Load, sample, and judge; returns the JSON document."""

    def command(number: int) -> bytes:
        return kv.encode_put(f"key{number % options.keys}", os.urandom(VALUE_BYTES))

    pids = {
        (member.name, name): role.pid
        for member in cluster.status().members
        for name, role in member.roles.items()
    }
    samples = Samples()
    with cluster.client(group, label="soak") as client:
        load = OpenLoad(client, "kv", options.rate, command)
        started = time.monotonic()
        until = started + options.minutes * 60
        try:
            while time.monotonic() < until:
                time.sleep(SAMPLE_S)
                samples.take(folder, pids)
        finally:
            load.stop()
        measured = load.between(started, time.monotonic())
        digests = cluster.member_digests(group)
        status = cluster.status()
    problems = samples.problems(bound)
    if measured.failed or measured.rate < FULL_RATE * options.rate:
        problems.append(f"the load went at {measured.rate:,.0f}/s, {measured.failed:,} failed")
    if len(digests) < len(cluster.members) or len(set(digests.values())) != 1:
        problems.append(f"the members' states differ: {digests}")
    # Only after a start, or a pause, is a chunk of the log asked for; on a busy machine it may be.
    problems += [text for text in status.alarms if "one member's word" not in text]
    checkpoints = {
        name: position.checkpoint
        for each in status.groups
        if each.group == group
        for name, position in each.positions.items()
    }
    if min(checkpoints.values(), default=0) == 0:
        problems.append("a member has made no checkpoint: the run says nothing")
    console.say(f"load:   {measured.text()}")
    tell(samples, bound, console)
    return {
        "minutes": options.minutes,
        "load": measured.document(),
        "bound_bytes": bound,
        "disk": {
            member: {
                "most_bytes": most,
                **{part: list(samples.disk[member, part].halves) for part in PARTS},
            }
            for member, most in samples.most().items()
        },
        "processes": {
            member: {
                role: {
                    "rss_before_bytes": samples.rss[member, role].halves[0],
                    "rss_after_bytes": samples.rss[member, role].halves[1],
                    "files_before": samples.files[member, role].halves[0],
                    "files_after": samples.files[member, role].halves[1],
                }
                for name, role in pids
                if name == member
            }
            for member in cluster.members
        },
        "checkpoints": checkpoints,
        "samples": len(samples.disk[cluster.members[0], "log"].values),
        "problems": problems,
    }


def tell(samples: Samples, bound: int, console: JobConsole) -> None:
    """The table for a person."""
    console.say(f"{'':<18}{'first half':>14}{'second half':>14}")
    for place, series in sorted(samples.disk.items()):
        before, after = series.halves
        console.say(f"{'/'.join(place):<18}{_mb(before):>14}{_mb(after):>14}")
    for member, most in samples.most().items():
        console.say(f"{member:<18}{_mb(most):>14} at most; the bound is {_mb(bound)}")
    for place in sorted(samples.rss):
        name = "/".join(place)
        before, after = samples.rss[place].halves
        files_before, files_after = samples.files[place].halves
        console.say(
            f"{name:<18}{_mb(before):>14}{_mb(after):>14}   open files {files_before} {files_after}"
        )


def _mb(byte_count: int) -> str:
    return f"{byte_count / 1e6:,.1f} MB"


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option(
    "--config",
    default=str(ROOT / "configs" / "local.yaml"),
    show_default="configs/local.yaml",
    metavar="FILE",
    help="Members, times and limits; its name, folder and sizes of log and checkpoints are not "
    "used.",
)
@click.option(
    "--minutes",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=0.5),
    help="How long the load lasts.",
)
@click.option(
    "--rate",
    default=2_000.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Commands in a second.",
)
@click.option(
    "--keys", default=10_000, show_default=True, type=click.IntRange(min=1), help="Written to."
)
@click.option("--json", metavar="FILE", help="Write what was sampled as one JSON document.")
def main(**arguments: Any) -> None:
    """The command line."""
    console = JobConsole()
    sys.exit(run_to_status(lambda: run(Options(**arguments), console), console))


if __name__ == "__main__":
    main()
