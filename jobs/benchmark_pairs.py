"""Compares a configuration with the same one changed: throughput of both, run by run in turn.

    python jobs/benchmark_pairs.py --set observability.enabled=false --pairs 20 --json out.json
    python jobs/benchmark_pairs.py --switched --pairs 20 --seconds 8 --slices 4 --at-least 0.95

With `--set` it starts two clusters on one Ray, alike but for what that changes, and loads now one,
now the other with 100-byte puts; who begins changes from pair to pair. With `--slices N` the two
runs of a pair are cut into so many slices that take turns, so that a machine whose speed changes
within seconds is the same for both. Prints both rates of each pair, and what the members'
processors did for a command, and the ratios of the configuration to the changed one, with their
95 % intervals.

Both clusters run all the time: what one costs at rest, as heartbeats and metrics do, takes as much
from the other. So the ratio tells what is done for commands; what the first one costs at rest is
charged to both.

Two clusters that are alike differ, too, for as long as they run, by where their processes and their
memory came to lie: of one start, ten pairs of twice the same configuration had a ratio of 1.024
(95 % interval 0.982 to 1.068), and of 0.955 (0.912 to 0.998) for the processor time. No number of
pairs takes that away. With `--fresh` both are started anew for each pair, on a Ray of their own,
and who is started first changes, too.

With `--switched` there is one cluster, of which observing is switched (`ray-paxos observe`): on
before each slice of the first run, off before each of the second, and each time the warm-up comes
after it. Both runs are of the same processes, with the same memory at the same places; and what
observing costs at rest, as the export of metrics does, is charged to the first run alone.

With `--watched` somebody looks at the first cluster after every two seconds in which it is loaded,
as a status page does; with `--switched` while observing is on. With `--at-least R` the exit status
is 0 only where the lower bound of the interval of commands a second is R or more.

Exit statuses: `job_exit.py`.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from benchmark_cluster import BenchmarkCluster
from benchmark_run import Measured, NoBar, Setting, Subject, measure
from benchmark_subject import cluster_subject
from benchmark_watcher import Watcher, watcher_of
from job_console import JobConsole
from job_exit import GOOD, NOT_HELD, run_to_status
from job_files import check_output, write_json
from own_cluster import own_configuration
from paired_ratio import paired_ratio
from ray_paxos.config import ClusterConfiguration, parse_configuration
from ray_paxos.errors import ClusterError, ConfigurationError
from report_machine import machine, machine_text

if TYPE_CHECKING:
    from ray_paxos import Cluster

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("unchanged", "changed")
SWITCHED_NAMES = ("switched on", "switched off")
SWITCHED = "switched"
NOT_MEMBERS = ("driver", "ray")


@dataclass
class Run:
    """One run of one of them: what its slices come to together."""

    acknowledged: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    failure: str = ""

    def add(self, measured: Measured) -> None:
        """Another slice."""
        by_role = measured.cpu["us_per_operation"]
        members = sum(spent for role, spent in by_role.items() if role not in NOT_MEMBERS)
        self.acknowledged += measured.acknowledged
        self.seconds += measured.load_s
        self.cpu_s += members * measured.acknowledged / 1e6
        self.failure = self.failure or measured.failure

    @property
    def per_s(self) -> float:
        """Acknowledged commands a second."""
        return self.acknowledged / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time of all members for one command."""
        return self.cpu_s * 1e6 / self.acknowledged


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs in turn: commands a second, and the members' processor time for each command."""

    first: float
    second: float
    first_us: float
    second_us: float


