"""All commands: their help, examples, statuses and `--json`; tables, completion, wrong input."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from ray_paxos.cli import dashboard as dashboard_module
from ray_paxos.cli import groups as groups_module
from ray_paxos.cli import kv as kv_module
from ray_paxos.cli import lifecycle, members, running_cluster
from ray_paxos.cli import top as top_module
from ray_paxos.cli.help_text import epilog, examples_of
from ray_paxos.cli.main import main
from ray_paxos.cli.tables import show_rows, show_table
from ray_paxos.errors import ClusterNotFoundError, MembershipError

WITHOUT_JSON = {
    "ray-paxos": "it prints its help only",
    "ray-paxos log": "likewise",
    "ray-paxos groups": "likewise",
    "ray-paxos members": "likewise",
    "ray-paxos kv": "a shell: each line takes --json",
}


def commands(
    command: click.Command = main, path: str = "ray-paxos"
) -> Iterator[tuple[str, click.Command]]:
    """All of them, with what is typed for each."""
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, f"{path} {name}")


ALL = dict(commands())
each_command = pytest.mark.parametrize("path", ALL)


def test_there_are_many_commands() -> None:
    assert len(ALL) > 40
    assert WITHOUT_JSON.keys() <= ALL.keys()


@each_command
def test_a_command_has_help(path: str) -> None:
    command = ALL[path]
    assert command.help
    assert command.get_short_help_str()
    shown = CliRunner().invoke(main, [*path.split()[1:], "--help"])
    assert shown.exit_code == 0
    for example in examples_of(command.epilog or ""):
        assert f"\n    {example}\n" in shown.output, "verbatim"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@each_command
def test_a_command_has_an_example_that_its_own_parser_takes(
    path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    examples = examples_of(ALL[path].epilog or "")
    assert examples
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    called: list[click.Command] = []

    def record(**given: object) -> None:
        called.append(click.get_current_context().command)

    for command in ALL.values():
        monkeypatch.setattr(command, "callback", record)
    own = 0
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "ray-paxos"
        called.clear()
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, f"{example}: {result.output}"
        assert called, example
        own += called[-1] is ALL[path]
        assert example.startswith(path), "of this command, or of one below it"
    assert own or isinstance(ALL[path], click.Group)


@each_command
def test_a_command_says_how_it_ends(path: str) -> None:
    text = ALL[path].epilog or ""
    assert re.findall(r"^  (\d)  \w", text, re.MULTILINE) == ["0", "1", "2"]
    assert "Exit status:" in text


@each_command
def test_a_command_speaks_to_programs_too(path: str) -> None:
    options = [name for parameter in ALL[path].params for name in parameter.opts]
    assert ("--json" in options) != (path in WITHOUT_JSON)


def test_an_epilog_is_kept_as_it_is() -> None:
    text = epilog("status demo", "status demo --json", failed="why")
    assert text.startswith("\b\nExamples:\n  ray-paxos status demo\n")
    assert "\n\n\b\nExit status:\n  0  done\n  1  why\n  2  wrong use" in text
    assert examples_of(text) == ["ray-paxos status demo", "ray-paxos status demo --json"]


# tables


class Terminal(io.StringIO):
    """A standard output that a person looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


ROWS = [("m1", "serving"), ("[red]m2[/]", "stopped")]
COLOURS = {"serving": "green", "stopped": "bold red"}


