"""`ray-paxos doctor`: what is wrong with a machine and a configuration, and what to change.

One table of checks: a new check is one function of facts, and one entry of `CHECKS`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click

from ray_paxos.cli import doctor_disk, doctor_machine, doctor_ray
from ray_paxos.cli.doctor_facts import DEFAULTS, Facts, Finding, Status
from ray_paxos.cli.doctor_looking import look_at_disk, look_at_folders, look_at_machine
from ray_paxos.cli.doctor_ray_look import look_at_ray
from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.running_cluster import json_option
from ray_paxos.cli.statuses import DAMAGED, WrongUse, statuses
from ray_paxos.cli.tables import show_table
from ray_paxos.config import load_configuration
from ray_paxos.errors import ConfigurationError
from ray_paxos.storage.data_dir import resolve_data_dir

Check = Callable[[Facts], Iterable[Finding]]

CHECKS: Mapping[str, Check] = {
    "configuration": doctor_machine.check_configuration,
    "Python": doctor_machine.check_python,
    "packages": doctor_machine.check_packages,
    "data directory": doctor_disk.check_data_dir,
    "free space": doctor_disk.check_free_space,
    "file system": doctor_disk.check_file_system,
    "fdatasync": doctor_disk.check_sync,
    "flock": doctor_disk.check_lock,
    "folders": doctor_disk.check_folders,
    "open files": doctor_machine.check_open_files,
    "memory": doctor_machine.check_memory,
    "processors": doctor_machine.check_processors,
    "clock": doctor_machine.check_clock,
    "Ray cluster": doctor_ray.check_cluster,
    "Ray settings": doctor_ray.check_settings,
    "Ray keepalive": doctor_ray.check_keepalive,
    "Ray token": doctor_ray.check_token,
    "Ray nodes": doctor_ray.check_nodes,
}
"""All checks, in the order in which they are shown. One that has nothing to say says nothing."""

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@click.command(
    epilog=epilog(
        "doctor",
        "doctor configs/local.yaml",
        "doctor configs/three_nodes.yaml --json",
        done="no problem was found; there may be warnings",
        failed="a problem was found, on the machine or in Ray",
        wrong="the configuration cannot be read, or is wrong: standard error names the field",
    )
)
@click.argument("configuration", required=False, type=click.Path(dir_okay=False))
@json_option
def doctor(configuration: str | None, as_json: bool) -> None:
    """Check this machine and a configuration, and say what to change.

    It looks at versions, limits, memory, clocks, the disk that the data is to lie on (which it
    measures, by a scratch file that goes again), at what lies there, and at the Ray cluster. It
    starts no Ray and changes nothing. Run it on every node: what is on others it cannot see.
    Without CONFIGURATION it looks with the defaults.
    """
    with statuses():
        facts = find_facts(configuration)
        found = examine(facts)
        if as_json:
            click.echo(json.dumps(_document(found), indent=1))
        else:
            rows = [(name, f.status.value, f.found, f.change) for name, f in found]
            show_table(("check", "status", "found", "what to change"), rows, styles=_STYLES)
            counts = Counter(finding.status for _, finding in found)
            click.echo(f"\n{counts[Status.PROBLEM]} problems, {counts[Status.WARNING]} warnings")
        if facts.error:
            raise WrongUse(facts.error)
        if any(finding.status is Status.PROBLEM for _, finding in found):
            raise SystemExit(DAMAGED)


def find_facts(path: str | None) -> Facts:
    """Look at this machine, as the members of a configuration would find it.

    Args:
        path: Of the configuration; None for the defaults.

    Raises:
        ConfigurationError: The data directory means nothing here.
    """
    configuration, error = DEFAULTS, ""
    if path is not None:
        try:
            configuration = load_configuration(path)
        except ConfigurationError as caught:
            error = str(caught)
    data_dir = resolve_data_dir(configuration.data_dir, os.environ)
    return Facts(
        path=path or "",
        configuration=configuration,
        error=error,
        machine=look_at_machine(),
        disk=look_at_disk(data_dir),
        folders=look_at_folders(data_dir),
        ray=look_at_ray(
            configuration.ray.address, Path(data_dir, configuration.cluster), os.environ
        ),
    )


def examine(facts: Facts) -> list[tuple[str, Finding]]:
    """Run all checks; each finding with the name of its check."""
    return [(name, finding) for name, check in CHECKS.items() for finding in check(facts)]


def _document(found: list[tuple[str, Finding]]) -> dict[str, object]:
    worst = max((f.status for _, f in found), key=list(Status).index)
    return {
        "status": worst.value,
        "findings": [
            {"check": name, "status": f.status.value, "found": f.found, "change": f.change}
            for name, f in found
        ],
    }