def changes(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is changed, by section.

    Args:
        given: Each as SECTION.FIELD=VALUE; the value as in YAML.

    Raises:
        ConfigurationError: One is not of that form, or its value is no YAML.
    """
    changed: dict[str, dict[str, Any]] = {}
    for each in given:
        place, equals, text = each.partition("=")
        section, dot, field = place.partition(".")
        if not (equals and dot and section and field):
            raise ConfigurationError(f"--set: found {each!r}; allowed: SECTION.FIELD=VALUE")
        try:
            changed.setdefault(section, {})[field] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"--set: found {each!r}; allowed: a value of YAML") from error
    return changed


def configurations(
    config: str,
    roles: str,
    folder: str,
    changed: Mapping[str, Mapping[str, Any]],
    first: str = NAMES[0],
) -> list[ClusterConfiguration]:
    """The configuration as it is, and changed; the first one that is started starts Ray."""
    return [
        configuration(config, roles, folder, name, sections, "local" if name == first else "auto")
        for name, sections in zip(NAMES, ({}, changed), strict=True)
    ]


def configuration(
    config: str,
    roles: str,
    folder: str,
    name: str,
    sections: Mapping[str, Mapping[str, Any]],
    address: str,
) -> ClusterConfiguration:
    """Of one of them, with the Ray cluster that it goes to."""
    base = own_configuration(config, name, folder, sections).model_dump(mode="json")
    base["roles"] = roles
    base["groups"] = {"count": 1, "machines": {"kv": "kv"}}
    base["ray"]["address"] = address
    return parse_configuration(yaml.safe_dump(base), "as the benchmark changes it")


@contextmanager
def started(
    configuration: ClusterConfiguration, rng: random.Random
) -> Iterator[tuple[Cluster, Subject]]:
    """A cluster and what is measured of it; ended with its data."""
    import ray_paxos

    cluster = ray_paxos.start(configuration)
    try:
        measured = BenchmarkCluster(cluster, (1,), 0.0)
        with cluster_subject(measured, "put", rng=rng) as subject:
            yield cluster, subject.subject
    finally:
        cluster.stop(delete_data=True)


def _nothing(_which: int) -> None:
    """Two clusters are what they are."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared.

    Attributes:
        subjects: Of both; the unchanged one, or what is switched on, is the first.
        watcher: Looks at the first one while it is loaded; None for nobody.
        begin: Called before each slice with which of them it is of, 0 or 1; may raise a PaxosError.
        names: Of both, for people.
    """

    subjects: Sequence[Subject]
    watcher: Watcher | None
    begin: Callable[[int], object] = _nothing
    names: tuple[str, str] = NAMES


@contextmanager
def both_started(
    both: Sequence[ClusterConfiguration],
    rng: random.Random,
    *,
    first: int,
    is_watched: bool,
) -> Iterator[Sides]:
    """Both clusters, and who looks at the unchanged one.

    Args:
        both: Their configurations, the unchanged one first.
        rng: Draws keys.
        first: Which is started first, 0 or 1.
        is_watched: Whether somebody looks.
    """
    with ExitStack() as stack:
        made = {each: stack.enter_context(started(both[each], rng)) for each in (first, 1 - first)}
        watcher = stack.enter_context(watcher_of(made[0][0])) if is_watched else None
        yield Sides([made[each][1] for each in (0, 1)], watcher)


@contextmanager
def switched_started(
    configuration: ClusterConfiguration, rng: random.Random, *, is_watched: bool
) -> Iterator[Sides]:
    """One cluster, of which observing is switched.

    Args:
        configuration: Its configuration.
        rng: Draws keys.
        is_watched: Whether somebody looks at it while it observes.
    """
    with ExitStack() as stack:
        cluster, subject = stack.enter_context(started(configuration, rng))
        watcher = stack.enter_context(watcher_of(cluster)) if is_watched else None

        def switch(which: int) -> None:
            cluster.operations.observe(which == 0)

        yield Sides([subject, subject], watcher, switch, SWITCHED_NAMES)


def run_pairs(
    sides: Sides,
    setting: Setting,
    numbers: Iterable[int],
    slices: int,
    *,
    console: JobConsole,
) -> list[Pair]:
    """Load both in turn, slice by slice, pair by pair.

    Args:
        sides: Both.
        setting: Of one slice.
        numbers: Of the pairs of runs, from 0 on.
        slices: Of how many slices each run consists.
        console: Is told each pair.

    Raises:
        ClusterError: One acknowledged nothing in a whole run, or could not be watched or switched.
    """
    watcher = sides.watcher
    found = []
    for number in numbers:
        runs = (Run(), Run())
        for piece in range(slices):
            for which in (0, 1) if (number + piece) % 2 == 0 else (1, 0):
                sides.begin(which)
                with watcher.watching() if watcher and which == 0 else nullcontext():
                    runs[which].add(measure(sides.subjects[which], setting, NoBar()))
        pair = pair_of(*runs, sides.names)
        found.append(pair)
        console.say(
            f"pair {number + 1}: {pair.first:,.0f}/s and {pair.second:,.0f}/s, "
            f"{pair.first / pair.second:.3f}; processor {pair.first_us:.1f} and "
            f"{pair.second_us:.1f} us a command"
        )
    return found


def pair_of(first: Run, second: Run, names: tuple[str, str] = NAMES) -> Pair:
    """Both runs as a pair.

    Raises:
        ClusterError: Nothing was acknowledged in one of them.
    """
    for name, each in zip(names, (first, second), strict=True):
        if not each.acknowledged:
            why = each.failure or "no call ended"
            raise ClusterError(f"the {name} cluster acknowledged nothing in a whole run: {why}")
    return Pair(first.per_s, second.per_s, first.cpu_us, second.cpu_us)


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option("--config", default=str(ROOT / "configs" / "local.yaml"), show_default=True)
@click.option("--set", "given", multiple=True, metavar="SECTION.FIELD=VALUE")
@click.option("--switched", "is_switched", is_flag=True, help="Switch observing of one cluster.")
@click.option("--roles", type=click.Choice(["separate", "fused"]), default="fused")
@click.option("--pairs", type=click.IntRange(2, 1_000), default=20, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 3_600), default=5.0, show_default=True)
@click.option("--slices", type=click.IntRange(1, 100), default=1, show_default=True)
@click.option("--in-flight", type=click.IntRange(1, 50_000), default=1_000, show_default=True)
@click.option("--fresh", "is_fresh", is_flag=True, help="Start both anew for each pair.")
@click.option("--watched", "is_watched", is_flag=True, help="Somebody looks at the first cluster.")
@click.option("--at-least", type=click.FloatRange(0, 10), help="What the lower bound has to be.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "json", metavar="FILE", help="Write everything as one JSON document.")
def main(**options: Any) -> None:
    """Run the job."""
    console = JobConsole()
    sys.exit(run_to_status(lambda: run(console=console, **options), console))


def run(
    *,
    console: JobConsole,
    config: str,
    given: Sequence[str],
    is_switched: bool,
    roles: str,
    pairs: int,
    seconds: float,
    slices: int,
    in_flight: int,
    is_fresh: bool,
    is_watched: bool,
    at_least: float | None,
    seed: int,
    json: str | None,
) -> int:
    """The job."""
    check_output(json, "--json")
    check_what(given, is_switched=is_switched, is_fresh=is_fresh)
    for option, value in (("--seconds", seconds), ("--at-least", at_least)):
        if value is not None and not math.isfinite(value):
            raise ConfigurationError(f"{option}: found {value}; allowed: a finite number")
    changed = changes(given)
    told = machine()
    console.say(machine_text(told))
    rng = random.Random(seed)
    setting = Setting(in_flight, None, seconds / slices, warmup_seconds=0.5)
    found: list[Pair] = []
    of_a_start = [(number,) for number in range(pairs)] if is_fresh else [range(pairs)]
    with tempfile.TemporaryDirectory(prefix="ray_paxos-pairs-") as folder:
        for numbers in of_a_start:
            made: AbstractContextManager[Sides]
            if is_switched:
                only = configuration(config, roles, folder, SWITCHED, {}, "local")
                made = switched_started(only, rng, is_watched=is_watched)
            else:
                first = numbers[0] % 2
                both = configurations(config, roles, folder, changed, NAMES[first])
                made = both_started(both, rng, first=first, is_watched=is_watched)
            with made as sides:
                found += run_pairs(sides, setting, numbers, slices, console=console)
    ratio = paired_ratio([pair.first for pair in found], [pair.second for pair in found])
    cost = paired_ratio([pair.first_us for pair in found], [pair.second_us for pair in found])
    what = " / ".join(SWITCHED_NAMES if is_switched else NAMES)
    console.say(f"{what}, commands a second: {ratio}")
    console.say(f"{what}, processor time of members for a command: {cost}")
    if json is not None:
        document = {
            "machine": told,
            "changed": changed,
            "roles": roles,
            "in_flight": in_flight,
            "seconds": seconds,
            "slices": slices,
            "fresh": is_fresh,
            "switched": is_switched,
            "pairs": [asdict(pair) for pair in found],
            "ratio": asdict(ratio),
            "cpu_ratio": asdict(cost),
        }
        write_json(json, document)
    if at_least is not None and ratio.low < at_least:
        console.error(f"the lower bound {ratio.low:.4f} is below {at_least:g}")
        return NOT_HELD
    return GOOD


def check_what(given: Sequence[str], *, is_switched: bool, is_fresh: bool) -> None:
    """Raise ConfigurationError where not just one thing is compared."""
    if not given and not is_switched:
        raise ConfigurationError("--set or --switched: one of them says what is compared")
    if is_switched and (given or is_fresh):
        other = "--set" if given else "--fresh"
        raise ConfigurationError(
            f"--switched: found with {other}; allowed: alone, for it is of one cluster that runs on"
        )


if __name__ == "__main__":
    main()
