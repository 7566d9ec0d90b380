"""`ray-paxos log adopt`: accept a member's folder that was moved on purpose."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.member import find_disk
from ray_paxos.cli.running_cluster import json_option
from ray_paxos.cli.statuses import DAMAGED, statuses
from ray_paxos.errors import ConfigurationError
from ray_paxos.storage.adoption import Adoption, plan_adoption
from ray_paxos.storage.adoption import adopt as accept


@click.command(
    epilog=epilog(
        "log adopt /data/demo/m1",
        "log adopt /data/demo/m1 --yes",
        done="accepted, or the folder lies where it was made",
        failed="it was moved, and nothing was changed, for want of --yes; or it is damaged",
        wrong="no member's folder, or one that must not be accepted",
    )
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do it; without this it is only said.")
@json_option
def adopt(folder: Path, yes: bool, as_json: bool) -> None:
    """Accept a member's folder that was moved, so that the member starts there.

    A folder that was copied does not start: the copy may lack votes that the member has given
    since, and forgetting votes loses what was acknowledged. Accept one only where the disk itself
    was moved, or where the member has not run since the copy was made and never runs at the old
    place again.
    """
    with statuses():
        find_disk(folder)
        adoption = plan_adoption(folder)
        if not as_json:
            _tell(folder, adoption)
        if adoption.moved and adoption.refusal:
            raise ConfigurationError(f"not accepted: {adoption.refusal}")
        is_accepted = bool(adoption.moved and yes)
        if is_accepted:
            accept(folder, adoption)
        name = adoption.identity.name
        if as_json:
            document = {"member": name, "moved": adoption.moved, "accepted": is_accepted}
            click.echo(json.dumps(document, indent=1))
        elif is_accepted:
            click.echo(f"done: member {name} starts in {folder}")
        elif adoption.moved:
            click.echo("nothing was changed; --yes does it")
        if adoption.moved and not is_accepted:
            raise SystemExit(DAMAGED)


def _tell(folder: Path, adoption: Adoption) -> None:
    """What is there, and what to think of before it is accepted."""
    name = adoption.identity.name
    if not adoption.moved:
        click.echo(f"{folder} is where member {name} was made; there is nothing to accept")
        return
    click.echo(f"member {name} of cluster {adoption.identity.genesis.cluster}: {adoption.moved}")
    if not adoption.refusal:
        click.echo(
            "accept it only if the member has not run at any other place since, and never will"
        )
