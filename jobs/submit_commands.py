"""Replicates a file of commands through a cluster, and checks that all members agree.

    python jobs/submit_commands.py --input commands.jsonl --dump-state out.jsonl --json out.json

Starts the cluster that the configuration describes, or attaches to it where it runs. Lines are
submitted in the order of the file; each is durable on a majority of the members before it counts
as acknowledged. At the end the job waits until every member has applied everything, compares
their states, and stops the cluster if it was this job that started it (the data stays).

Runs the same on one machine, on a Ray cluster of several nodes (`--address`), and under
`ray job submit --working-dir . -- python jobs/submit_commands.py`. Exit statuses: `job_exit.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

import ray_paxos
from command_formats import FORMATS
from command_input import CommandFile, InputLine
from job_console import JobConsole
from job_exit import BAD_INPUT, GOOD, NOT_HELD, run_to_status
from job_files import check_output, write_json, write_lines
from job_groups import choose_group, machine_of_kind
from ray_paxos.config import ClusterConfiguration, load_configuration
from ray_paxos.errors import ClusterError, InputError, PaxosError
from state_dump import dump_lines
from submission import Submission
from submission_report import SubmissionReport

if TYPE_CHECKING:
    from ray_paxos import Cluster
    from submission_report import MemberDigest

ROOT = Path(__file__).resolve().parent.parent
MACHINE_KINDS = {"kv-jsonl": "kv", "lines": "log"}
MEMBERS_WAIT_S = 60.0
MEMBERS_RETRY_S = 0.5


@dataclass(frozen=True)
class Options:
    """The command line, as `--help` describes it."""

    config: str
    input: str
    format: str
    repeat: int
    group: int | None
    dump_state: str | None
    json: str | None
    keep: bool
    skip_bad_lines: bool
    address: str | None
    timeout_s: float


@dataclass(frozen=True)
class Plan:
    """What the command line and the configuration come to."""

    configuration: ClusterConfiguration
    group: int
    machine: str
    dump_machine: str | None
    commands: CommandFile


def make_plan(options: Options, console: JobConsole) -> Plan:
    """Check everything that can be checked before a cluster is started.

    Raises:
        ConfigurationError: Something is wrong; nothing has happened.
    """
    configuration = load_configuration(options.config)
    for warning in configuration.warnings:
        console.warn(f"{options.config}: {warning}")
    group = choose_group(configuration, options.group)
    machine = machine_of_kind(group, MACHINE_KINDS[options.format], "--format " + options.format)
    dump_machine = None
    if options.dump_state is not None:
        dump_machine = machine_of_kind(group, "kv", "--dump-state")
    check_output(options.json, "--json")
    check_output(options.dump_state, "--dump-state")
    commands = CommandFile(options.input, repeat=options.repeat)
    return Plan(configuration, group.group, machine, dump_machine, commands)


class Start(Protocol):
    """Starts the cluster, or attaches to it."""

    def __call__(
        self, configuration: ClusterConfiguration, *, address: str | None, keep: bool
    ) -> Cluster:
        """As `ray_paxos.start`."""


class SubmitCommands:
    """The job, from a plan to an exit status."""

    def __init__(self, options: Options, plan: Plan, console: JobConsole) -> None:
        """Nothing happens yet."""
        self._options = options
        self._plan = plan
        self._console = console
        self._skipped_lines = 0
        self._errors: list[str] = []

    def run(self, start: Start) -> int:
        """Start or attach, submit, compare, report, and leave things as they were.

        Args:
            start: `start_cluster`, or what stands for it in a test.

        Returns:
            An exit status.

        Raises:
            PaxosError: The cluster cannot be started or reached, or a file cannot be written.
        """
        cluster = start(
            self._plan.configuration, address=self._options.address, keep=self._options.keep
        )
        try:
            members = ", ".join(cluster.members)
            self._console.say(
                f"cluster {cluster.name}, members {members}, group {self._plan.group}"
            )
            return self._run_on(cluster)
        finally:
            if not self._options.keep and not cluster.was_running:
                cluster.stop()

    def _run_on(self, cluster: Cluster) -> int:
        with cluster.client(self._plan.group, label="submit_commands") as client:
            with self._console.progress(self._plan.commands.byte_count) as progress:
                outcome = Submission(
                    client,
                    machine=self._plan.machine,
                    timeout_s=self._options.timeout_s,
                    on_progress=progress.update,
                ).run(self._lines(cluster.command_bytes_max))
            if not outcome.submitted and outcome.input_error is None:
                self._console.warn(f"{self._plan.commands.name} holds no commands")
            if outcome.failure is not None:
                self._errors.append(outcome.failure)
            if outcome.input_error is not None:
                self._errors.append(str(outcome.input_error))
            members = self._compare(cluster)
            report = SubmissionReport(
                cluster=cluster.name,
                log_dir=_log_dir(cluster),
                outcome=outcome,
                members=members,
                skipped_lines=self._skipped_lines if self._options.skip_bad_lines else None,
                errors=self._errors,
                alarms=cluster.status().alarms,
            )
            report.tell(self._console)
            if self._options.json is not None:
                write_json(self._options.json, report.document())
            if self._options.dump_state is not None and self._plan.dump_machine is not None:
                write_lines(self._options.dump_state, dump_lines(client, self._plan.dump_machine))
        if outcome.input_error is not None:
            return BAD_INPUT
        return GOOD if not outcome.failed and report.digests_equal else NOT_HELD

    def _lines(self, command_bytes_max: int) -> Generator[InputLine]:
        return self._plan.commands.read(
            FORMATS[self._options.format],
            command_bytes_max=command_bytes_max,
            on_bad_line=self._skip if self._options.skip_bad_lines else None,
        )

    def _skip(self, refusal: InputError) -> None:
        """Pass over a bad line; called by the reader's thread, whose end is awaited."""
        self._skipped_lines += 1
        self._console.warn(str(refusal))

    def _compare(self, cluster: Cluster) -> dict[str, MemberDigest | None]:
        """Every member's state once it has applied everything and sealed it in its log."""
        found: dict[str, MemberDigest | None] = dict.fromkeys(cluster.members)
        deadline = time.monotonic() + MEMBERS_WAIT_S
        while True:
            try:
                cluster.flush(self._plan.group)
                found |= cluster.member_digests(self._plan.group)
                missing = [name for name, digest in found.items() if digest is None]
                if not missing:
                    return found
                problem = f"no answer from {', '.join(missing)}"
            except PaxosError as error:
                problem = str(error)
            if time.monotonic() > deadline:
                self._errors.append(
                    f"not every member got there within {MEMBERS_WAIT_S:.0f} s: {problem}"
                )
                return found
            time.sleep(MEMBERS_RETRY_S)


