"""`ray-paxos completion`: the script by which a shell completes commands and options."""

from __future__ import annotations

import json

import click
from click.shell_completion import get_completion_class

from ray_paxos.cli.help_text import PROGRAM, epilog
from ray_paxos.cli.running_cluster import json_option

SHELLS = ("bash", "zsh", "fish")
COMPLETION_VARIABLE = "_RAY_PAXOS_COMPLETE"
"""Where click looks for what a shell asks; the name follows from the program's."""


@click.command(
    epilog=epilog(
        "completion bash",
        "completion zsh",
        "completion fish",
        failed="the script could not be written",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the script that completes commands and options of ray-paxos in a shell.

    In ~/.bashrc (bash 4.4 or later) put: eval "$(ray-paxos completion bash)"

    In ~/.zshrc put: eval "$(ray-paxos completion zsh)"

    For fish write it to ~/.config/fish/completions/ray-paxos.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None, "click knows all shells of the choice"
    script = completer(context.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source()
    click.echo(json.dumps({"shell": shell, "script": script}) if as_json else script)
