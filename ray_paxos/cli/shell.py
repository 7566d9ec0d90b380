"""`ray-paxos kv` without a command: a shell for the keys of one space.

Rules:

1. A line is what would be typed behind `ray-paxos kv`, without cluster and space. The commands are
   the very same ones: their parser, their help, their statuses. Only those two arguments, which the
   shell knows, are bound.
2. The whole shell has one connection, and opens each space once: one session of each of its groups.
3. On a terminal no error ends the shell. Ctrl-C aborts the command that runs, or the line that is
   being typed; Ctrl-D leaves. History and line editing are readline's, and end with the shell:
   values may be secrets, and are written to no file.
4. Where standard input is no terminal, its lines are run without a prompt, all of them. The status
   is that of the first one that failed. Nobody is connected to before there is a line.
"""

from __future__ import annotations

import copy
import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from ray_paxos.cli.statuses import DAMAGED, WRONG_USE
from ray_paxos.errors import ConfigurationError

if TYPE_CHECKING:
    from ray_paxos.cluster import Cluster
    from ray_paxos.key_value import KeyValue

LINE_BYTES_MAX = 16_000_000
COMMENT = "#"
LEAVING = ("exit", "quit")
HELP = "help"
NAMES_A_SPACE = ("create", "drop")
"""Commands that are about a space, and not about keys of the one that the shell is for."""


class HeldConnection:
    """The connection of a shell, made when it is first needed, and what was opened by it."""

    def __init__(self, connect: Callable[[], Cluster]) -> None:
        """Connect by `connect`, once."""
        self._connect = connect
        self._cluster: Cluster | None = None
        self._spaces: dict[str, KeyValue] = {}

    @property
    def cluster(self) -> Cluster:
        """The cluster; raises as `ray_paxos.connect` if it has to be connected to."""
        if self._cluster is None:
            self._cluster = self._connect()
        return self._cluster

    def space(self, name: str) -> KeyValue:
        """A space that is there; raises as `Cluster.kv`."""
        if name not in self._spaces:
            self._spaces[name] = self.cluster.kv(name, creates=False)
        return self._spaces[name]

    def forget(self, name: str) -> None:
        """A space was dropped: ask again whether it is there."""
        self._spaces.pop(name, None)

    def only_space(self) -> str:
        """The name of the cluster's space.

        Raises:
            ConfigurationError: It has none, or several.
        """
        names = [space.name for space in self.cluster.spaces.present()]
        if len(names) != 1:
            listed = f"there are {', '.join(sorted(names))}" if names else "there is none"
            raise ConfigurationError(f"say which space, by --space NAME; {listed}")
        return names[0]


class Shell:
    """Runs lines, one after the other."""

    def __init__(
        self, commands: Mapping[str, click.Command], connection: HeldConnection, space: str
    ) -> None:
        """Run `commands` on a space of a connection."""
        self.name = f"{connection.cluster.name}/{space}"
        self._connection = connection
        given = {"cluster": connection.cluster.name, "address": None, "space": space}
        self._commands: dict[str, click.Command] = {}
        for name, command in commands.items():
            here = {k: v for k, v in given.items() if k != "space" or name not in NAMES_A_SPACE}
            self._commands[name] = bound(command, here)

    @property
    def words(self) -> tuple[str, ...]:
        """What a line may begin with."""
        return (*self._commands, HELP, *LEAVING)

    def run(self, line: str) -> int | None:
        """Run a line.

        Returns:
            Its status, as the command's; None where the line says to leave.

        Raises:
            KeyboardInterrupt: As it comes.
        """
        if line.lstrip().startswith(COMMENT):
            return 0
        try:
            words = shlex.split(line)
        except ValueError as error:
            click.echo(f"Error: {error}", err=True)
            return WRONG_USE
        if not words:
            return 0
        name, *arguments = words
        if name in LEAVING:
            return None
        if name == HELP:
            return self._help(arguments)
        if name not in self._commands:
            click.echo(f"Error: no command {name}; `help` lists them", err=True)
            return WRONG_USE
        return self._invoke(name, arguments)

    def _invoke(self, name: str, arguments: list[str]) -> int:
        command = self._commands[name]
        try:
            with command.make_context(
                name, arguments, obj=self._connection, help_option_names=["-h", "--help"]
            ) as context:
                command.invoke(context)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            click.echo("aborted", err=True)
            return DAMAGED
        except click.exceptions.Exit as ended:
            return ended.exit_code
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else DAMAGED
        except Exception as error:
            # Our own errors are told by the commands. Whatever else comes, of Ray or a bug, ends
            # the command and not the shell.
            click.echo(f"Error: {type(error).__name__}: {error}", err=True)
            return DAMAGED
        return 0

    def _help(self, names: list[str]) -> int:
        if not names:
            width = max(map(len, self._commands))
            for name, command in sorted(self._commands.items()):
                click.echo(f"{name:<{width}}  {command.get_short_help_str(80)}")
            click.echo(f"{HELP} [COMMAND], {' or '.join(LEAVING)}; Ctrl-C aborts, Ctrl-D leaves")
            return 0
        return self._invoke(names[0], ["--help"]) if names[0] in self._commands else WRONG_USE


