"""`ray-paxos up`, `down` and `upgrade`: a cluster begins, ends, and is restarted as it serves."""

from __future__ import annotations

import json
import logging

import click

from ray_paxos.cli.help_text import CLUSTER_FAILED, epilog
from ray_paxos.cli.running_cluster import address_option, connect_to, json_option
from ray_paxos.cli.statuses import statuses


@click.command(
    epilog=epilog(
        "up configs/local.yaml",
        "up configs/three_nodes.yaml --address 10.0.0.1:6379 --json",
        failed="Ray or the cluster could not be started; standard error says why",
    )
)
@click.argument("configuration", type=click.Path(dir_okay=False))
@json_option
@address_option
def up(configuration: str, as_json: bool, address: str | None) -> None:
    """Start the cluster of a YAML file, or attach to it where it runs.

    What is on the nodes' disks is started as it is there, whatever members and groups the file
    names: they are for a cluster that does not exist yet. Where no Ray cluster runs, one is started
    on this machine, and lives on until `ray-paxos down`.
    """
    with statuses():
        import ray_paxos

        logging.getLogger("ray").setLevel(logging.WARNING)
        cluster = ray_paxos.start(configuration, address=address, keep=True)
        document = {
            "cluster": cluster.name,
            "was_running": cluster.was_running,
            "members": list(cluster.members),
        }
        if as_json:
            click.echo(json.dumps(document, indent=1))
            return
        what = "runs already" if cluster.was_running else "is up"
        click.echo(f"cluster {cluster.name} {what}: {', '.join(cluster.members)}")


@click.command(epilog=epilog("down demo", "down demo --delete-data --yes", failed=CLUSTER_FAILED))
@click.argument("cluster")
@click.option("--delete-data", is_flag=True, help="Also delete the members' folders, for good.")
@click.option("--yes", is_flag=True, help="Do not ask whether the data may be deleted.")
@json_option
@address_option
def down(cluster: str, delete_data: bool, yes: bool, as_json: bool, address: str | None) -> None:
    """Stop a running cluster; its data stays, and `ray-paxos up` goes on with it.

    A Ray cluster that `ray-paxos up` has started for it ends, too.
    """
    with statuses():
        running = connect_to(cluster, address)
        if delete_data and not yes:
            question = f"Delete all data of cluster {cluster} for good?"
            click.confirm(question, abort=True, err=as_json)
        running.stop(delete_data=delete_data, shutdown_ray=True)
        if as_json:
            click.echo(json.dumps({"cluster": cluster, "data_deleted": delete_data}, indent=1))
        else:
            click.echo(f"cluster {cluster}: {'stopped, deleted' if delete_data else 'stopped'}")


@click.command(
    epilog=epilog("upgrade demo", "upgrade demo --keep-version --json", failed=CLUSTER_FAILED)
)
@click.argument("cluster")
@click.option(
    "--keep-version",
    is_flag=True,
    help="Restart the members only: they can still go back to the release before.",
)
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="How long to wait for each member.",
)
@json_option
@address_option
def upgrade(
    cluster: str, keep_version: bool, timeout_s: float, as_json: bool, address: str | None
) -> None:
    """Restart all members with the release that is installed now, one after the other.

    Each hands over the groups that it leads before it ends, and has caught up before the next one
    is restarted: clients go on. Then the cluster's version is raised to the newest one that the
    release knows, from which no way leads back.
    """
    with statuses():
        upgrades = connect_to(cluster, address).upgrades
        restarted = upgrades.restart_all(timeout_s=timeout_s)
        version = None if keep_version else upgrades.raise_version()
        if as_json:
            document = {"restarted": list(restarted), "cluster_version": version}
            click.echo(json.dumps(document, indent=1))
            return
        click.echo(f"restarted {', '.join(restarted)}")
        if version is not None:
            click.echo(f"cluster version {version}")
