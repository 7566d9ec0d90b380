"""Pictures of `ray-paxos top`: what a person can read in them, at every size, without colours."""

from __future__ import annotations

import functools
import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from ray_paxos.cli.top_options import (
    SORTS,
    TopOptions,
    group_order,
    member_order,
    shown_groups,
    shown_members,
)
from ray_paxos.cli.top_sparkline import sparkline
from ray_paxos.cli.top_view import frame
from ray_paxos.errors import ConfigurationError
from ray_paxos.observability import catalogue
from ray_paxos.observability.cluster_view import ClusterView, SpanView
from ray_paxos.observability.report import Span
from ray_paxos.observability.text import clock_text
from tests.unit.watched_roles import BEGIN_MS, PlayedCluster, event, histogram

SIZES = [(width, height) for width in (80, 160) for height in (12, 24, 50, None)]
each_size = pytest.mark.parametrize(("width", "height"), SIZES)


def lines(
    view: ClusterView, options: TopOptions | None = None, width: int = 80, height: int | None = None
) -> list[str]:
    """What is on the screen, a line each."""
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=False, highlight=False)
    console.print(frame(view, options or TopOptions(), width=width, height=height))
    return written.getvalue().splitlines()


def shown(view: ClusterView, options: TopOptions | None = None, width: int = 80) -> str:
    """The same as one text, in which spaces are single."""
    return " ".join(" ".join(lines(view, options, width)).split())


def loaded(groups: int = 2, dead: tuple[str, ...] = ()) -> ClusterView:
    """Two looks at a cluster under load, of which some members have died 90 s ago."""
    played = PlayedCluster(groups=groups)
    master = next(each for each in played.members.values() if each.name not in dead)
    master.leads = set(range(groups))
    master.events = [event(master.name, "X", BEGIN_MS, n) for n in range(1, 30)]
    master.spans = tuple(
        Span(BEGIN_MS - 10_000 * n, 10.0, 100 * n, histogram(0.001)) for n in range(60, 0, -1)
    )
    played["m1"].leads &= master.leads
    played.look()
    played.kill(*dead)
    played.look()
    master.commands = dict.fromkeys(range(groups), 90)
    master.times = {catalogue.COMMAND_SECONDS.name: histogram(*[0.002] * 90)}
    return played.look(90_000)


def test_all_is_well() -> None:
    text = shown(loaded())
    assert "all 2 groups work, 3 members are up" in text
    assert "what is wrong" not in text
    assert "2.0 commands/s p50 1.75 ms p99 2.48 ms" in text
    assert "15 min, max 600/s" in text


def test_the_first_look_shows_the_last_seconds() -> None:
    played = PlayedCluster()
    assert "- commands/s p50 - p99 -" in shown(played.look())
    played["m1"].spans = (Span(BEGIN_MS, 10.0, 250, histogram(*[0.002] * 250)),)
    assert "25 commands/s p50 1.75 ms" in shown(played.look(watch=played.new_watch()))


def test_what_is_down_since_when_and_whether_data_is_at_risk() -> None:
    view = loaded(dead=("m2",))
    since = clock_text(BEGIN_MS + 2_000, view.at_ms)
    text = shown(view)
    assert "1 of 3 members down, 2 of 2 groups not well" in text
    assert (
        f"! m2 is down since {since} (90 s): no such actor lives in the Ray cluster. It votes in "
        "groups 0-1. "
        f"! groups 0-1: at risk since {since} (90 s). 1 of 3 voters is down (m2). Nothing "
        "acknowledged is lost; one more failure stops this group."
    ) in text
    assert "m2 DOWN 0 - - - -" in text
    assert "m1 up 2 2.0" in text
    assert "! 1 at risk m1 2 of 3" in text
    wide = shown(view, width=160)
    assert f"m2 DOWN {since} 10.0.0.2 ---- 0 2" in wide
    assert "m1 m2 (down) m3" in wide


def test_a_member_of_which_a_part_does_not_serve() -> None:
    played = PlayedCluster()
    played["m3"].phases["learner"] = ("opening", "reads its log")
    text = shown(played.look(), width=160)
    assert "m3 is partly down" in text
    assert "(learner opening): reads its log. It votes in groups 0-1." in text
    assert "PARTLY DOWN" in text
    assert " PAlC " in text


def test_what_serves_and_has_an_alarm_is_told_too() -> None:
    played = PlayedCluster()
    played["m3"].stopped = {1: "ValueError: odd"}
    text = shown(played.look())
    assert "! m3: group 1: applying stopped: ValueError: odd" in text
    assert "group 1: stopped since" in text
    assert "up, alarm" in text


