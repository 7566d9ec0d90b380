"""The page's server: what it answers, to what, and how much of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources

import pytest

from ray_paxos.dashboard.access import HEADERS
from ray_paxos.dashboard.collector import Problem, Seen
from ray_paxos.dashboard.documents import DETAILS_MAX, EVENTS_MAX, encode, view_document
from ray_paxos.dashboard.log_tail import COUNT_MAX
from ray_paxos.dashboard.tails import AT_ONCE, TAILS_MAX
from ray_paxos.errors import ClusterError
from ray_paxos.observability.cluster_view import Health
from tests.unit.dashboard_bench import Bench, play
from tests.unit.dashboard_target import tail_of
from tests.unit.dashboard_views import SCRIPT, view_of

STATIC = resources.files("ray_paxos.dashboard") / "static"
FILES = {file.name: file.read_text() for file in STATIC.iterdir()}


def test_the_page_and_its_files_are_served_with_their_types() -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.get("/")
        assert (answer.status, answer.content_type) == (200, "text/html")
        text = await answer.text()
        named = re.findall(r'"/static/([^"]+)"', text)
        assert named
        for name in {*named, *FILES} - {"page.html"}:
            answer = await bench.get(f"/static/{name}")
            assert answer.status == 200, name
            kind = "text/css" if name.endswith(".css") else "text/javascript"
            assert answer.content_type == kind, name

    play(story)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_page_needs_nothing_from_elsewhere_and_parses_no_html(name: str) -> None:
    text = FILES[name].replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]", text.replace("// ", "")), "nothing of other sites"
    for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("):
        assert way not in text
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*src=)", text), "no script in the page itself"
        assert not re.search(r"\son[a-z]+=|\sstyle=", text)
    if name.endswith(".js"):
        used = set(re.findall(r'from "\./([^"]+)"', text))
        assert used <= FILES.keys()
        assert len(text.splitlines()) < 400


def test_every_element_that_the_scripts_look_for_is_in_the_page() -> None:
    scripts = "".join(text for name, text in FILES.items() if name.endswith(".js"))
    wanted = set(re.findall(r'byId\("([a-z0-9-]+)"\)', scripts))
    assert len(wanted) > 15
    assert wanted <= set(re.findall(r'id="([a-z0-9-]+)"', FILES["page.html"]))


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/groups/99", 404, "cluster demo has no group 99"),
        ("/api/groups/99/log", 404, "cluster demo has no group 99"),
        ("/api/groups/x", 400, "'x' is no number of a group"),
        ("/api/groups/-1", 400, "'-1' is no number"),
        ("/api/groups/%D9%A3", 400, "is no number"),
        ("/api/groups/" + "9" * 400, 400, "is no number"),
        ("/api/groups/1/log?count=0", 400, "count is a number from 1"),
        ("/api/groups/1/log?count=1e3", 400, "count is a number from 1"),
        (f"/api/groups/1/log?count={COUNT_MAX + 1}", 400, "count is a number from 1"),
        ("/api/nothing", 404, "there is nothing at /api/nothing"),
        ("/static/absent.js", 404, "there is no file 'absent.js'"),
        ("/static/..%2f__init__.py", 404, "there is no"),
    ],
)
def test_what_there_is_not_is_said_as_json(path: str, status: int, says: str) -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.get(path)
        assert answer.status == status
        assert says in (await answer.json())["error"]
        for name, value in HEADERS.items():
            assert answer.headers[name] == value

    play(story)


def test_an_answer_is_sent_again_only_when_it_has_changed() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.get("/api/view")
        tag = first.headers["ETag"]
        assert (await first.json())["view"]["cluster"] == "demo"
        looks = bench.looks
        while bench.looks < looks + 2:
            answer = await bench.get("/api/view", If_None_Match=tag)
            assert answer.status == 304, "the same view, however often it was taken"
            assert await answer.read() == b""
        bench.view = view_of(down=(1,))
        while (answer := await bench.get("/api/view", If_None_Match=tag)).status == 304:
            pass
        assert (await answer.json())["summary"]["level"] == "warning"

    play(story)


def test_a_group_is_told_with_the_position_of_each_member() -> None:
    async def story(bench: Bench) -> None:
        bench.view = view_of(down=(1,))
        answer = await bench.get("/api/groups/1")
        group = await answer.json()
        assert (group["health"], group["sign"]) == ("at risk", "!")
        assert group["meaning"] == "works, but stops if one more voter is lost"
        assert "Nothing acknowledged is lost" in group["risk"]
        assert group["positions"]["m2"]["is_up"] is False
        assert group["positions"]["m1"]["applied"] == 48_037

    play(story)


def test_a_group_that_has_stopped_on_a_member_and_is_led_is_served() -> None:
    view = view_of()
    stopped = replace(view.groups[1], health=Health.STOPPED)
    view = replace(view, groups=(view.groups[0], stopped, view.groups[2]))
    assert view_document(Seen(1, view), 2.0)["view"]["groups_served"] == 3
    led_by_nobody = replace(stopped, master=None)
    view = replace(view, groups=(view.groups[0], led_by_nobody, view.groups[2]))
    assert view_document(Seen(1, view), 2.0)["view"]["groups_served"] == 2


def test_the_words_for_how_a_group_is_come_with_the_view_and_stand_in_no_script() -> None:
    told = view_document(Seen(1, view_of()), 2.0)["view"]["healths"]
    assert list(told) == [health.value for health in Health], "the gravest last"
    scripts = "".join(text for name, text in FILES.items() if name.endswith(".js"))
    for name, words in told.items():
        assert words.keys() == {"sign", "meaning"}
        if name != Health.OK.value:
            assert f'"{name}"' not in scripts
    assert "group.meaning" in scripts


def test_no_column_is_sent_that_no_script_reads() -> None:
    scripts = "".join(text for name, text in FILES.items() if name.endswith(".js"))
    view = view_document(Seen(1, view_of()), 2.0)["view"]
    columns = {*view["groups"]["columns"], *view["history"]["columns"], *view}
    unread = {name for name in columns if not re.search(rf"[.\"]{name}\b", scripts)}
    assert not unread
    group = dict(zip(view["groups"]["columns"], view["groups"]["rows"][0], strict=True))
    assert (group["health"], group["master"], group["commands_per_s"]) == ("ok", "m1", 0.0)


def test_a_log_is_read_once_for_all_who_ask_and_from_the_furthest_that_is_up() -> None:
    async def story(bench: Bench) -> None:
        view = view_of(down=(1,))
        group = view.groups[1]
        ahead = replace(group.positions["m3"], applied=50_000)
        positions = {**group.positions, "m3": ahead}
        groups = (view.groups[0], replace(group, positions=positions), view.groups[2])
        bench.view = replace(view, groups=groups)
        await bench.get("/api/view")
        counts = range(1, 21)
        paths = [f"/api/groups/1/log?count={count}" for count in counts]
        bench.tail = tail_of(1, *("a command" for _ in range(30)))
        answers = await asyncio.gather(*map(bench.get, paths))
        told = [len((await answer.json())["lines"]) for answer in answers]
        assert told == list(counts)
        assert set(bench.reads) == {(1, ("m3", "m1"), COUNT_MAX)}
        assert len(bench.reads) < 10

    play(story)


def test_a_log_is_not_asked_of_a_learner_that_told_nothing_at_the_last_look() -> None:
    async def story(bench: Bench) -> None:
        view = view_of()
        group = view.groups[1]
        # Of one that stopped it is known, and of nothing else.
        stopped = replace(group.positions["m3"], applied=None, stopped="odd")
        groups = (view.groups[0], replace(group, positions={**group.positions, "m3": stopped}))
        bench.view = replace(view, groups=groups)
        await bench.get("/api/groups/1/log")
        assert [members for _, members, _ in bench.reads] == [("m1", "m2")]

    play(story)


def test_readings_are_few_and_end_with_those_who_asked_for_them() -> None:
    async def hang_up(bench: Bench, groups: range) -> None:
        paths = [f"/api/groups/{g}/log?count={c}" for g in groups for c in (1, 99)]
        asked = [asyncio.create_task(bench.get(path)) for path in paths]
        await until(lambda: len(bench.reads) == AT_ONCE)
        done, waiting = await asyncio.wait(asked, timeout=1)
        refused = [task.result() for task in done]
        assert len(waiting) == 2 * TAILS_MAX
        assert {answer.status for answer in refused} == {503}
        assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        assert "16 other logs are being read" in (await refused[0].json())["error"]
        for task in waiting:
            task.cancel()
        # What has begun goes on in its thread.
        await until(lambda: readings() == AT_ONCE)

    async def story(bench: Bench) -> None:
        bench.view = view_of(3, 100)
        await bench.get("/api/view")
        bench.may_read.clear()
        try:
            await hang_up(bench, range(60))
        finally:
            bench.may_read.set()
        # There is room again, of those that were read too.
        for group in range(60):
            answer = await bench.get(f"/api/groups/{group}/log")
            assert answer.status == 200
        assert len(bench.reads) <= 60 + 2 * AT_ONCE

    play(story)


def readings() -> int:
    names = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    return sum(name == "Tails._read" for name in names)


async def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def test_a_log_that_nobody_gives_and_a_cluster_that_does_not_answer_are_503() -> None:
    async def story(bench: Bench) -> None:
        bench.tail = ClusterError("no learner answers")
        answer = await bench.get("/api/groups/1/log")
        assert (answer.status, await answer.json()) == (503, {"error": "no learner answers"})

    play(story)
    silent = Bench()
    silent.view = ClusterError("no role answers")

    async def silence(bench: Bench) -> None:
        answer = await bench.get("/api/groups/1")
        assert answer.status == 503
        answer = await bench.get("/api/view")
        assert answer.status == 200, "the page shows why"
        told = await answer.json()
        assert "no role answers" in told["summary"]["text"]
        assert told["view"] is None

    play(silence, silent)


def test_what_utf_8_cannot_hold_is_replaced_and_no_error() -> None:
    async def story(bench: Bench) -> None:
        bench.view = view_of(alarm="no room in /data/caf\udce9")
        bench.tail = tail_of(1, "put \ud800")
        answer = await bench.get("/api/view")
        assert answer.status == 200
        told = json.loads((await answer.read()).decode("utf-8", "strict"))
        assert told["view"]["members"][0]["alarms"] == ["no room in /data/caf?"]
        answer = await bench.get("/api/groups/1/log")
        assert (await answer.json())["lines"][0]["text"] == "put ?"
        bench.tail = ClusterError("at /data/caf\udce9")
        answer = await bench.get("/api/groups/2/log")
        assert answer.status == 503

    play(story)


def test_a_script_stays_the_text_that_it_is() -> None:
    async def story(bench: Bench) -> None:
        bench.view = view_of(alarm=f'{SCRIPT} "quoted" \u2028')
        bench.tail = tail_of(1, f'put key="{SCRIPT}"')
        answer = await bench.get("/api/view")
        assert answer.content_type == "application/json"
        assert (await answer.json())["view"]["members"][0]["alarms"][0].startswith(SCRIPT)
        answer = await bench.get("/api/groups/1/log")
        assert answer.content_type == "application/json"
        assert (await answer.json())["lines"][0]["text"] == f'put key="{SCRIPT}"'
        answer = await bench.get(f"/api/{SCRIPT}")
        assert (answer.status, answer.content_type) == (404, "application/json")

    play(story)


def test_a_view_of_1000_groups_and_20_members_stays_light() -> None:
    view = view_of(20, 1_000, down=(3, 11))
    encoded = encode(view_document(Seen(1, view), 2.0))
    assert encoded.compressed is not None
    assert len(encoded.compressed) < 40_000
    assert len(encoded.plain) < 250_000
    document = json.loads(gzip.decompress(encoded.compressed))
    groups = document["view"]["groups"]
    assert len(groups["rows"]) == 1_000
    row = dict(zip(groups["columns"], groups["rows"][1], strict=True))
    assert (row["group"], row["health"], row["voters"]) == (1, "at risk", ["m2", "m3", "m4"])
    small = encode(view_document(Seen(1, None, Problem("why", 1)), 2.0))
    assert small.compressed is None


def test_details_leave_room_for_what_matters_among_the_events() -> None:
    view = view_of()
    detail = next(event for event in view.events if event.level == "DEBUG")
    warning = next(event for event in view.events if event.level == "WARNING")
    noisy = replace(view, events=(*(900 * (detail,)), *(300 * (warning,))))
    events = view_document(Seen(1, noisy), 2.0)["view"]["events"]
    levels = [event["level"] for event in events]
    assert levels.count("DEBUG") == DETAILS_MAX
    assert levels.count("WARNING") == EVENTS_MAX
