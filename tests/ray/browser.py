"""A real browser without a window: Chromium, by chromedriver's WebDriver, over plain HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = {"chromium": ("chromium", "chromium-browser", "google-chrome"), "chromedriver": ()}
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Small containers have a small /dev/shm.
    "--disable-dev-shm-usage",
)
START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 60.0
PATIENCE_S = 60.0


class Browser:
    """One page in one browser."""

    def __init__(self, driver: str, folder: str) -> None:
        """Start a browser, by the chromedriver at that address, with an empty folder for it."""
        self._base = driver
        binary = _find("chromium")
        chrome = {"args": [*OPTIONS, f"--user-data-dir={folder}/profile"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": {**chrome, "binary": binary}}
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; gives what it returns."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/sync", body)

    def text(self, selector: str) -> str:
        """The text of the first element of that kind, as it is to be seen; empty for none."""
        return str(
            self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        )

    def wait_for(self, what: str, look: Callable[[], Any]) -> Any:
        """Look until there is something, and give it back."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := look()):
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
            time.sleep(0.1)
        return found

    def press(self, keys: str) -> None:
        """Type into what has the focus; `\\ue004` is the tab key (WebDriver's table of keys)."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._call("POST", f"{self._session}/actions", {"actions": [keyboard]})

    def look_like(self, width: int, height: int, *, is_dark: bool) -> None:
        """Size of the window, and the colours that the person prefers."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [scheme]})

    def screenshot(self, path: Path, *, is_whole: bool = False) -> None:
        """Write what is to be seen to a PNG file; all of the page, or what the window shows."""
        shot = self._devtools("Page.captureScreenshot", {"captureBeyondViewport": is_whole})
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError):
            self._call("DELETE", self._session)

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        body = {"cmd": command, "params": parameters}
        return self._call("POST", f"{self._session}/goog/cdp/execute", body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path}: {error.read().decode()[:1_000]}") from None


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser; skips where none is installed, and says which program is missing."""
    for program in PROGRAMS:
        if _find(program) is None:
            pytest.skip(f"{program} is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="rpx-page-")
    driver = subprocess.Popen(
        [str(_find("chromedriver")), f"--port={port}"],
        # It leaves nothing in the person's own folders.
        env={**os.environ, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_listening(port, driver)
        opened = Browser(f"http://127.0.0.1:{port}", folder)
        try:
            yield opened
        finally:
            opened.close()
    finally:
        driver.terminate()
        driver.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _find(program: str) -> str | None:
    names = (program, *PROGRAMS[program])
    return next((found for name in names if (found := shutil.which(name))), None)


def _wait_until_listening(port: int, driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and driver.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("chromedriver does not listen")
