"""Measures how fast a cluster of this machine is, beside bare Ray and beside peers.

    python jobs/benchmark.py --workload put --in-flight 1,100,1000 --json out.json
    python jobs/benchmark.py --workload ycsb-b --rate 2000 --seconds 30 --report out.html
    python jobs/benchmark.py --suite readme --json bench.json --report bench.html
    python jobs/benchmark.py --floor
    python jobs/benchmark.py --peer etcd --in-flight 1,1000 --json etcd.json
    python jobs/benchmark.py --in-flight 1,1000 --beside etcd.json --report both.html

Starts a cluster of its own, in a folder that it removes; durability and sessions are on, and
checkpoints are made. The clock of a run stops when all learners have applied everything, all of it
is durable in segments, and each checkpointer is as close behind as at the start
(`commands_per_s`); `acknowledged_per_s` is what clients saw. With `--rate` the load is open: each
latency counts from when its command was due. `--floor` measures the same chain of calls with bare
Ray actors on the same Ray (`benchmark_floor.py`), `--peer` another system under the same load.

`--report FILE.html` is one page that needs nothing else: lines of the suite with what is asked for,
throughput against latency, latency over time, loads, processor time, floor, configuration and
machine; `--beside FILE` adds what an earlier run wrote with `--json`, such as one of a peer.
`--figures FOLDER` has the page's charts as SVG files (`benchmark_charts.py`).

The JSON document: `machine`, `options`, `command`, `began_at`, `ended_at`, `configuration` (YAML;
each cluster takes it with its own name, folder, groups and roles), and what was asked for:
`start_s` (of the cluster, and of Ray where none runs), `floor_ms` (median of one call at a time by
chain), `runs` (of each setting, all of its runs: rates, percentiles, CPU time a command by role and
process, each second), `median` (of each setting, the run in the middle), `reads_by`, `peer`; or
`suite`: `table`, `floors_ms`, `runs`, `details`. Exit statuses: `job_exit.py`; a suite whose lines
do not all hold ends with 1.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmark_cluster import (
    benchmark_cluster,
    benchmark_configuration,
    end_as_by_interrupt,
)
from benchmark_floor import measure_floor
from benchmark_options import BATCHES_IN_FLIGHT, IN_FLIGHT, Options, check
from benchmark_page import benchmark_page, load_beside
from benchmark_peers import running_peer
from benchmark_progress import progress_bar
from benchmark_report import (
    floor_text,
    report_console,
    runs_table,
    suite_table,
)
from benchmark_run import Bar, Measured, Subject, measure_repeatedly, median_of
from benchmark_subject import cluster_subject
from benchmark_suite import FULL, QUICK, Suite
from benchmark_workload import NAMES
from job_console import JobConsole
from job_exit import GOOD, NOT_HELD, run_to_status
from job_files import write_each, write_json
from ray_paxos.config import load_configuration
from report_machine import Circumstances, machine_text
from report_page import write_figures, write_page

ROOT = Path(__file__).resolve().parent.parent


def run(options: Options, console: JobConsole) -> int:
    """The job."""
    check(options)
    circumstances = Circumstances.begin(options.seed, load_configuration(options.config))
    document: dict[str, Any] = {"machine": circumstances.machine, "options": asdict(options)}
    console.say(machine_text(document["machine"]))
    with progress_bar() as bar:
        if options.suite is not None:
            status = _run_suite(options, document, console, bar)
        else:
            _run_load(options, document, console, bar)
            status = GOOD
    circumstances.end()
    document |= circumstances.document()
    document["machine"]["load_average_at_end"] = circumstances.load_at_end
    _write(options, document)
    return status


def _write(options: Options, document: dict[str, Any]) -> None:
    """All files that are asked for; one that cannot be written keeps none of the others."""
    json, report, figures = options.json, options.report, options.figures
    writers: list[Callable[[], object]] = []
    if json is not None:
        writers.append(lambda: write_json(json, document))
    if report is not None or figures is not None:
        page = benchmark_page(document, load_beside(options.beside))
        if report is not None:
            writers.append(lambda: write_page(report, page))
        if figures is not None:
            writers.append(lambda: write_figures(figures, page.charts))
    write_each(writers)


def _run_suite(options: Options, document: dict[str, Any], console: JobConsole, bar: Bar) -> int:
    plan = QUICK if options.quick else FULL
    suite = Suite(options.config, plan, options.seed, bar, console.say)
    suite.run()
    document["suite"] = suite.document()
    report_console().print(suite_table(suite.lines))
    console.say(
        f"{plan.repeat} runs of {plan.seconds:g} s a line; {sum(x.holds for x in suite.lines)} of "
        f"{len(suite.lines)} lines hold"
    )
    return GOOD if all(line.holds for line in suite.lines) else NOT_HELD


def _run_load(options: Options, document: dict[str, Any], console: JobConsole, bar: Bar) -> None:
    workload = options.chosen_workload()
    if options.peer is not None:
        with running_peer(options.peer, workload, options.value_size, options.seed) as peer:
            document["peer"] = {"name": options.peer, "about": peer.about}
            console.say(peer.about)
            runs = _measure(peer.subject, options, bar)
        _tell_runs(f"{options.peer}, {workload.name}", runs, document)
        return
    if options.is_only_floor():
        bar.begin("floor", 3.0)
        _measure_floor(options, document, console)
        return
    settings = options.settings()
    readers = max((setting.in_flight or 1_000 for setting in settings), default=1)
    with benchmark_cluster(options.config, groups=options.groups, roles=options.roles) as cluster:
        document["start_s"] = round(cluster.start_s, 3)
        if options.floor:
            _measure_floor(options, document, console)
        with cluster_subject(
            cluster,
            workload.name,
            value_bytes=options.value_size,
            batch=options.batch or 0,
            consistency=options.read_consistency or "linearizable",
            records=options.records,
            readers=readers,
            rng=random.Random(options.seed),
        ) as measured:
            if measured.reads_by:
                document["reads_by"] = measured.reads_by
                console.say(f"reads of several in flight go by {measured.reads_by}")
            runs = _measure(measured.subject, options, bar)
    groups = "1 group" if options.groups == 1 else f"{options.groups} groups"
    batches = f", batches of {options.batch:,}" if options.batch else ""
    _tell_runs(
        f"{workload.name}, {options.value_size:,} bytes, {groups}, {options.roles}{batches}",
        runs,
        document,
    )


def _measure(subject: Subject, options: Options, bar: Bar) -> dict[str, list[Measured]]:
    return {
        setting.name: measure_repeatedly(subject, setting, options.repeat, bar)
        for setting in options.settings()
    }


def _tell_runs(title: str, runs: dict[str, list[Measured]], document: dict[str, Any]) -> None:
    document["runs"] = {name: [run.document() for run in each] for name, each in runs.items()}
    document["median"] = {name: median_of(each).document() for name, each in runs.items()}
    report_console().print(runs_table(title, list(runs.values())))


def _measure_floor(options: Options, document: dict[str, Any], console: JobConsole) -> None:
    """On the Ray that runs here, or else on one like a cluster's."""
    import ray

    if not ray.is_initialized():
        from ray_paxos.actors.ray_connection import connect_ray

        with tempfile.TemporaryDirectory(prefix="ray_paxos-floor-") as folder:
            own = benchmark_configuration(options.config, folder, groups=1, roles="separate")
            connect_ray(None, own.ray, Path(folder), keep=False)
    document["floor_ms"] = {k: round(v, 4) for k, v in measure_floor().items()}
    console.say(floor_text(document["floor_ms"]))


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option(
    "--config",
    default=str(ROOT / "configs" / "local.yaml"),
    show_default="configs/local.yaml",
    metavar="FILE",
    help="Members, times and limits; its name, folder and groups are not used.",
)
@click.option("--workload", metavar="NAME", help=f"{', '.join(NAMES)}  [default: put]")
@click.option("--value-size", default=100, show_default=True, type=int, help="Bytes of a value.")
@click.option("--records", type=int, help="Keys; by default as the workload says.")
@click.option(
    "--in-flight",
    metavar="N,N,...",
    help="Calls in flight, one run after the other; with --batch, batches.  "
    f"[default: {IN_FLIGHT}; with --batch {BATCHES_IN_FLIGHT}]",
)
@click.option("--rate", type=float, help="An open load of so many operations a second instead.")
@click.option("--groups", default=1, show_default=True, type=int, help="Used in turn.")
@click.option("--roles", default="separate", show_default=True, help="separate or fused.")
@click.option("--batch", type=int, help="So many commands by one propose_many.")
@click.option(
    "--read-consistency",
    metavar="NAME",
    help="linearizable, lease, follower or stale.  [default: linearizable]",
)
@click.option("--seconds", default=10.0, show_default=True, type=float, help="Of each run.")
@click.option("--warmup-seconds", default=2.0, show_default=True, type=float, help="Before it.")
@click.option("--repeat", default=1, show_default=True, type=int, help="Runs of each setting.")
@click.option("--seed", default=1, show_default=True, type=int, help="Of keys and values.")
@click.option("--json", metavar="FILE", help="Write what was measured as one JSON document.")
@click.option("--report", metavar="FILE.html", help="Write what was measured as one page.")
@click.option("--figures", metavar="FOLDER", help="Write the page's charts there as SVG files.")
@click.option(
    "--beside", metavar="FILE", multiple=True, help="Show in the page what --json wrote before."
)
@click.option("--suite", metavar="NAME", help="readme: all lines of README's table.")
@click.option("--quick", is_flag=True, help="With --suite: one run of 10 s a line.")
@click.option("--peer", metavar="NAME", help="Measure pysyncobj or etcd instead of a cluster.")
@click.option("--floor", is_flag=True, help="Measure bare Ray actors, too; alone: only those.")
def main(**arguments: Any) -> None:
    """The command line."""
    console = JobConsole()
    sys.exit(run_to_status(lambda: run(Options(**arguments), console), console))


if __name__ == "__main__":
    end_as_by_interrupt()
    main()
