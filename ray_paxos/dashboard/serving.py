"""Runs the server until it is told to end."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Callable

from aiohttp import web

from ray_paxos.dashboard.access import Access
from ray_paxos.dashboard.collector import Collector
from ray_paxos.dashboard.server import Server
from ray_paxos.dashboard.watcher import Watcher
from ray_paxos.errors import ConfigurationError

BACKLOG = 128
END_TIMEOUT_S = 2.0


def open_socket(host: str, port: int) -> socket.socket:
    """Listen at an address.

    Args:
        host: A name or an address of this machine.
        port: 0 for any that is free.

    Raises:
        ConfigurationError: There is no such address here, or somebody listens there; names it.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"--host {host}: no such host here: {reason}") from error
    family, _, _, _, address = found[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen at {host} port {port}: {error.strerror}; choose another by --port, or "
            "--port 0 for any that is free"
        ) from error
    return listening


def url_of(listening: socket.socket, host: str) -> str:
    """What a person types into a browser."""
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only processes of this machine can connect."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


async def serve(
    watcher: Watcher,
    listening: socket.socket,
    *,
    host: str,
    interval_s: float,
    on_ready: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        watcher: Looks at the cluster.
        listening: Where.
        host: As it was asked for.
        interval_s: From one look to the next.
        on_ready: Called once requests are answered.
    """
    collector = Collector(watcher.look, interval_s=interval_s)
    access = Access(watcher.hello().cluster, host, lambda: watcher.hello().token)
    application = Server(collector, watcher.read_log).application(access)
    # Nothing goes on for a browser that is gone, as far as nobody else waits for it.
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=END_TIMEOUT_S, handler_cancellation=True
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        on_ready()
        await ended.wait()
    finally:
        # A look that is under way ends with its process, and its thread with that.
        await asyncio.to_thread(watcher.close)
        await runner.cleanup()
