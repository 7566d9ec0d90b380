"""`ray-paxos kv` as a shell: the same commands, one connection, and no error that ends it."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli import kv as kv_commands
from ray_paxos.cli import shell as shell_module
from ray_paxos.cli.kv import kv
from ray_paxos.cli.main import main
from ray_paxos.cli.shell import (
    NAMES_A_SPACE,
    HeldConnection,
    Shell,
    bound,
    run_script,
    run_terminal,
    standard_lines,
)
from ray_paxos.errors import ClusterNotFoundError, ConfigurationError, NoMasterError
from ray_paxos.key_value import KeyValue, Versioned
from ray_paxos.spaces import Spaces
from ray_paxos.system_group import SystemGroup
from tests.unit.played_spaces import GroupsPlayed, SystemPlayed


class ClusterPlayed:
    """What the shell uses of a cluster; three groups."""

    def __init__(self) -> None:
        self.name = "demo"
        self.groups = GroupsPlayed()
        self.spaces = Spaces(cast(SystemGroup, SystemPlayed(1, 2, 3)), self.groups)
        self.connected = 0
        self.opened: list[str] = []

    def kv(
        self, name: str, *, groups: Iterable[int] | None = None, creates: bool = True
    ) -> KeyValue:
        self.opened.append(name)
        space = self.spaces.open(name, groups, creates=creates)
        return KeyValue(space, self.groups, owns_clients=False)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ClusterPlayed:
    """One named demo, with a space `settings`; the only one that runs."""
    played = ClusterPlayed()
    played.kv("settings")
    played.opened.clear()

    def connect(name: str, address: str | None) -> Any:
        played.connected += 1
        if name != "demo":
            raise ClusterNotFoundError(f"no cluster {name} runs here")
        return played

    monkeypatch.setattr(kv_commands, "connect_to", connect)
    monkeypatch.setattr(kv_commands, "only_cluster", lambda address: "demo")
    monkeypatch.delenv("RAY_PAXOS_CLUSTER", raising=False)
    return played


@pytest.fixture
def shell(cluster: ClusterPlayed) -> Shell:
    """One for `settings`."""
    return Shell(kv.commands, HeldConnection(lambda: cast(Any, cluster)), "settings")


def script(*lines: str | bytes, options: tuple[str, ...] = ()) -> Result:
    text = b"".join(
        (line if isinstance(line, bytes) else os.fsencode(line)) + b"\n" for line in lines
    )
    result = CliRunner().invoke(main, ["kv", *options], input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# scripts


def test_lines_are_commands_without_cluster_and_space(cluster: ClusterPlayed) -> None:
    result = script(
        "put color green",
        "  # a note, and an empty line",
        "",
        "put 'two words' \"a 'b'\" --ttl-s 5",
        "put hash a#b",
        "get color",
        "cas color blue 1 --json",
        "scan --limit 1",
        "spaces",
        "delete color",
        "exit",
        "put color never",
    )
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "key color: version 1",
        "key two words: version 1",
        "key hash: version 1",
        "green",
        '{"key": "color", "version": 2}',
        'color  version 2  "blue"',
        "settings  groups 1, 2, 3",
        "key color: version 3",
    ]
    opened = cluster.kv("settings")
    assert opened.get("two words") == Versioned(b"a 'b'", 1)
    assert opened.get("hash") == Versioned(b"a#b", 1)
    assert opened.get("color") is None


def test_one_connection_and_one_session_serve_the_whole_shell(cluster: ClusterPlayed) -> None:
    assert script(*["put color green"] * 5, "get color", "scan", "spaces").exit_code == 0
    assert cluster.connected == 1
    assert cluster.opened == ["settings"]


def test_the_status_is_that_of_the_first_line_that_failed(cluster: ClusterPlayed) -> None:
    result = script("get absent", "put color", "put color green")
    assert result.exit_code == 1
    assert result.stdout == "key color: version 1\n", "the lines behind it are run"
    assert "key absent is not there" in result.stderr
    assert script("put color", "get absent").exit_code == 2
    assert script("get color", "paint color").exit_code == 2
    assert script("put 'color").exit_code == 2
    assert script("help nothing").exit_code == 2
    assert script("put color red", "get color --help").exit_code == 0


def test_a_script_may_be_empty_or_missing_and_nobody_is_asked(
    cluster: ClusterPlayed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert script().exit_code == 0
    assert script().output == ""
    for nothing in (None, io.TextIOWrapper(io.BytesIO())):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", nothing)
            assert list(standard_lines()) == []
            assert not shell_module.is_asked_by_a_person()
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed)
    assert list(standard_lines()) == []
    assert not shell_module.is_asked_by_a_person()
    assert cluster.connected == 0


def test_values_of_a_script_are_taken_byte_for_byte(
    cluster: ClusterPlayed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "value").write_bytes(b"\x00\n")
    result = script(
        b"put raw \xff\xfe", f"put file @{tmp_path}/value", "put input -", "put last one"
    )
    assert result.exit_code == 2, "standard input is the script itself"
    assert "the shell's own" in result.stderr
    opened = cluster.kv("settings")
    assert opened.get("raw") == Versioned(b"\xff\xfe", 1)
    assert opened.get("file") == Versioned(b"\x00\n", 1)
    assert opened.get("last") == Versioned(b"one", 1)
    monkeypatch.setattr(shell_module, "LINE_BYTES_MAX", 100)
    longer = script("put color red", f"put long {'x' * 100}")
    assert longer.exit_code == 2
    assert "a line has more than 100 bytes" in longer.stderr


def test_which_cluster_and_space_is_said_or_found(
    cluster: ClusterPlayed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert script("put a 1", options=("--cluster", "demo", "--space", "settings")).exit_code == 0
    monkeypatch.setenv("RAY_PAXOS_CLUSTER", "other")
    assert "no cluster other runs here" in script("get a").stderr
    assert script("get a").exit_code == 1
    monkeypatch.setenv("RAY_PAXOS_CLUSTER", "demo")
    assert script("get a").stdout == "1\n"
    unknown = script("get a", "get b", options=("--space", "nine"))
    assert unknown.exit_code == 2
    assert "there is no space nine" in unknown.stderr
    cluster.kv("users")
    several = script("get a")
    assert several.exit_code == 2
    assert "by --space NAME; there are settings, users" in several.stderr


def test_options_of_the_shell_are_not_ignored_before_a_command(cluster: ClusterPlayed) -> None:
    result = CliRunner().invoke(main, ["kv", "--space", "settings", "spaces", "demo"])
    assert result.exit_code == 2
    assert "--space before a command is the shell's" in result.stderr


def test_spaces_are_made_and_dropped_by_name(cluster: ClusterPlayed) -> None:
    result = script(
        "create users --group 2", "spaces", "put color red", "drop settings", "get color"
    )
    assert result.stdout.splitlines() == [
        "users  groups 2",
        "settings  groups 1, 2, 3",
        "users  groups 2",
        "key color: version 1",
        "space settings: dropped",
    ]
    assert result.exit_code == 2
    assert "space settings was dropped" in result.stderr, "it is asked for again"


# the same commands


def test_the_shell_has_all_commands_and_binds_what_it_knows(shell: Shell) -> None:
    assert set(shell.words) == {*kv.commands, "help", "exit", "quit"}
    for name, command in kv.commands.items():
        names = {parameter.name for parameter in command.params}
        assert {"cluster", "address"} <= names
        given: dict[str, object] = {"cluster": "demo", "address": None, "space": "settings"}
        left = {parameter.name for parameter in bound(command, given).params}
        assert left == names - given.keys()
        assert {parameter.name for parameter in command.params} == names, "not changed itself"
        if name in NAMES_A_SPACE:
            assert "space" in names


def test_help_speaks_of_the_shell(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run("help") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in shell.words)
    assert shell.run("help put") == 0
    assert "Usage: put [OPTIONS] KEY VALUE" in capsys.readouterr().out
    assert shell.run("put -h") == 0
    assert "Usage: put [OPTIONS] KEY VALUE" in capsys.readouterr().out
    assert shell.run("help create") == 0
    assert "Usage: create [OPTIONS] SPACE" in capsys.readouterr().out


# terminals


def typed(*answers: str | BaseException) -> tuple[Callable[[str], str], list[str]]:
    """What a person types, and the prompts that he saw; then Ctrl-D."""
    waiting, prompts = list(answers), []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        answer = waiting.pop(0) if waiting else EOFError()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return ask, prompts


def test_no_error_ends_a_shell_on_a_terminal(
    shell: Shell, cluster: ClusterPlayed, capsys: pytest.CaptureFixture[str]
) -> None:
    for group in cluster.groups.groups.values():
        group.failure = NoMasterError("nobody led the group in time")
    ask, prompts = typed("get color", "paint", "put color", "get 'a", "put color green")
    run_terminal(shell, ask)
    assert prompts == ["demo/settings> "] * 6, "the last one is answered by Ctrl-D"
    shown = capsys.readouterr()
    assert "nobody led the group in time" in shown.err
    assert "no command paint" in shown.err
    assert shown.out == "key color: version 1\n\n"
    ask, prompts = typed("exit", "put color red")
    run_terminal(shell, ask)
    assert len(prompts) == 1


def test_what_nobody_expected_ends_the_command_alone(
    shell: Shell, cluster: ClusterPlayed, capsys: pytest.CaptureFixture[str]
) -> None:
    for group in cluster.groups.groups.values():
        group.failure = RuntimeError("what is this")
    ask, prompts = typed("get color", "put color green")
    run_terminal(shell, ask)
    assert len(prompts) == 3
    assert "Error: RuntimeError: what is this" in capsys.readouterr().err


def test_ctrl_c_aborts_a_command_or_a_line_and_not_the_shell(
    shell: Shell, cluster: ClusterPlayed, capsys: pytest.CaptureFixture[str]
) -> None:
    for group in cluster.groups.groups.values():
        group.failure = cast(Exception, KeyboardInterrupt())
    ask, prompts = typed("get color", KeyboardInterrupt(), "put color green")
    run_terminal(shell, ask)
    assert len(prompts) == 4
    shown = capsys.readouterr()
    assert shown.err.count("aborted") == 2
    assert "key color: version 1" in shown.out


def test_a_script_is_ended_by_ctrl_c(shell: Shell, cluster: ClusterPlayed) -> None:
    for group in cluster.groups.groups.values():
        group.failure = cast(Exception, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_script(shell, iter(["get color", "put color green"]))


def test_commands_may_end_in_any_way(cluster: ClusterPlayed) -> None:
    def ending(error: BaseException) -> click.Command:
        def end(**given: object) -> None:
            raise error

        return click.Command("end", callback=end)

    for error, status in (
        (SystemExit(1), 1),
        (SystemExit(0), 0),
        (SystemExit("why"), 1),
        (click.Abort(), 1),
        (click.exceptions.Exit(2), 2),
        (ConfigurationError("why"), 1),
    ):
        held = HeldConnection(lambda: cast(Any, cluster))
        assert Shell({"end": ending(error)}, held, "settings").run("end") == status


PROGRAM = """
from ray_paxos.cli import kv
from ray_paxos.cli.main import main
from tests.unit.test_cli_shell import ClusterPlayed
played = ClusterPlayed()
played.kv("settings")
kv.connect_to = lambda name, address: played
main(["kv", "--cluster", "demo"])
"""


def test_a_person_has_a_prompt_and_ctrl_d(repository: Path) -> None:
    own, its = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=repository, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    seen = [read_until_prompt(own)]
    for keys in (b"get absent\n", b"put color green\n", b"spaces\n"):
        os.write(own, keys)
        seen.append(read_until_prompt(own))
    os.write(own, b"\x04")
    assert child.wait(30) == 0, "leaving is no failure, whatever was typed"
    os.close(own)
    assert b"key absent is not there" in seen[1]
    assert b"key color: version 1" in seen[2]
    assert b"space" in seen[3].split(b"\n", 1)[1], "on a terminal rows are a table, with a title"


def read_until_prompt(terminal: int) -> bytes:
    seen = b""
    while b"demo/settings> " not in seen:
        assert select.select([terminal], [], [], 60)[0], seen
        seen += os.read(terminal, 1_000)
    return seen
