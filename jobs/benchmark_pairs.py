"""Compares a configuration with the same one changed: throughput of both, run by run in turn.

    python jobs/benchmark_pairs.py --set observability.enabled=false --pairs 20 --json out.json

Starts two clusters on one Ray, alike but for what `--set` changes, and loads now one, now the other
with 100-byte puts; who begins changes from pair to pair. Prints both rates of each pair, and the
ratio of the configuration to the changed one, with its 95 % interval. With `--watched` somebody
looks at the first cluster every two seconds while it is loaded, as a status page does. With
`--at-least R` the exit status is 0 only where the interval's lower bound is R or more.

Exit statuses: `job_exit.py`.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from benchmark_cluster import BenchmarkCluster
from benchmark_report import machine_text
from benchmark_run import NoBar, Setting, Subject, measure
from benchmark_subject import cluster_subject
from job_console import JobConsole
from job_exit import GOOD, NOT_HELD, run_to_status
from job_files import check_output, write_json
from own_cluster import own_configuration
from paired_ratio import paired_ratio
from ray_paxos.config import ClusterConfiguration, parse_configuration
from ray_paxos.errors import ConfigurationError
from report_machine import machine

if TYPE_CHECKING:
    from ray_paxos import Cluster

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("unchanged", "changed")
WATCH_S = 2.0


def changes(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is changed, by section.

    Args:
        given: Each as SECTION.FIELD=VALUE; the value as in YAML.

    Raises:
        ConfigurationError: One is not of that form.
    """
    changed: dict[str, dict[str, Any]] = {}
    for each in given:
        place, equals, text = each.partition("=")
        section, dot, field = place.partition(".")
        if not (equals and dot and section and field):
            raise ConfigurationError(f"--set: found {each!r}; allowed: SECTION.FIELD=VALUE")
        changed.setdefault(section, {})[field] = yaml.safe_load(text)
    return changed


def configurations(
    config: str, roles: str, folder: str, changed: Mapping[str, Mapping[str, Any]]
) -> list[ClusterConfiguration]:
    """The configuration as it is, and changed."""
    found = []
    for name, sections in zip(NAMES, ({}, changed), strict=True):
        base = own_configuration(config, name, folder, sections).model_dump(mode="json")
        base["roles"] = roles
        base["groups"] = {"count": 1, "machines": {"kv": "kv"}}
        base["ray"]["address"] = "local" if name == NAMES[0] else "auto"
        text = yaml.safe_dump(base)
        found.append(parse_configuration(text, "as the benchmark changes it"))
    return found


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


@contextmanager
def watched(cluster: Cluster) -> Iterator[None]:
    """Somebody looks at the cluster now and then."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(WATCH_S):
            cluster.reports(with_slow=True)

    thread = threading.Thread(target=look, name="watcher")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def run_pairs(
    clusters: Sequence[tuple[Cluster, Subject]],
    setting: Setting,
    pairs: int,
    *,
    is_watched: bool,
    console: JobConsole,
) -> list[tuple[float, float]]:
    """Acknowledged commands a second of both, of each pair."""
    found = []
    for number in range(pairs):
        rates = [0.0, 0.0]
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            cluster, subject = clusters[which]
            with ExitStack() as stack:
                if is_watched and which == 0:
                    stack.enter_context(watched(cluster))
                rates[which] = measure(subject, setting, NoBar()).acknowledged_per_s
        found.append((rates[0], rates[1]))
        ratio = rates[0] / rates[1]
        console.say(f"pair {number + 1}: {rates[0]:,.0f}/s and {rates[1]:,.0f}/s, {ratio:.3f}")
    return found


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option("--config", default=str(ROOT / "configs" / "local.yaml"), show_default=True)
@click.option("--set", "given", multiple=True, required=True, metavar="SECTION.FIELD=VALUE")
@click.option("--roles", type=click.Choice(["separate", "fused"]), default="fused")
@click.option("--pairs", type=click.IntRange(2, 1_000), default=20, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 3_600), default=5.0, show_default=True)
@click.option("--in-flight", type=click.IntRange(1, 50_000), default=1_000, show_default=True)
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
    roles: str,
    pairs: int,
    seconds: float,
    in_flight: int,
    is_watched: bool,
    at_least: float | None,
    seed: int,
    json: str | None,
) -> int:
    """The job."""
    check_output(json, "--json")
    changed = changes(given)
    told = machine()
    console.say(machine_text(told))
    rng = random.Random(seed)
    setting = Setting(in_flight, None, seconds, warmup_seconds=1.0)
    with tempfile.TemporaryDirectory(prefix="ray_paxos-pairs-") as folder, ExitStack() as stack:
        both = configurations(config, roles, folder, changed)
        clusters = [stack.enter_context(started(each, rng)) for each in both]
        found = run_pairs(clusters, setting, pairs, is_watched=is_watched, console=console)
    ratio = paired_ratio([first for first, _ in found], [second for _, second in found])
    console.say(f"unchanged / changed: {ratio}")
    if json is not None:
        document = {
            "machine": told,
            "changed": changed,
            "roles": roles,
            "in_flight": in_flight,
            "seconds": seconds,
            "pairs": found,
            "ratio": ratio.ratio,
            "low": ratio.low,
            "high": ratio.high,
        }
        write_json(json, document)
    if at_least is not None and ratio.low < at_least:
        console.error(f"the lower bound {ratio.low:.4f} is below {at_least:g}")
        return NOT_HELD
    return GOOD


if __name__ == "__main__":
    main()
