"""`ray-paxos grafana` and `ray-paxos alerts`: what Grafana and Prometheus want of us, as files.

Both are made from the catalogue of metrics alone: no cluster has to run, and none is asked.
"""

from __future__ import annotations

import json

import click

from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.running_cluster import json_option
from ray_paxos.cli.statuses import statuses
from ray_paxos.errors import ConfigurationError
from ray_paxos.observability.alert_rules import DEFAULT_LIMITS, rule_file
from ray_paxos.observability.alerting import AlertLimits
from ray_paxos.observability.grafana import dashboard_file

NOT_WRITTEN = "it could not be written"
_SCALE_LOW, _SCALE_HIGH = 0.001, 1_000.0


@click.command(epilog=epilog("grafana", failed=NOT_WRITTEN))
@click.option(
    "--json", "as_json", is_flag=True, help="JSON it is in any case; taken as with other commands."
)
def grafana(as_json: bool) -> None:
    """Print a Grafana dashboard of all metrics, as JSON.

    Import it in Grafana (Dashboards, New, Import), or put it beside Ray's own, which are in
    metrics/grafana/dashboards of the session's folder of Ray.

    It shows what a Prometheus has that scrapes Ray's nodes; without one it is empty.
    """
    with statuses():
        click.echo(dashboard_file(), nl=False)


@click.command(
    epilog=epilog(
        "alerts",
        "alerts --lag-instances 1000 --fsync-ms 50",
        "alerts --disk-free-bytes 20000000000",
        failed=NOT_WRITTEN,
    )
)
@click.option(
    "--lag-instances",
    type=click.IntRange(min=1),
    default=DEFAULT_LIMITS.lag_instances,
    show_default=True,
    help="A member that is further behind is told.",
)
@click.option(
    "--disk-free-bytes",
    type=click.IntRange(min=0),
    default=DEFAULT_LIMITS.disk_free_bytes,
    show_default=True,
    help="Less room on a member's disk is told.",
)
@click.option(
    "--fsync-ms",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_LIMITS.fsync_s * 1_000,
    show_default=True,
    help="A disk is slow where one fsync in a hundred takes longer.",
)
@click.option(
    "--elections",
    type=click.IntRange(min=0),
    default=DEFAULT_LIMITS.elections_max,
    show_default=True,
    help="More reigns of one group within ten minutes are told.",
)
@click.option(
    "--hold-scale",
    type=click.FloatRange(_SCALE_LOW, _SCALE_HIGH),
    default=DEFAULT_LIMITS.hold_scale,
    show_default=True,
    help="Multiplies the times for which something has to be so before it is told.",
)
@json_option
def alerts(
    lag_instances: int,
    disk_free_bytes: int,
    fsync_ms: float,
    elections: int,
    hold_scale: float,
    as_json: bool,
) -> None:
    """Print alerts for Prometheus, as a rule file.

    Name the file under rule_files in Prometheus' configuration: ray-paxos alerts > rules.yml

    Without a Prometheus nobody is told; ray-paxos status and ray-paxos top show the same troubles
    to whoever looks, but for elections that come too often and slow fsyncs.
    """
    with statuses():
        for option, number in (("--fsync-ms", fsync_ms), ("--hold-scale", hold_scale)):
            if not 0 < number < float("inf"):
                raise ConfigurationError(f"{option} {number}: no number of use")
        limits = AlertLimits(
            lag_instances=lag_instances,
            disk_free_bytes=disk_free_bytes,
            fsync_s=fsync_ms / 1_000,
            elections_max=elections,
            hold_scale=hold_scale,
        )
        rules = rule_file(limits)
        click.echo(json.dumps({"rules": rules}) if as_json else rules, nl=as_json)