def _log_dir(cluster: Cluster) -> str | None:
    """The chosen log of the first member that answers."""
    for member in cluster.members:
        try:
            return cluster.log_dir(member)
        except ClusterError:
            continue
    return None


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option(
    "--config",
    default=str(ROOT / "configs" / "local.yaml"),
    show_default="configs/local.yaml",
    metavar="FILE",
    help="The cluster's configuration.",
)
@click.option(
    "--input",
    default=str(ROOT / "jobs" / "sample_commands.jsonl"),
    show_default="jobs/sample_commands.jsonl",
    metavar="FILE|-",
    help="Commands, one a line; - for standard input.",
)
@click.option(
    "--format",
    type=click.Choice(sorted(FORMATS)),
    default="kv-jsonl",
    show_default=True,
    help="kv-jsonl: JSON objects with op (put, get, delete, cas), key, value, expected_version. "
    "lines: any lines, appended to the log machine.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Submit the whole input so many times.",
)
@click.option("--group", type=int, metavar="N", help="The group; default: the lowest number.")
@click.option(
    "--dump-state",
    metavar="FILE",
    help="Write the key-value state at the end: JSON lines by key, with value and version.",
)
@click.option("--json", metavar="FILE", help="Write what happened as one JSON document.")
@click.option("--keep", is_flag=True, help="Leave the cluster running.")
@click.option("--skip-bad-lines", is_flag=True, help="Pass over bad lines, and count them.")
@click.option("--address", metavar="ADDRESS", help="Of the Ray cluster: HOST:PORT, auto or local.")
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="S",
    help="How long a command may stay without an outcome.",
)
@click.pass_obj
def command_line(start: Start, /, **arguments: object) -> None:
    """The command line; `--help` has its own text.

    Args:
        start: `ray_paxos.start`, or what stands for it in a test.
        arguments: As click has read and converted them.
    """
    console = JobConsole()
    options = Options(**arguments)  # type: ignore[arg-type]  # the options above have its names

    def job() -> int:
        return SubmitCommands(options, make_plan(options, console), console).run(start)

    sys.exit(run_to_status(job, console))


def start_cluster(
    configuration: ClusterConfiguration, *, address: str | None, keep: bool
) -> Cluster:
    """`ray_paxos.start`; imports Ray only when everything else was found in order."""
    return ray_paxos.start(configuration, address=address, keep=keep)


if __name__ == "__main__":
    command_line(obj=start_cluster)