@functools.cache
def after_deaths(groups: int, dead: tuple[str, ...]) -> ClusterView:
    played = PlayedCluster(groups=groups)
    played.look()
    played.kill(*dead)
    return played.look()


@each_size
@pytest.mark.parametrize("dead", [(), ("m2",), ("m2", "m3"), ("m1", "m2", "m3")])
@pytest.mark.parametrize("groups", [1, 1_000])
def test_it_fits_the_screen(
    width: int, height: int | None, dead: tuple[str, ...], groups: int
) -> None:
    groups = groups if height is not None else 1
    view = after_deaths(groups, dead)
    for options in (
        TopOptions(has_keys=True),
        TopOptions(has_keys=True, group=0),
        TopOptions(has_keys=True, is_help=True),
        TopOptions(has_keys=True, typed="m1", filter="m1"),
    ):
        found = lines(view, options, width, height)
        assert max(map(len, found)) <= width
        assert height is None or len(found) <= height
    if height is not None and height >= 24:
        text = " ".join(lines(view, None, width, height))
        assert all(f" {name}" in f" {text}" for name in ("m1", "m2", "m3"))
        assert "groups (" in text


def test_only_what_fits_is_drawn_and_the_rest_is_counted() -> None:
    played = PlayedCluster(groups=1_000)
    played["m2"].stopped = {777: "odd"}
    view = played.look()
    begun = time.perf_counter()
    found = lines(view, TopOptions(), 160, 40)
    assert time.perf_counter() - begun < 2, "a second look would be late otherwise"
    text = " ".join(" ".join(found).split())
    assert "! 777 stopped m1" in text, "what is not well comes first"
    rows = [line for line in found if " ok " in line]
    assert 10 < len(rows) < 40
    assert f"and {1_000 - 1 - len(rows):,} more, all of them well" in text


def test_without_a_screen_all_groups_are_drawn() -> None:
    found = lines(after_deaths(300, ("m2",)))
    assert sum(" at risk " in line for line in found) == 301, "and the sentence"


def test_a_chosen_group_stays_on_the_screen() -> None:
    view = PlayedCluster(groups=200).look()
    for chosen in (0, 20, 150, 199):
        found = lines(view, TopOptions(chosen=chosen, has_keys=True), 80, 30)
        assert [line.split()[:2] for line in found if line.startswith(">")] == [[">", str(chosen)]]


def test_detail_of_a_group() -> None:
    view = loaded(dead=("m2",))
    text = shown(view, TopOptions(group=1), width=160)
    assert "group 1 at risk since" in text
    assert "! 1 of 3 voters is down (m2)." in text
    assert "master m1, 2 of 3 voters up (2 needed), voters since instance 0" in text
    assert "1.0 commands/s, 3 queued, 4 sessions, applied 100" in text
    assert "m1 voter, master up 100 0 50 1 40" in text
    assert "m2 voter DOWN - - - - -" in text
    assert "X in group 1" in text
    assert "members (" not in text


def test_an_unknown_group_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="group: found 9; allowed: 0-1"):
        lines(loaded(), TopOptions(group=9))


def test_sorting() -> None:
    played = PlayedCluster(groups=4)
    played["m1"].commands = {}
    played.look()
    played["m1"].commands = {2: 10, 3: 50}
    view = played.look()

    def order(sort: str) -> list[int]:
        return [group.group for group in shown_groups(view, TopOptions(sort=sort))]

    assert order("group") == [0, 1, 2, 3]
    assert order("commands") == [3, 2, 0, 1]
    laggy = replace(view, groups=tuple(replace(g, lag=g.group % 3) for g in view.groups))
    assert [g.group for g in shown_groups(laggy, TopOptions(sort="lag"))] == [2, 1, 0, 3]
    named = replace(
        view, groups=tuple(replace(g, master=f"m{3 - g.group % 2}") for g in view.groups)
    )
    assert [g.group for g in shown_groups(named, TopOptions(sort="master"))] == [1, 3, 0, 2]


