"""`ray-paxos observe`: has a running cluster count, time and remember what it does, or not."""

from __future__ import annotations

import json

import click

from ray_paxos.cli import running_cluster
from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.running_cluster import address_option, json_option
from ray_paxos.cli.statuses import statuses

ON, OFF = "on", "off"


@click.command(
    epilog=epilog(
        "observe off demo",
        "observe on demo",
        failed="no such cluster runs, or not all of its roles were reached; those are named",
    )
)
@click.argument("switch", metavar="on|off", type=click.Choice([ON, OFF]))
@click.argument("cluster")
@json_option
@address_option
def observe(switch: str, cluster: str, as_json: bool, address: str | None) -> None:
    """Switch observing of a running cluster on or off: counts, times, events, slow commands.

    Off gives its members back what that costs: they go on as if they had been started with
    observability.enabled set to false. On begins, or goes on, with what was counted before.

    While it is off Prometheus has nothing of the cluster, and after a minute tells that it is gone.

    It is in memory only: whatever starts again does as observability.enabled says. It works, too,
    where the cluster has no majority.
    """
    with statuses():
        running = running_cluster.open_to_watch(cluster, address)
        members = running.operations.observe(switch == ON)
        configured = running.spec.observing.is_on
        if as_json:
            document = {
                "cluster": cluster,
                "observing": switch == ON,
                "members": members,
                "enabled": configured,
            }
            click.echo(json.dumps(document, indent=1))
            return
        does = "observe" if switch == ON else "observe nothing"
        click.echo(f"cluster {cluster}: {', '.join(members)} {does} from now on")
        if configured != (switch == ON):
            click.echo(
                "  what starts again does as its configuration says: observability.enabled is "
                f"{json.dumps(configured)}"
            )
