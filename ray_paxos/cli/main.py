"""The command `ray-paxos` and its groups of commands."""

from __future__ import annotations

import click

from ray_paxos.cli.adopt import adopt
from ray_paxos.cli.completion import completion
from ray_paxos.cli.dashboard import dashboard
from ray_paxos.cli.doctor import doctor
from ray_paxos.cli.groups import groups
from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.kv import kv
from ray_paxos.cli.lifecycle import down, up, upgrade
from ray_paxos.cli.log import log
from ray_paxos.cli.members import members
from ray_paxos.cli.metrics import alerts, grafana
from ray_paxos.cli.observe import observe
from ray_paxos.cli.recover import unsafe_recover
from ray_paxos.cli.restore import restore
from ray_paxos.cli.running_cluster import checkpoint
from ray_paxos.cli.slow import slow
from ray_paxos.cli.status import status
from ray_paxos.cli.top import top


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog(
        "doctor configs/local.yaml",
        "up configs/local.yaml",
        "status demo",
        "kv put demo settings color green",
        done="what the command promises was done",
        failed="something was found to be wrong, or the cluster refused or did not answer in time",
    ),
)
def main() -> None:
    """Multi-Paxos for Ray: run a cluster, ask it, look into its files, and mend them.

    Each command has examples in its own help, and --json for programs. Colours are for terminals,
    and not where $NO_COLOR is set.
    """


log.add_command(adopt)
main.add_command(up)
main.add_command(down)
main.add_command(upgrade)
main.add_command(log)
main.add_command(restore)
main.add_command(unsafe_recover)
main.add_command(status)
main.add_command(top)
main.add_command(checkpoint)
main.add_command(slow)
main.add_command(observe)
main.add_command(groups)
main.add_command(members)
main.add_command(kv)
main.add_command(dashboard)
main.add_command(doctor)
main.add_command(grafana)
main.add_command(alerts)
main.add_command(completion)
