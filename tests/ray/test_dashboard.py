"""The status page in a real browser: of a cluster that loses a member under load, and a big one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import ray

import ray_paxos
from ray_paxos.actors.names import NAMESPACE, actor_name
from ray_paxos.config import parse_configuration
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import PaxosError
from tests.ray.browser import Browser, browser
from tests.unit.dashboard_bench import Bench
from tests.unit.dashboard_target import tail_of
from tests.unit.dashboard_views import SCRIPT, view_of

CONFIGURATION = parse_configuration(
    "cluster: page\nmembers: 3\ngroups: 2\nroles: fused\nlogging: {level: ERROR}\n"
)
SIZES = ((1_400, 900), (420, 900))
CARD = ".card.down[data-member=m2]"


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@contextmanager
def load(cluster: ray_paxos.Cluster) -> Iterator[None]:
    """Somebody writes keys and values with a script in them, all the time."""
    is_over = threading.Event()

    def write() -> None:
        with cluster.kv("pages") as space:
            number = 0
            while not is_over.is_set():
                number += 1
                with suppress(PaxosError):
                    space.put(
                        f"{SCRIPT}{number % 50}", b"<img src=x onerror=alert(1)>", timeout_s=5
                    )

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def dashboard() -> Iterator[str]:
    """The command; in the end it has to end well."""
    address = ray.get_runtime_context().gcs_address
    words = ("dashboard", "page", "--address", address, "--port", "0", "--json")
    started = subprocess.Popen(
        [sys.executable, "-m", "ray_paxos.cli", *words, "--interval-s", "0.5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        text=True,
    )
    with started:
        assert started.stdout is not None
        assert started.stderr is not None
        line = started.stdout.readline()
        try:
            assert line, started.stderr.read()
            yield json.loads(line)["url"]
        finally:
            started.send_signal(signal.SIGINT)
            status = started.wait(30)
        assert status == 0
        assert "Traceback" not in started.stderr.read()


def test_a_page_shows_a_cluster_that_loses_a_member_and_then_all_of_them(
    local_ray: None, page: Browser, tmp_path: Path
) -> None:
    cluster = ray_paxos.start(CONFIGURATION)
    try:
        with dashboard() as url:
            with load(cluster):
                page.open(url)
                page.wait_for("all is well", lambda: "All is well" in page.text("#summary-text"))
                assert page.text("#summary-data").startswith("No: ")
                shows_rates_that_live(page)
                lose(2)
                shows_the_lost_member(page)
                page.open(f"{url}#group=1")
                shows_the_log_as_text(page)
                looks_well(page, tmp_path)
                shows_that_there_is_no_such_group(page, url)
            cluster.stop(delete_data=True)
            shows_that_nobody_answers(page, url)
            cluster = ray_paxos.start(CONFIGURATION)
            page.wait_for("it is back", lambda: "All is well" in page.text("#summary-text"))
            assert not page.run("return document.body.classList.contains('old')")
            # Another cluster of that name, with other ids.
            page.look_like(*SIZES[0], is_dark=False)
            page.open(f"{url}#group=1")
            page.wait_for("its log", lambda: "master" in page.text("#log tbody"))
    finally:
        cluster.stop(delete_data=True)


def lose(number: int) -> None:
    """End a member for good."""
    name = actor_name("page", f"m{number}", RoleName.ACCEPTOR, is_fused=True)
    ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)


def shows_rates_that_live(page: Browser) -> None:
    def rate() -> str:
        return page.text("#tile-rate .value")

    first = page.wait_for("a rate", lambda: rate().replace(",", "").isdigit() and rate())
    page.wait_for("another rate", lambda: rate() != first)
    assert float(page.text("#tile-p99 .value")) > 0
    page.wait_for(
        "a line", lambda: page.run("return !!document.querySelector('path.commands_per_s')")
    )


def shows_the_lost_member(page: Browser) -> None:
    page.wait_for("m2 is down", lambda: page.text(CARD))
    assert "down since" in page.text(f"{CARD} .since")
    links = page.run(f"return [...document.querySelectorAll('{CARD} a')].map((a) => a.innerText)")
    assert links == ["0", "1", "2"], "which groups it voted in"
    # Until others lead its groups, they do not work, which is said, too.
    said = "1 of 3 members is down: m2. Groups 0-2 work, but stop if one more voter is lost."
    page.wait_for("others lead", lambda: page.text("#summary-text") == said)
    assert page.text("#summary-since").startswith("Since ")
    assert "Nothing acknowledged is lost" in page.text("#summary-data")
    assert page.text("#tile-members .value") == "2 / 3"
    assert page.text("#group-table tbody tr.at-risk b.bad") == "m2 (down)"


def shows_the_log_as_text(page: Browser) -> None:
    page.wait_for("the log", lambda: "onerror" in page.text("#log"))
    assert SCRIPT in page.text("#log")
    assert page.text("#detail-title") == "Group 1"
    assert "Nothing acknowledged is lost" in page.text("#detail .risk")
    assert "does not answer" in page.text("#detail tr.silent")
    assert page.run("return document.scripts.length") == 1
    assert page.run("return document.images.length") == 0
    assert page.run("return document.title") != "taken"
    page.press("\ue00c")
    assert page.run("return document.getElementById('detail').hidden"), "the escape key closes it"
    assert page.run("return location.hash") == ""


def looks_well(page: Browser, folder: Path) -> None:
    for width, height in SIZES:
        for is_dark in (False, True):
            page.look_like(width, height, is_dark=is_dark)
            path = folder / f"page-{width}-{'dark' if is_dark else 'light'}.png"
            page.screenshot(path)
            assert path.stat().st_size > 10_000
            assert page.run("return document.documentElement.scrollWidth") <= width
            back = page.run("return getComputedStyle(document.body).backgroundColor")
            assert (back == "rgb(18, 22, 27)") == is_dark


def shows_that_there_is_no_such_group(page: Browser, url: str) -> None:
    told = {"99": "cluster page has no group 99", "%3Cb%3E": "'<b>' is no number of a group"}
    for wanted, says in told.items():
        page.open(f"{url}#group={wanted}")
        page.wait_for("it is said", lambda: page.text("#detail-body") not in ("", "asking for it"))
        assert page.text("#detail-body") == says


def shows_that_nobody_answers(page: Browser, url: str) -> None:
    page.open(url)
    page.wait_for("nobody answers", lambda: "does not answer" in page.text("#summary-text"))
    assert page.run("return document.body.classList.contains('old')"), "what is shown is greyed"
    assert page.text("#summary-since").startswith("Since ")


# A big cluster, made by hand.


@contextmanager
def served(bench: Bench) -> Iterator[str]:
    """A server in a thread; gives its address."""
    loop = asyncio.new_event_loop()
    is_ready, is_over = threading.Event(), asyncio.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with bench.served():
            urls.append(str(bench.client.make_url("/")))
            is_ready.set()
            await is_over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert is_ready.wait(30)
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        loop.close()


def test_1000_groups_are_found_by_health_by_member_and_by_keyboard(page: Browser) -> None:
    bench = Bench()
    bench.view = view_of(20, 1_000, down=(3,), alarm=f"{SCRIPT} \"'&amp;")
    with served(bench) as url:
        page.look_like(1_400, 900, is_dark=False)
        page.open(url)
        cells = "return document.querySelectorAll('#group-grid .cell').length"
        page.wait_for("cells", lambda: page.run(cells) == 1_000)
        assert page.text("#tile-groups .value") == "1,000 / 1,000", "all of them are led"
        assert page.text("#group-table tbody tr:first-child .badge").replace("\n", "") == "!at risk"
        assert page.run("return document.querySelector('.badge').title") == (
            "works, but stops if one more voter is lost"
        )
        legend = page.text("#group-legend").replace("\n", " ")
        assert legend == "ok ~ degraded ! at risk ■ stopped ? no master × no majority"  # noqa: RUF001
        assert page.text("[data-member=m1] .alarms") == f"{SCRIPT} \"'&amp;"
        assert page.run("return document.scripts.length") == 1
        assert page.run("return document.querySelectorAll('#group-table tbody tr').length") == 50
        choose = (
            "const filter = document.getElementById(arguments[0]); filter.value = arguments[1];"
            "filter.dispatchEvent(new Event('input'));"
        )
        page.run(choose, "group-health", "ill")
        assert page.text("#group-count") == "150 of 1,000 shown"
        page.run("document.getElementById('m4-votes_in').click()")
        assert page.text("#group-count") == "150 of 1,000 shown"
        page.run(choose, "group-filter", "")
        page.run("document.getElementById('cell-0').focus()")
        page.press("\ue014\ue014\ue007")
        page.wait_for("group 2", lambda: page.text("#detail-title") == "Group 2")
        page.wait_for(
            "focus", lambda: page.run("return document.activeElement.id") == "detail-title"
        )
        page.press("\ue00c")
        assert page.run("return document.activeElement.id") == "cell-2", "back where it was"
        page.press("\ue007")
        page.wait_for("the same again", lambda: "Master" in page.text("#detail-body"))
        page.wait_for("its log, which is asked for by itself", lambda: page.text("#log tbody tr"))
        page.press("\ue00c")
        page.look_like(420, 900, is_dark=True)
        assert page.run("return document.documentElement.scrollWidth") <= 420


@pytest.mark.parametrize(
    ("learned", "floor", "texts", "says"),
    [
        (0, 1, (), "Nothing has been chosen yet"),
        (3, 1, ("a", "b", "c"), "The newest first, from the memory of m1"),
        (900, 500, ("a",), "The newest first, from the memory of m1"),
        (
            72,
            71,
            ("a", "b"),
            "The newest first, from the memory of m1; instances 23 to 70 are not in the memory of "
            'm1 any more; "ray-paxos log show" reads its files on its node',
        ),
        (
            70,
            71,
            (),
            "Instances 21 to 70 are not in the memory of m1 any more; "
            '"ray-paxos log show" reads its files on its node',
        ),
    ],
)
def test_what_is_missing_of_the_end_of_a_log_is_said(
    page: Browser, learned: int, floor: int, texts: tuple[str, ...], says: str
) -> None:
    bench = Bench()
    tail = tail_of(1, *texts)
    bench.tail = replace(tail, learned_through=learned, memory_floor=floor)
    with served(bench) as url:
        page.open(f"{url}#group=1")
        page.wait_for("the note", lambda: page.text("#log-note"))
        assert page.text("#log-note") == says


TOKEN = "0123456789abcdef" * 4


def test_a_person_signs_in_and_the_token_never_is_in_an_address(page: Browser) -> None:
    bench = Bench()
    bench.token = TOKEN
    refused = "That is not the token of this Ray cluster."
    with served(bench) as url:
        page.open(f"{url}?token=guess#group=1")
        assert page.text("#problem") == refused
        assert page.run("return location.href") == f"{url}#group=1", "a link's is taken out"
        for guess in ("another", "schl\u00fcssel\u2713", "two words"):
            page.run("document.getElementById('problem').textContent = ''")
            sign_in(page, guess)
            page.wait_for("it is refused", lambda: page.text("#problem") == refused)
        assert bench.looks == 0
        sign_in(page, f" {TOKEN} ")
        page.wait_for("the group", lambda: page.text("#detail-title") == "Group 1")
        page.wait_for("the log", lambda: page.text("#log tbody tr"))
        seen = page.run("return navigation.entries().map((entry) => entry.url)")
        assert f"{url}#group=1" in seen
        assert not any(TOKEN in address for address in seen)
        assert page.run("return document.cookie") == "", "no script sees it"
        bench.token = "0" * 64
        page.wait_for("it asks again", lambda: page.text("#sign-in"))


def sign_in(page: Browser, token: str) -> None:
    page.run(
        "document.getElementById('token').value = arguments[0];"
        "document.getElementById('sign-in').requestSubmit();",
        token,
    )
