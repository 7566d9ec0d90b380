"""`ray-paxos log adopt`: accept a member's folder that was moved on purpose."""

from __future__ import annotations

from pathlib import Path

import click

from ray_paxos.cli.member import find_disk
from ray_paxos.cli.statuses import DAMAGED, statuses
from ray_paxos.errors import ConfigurationError
from ray_paxos.storage.adoption import adopt as accept
from ray_paxos.storage.adoption import plan_adoption


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do it; without this it is only said.")
def adopt(folder: Path, yes: bool) -> None:
    """Accept a member's folder that was moved, so that the member starts there.

    A folder that was copied does not start: the copy may lack votes that the member has given
    since, and forgetting votes loses what was acknowledged. Accept one only where the disk itself
    was moved, or where the member has not run since the copy was made and never runs at the old
    place again.
    """
    with statuses():
        find_disk(folder)
        adoption = plan_adoption(folder)
        name = adoption.identity.name
        if not adoption.moved:
            click.echo(f"{folder} is where member {name} was made; there is nothing to accept")
            return
        click.echo(f"member {name} of cluster {adoption.identity.genesis.cluster}: ", nl=False)
        click.echo(adoption.moved)
        if adoption.refusal:
            raise ConfigurationError(f"not accepted: {adoption.refusal}")
        click.echo(
            "accept it only if the member has not run at any other place since, and never will"
        )
        if not yes:
            click.echo("nothing was changed; --yes does it")
            raise SystemExit(DAMAGED)
        accept(folder, adoption)
        click.echo(f"done: member {name} starts in {folder}")
