"""Who gets to see the page: hosts, methods, tokens, cookies; and what every answer forbids."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest
from aiohttp.http import HttpVersion11
from aiohttp.test_utils import make_mocked_request

from ray_paxos.dashboard.access import COOKIE, HEADERS
from tests.unit.dashboard_bench import Bench, play

TOKEN = "0123456789abcdef" * 4


def asking(token: str = TOKEN) -> Bench:
    bench = Bench()
    bench.token = token
    return bench


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8277",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "@",
    ],
)
def test_a_request_to_another_sites_name_is_refused(host: str) -> None:
    async def story(bench: Bench) -> None:
        for path in ("/", "/api/view", "/static/page.js"):
            answer = await bench.get(path, Host=host)
            assert answer.status in (400, 421), path
        assert bench.looks == 0

    play(story)


@pytest.mark.parametrize(
    "host",
    [
        "localhost:9999",
        "LOCALHOST",
        "127.0.0.1",
        "[::1]:8277",
        "192.168.7.7:1",
        socket.gethostname(),
    ],
)
def test_a_request_to_an_address_or_to_a_name_of_this_machine_is_answered(host: str) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.get("/", Host=host)).status == 200

    play(story)


def test_the_name_to_listen_at_is_a_name_of_ours() -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.get("/", Host="paxos.lan:8277")).status == 200

    play(story, Bench("Paxos.lan"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_reading_is_answered(method: str) -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.client.request(method, "/api/view")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert bench.looks == 0

    play(story)


def test_head_is_get_without_a_body() -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.client.head("/api/view")
        assert (answer.status, await answer.read()) == (200, b"")

    play(story)


def test_every_answer_says_what_is_forbidden() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:"
    )

    async def story(bench: Bench) -> None:
        for path in ("/", "/api/view", "/static/page.js", "/nothing"):
            answer = await bench.get(path)
            assert answer.headers["Content-Security-Policy"] == policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "aiohttp" not in answer.headers["Server"]

    play(story)


@pytest.mark.parametrize("path", ["/", "/api/view", "/api/groups/1/log", "/static/page.js", "/x"])
def test_without_the_token_nothing_is_told(path: str) -> None:
    async def story(bench: Bench) -> None:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": TOKEN},
            {"Authorization": f"Bearer {TOKEN}0"},
            {"Cookie": f"{COOKIE}x={TOKEN}"},
        ):
            answer = await bench.get(path, **headers)
            assert answer.status == 401, headers
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert "Set-Cookie" not in answer.headers
        assert bench.looks == 0
        assert (await bench.get(path, Host="evil.example")).status == 421

    play(story, asking())


def test_what_is_no_text_is_no_token() -> None:
    async def story(bench: Bench) -> None:
        server = bench.client.server
        reader, writer = await asyncio.open_connection(server.host, server.port)
        request = b"GET /api/view HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n"
        writer.write(request + b"Cookie: \xff=\xff\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        writer.close()
        await writer.wait_closed()

    play(story, asking())


def test_the_token_opens_everything() -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.get("/api/view", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 200
        answer = await bench.get("/api/view", Authorization=f"bearer  {TOKEN}")
        assert answer.status == 200

    play(story, asking())


def test_a_token_in_the_address_is_exchanged_for_a_cookie_that_does_not_tell_it() -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.get(f"/?token={TOKEN}")
        text = await answer.text()
        assert answer.status == 200
        assert 'content="0;url=/"' in text, "the browser goes on without it"
        assert TOKEN not in text
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert (await bench.get("/api/view")).status == 200, "the client keeps the cookie"
        bench.token = "another"
        assert (await bench.get("/api/view")).status == 401

    play(story, asking())


def test_a_wrong_token_in_the_address_is_refused_and_the_page_asks_again() -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.get("/?token=<script>")
        text = await answer.text()
        assert answer.status == 401
        assert "That is not the token" in text
        assert "<script>" not in text
        assert 'type="password"' in text
        assert "Set-Cookie" not in answer.headers
        answer = await bench.get(f"/api/view?token={TOKEN}")
        assert answer.status == 401, "only the page takes it so"

    play(story, asking())


def test_whoever_shows_the_token_at_the_page_gets_the_cookie() -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.get("/api/view", Authorization=f"Bearer {TOKEN}")
        assert "Set-Cookie" not in answer.headers, "programs need none"
        answer = await bench.get("/", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 200
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert (await bench.get("/api/view")).status == 200, "the client keeps the cookie"
        answer = await bench.get("/")
        assert "Set-Cookie" not in answer.headers, "it shows the cookie, not the token"

    play(story, asking())


def test_the_form_never_puts_the_token_into_an_address() -> None:
    assert "form-action 'none'" in HEADERS["Content-Security-Policy"]

    async def story(bench: Bench) -> None:
        text = await (await bench.get("/")).text()
        for tag in re.findall(r"<(?:form|input|button)[^>]*>", text):
            assert not re.search(r"\b(name|method|action|formaction)=", tag), tag
        (name,) = re.findall(r'<script src="([^"]+)"></script>', text)
        answer = await bench.get(name)
        assert (answer.status, answer.content_type) == (200, "text/javascript")
        script = await answer.text()
        wanted = set(re.findall(r'getElementById\("([a-z-]+)"\)', script))
        assert wanted == set(re.findall(r' id="([a-z-]+)"', text))
        assert (await bench.get(name, Host="evil.example")).status == 421

    play(story, asking())


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)

    async def story(bench: Bench) -> None:
        await bench.get("/api/view", Authorization="Bearer guess")
        assert (b"guess", TOKEN.encode()) in compared
        await bench.get("/?token=other")
        assert (b"other", TOKEN.encode()) in compared

    play(story, asking())


def test_two_clusters_on_one_host_have_cookies_of_their_own() -> None:
    from ray_paxos.dashboard.access import Access

    one, other = (Access(name, "h", lambda: TOKEN) for name in ("one", "other"))
    request = make_mocked_request("GET", "/", version=HttpVersion11)
    cookies = {
        morsel.key: morsel.value
        for access in (one, other)
        for morsel in access._exchange(request, TOKEN, TOKEN).cookies.values()
    }
    assert len(cookies) == 2
    assert len(set(cookies.values())) == 2
