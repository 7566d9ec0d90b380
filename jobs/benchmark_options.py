"""What a benchmark was asked for, checked whole before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark_cluster import check_roles
from benchmark_page import load_beside
from benchmark_peers import check_peer
from benchmark_run import Setting
from benchmark_workload import Kind, Workload, load_workload
from job_files import check_folder, check_output
from ray_paxos.config import load_configuration
from ray_paxos.errors import ConfigurationError
from report_page import check_page

IN_FLIGHT = "1,100,1000,5000"
BATCHES_IN_FLIGHT = "1,4,8"
IN_FLIGHT_MAX = 50_000
COMMANDS_IN_FLIGHT_MAX = 100_000
"""As many as a client holds."""
GROUPS_MAX = 1_000
CONSISTENCIES = ("linearizable", "lease", "follower", "stale")
SUITES = ("readme",)
VALUE_BYTES_MAX = 900_000


@dataclass(frozen=True)
class Options:
    """The command line, as `--help` describes it; None where it was not given."""

    config: str
    workload: str | None = None
    value_size: int = 100
    records: int | None = None
    in_flight: str | None = None
    rate: float | None = None
    groups: int = 1
    roles: str = "separate"
    batch: int | None = None
    read_consistency: str | None = None
    seconds: float = 10.0
    warmup_seconds: float = 2.0
    repeat: int = 1
    seed: int = 1
    json: str | None = None
    report: str | None = None
    figures: str | None = None
    beside: tuple[str, ...] = ()
    suite: str | None = None
    quick: bool = False
    peer: str | None = None
    floor: bool = False

    def chosen_workload(self) -> Workload:
        """The workload, read from its file."""
        return load_workload(self.workload or "put", self.value_size, self.records)

    def settings(self) -> list[Setting]:
        """The runs that are asked for."""
        if self.rate is not None:
            return [Setting(None, self.rate, self.seconds, self.warmup_seconds)]
        default = BATCHES_IN_FLIGHT if self.batch else IN_FLIGHT
        return [
            Setting(count, None, self.seconds, self.warmup_seconds)
            for count in parse_in_flight(self.in_flight or default)
        ]

    def is_only_floor(self) -> bool:
        """Whether nothing but the floor was asked for."""
        return self.floor and self.workload is None and self.in_flight is None and not self.peer


def parse_in_flight(text: str) -> list[int]:
    """Numbers of calls in flight.

    Raises:
        ConfigurationError: It is no list of them.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= count <= IN_FLIGHT_MAX for count in found):
        raise ConfigurationError(
            f"--in-flight: found {text!r}; allowed: whole numbers from 1 to {IN_FLIGHT_MAX:,}, "
            "separated by commas"
        )
    return found


def check(options: Options) -> None:
    """Refuse what cannot be done, before anything is started.

    Raises:
        ConfigurationError: An option is wrong, or contradicts another one.
    """
    check_output(options.json, "--json")
    check_page(options.report, "--report")
    check_folder(options.figures, "--figures")
    load_beside(options.beside)
    load_configuration(options.config)
    _check_numbers(options)
    workload = options.chosen_workload()
    settings = options.settings()
    check_roles(options.roles)
    if options.read_consistency is not None and options.read_consistency not in CONSISTENCIES:
        raise ConfigurationError(
            f"--read-consistency: found {options.read_consistency!r}; allowed: "
            f"{', '.join(CONSISTENCIES)}"
        )
    _check_batch(options, workload, settings)
    _check_together(options)
    if options.peer is not None:
        check_peer(options.peer, workload)


def _check_numbers(options: Options) -> None:
    for name, number, low, high in (
        ("--value-size", options.value_size, 0, VALUE_BYTES_MAX),
        ("--groups", options.groups, 1, GROUPS_MAX),
        ("--repeat", options.repeat, 1, 1_000),
        ("--seconds", options.seconds, 0.1, 86_400),
        ("--warmup-seconds", options.warmup_seconds, 0, 86_400),
        ("--rate", options.rate, 1, 1_000_000),
        ("--records", options.records, 1, 10_000_000),
        ("--batch", options.batch, 1, COMMANDS_IN_FLIGHT_MAX),
    ):
        if number is not None and not low <= number <= high:
            raise ConfigurationError(f"{name}: found {number:,}; allowed: from {low:,} to {high:,}")


def _check_batch(options: Options, workload: Workload, settings: Sequence[Setting]) -> None:
    if options.batch is None:
        return
    if set(workload.shares) - {Kind.UPDATE, Kind.INSERT}:
        raise ConfigurationError(
            f"--batch with --workload {workload.name}: allowed with put, which only writes"
        )
    for setting in settings:
        held = (setting.in_flight or 0) * options.batch
        if held > COMMANDS_IN_FLIGHT_MAX * options.groups:
            raise ConfigurationError(
                f"--in-flight {setting.in_flight} with --batch {options.batch:,}: {held:,} "
                f"commands; a client holds {COMMANDS_IN_FLIGHT_MAX:,}"
            )


def _check_together(options: Options) -> None:
    """Options that mean nothing beside each other."""
    if options.rate is not None and options.in_flight is not None:
        raise ConfigurationError(
            "--rate is for an open load and --in-flight for a closed one; allowed: one of them"
        )
    if options.rate is not None and options.batch is not None:
        raise ConfigurationError("--rate with --batch; allowed: an open load of single commands")
    if options.suite is None:
        if options.quick:
            raise ConfigurationError("--quick; allowed: with --suite readme")
    elif options.suite not in SUITES:
        raise ConfigurationError(f"--suite: found {options.suite!r}; allowed: {', '.join(SUITES)}")
    else:
        _refuse_beside("--suite", options, ("workload", "in_flight", "rate", "batch", "peer"))
        if options.beside:
            raise ConfigurationError("--beside with --suite: --suite does not take it")
    if options.peer is not None:
        _refuse_beside("--peer", options, ("batch", "read_consistency"))
        if options.groups != 1 or options.roles != "separate":
            raise ConfigurationError("--peer with --groups or --roles: a peer has neither")


def _refuse_beside(option: str, options: Options, others: Sequence[str]) -> None:
    for name in others:
        if getattr(options, name) is not None:
            raise ConfigurationError(
                f"--{name.replace('_', '-')} with {option}: {option} does not take it"
            )