def bound(command: click.Command, given: Mapping[str, object]) -> click.Command:
    """A command with some of its arguments given; its help and parser know them no more."""
    callback = command.callback
    assert callback is not None, "a command that does nothing is none"
    taken = {p.name: given[p.name] for p in command.params if p.name in given}
    copied = copy.copy(command)
    copied.params = [parameter for parameter in command.params if parameter.name not in taken]
    copied.callback = functools.partial(callback, **taken)
    # The examples there are for the outside.
    copied.epilog = None
    return copied


def run_terminal(shell: Shell, ask: Callable[[str], str] = input) -> None:
    """Run what a person types, until he leaves.

    Args:
        shell: That runs it.
        ask: Shows a prompt and returns a line; raises EOFError at Ctrl-D.
    """
    _edit_lines(shell.words)
    while True:
        try:
            if shell.run(ask(f"{shell.name}> ")) is None:
                return
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("\naborted; if it was a write, it may have been made", err=True)


def run_script(shell: Shell, lines: Iterator[str]) -> int:
    """Run lines; all of them, up to `exit`.

    Returns:
        The status of the first that failed; 0 where none did.
    """
    first_failure = 0
    for line in lines:
        status = shell.run(line)
        if status is None:
            break
        first_failure = first_failure or status
    return first_failure


def standard_lines() -> Iterator[str]:
    """Lines of standard input, byte for byte as arguments are; none where there is no input.

    Raises:
        ConfigurationError: A line is longer than any command.
    """
    if sys.stdin is None or sys.stdin.closed:
        return
    while line := sys.stdin.buffer.readline(LINE_BYTES_MAX + 1):
        if len(line) > LINE_BYTES_MAX:
            raise ConfigurationError(f"a line has more than {LINE_BYTES_MAX:,} bytes")
        yield line.decode(errors="surrogateescape")


def is_asked_by_a_person() -> bool:
    """Whether standard input is a terminal."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def only_cluster(address: str | None) -> str:
    """The name of the cluster that runs on a Ray cluster.

    Args:
        address: Of the Ray cluster; None for that of this machine or of $RAY_ADDRESS.

    Raises:
        ConfigurationError: None runs there, or several.
        ClusterError: There is no Ray cluster.
    """
    import os
    from pathlib import Path

    import ray

    from ray_paxos.actors.names import NAMESPACE, parse_actor_name
    from ray_paxos.actors.ray_connection import connect_running_ray

    if not address and os.environ.get("RAY_ADDRESS") == "local":
        # That would be a new one.
        address = "auto"
    connect_running_ray(address, Path(os.devnull))
    named = ray.util.list_named_actors(all_namespaces=True)
    parsed = [parse_actor_name(e["name"]) for e in named if e["namespace"] == NAMESPACE]
    names = sorted({each[0] for each in parsed if each is not None})
    if len(names) != 1:
        listed = f"here run {', '.join(names)}" if names else "none runs here"
        raise ConfigurationError(f"say which cluster, by --cluster NAME; {listed}")
    return names[0]


def _edit_lines(words: tuple[str, ...]) -> None:
    """Line editing, history and completion of commands, where Python has readline."""
    try:
        import readline
    except ImportError:
        return

    def complete(text: str, state: int) -> str | None:
        is_first = not readline.get_line_buffer()[: readline.get_begidx()].strip()
        found = [f"{word} " for word in words if is_first and word.startswith(text)]
        return found[state] if state < len(found) else None

    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
