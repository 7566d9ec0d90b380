"""Who may see the page, and what keeps others' pages from seeing it.

Rules:

1. Where the Ray cluster asks for a token, every request has to show it: by `Authorization: Bearer`,
   or by a cookie. A person gives it once, to a script that shows it in that header for the cookie:
   what stands in an address may stay in the browser's history. `?token=` is for links only; it is
   taken for the cookie likewise, and out of the address.
2. The cookie is made from the token and does not tell it: browsers send cookies of one host to all
   of its ports, and the token lets whoever has it run programs.
3. The `Host` of a request is one of ours, or an address: another site's name that was made to point
   here is refused (DNS rebinding).
4. Only GET and HEAD. Nothing of other sites is loaded, no script stands in the page itself, and no
   other site may frame it. No form is ever sent.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Callable, Mapping
from html import escape

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

COOKIE = "ray_paxos_"
METHODS = ("GET", "HEAD")
SIGN_IN = "/static/sign_in.js"
"""The script of the form that asks for the token: the one thing that is given without it."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Access:
    """Decides on each request before anything else does."""

    def __init__(self, cluster: str, host: str, token: Callable[[], str | None]) -> None:
        """Know what is asked for.

        Args:
            cluster: Name of the cluster.
            host: Where the server listens, as given.
            token: What has to be shown; None for nothing.
        """
        self._cookie = COOKIE + hashlib.blake2b(cluster.encode(), digest_size=6).hexdigest()
        self._cluster = cluster
        self._token = token
        names = {"localhost", host, socket.gethostname(), socket.getfqdn()}
        self._names = frozenset(name.lower().rstrip(".") for name in names)

    def middleware(self) -> Middleware:
        """For `web.Application`."""

        @web.middleware
        async def decide(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
            try:
                response = await handler(request)
                if request.path == "/":
                    self._give_pass(request, response)
                return response
            except web.HTTPException as error:
                return problem(error.status, error.reason)

        return decide

    def _refusal(self, request: web.Request) -> web.Response | None:
        if not self._is_our_host(request.host):
            return problem(
                421,
                f"this server is not {request.host[:100]}: use its address, or give its name "
                "with --host",
            )
        if request.method not in METHODS:
            response = problem(405, "the page is read-only: GET and HEAD")
            response.headers["Allow"] = ", ".join(METHODS)
            return response
        token = self._token()
        if token is None or request.path == SIGN_IN:
            return None
        given = request.query.get("token")
        if given is not None and request.path == "/":
            return self._exchange(request, given, token)
        return None if self._is_shown(request, token) else self._ask_for_token(request, "")

    def _is_our_host(self, host: str) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names or name.endswith(".localhost")
        return True

    def _is_shown(self, request: web.Request, token: str) -> bool:
        cookie = request.cookies.get(self._cookie, "")
        return _is_in_header(request, token) or _is_same(cookie, self._pass(token))

    def _give_pass(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give the cookie to whoever showed the token itself."""
        token = self._token()
        if token is not None and _is_in_header(request, token):
            self._set_cookie(request, response, token)

    def _exchange(self, request: web.Request, given: str, token: str) -> web.Response:
        if not _is_same(given.strip(), token):
            return self._ask_for_token(request, "That is not the token of this Ray cluster.")
        # Not a redirect: after one from another site's link a browser holds a strict cookie back.
        response = web.Response(
            text=_page("Signed in", '<p><a href="/">Go on to the page</a></p>', refreshes=True),
            content_type="text/html",
        )
        self._set_cookie(request, response, token)
        return response

    def _set_cookie(self, request: web.Request, response: web.StreamResponse, token: str) -> None:
        response.set_cookie(
            self._cookie,
            self._pass(token),
            httponly=True,
            samesite="Strict",
            secure=request.secure,
            path="/",
        )

    def _pass(self, token: str) -> str:
        what = f"ray_paxos dashboard of {self._cluster}"
        return hmac.new(token.encode(), what.encode(), hashlib.sha256).hexdigest()

    def _ask_for_token(self, request: web.Request, why: str) -> web.Response:
        if request.path != "/":
            response = problem(401, "this Ray cluster asks for a token, and the request shows none")
        else:
            response = web.Response(
                status=401,
                text=_page(f"Cluster {self._cluster}", _FORM.format(why=escape(why))),
                content_type="text/html",
            )
        response.headers["WWW-Authenticate"] = 'Bearer realm="ray_paxos"'
        return response


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: what every response says."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "ray_paxos"


def problem(status: int, text: str) -> web.Response:
    """An error as JSON."""
    return web.json_response({"error": text}, status=status)


def _host_name(host: str) -> str | None:
    """The name in a `Host` header, without its port; None where it is none."""
    try:
        found = URL(f"http://{host}").host
    except ValueError:
        return None
    return found.lower().rstrip(".") if found else None


def _is_in_header(request: web.Request, token: str) -> bool:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and _is_same(shown.strip(), token)


def _is_same(shown: str, wanted: str) -> bool:
    """Compare in a time that does not tell how much is right."""
    # What was sent may be no UTF-8, which aiohttp keeps as lone surrogates.
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), wanted.encode())


def _page(title: str, body: str, *, refreshes: bool = False) -> str:
    refresh = '<meta http-equiv="refresh" content="0;url=/">' if refreshes else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{refresh}'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" '
        f'content="light dark"><title>{escape(title)}</title><h1>{escape(title)}</h1>{body}</html>'
    )


_FORM = (
    "<p>This Ray cluster asks for its token: what is in <code>~/.ray/auth_token</code> or "
    "<code>$RAY_AUTH_TOKEN</code> where the page is served.</p>"
    '<p><strong id="problem" role="alert">{why}</strong></p>'
    '<form id="sign-in"><label>Token <input id="token" type="password" required autofocus '
    'autocomplete="off"></label> <button>Show the page</button></form>'
    f'<script src="{SIGN_IN}"></script>'
)
"""The field has no name: without the script nothing of it is sent either."""
