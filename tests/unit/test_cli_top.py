"""`ray-paxos top` and `status --group` without Ray: what is typed, keys, a terminal, wrong use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli import running_cluster, top_controls
from ray_paxos.cli import top as top_module
from ray_paxos.cli.keys import parse_keys
from ray_paxos.cli.main import main
from ray_paxos.cli.status import document_of, rates_line, status_lines
from ray_paxos.cli.top_controls import Left, press
from ray_paxos.cli.top_options import SORTS, TopOptions
from ray_paxos.errors import ClusterNotFoundError
from ray_paxos.observability.cluster_view import ClusterView
from ray_paxos.observability.report import Span
from ray_paxos.observability.status import (
    ClusterStatus,
    GroupStatus,
    MemberPosition,
    MemberStatus,
    RoleStatus,
)
from tests.unit.watched_roles import BEGIN_MS, PlayedCluster, histogram


class PlayedLooks:
    """Looks at a cluster of which a member is down; after some of them it is gone."""

    def __init__(self, lasts: int = 1_000) -> None:
        self.played = PlayedCluster(groups=3)
        self.played.look()
        self.played.kill("m2")
        self.lasts = lasts
        self.looks = 0

    def __call__(self) -> ClusterView:
        self.looks += 1
        if self.looks > self.lasts:
            raise ClusterNotFoundError("cluster demo runs no more: start it again")
        return self.played.look()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> PlayedLooks:
    made = PlayedLooks()
    monkeypatch.setattr(top_module, "looking_at", lambda cluster, address: made)
    return made


def run(*arguments: object, status: int = 0) -> Result:
    words = ["top", "demo", "--interval-s", "0.01", *map(str, arguments)]
    result = CliRunner().invoke(main, words, env={"COLUMNS": "160"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


# Without a terminal.


def test_once_is_one_picture_of_two_looks(looks: PlayedLooks) -> None:
    text = run("--once").stdout
    assert text.count("cluster demo") == 1
    assert "m2 is down since" in text
    assert "It votes in groups 0-2." in text
    assert looks.looks == 2
    assert "\x1b" not in text
    assert "q quit" not in text, "there are no keys"


def test_so_many_pictures(looks: PlayedLooks) -> None:
    assert run("--count", 3).stdout.count("cluster demo") == 3


def test_a_narrow_output_is_given_by_columns(looks: PlayedLooks) -> None:
    result = CliRunner().invoke(
        main, ["top", "demo", "--once", "--interval-s", "0.01"], env={"COLUMNS": "80"}
    )
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_documents_for_programs(looks: PlayedLooks) -> None:
    lines = run("--json", "--count", 2).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [each["cluster"] for each in found] == ["demo", "demo"]
    assert [m["name"] for m in found[0]["members"]] == ["m2", "m1", "m3"], "as in a picture"
    assert found[0]["groups"][1]["health"] == "at risk"
    assert found[0]["commands_per_s"] == 0.0, "there was a look before"


@pytest.mark.parametrize(
    ("words", "groups", "members"),
    [
        ([], [2, 0, 1], ["m2", "m1", "m3"]),
        (["--group", 1], [1], ["m2", "m1", "m3"]),
        (["--filter", "stopped"], [2], ["m3"]),
        (["--filter", "m1"], [2, 0, 1], ["m1"]),
        (["--only", "unhealthy"], [2, 0, 1], ["m2", "m3"]),
        (["--sort", "master"], [2, 1, 0], ["m2", "m1", "m3"]),
    ],
)
def test_what_documents_have_can_be_chosen(
    words: list[object], groups: list[int], members: list[str], looks: PlayedLooks
) -> None:
    looks.played["m3"].stopped = {2: "odd"}
    looks.played["m3"].leads, looks.played["m1"].leads = {0}, {1, 2}
    (line,) = run("--json", "--once", *words).stdout.splitlines()
    found = json.loads(line)
    assert [each["group"] for each in found["groups"]] == groups
    assert [each["name"] for each in found["members"]] == members


def test_what_is_shown_can_be_chosen(looks: PlayedLooks) -> None:
    assert "group 2   at risk" in run("--once", "--group", 2).stdout
    assert "sorted by lag, with 'm3', not well only" in (
        run("--once", "--sort", "lag", "--filter", "m3", "--only", "unhealthy").stdout
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--interval-s", "0"], "0.0 is not in the range"),
        (["--interval-s", "-1"], "-1.0 is not in the range"),
        (["--interval-s", "nan"], "it is no number"),
        (["--interval-s", "inf"], "is not in the range"),
        (["--interval-s", "soon"], "'soon' is not a valid float"),
        (
            ["--sort", "colour"],
            "'colour' is not one of 'group', 'lag', 'commands', 'master', 'disk'",
        ),
        (["--only", "healthy"], "'healthy' is not 'unhealthy'"),
        (["--count", "0"], "0 is not in the range"),
        (["--group", "9", "--once"], "group: found 9; allowed: 0-2"),
        (["--group", "-1", "--once"], "group: found -1; allowed: 0-2"),
        (["--group", "9", "--json"], "group: found 9; allowed: 0-2"),
        (["--group", "one"], "'one' is not a valid integer"),
    ],
)
def test_wrong_use_is_told_and_nothing_is_shown(
    words: list[str], told: str, looks: PlayedLooks
) -> None:
    result = run(*words, status=2)
    assert told in result.stderr
    assert result.stdout == ""
    assert looks.looks <= 1, "and nobody waits for that"


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(cluster: str, address: str | None) -> Any:
        raise ClusterNotFoundError(f"no cluster {cluster} runs in the Ray cluster at X")

    monkeypatch.setattr(top_module, "looking_at", none)
    result = run("--once", status=1)
    assert result.stderr == "Error: no cluster demo runs in the Ray cluster at X\n"


def test_a_cluster_that_disappears_while_it_is_watched(looks: PlayedLooks) -> None:
    looks.lasts = 3
    result = run(status=1)
    assert result.stdout.count("cluster demo") == 2
    assert result.stderr == "Error: cluster demo runs no more: start it again\n"


# `status`.


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_cluster, "open_to_watch", lambda cluster, address: None)
    monkeypatch.setattr(running_cluster, "view_of", lambda cluster, **_: PlayedLooks()())


@pytest.mark.usefixtures("seen")
def test_status_of_one_group() -> None:
    result = CliRunner().invoke(main, ["status", "demo", "--group", "1"])
    assert result.exit_code == 0
    assert "group 1   at risk since" in result.stdout
    # Lines are broken where $COLUMNS says.
    assert "one more failure stops this group" in " ".join(result.stdout.split())
    result = CliRunner().invoke(main, ["status", "demo", "--group", "1", "--json"])
    found = json.loads(result.stdout)
    assert (found["group"], found["voters_down"]) == (1, ["m2"])
    for words in (["--group", "9"], ["--group", "9", "--json"]):
        result = CliRunner().invoke(main, ["status", "demo", *words])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "group: found 9; allowed: 0-2" in result.stderr


def test_a_document_of_status_keeps_what_it_had_and_has_more() -> None:
    position = MemberPosition(41, 40, 39, 1, 4, 7, "")
    members = (MemberStatus("m1", 10, {"acceptor": RoleStatus("serving")}, ("an alarm",)),)
    groups = (GroupStatus(1, "m9", {"m1": position}),)
    found = ClusterStatus("demo", "abc", members, groups, ("m1: an alarm",))
    document = document_of(found, PlayedLooks()())
    assert document["alarms"] == ("m1: an alarm",)
    assert [each["name"] for each in document["members"]] == ["m1", "m2", "m3"]
    member = document["members"][0]
    assert member["roles"]["acceptor"]["pid"] == 0, "as `cluster.status()` has it"
    assert (member["is_up"], member["alarms"]) == (True, ("an alarm",))
    assert document["members"][1]["down_since_ms"] is not None
    group = document["groups"][0]
    assert (group["group"], group["master"], group["voters_down"]) == (1, "m9", ("m2",))
    assert set(group["positions"]) == {"m1"}, "who tells nothing is left out"
    told = group["positions"]["m1"]
    assert (told["applied_through"], told["lag"], told["is_voter"]) == (40, 7, True)
    assert [each["group"] for each in document["groups"]] == [1, 0, 2]
    json.dumps(document)


def test_status_says_once_that_a_member_is_down() -> None:
    view = PlayedLooks()()
    alarms = (
        "m2: the acceptor does not answer: Failed to look up actor",
        "m1: the learner does not answer: it takes long",
        "m2: its folder is gone",
    )
    found = ClusterStatus("demo", "abc", (), (), alarms)
    lines = status_lines(found, view)
    assert lines[1].startswith("  ! m2 is down since ")
    assert lines[2].startswith("  ! groups 0-2 at risk: 1 of 3 voters is down (m2).")
    assert lines[3:5] == [f"  ! {alarm}" for alarm in alarms[1:]]


def test_status_tells_what_is_gravest_first() -> None:
    played = PlayedCluster(groups=4)
    played["m3"].stopped = {3: "odd"}
    played["m1"].leads = {0, 1, 3}
    lines = status_lines(ClusterStatus("demo", "abc", (), ()), played.look())
    told = [line.partition(":")[0] for line in lines[1:3]]
    assert told == ["  ! group 2 no master", "  ! group 3 stopped"]


def test_status_passes_no_order_on_to_the_terminal() -> None:
    alarms = ("m1: group 1: applying stopped: ValueError: \x1b[2Jodd\nm2 is well",)
    lines = status_lines(ClusterStatus("demo", "abc", (), (), alarms), PlayedCluster().look())
    assert "  ! m1: group 1: applying stopped: ValueError: ?[2Jodd?m2 is well" in lines


def test_status_tells_the_rate_of_the_last_seconds() -> None:
    played = PlayedCluster()
    assert rates_line(played.look()).startswith("no command was answered")
    played["m1"].spans = (Span(BEGIN_MS, 10.0, 250, histogram(*[0.002] * 250)),)
    view = played.look()
    assert rates_line(view) == (
        "25 commands/s, p50 1.75 ms, p99 2.48 ms (measured within the last 12 s)"
    )
    status = document_of(
        ClusterStatus("demo", "abc", (), ()), played.look(watch=played.new_watch())
    )
    assert (status["commands_per_s"], status["p50_ms"]) == (25.0, 1.75)


# Keys.


def test_keys_are_told_apart() -> None:
    assert parse_keys("qs/") == ["q", "s", "/"]
    assert parse_keys("\x1b[A\x1b[B\x1bOC\x1b[D") == ["up", "down", "right", "left"]
    assert parse_keys("\r\x7f\x1b") == ["enter", "backspace", "escape"]
    assert parse_keys("\x1b[5~x\x1b[1;5Cy\x01") == ["x", "y"], "unknown ones are left out whole"
    assert parse_keys("\x1b[") == []
    assert parse_keys("ü") == ["ü"]


@pytest.fixture
def view() -> ClusterView:
    return PlayedCluster(groups=3).look()


def pressed(view: ClusterView, keys: str, options: TopOptions | None = None) -> TopOptions:
    options = options or TopOptions()
    for key in parse_keys(keys):
        options = press(key, options, view)
    return options


def test_keys_that_sort(view: ClusterView) -> None:
    assert pressed(view, "s").sort == SORTS[1]
    assert pressed(view, "s" * len(SORTS)).sort == SORTS[0]
    assert pressed(view, "\x1b[D").sort == SORTS[-1]
    assert pressed(view, "\x1b[C\x1b[D").sort == SORTS[0]


def test_keys_that_filter(view: ClusterView) -> None:
    typed = pressed(view, "/qs\x7f1")
    assert (typed.typed, typed.filter, typed.sort) == ("q1", "q1", "group"), "q is a letter here"
    assert pressed(view, "/m1\r").filter == "m1"
    assert pressed(view, "/m1\r").typed is None
    assert pressed(view, "/m1\x1b").filter == ""
    assert pressed(view, "/\x1b[A\r").filter == ""
    assert len(pressed(view, "/" + "x" * 500).filter) == top_controls.FILTER_MAX
    assert pressed(view, "u").is_unhealthy_only
    assert not pressed(view, "uu").is_unhealthy_only
    assert pressed(view, "/m\ru\x1b") == TopOptions()


def test_keys_that_choose(view: ClusterView) -> None:
    down, up = "\x1b[B", "\x1b[A"
    assert pressed(view, down).chosen == 0
    assert pressed(view, down * 2).chosen == 1
    assert pressed(view, down * 9).chosen == 2
    assert pressed(view, down * 2 + up * 5).chosen == 0
    assert pressed(view, down * 2 + "\r").group == 1
    assert pressed(view, down * 2 + "\r" + down).group == 2
    assert pressed(view, "\r").group == 0
    for back in ("\x1b", "\x7f", "\r"):
        assert pressed(view, "\r" + back).group is None
    assert pressed(view, "\rs").sort == SORTS[0], "nothing is sorted there"
    nothing = TopOptions(filter="nobody")
    assert pressed(view, down + "\r", nothing) == nothing


def test_keys_that_help_and_leave(view: ClusterView) -> None:
    assert pressed(view, "h").is_help
    assert not pressed(view, "hx").is_help
    assert pressed(view, "z") == TopOptions()
    for keys in ("q", "hq", "\rq"):
        with pytest.raises(Left):
            pressed(view, keys)
