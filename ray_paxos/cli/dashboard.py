"""`ray-paxos dashboard`: a page that shows a running cluster, for browsers.

Ray and aiohttp take a second to import, which only this command needs: they are imported in it.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING

import click

from ray_paxos.cli.help_text import CLUSTER_FAILED, epilog
from ray_paxos.cli.running_cluster import address_option
from ray_paxos.cli.statuses import statuses

if TYPE_CHECKING:
    from ray_paxos.dashboard.watcher import Watcher

PORT = 8277


@click.command(
    epilog=epilog(
        "dashboard demo",
        "dashboard demo --port 0 --json",
        "dashboard demo --host 0.0.0.0 --port 8300 --address 10.0.0.5:6379",
        done="it was told to end, by an interrupt (Ctrl-C) or SIGTERM",
        failed=CLUSTER_FAILED,
        wrong="wrong use: an option, or nobody can listen at that host and port",
    )
)
@click.argument("cluster")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; by default only this machine gets in.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Likewise; 0 for any that is free.",
)
@click.option(
    "--interval-s",
    type=click.FloatRange(0.2, 3_600),
    default=2.0,
    show_default=True,
    help="From one look at the cluster to the next, while somebody has the page open.",
)
@click.option("--json", "as_json", is_flag=True, help="Say where it is as one JSON document.")
@address_option
def dashboard(
    cluster: str, host: str, port: int, interval_s: float, as_json: bool, address: str | None
) -> None:
    """Serve a page that shows a running cluster: members, groups, rates, events, logs.

    The page changes nothing. Where the Ray cluster asks for a token, so does the page. It goes on
    when the cluster ends, and shows it again once it is back.
    """
    with statuses():
        from ray_paxos.dashboard.serving import is_loopback, open_socket, serve, url_of

        with open_socket(host, port) as listening:
            watcher = connect_to(cluster, address)
            try:
                has_token = watcher.hello().token is not None
                if not is_loopback(listening):
                    _warn(host, has_token=has_token)
                url = url_of(listening, host)
                serving = serve(
                    watcher,
                    listening,
                    host=host,
                    interval_s=interval_s,
                    on_ready=partial(_tell, cluster, url, has_token, as_json),
                )
                asyncio.run(serving)
            finally:
                watcher.close()


def connect_to(cluster: str, address: str | None) -> Watcher:
    """A watcher of the running cluster of that name.

    Raises:
        ClusterNotFoundError: No cluster of that name runs there.
        ClusterError: There is no Ray cluster, or the cluster does not answer.
    """
    from ray_paxos.dashboard.target import ClusterTarget
    from ray_paxos.dashboard.watcher import Watcher

    watcher = Watcher(partial(ClusterTarget, cluster, address))
    try:
        watcher.hello()
    except BaseException:
        # Also an interrupt while it connects: its process must not be left behind.
        watcher.close()
        raise
    return watcher


def _tell(cluster: str, url: str, asks_for_token: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"cluster": cluster, "url": url, "asks_for_token": asks_for_token}))
        return
    click.echo(f"cluster {cluster} is shown at {url}")
    if asks_for_token:
        click.echo("it asks for the token of the Ray cluster")
    click.echo("Ctrl-C ends it")


def _warn(host: str, *, has_token: bool) -> None:
    who = "whoever has the Ray cluster's token" if has_token else "whoever can connect to it"
    how = ", which travels unencrypted," if has_token else ""
    click.echo(
        f"warning: it listens at {host}, not only for this machine: {who}{how} sees the cluster, "
        "and keys and values in its logs",
        err=True,
    )