def test_sorting_of_members() -> None:
    played = PlayedCluster(count=11)
    view = played.look()
    mixed = replace(view, members=tuple(sorted(view.members, key=lambda member: member.name)))
    assert [m.name for m in mixed.members][:3] == ["m1", "m10", "m11"]
    by_name = [f"m{number}" for number in range(1, 12)]

    def order(sort: str) -> list[str]:
        return [member.name for member in shown_members(mixed, TopOptions(sort=sort))]

    assert order("group") == order("master") == order("lag") == by_name
    disks = tuple(replace(m, disk_bytes=m.member_id // 2) for m in mixed.members)
    mixed = replace(mixed, members=disks)
    assert order("disk")[:5] == ["m11", "m9", "m10", "m7", "m8"], "alike ones by name"
    played.kill("m3")
    assert shown_members(played.look(), TopOptions())[0].name == "m3"


@pytest.mark.parametrize(
    ("sort", "members", "groups"),
    [
        ("group", "name", "group"),
        ("lag", "lag", "lag"),
        ("commands", "commands", "commands"),
        ("master", "name", "master"),
        ("disk", "disk", "group"),
    ],
)
def test_titles_say_how_each_table_is_sorted(sort: str, members: str, groups: str) -> None:
    view = PlayedCluster(groups=3).look()
    text = shown(view, TopOptions(sort=sort))
    assert f"members (3 of 3; sorted by {members})" in text
    assert f"groups (3 of 3; sorted by {groups})" in text
    plain = replace(view, groups=view.groups[::-1], members=view.members[::-1])
    if groups == "group":
        assert [g.group for g in shown_groups(plain, TopOptions(sort=sort))] == [0, 1, 2]
    if members == "name":
        names = [m.name for m in shown_members(plain, TopOptions(sort=sort))]
        assert names == ["m1", "m2", "m3"]


def test_every_order_is_one_that_is_offered() -> None:
    orders = {f(TopOptions(sort=s)) for f in (group_order, member_order) for s in SORTS}
    assert orders - set(SORTS) == {"name"}


def test_filters() -> None:
    played = PlayedCluster(groups=12)
    played["m2"].stopped = {5: "odd"}
    view = played.look()

    def numbers(**options: object) -> list[int]:
        return [g.group for g in shown_groups(view, TopOptions(**options))]  # type: ignore[arg-type]

    assert numbers(filter="1") == [5, 0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert numbers(filter="STOPPED") == [5]
    assert numbers(filter="nobody") == []
    assert numbers(is_unhealthy_only=True) == [5]
    only = TopOptions(is_unhealthy_only=True)
    assert [m.name for m in shown_members(view, only)] == ["m2"]
    assert "groups (1 of 12; sorted by group, not well only)" in shown(view, only)
    assert "groups (0 of 12" in shown(view, TopOptions(filter="nobody"))

    def named(text: str) -> list[str]:
        return [m.name for m in shown_members(view, TopOptions(filter=text))]

    assert named("M3") == ["m3"]
    assert named("10.0.0.1") == ["m1"]
    assert named("alarm") == ["m2"]
    assert named("applying stopped") == ["m2"]
    assert named("nobody") == []
    assert "members (1 of 3; sorted by name, with 'm3')" in shown(view, TopOptions(filter="m3"))


def test_texts_of_users_are_no_markup() -> None:
    """A machine's error may hold what rich would take for a style, or a terminal for an order."""
    played = PlayedCluster()
    played["m3"].stopped = {1: "[red]x[/red] \x1b[2J\x07"}
    view = played.look()
    for options in (TopOptions(), TopOptions(group=1)):
        text = shown(view, options)
        assert "[red]x[/red]" in text
        assert "\x1b" not in text
        assert "\x07" not in text


@pytest.mark.parametrize("no_color", [True, False])
def test_colours_are_for_terminals_and_not_where_they_are_not_wanted(
    no_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    written = io.StringIO()
    console = Console(file=written, width=80, force_terminal=True, color_system="standard")
    console.print(frame(loaded(dead=("m2",)), TopOptions(), width=80))
    assert ("\x1b[1;31m" in written.getvalue()) is not no_color
    assert "DOWN" in written.getvalue()


def test_ascii_only() -> None:
    text = "\n".join(lines(loaded(dead=("m2",)), TopOptions(is_ascii=True)))
    assert text.isascii()
    assert not "\n".join(lines(loaded())).isascii()


def spans(*rates: float | None) -> tuple[SpanView, ...]:
    return tuple(
        SpanView((n + 1) * 10_000, 10.0, rate, None, None)
        for n, rate in enumerate(rates)
        if rate is not None
    )


def test_sparkline() -> None:
    full = spans(*range(90))
    assert sparkline(full, 90)[0] == "▁"
    assert sparkline(full, 90)[-1] == "█"
    line = sparkline(spans(*[0.0] * 86, 8.0, None, 0.001, 4.0), 90)
    assert line[-5:] == "▁█ ▂" + line[-1]
    assert sparkline(full, 10) == "▂▂▃▄▄▅▆▇▇█"
    assert sparkline(spans(5), 4) == "   █"
    assert sparkline((), 5) == " " * 5
    assert sparkline(spans(0, 0), 3, is_ascii=True)[-1] == "_"
