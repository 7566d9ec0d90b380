"""`ray-paxos kv`: what it writes, prints and refuses, against spaces in this process."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli import kv as kv_commands
from ray_paxos.cli.main import main
from ray_paxos.errors import ClusterNotFoundError, NoMasterError
from ray_paxos.key_value import KeyValue, Versioned
from ray_paxos.spaces import Spaces
from ray_paxos.system_group import SystemGroup
from tests.unit.played_spaces import GroupsPlayed, SystemPlayed

BYTES = b"\x00\xff\n"


class ClusterPlayed:
    """What the commands use of a cluster; three groups."""

    def __init__(self) -> None:
        self.groups = GroupsPlayed()
        self.spaces = Spaces(cast(SystemGroup, SystemPlayed(1, 2, 3)), self.groups)

    def kv(
        self, name: str, *, groups: Iterable[int] | None = None, creates: bool = True
    ) -> KeyValue:
        space = self.spaces.open(name, groups, creates=creates)
        return KeyValue(space, self.groups, owns_clients=False)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ClusterPlayed:
    """One with a space `settings`, and no other."""
    played = ClusterPlayed()
    played.kv("settings")

    def connect(name: str, address: str | None) -> Any:
        if name != "demo":
            raise ClusterNotFoundError(f"no cluster {name} runs here")
        return played

    monkeypatch.setattr(kv_commands, "connect_to", connect)
    return played


def run(*arguments: str, standard_input: bytes = b"") -> Result:
    result = CliRunner().invoke(main, ["kv", *arguments], input=standard_input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def output(*arguments: str, standard_input: bytes = b"") -> str:
    result = run(*arguments, standard_input=standard_input)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str, status: int = 1) -> str:
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == "", "what a program reads is empty then"
    return result.stderr


def test_a_key_is_written_read_and_deleted(cluster: ClusterPlayed) -> None:
    assert output("put", "demo", "settings", "color", "green") == "key color: version 1\n"
    assert output("get", "demo", "settings", "color") == "green", "as it is, byte for byte"
    assert output("put", "demo", "settings", "color", "blue", "--json") == (
        '{"key": "color", "version": 2}\n'
    )
    assert json.loads(output("get", "demo", "settings", "color", "--json")) == {
        "key": "color",
        "version": 2,
        "value": "blue",
    }
    assert output("delete", "demo", "settings", "color") == "key color: version 3\n"
    assert "color has no value any more, at version 3" in refused(
        "get", "demo", "settings", "color"
    )


def test_a_value_may_end_by_itself(cluster: ClusterPlayed) -> None:
    group = cluster.groups.groups[cluster.kv("settings").group_of("job")]
    assert output("put", "demo", "settings", "job", "a", "--ttl-s", "5") == "key job: version 1\n"
    assert group.machine.due_ns == 5_000_000_000
    assert output("renew", "demo", "settings", "job", "7.5", "--json") == (
        '{"key": "job", "version": 1}\n'
    )
    assert group.machine.due_ns == 7_500_000_000
    group.log_time_ns = 8_000_000_000
    why = "key job has no value any more, at version 2"
    assert why in refused("renew", "demo", "settings", "job", "7.5")
    assert "key nobody is not there" in refused("renew", "demo", "settings", "nobody", "1")
    for wrong in ("0", "-1", "soon"):
        assert run("put", "demo", "settings", "job", "a", "--ttl-s", wrong).exit_code == 2
        assert run("renew", "demo", "settings", "job", "--", wrong).exit_code == 2


def test_a_value_comes_from_a_file_or_from_standard_input(
    cluster: ClusterPlayed, tmp_path: Path
) -> None:
    (tmp_path / "value").write_bytes(BYTES)
    output("put", "demo", "settings", "file", f"@{tmp_path}/value")
    output("put", "demo", "settings", "input", "-", standard_input=BYTES)
    output("put", "demo", "settings", "empty", "")
    output("put", "demo", "settings", "minus", "--", "-5")
    opened = cluster.kv("settings")
    for key, value in {"file": BYTES, "input": BYTES, "empty": b"", "minus": b"-5"}.items():
        assert opened.get(key) == Versioned(value, 1)
        assert run("get", "demo", "settings", key).stdout_bytes == value
    assert json.loads(output("get", "demo", "settings", "file", "--json")) == {
        "key": "file",
        "version": 1,
        "value_base64": "AP8K",
    }
    missing = refused("put", "demo", "settings", "file", f"@{tmp_path}/other", status=2)
    assert "other: No such file or directory" in missing
    assert opened.get("file") == Versioned(BYTES, 1)


def test_a_key_is_compared_and_set(cluster: ClusterPlayed) -> None:
    assert output("cas", "demo", "settings", "n", "1", "0") == "key n: version 1\n"
    conflict = refused("cas", "demo", "settings", "n", "2", "0")
    assert "key n has version 1, not 0; nothing was written" in conflict
    assert json.loads(output("cas", "demo", "settings", "n", "2", "1", "--json"))["version"] == 2
    assert cluster.kv("settings").get("n") == Versioned(b"2", 2)
    for wrong in ("-1", "one"):
        refused("cas", "demo", "settings", "n", "3", "--", wrong, status=2)


def test_a_key_that_is_missing_is_named_and_leaves_no_trace(cluster: ClusterPlayed) -> None:
    assert "key absent is not there" in refused("get", "demo", "settings", "absent")
    assert "key absent is not there" in refused("delete", "demo", "settings", "absent", "--json")
    assert cluster.kv("settings").read("absent").version == 0


def test_keys_are_listed_in_order(cluster: ClusterPlayed) -> None:
    assert output("scan", "demo", "settings") == ""
    assert json.loads(output("scan", "demo", "settings", "--json")) == []
    opened = cluster.kv("settings")
    for n in range(9):
        opened.put(f"user/{n}", str(n).encode())
    opened.put("usher", BYTES)
    opened.put("a\x1b[2Jb\n", b"\x1b[2J")
    lines = output("scan", "demo", "settings").splitlines()
    assert lines[0] == 'a\\x1b[2Jb\\n  version 1  "\\x1b[2J"'
    assert lines[1] == 'user/0  version 1  "0"'
    assert lines[10] == "usher  version 1  3 bytes 00ff0a"
    some = json.loads(output("scan", "demo", "settings", "user/", "--limit", "3", "--json"))
    assert [(each["key"], each["value"]) for each in some] == [
        ("user/0", "0"),
        ("user/1", "1"),
        ("user/2", "2"),
    ]
    rest = output("scan", "demo", "settings", "user/", "--after", some[-1]["key"])
    assert [line.split()[0] for line in rest.splitlines()] == [f"user/{n}" for n in range(3, 9)]
    refused("scan", "demo", "settings", "--limit", "0", status=2)
    refused("scan", "demo", "settings", "--consistency", "newest", status=2)


def test_spaces_are_made_listed_and_dropped(cluster: ClusterPlayed) -> None:
    assert output("create", "demo", "small", "--group", "3", "--group", "1") == (
        "small  groups 1, 3\n"
    )
    assert output("create", "demo", "small") == "small  groups 1, 3\n", "it is there"
    assert output("spaces", "demo") == "settings  groups 1, 2, 3\nsmall  groups 1, 3\n"
    assert json.loads(output("spaces", "demo", "--json")) == [
        {"name": "settings", "groups": [1, 2, 3]},
        {"name": "small", "groups": [1, 3]},
    ]
    assert json.loads(output("create", "demo", "other", "--group", "2", "--json")) == {
        "name": "other",
        "groups": [2],
    }
    changed = refused("create", "demo", "small", "--group", "1", status=2)
    assert "with the groups 1, 3: they never change" in changed
    assert "no group 9" in refused("create", "demo", "ninth", "--group", "9", status=2)
    assert "lower-case letters" in refused("create", "demo", "No", status=2)
    assert output("drop", "demo", "small") == "space small: dropped\n"
    assert "never used again" in refused("create", "demo", "small", status=2)
    assert "there is no space nine" in refused("drop", "demo", "nine", status=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("put", "demo", "seting", "color", "green"),
        ("get", "demo", "seting", "color"),
        ("delete", "demo", "seting", "color"),
        ("cas", "demo", "seting", "color", "green", "0"),
        ("scan", "demo", "seting"),
    ],
)
def test_no_space_is_made_by_a_slip(cluster: ClusterPlayed, arguments: tuple[str, ...]) -> None:
    why = refused(*arguments, status=2)
    assert "there is no space seting; those that are there: settings" in why
    assert [space.name for space in cluster.spaces.present()] == ["settings"]


def test_what_goes_wrong_is_told_without_a_traceback(cluster: ClusterPlayed) -> None:
    assert "no cluster other runs here" in refused("get", "other", "settings", "color")
    for group in cluster.groups.groups.values():
        group.failure = NoMasterError("nobody led the group in time")
    assert "nobody led the group" in refused("get", "demo", "settings", "color")
    assert "nobody led the group" in refused("scan", "demo", "settings")
    assert "UTF-8" in refused("get", "demo", "settings", "\udcff", status=2)
    refused("put", "demo", "settings", "color", status=2)
