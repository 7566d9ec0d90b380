"""A real Prometheus of a test's own: on a free port of this machine, with little patience."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

WAIT_S = 60.0

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus and promtool are not installed (Debian: apt-get install prometheus)",
)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Prometheus:
    """What is asked of it."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query; fails with what Prometheus says."""
        found = self._get("query", query=expression)["data"]
        if found["resultType"] == "scalar":
            return [{"metric": {}, "value": found["result"]}]
        result: list[dict[str, Any]] = found["result"]
        return result

    def labels_of(self, expression: str) -> set[tuple[tuple[str, str], ...]]:
        """Of each series that there is, its labels."""
        return {tuple(sorted(each["metric"].items())) for each in self.query(expression)}

    def firing(self) -> list[dict[str, str]]:
        """Labels of the alerts that fire now."""
        alerts = self._get("alerts")["data"]["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]

    def rule_errors(self) -> list[str]:
        """What Prometheus says of rules that it could not evaluate."""
        groups = self._get("rules")["data"]["groups"]
        return [r["lastError"] for g in groups for r in g["rules"] if r.get("lastError")]

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            self._get("status/buildinfo")
        except (OSError, AssertionError):
            # It listens a moment before it can answer, and says 503 until then.
            return False
        return True

    def wait_for(self, what: str, is_so: Callable[[], Any], within_s: float = WAIT_S) -> Any:
        """Look until something is so, and give it back."""
        end = time.monotonic() + within_s
        while not (found := is_so()):
            assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
            time.sleep(0.2)
        return found

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error


@contextmanager
def prometheus(
    folder: Path, targets: Sequence[str] = (), rules: str = "", interval: str = "1s"
) -> Iterator[Prometheus]:
    """Start one that scrapes `targets` and evaluates `rules`, every `interval`.

    A target has as long to answer: one that needs longer is down, and its series end.
    """
    configuration: dict[str, Any] = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": list(targets)}]}],
    }
    if rules:
        (folder / "rules.yml").write_text(rules)
        configuration["rule_files"] = ["rules.yml"]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = (
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(port)
        server.wait_for("Prometheus answers", lambda: server.is_up() or process.poll() is not None)
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(timeout=WAIT_S)
