"""The command `ray-paxos` and its groups of commands."""

from __future__ import annotations

import click

from ray_paxos.cli.adopt import adopt
from ray_paxos.cli.groups import groups
from ray_paxos.cli.kv import kv
from ray_paxos.cli.lifecycle import down, up, upgrade
from ray_paxos.cli.log import log
from ray_paxos.cli.members import members
from ray_paxos.cli.recover import unsafe_recover
from ray_paxos.cli.restore import restore
from ray_paxos.cli.running_cluster import checkpoint, status


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Multi-Paxos for Ray: run a cluster, ask it, look into its files, and mend them."""


log.add_command(adopt)
main.add_command(up)
main.add_command(down)
main.add_command(upgrade)
main.add_command(log)
main.add_command(restore)
main.add_command(unsafe_recover)
main.add_command(status)
main.add_command(checkpoint)
main.add_command(groups)
main.add_command(members)
main.add_command(kv)