def table_on(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", terminal)
    show_table(("member", "phase"), ROWS, styles=COLOURS)
    return terminal.getvalue()


def test_a_table_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = table_on(Terminal(), monkeypatch)
    assert "\x1b[32mserving" in shown
    assert "─" in shown
    assert "[red]m2[/]" in shown, "what a cell says is no markup"


def test_colours_are_off_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = table_on(Terminal(), monkeypatch)
    assert "[32m" not in shown
    assert "[31m" not in shown


def test_a_table_is_plain_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    shown = table_on(io.StringIO(), monkeypatch)
    assert shown.isascii()
    assert "\x1b" not in shown
    assert shown.splitlines()[1] == "m1          serving"
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    show_table(("text",), [("word " * 100,)])
    assert len(stream.getvalue().splitlines()) == 2, "nothing is wrapped"


def test_lines_that_programs_know_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    show_rows(("space",), [("settings",)], ["settings  groups 1"])
    assert stream.getvalue() == "settings  groups 1\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    show_rows(("space",), [("settings",)], ["settings  groups 1"])
    assert "groups 1" not in terminal.getvalue()
    assert "settings" in terminal.getvalue()


# completion


def completed(words: str, place: int, shell: str = "bash") -> list[str]:
    environment = {
        **os.environ,
        "_RAY_PAXOS_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(place),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ray_paxos.cli"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


def test_commands_and_options_are_completed() -> None:
    assert completed("ray-paxos gro", 1) == ["plain,groups"]
    assert completed("ray-paxos groups l", 2) == ["plain,list"]
    assert "plain,--json" in completed("ray-paxos groups list --", 3)
    assert completed("ray-paxos kv get demo settings color --consistency li", 7) == [
        "plain,linearizable"
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str) -> None:
    printed = CliRunner().invoke(main, ["completion", shell])
    assert printed.exit_code == 0
    assert f"_RAY_PAXOS_COMPLETE={shell}_complete" in printed.stdout
    as_json = CliRunner().invoke(main, ["completion", shell, "--json"])
    assert json.loads(as_json.stdout) == {"shell": shell, "script": printed.stdout[:-1]}
    assert CliRunner().invoke(main, ["completion", "csh"]).exit_code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_takes_the_script(tmp_path: Path) -> None:
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    (tmp_path / "ray-paxos").write_text(f'#!/bin/sh\nexec {sys.executable} -m ray_paxos.cli "$@"\n')
    (tmp_path / "ray-paxos").chmod(0o755)
    asked = "COMP_WORDS=(ray-paxos gro); COMP_CWORD=1; _ray_paxos_completion ray-paxos"
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{asked}\necho ${{COMPREPLY[@]}}"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "groups"


# wrong input


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No cluster runs, whatever its name."""

    def connect(name: str, address: str | None) -> Any:
        raise ClusterNotFoundError(f"no cluster {name} runs here")

    for module in (dashboard_module, groups_module, kv_module, lifecycle, members, running_cluster):
        monkeypatch.setattr(module, "connect_to", connect)
    for watching in (running_cluster, top_module):
        monkeypatch.setattr(watching, "open_to_watch", connect)
    return monkeypatch


ASKING = [
    path
    for path, command in ALL.items()
    if any(p.name == "cluster" and isinstance(p, click.Argument) for p in command.params)
]


@pytest.mark.parametrize("path", ASKING)
def test_a_cluster_that_does_not_run_is_named_in_one_line(
    nobody: pytest.MonkeyPatch, path: str
) -> None:
    arguments = examples_of(ALL[path].epilog or "")[0]
    result = CliRunner().invoke(main, shlex.split(arguments)[1:])
    assert result.exit_code == 1, result.output
    assert result.stderr == "Error: no cluster demo runs here\n"
    assert result.stdout == ""


def test_a_member_that_is_unknown_is_named_in_one_line(nobody: pytest.MonkeyPatch) -> None:
    class Operations:
        def __getattr__(self, name: str) -> Any:
            def order(member: str, *arguments: object, **options: object) -> None:
                raise MembershipError(f"there is no member {member}")

            return order

    class Running:
        operations = Operations()

    nobody.setattr(members, "connect_to", lambda name, address: cast(Any, Running()))
    for words in ("remove demo m9", "replace demo m9 m10", "drain demo m9", "keep demo m9"):
        result = CliRunner().invoke(main, ["members", *words.split()])
        assert result.exit_code == 1
        assert result.stderr == "Error: there is no member m9\n"
    wrong = CliRunner().invoke(main, ["members", "add", "demo", "m9", "--label", "nothing"])
    assert wrong.exit_code == 2
    assert "'nothing' is no KEY=VALUE" in wrong.stderr
    machine = CliRunner().invoke(main, ["groups", "create", "demo", "9", "--machine", "kv"])
    assert machine.exit_code == 2
    assert "'kv' is no NAME=KIND" in machine.stderr


@pytest.mark.parametrize("content", [None, b"cluster: [", b"\xff\xfe\x00", b"clutser: demo\n"])
@pytest.mark.parametrize("words", ["up {}", "restore --from /nowhere --config {}"])
def test_a_configuration_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    config = tmp_path / "demo.yaml"
    if content is not None:
        config.write_bytes(content)
    result = CliRunner().invoke(main, words.format(config).split())
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"Error: {config}")
    assert all(str(config) in line for line in lines), "one line a problem"
