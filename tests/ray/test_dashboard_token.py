"""The status page of a Ray cluster that asks for a token asks for the same one."""

from __future__ import annotations

import pytest

from tests.ray.subprocesses import sandbox

PROGRAM = """
import json, os, signal, subprocess, sys, urllib.error, urllib.request
from pathlib import Path

import ray
import ray_paxos
from ray_paxos.config import parse_configuration

def status(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

def dashboard(**environment):
    address = ray.get_runtime_context().gcs_address
    return subprocess.Popen(
        [sys.executable, "-m", "ray_paxos.cli", "dashboard", "asking", "--port", "0", "--json"]
        + ["--address", address],
        env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )

if __name__ == "__main__":
    cluster = ray_paxos.start(parse_configuration("cluster: asking\\nmembers: 1\\nroles: fused\\n"))
    token = (Path.home() / ".ray" / "auth_token").read_text().strip()
    with dashboard() as page:
        told = json.loads(page.stdout.readline())
        print(told["asks_for_token"], token in json.dumps(told))
        view = told["url"] + "api/view"
        print(status(view), status(view, Authorization="Bearer x"))
        print(status(view, Authorization="Bearer " + token))
        print(status(told["url"] + "?token=" + token))
        page.send_signal(signal.SIGINT)
        print(page.wait(30))
    with dashboard(RAY_AUTH_TOKEN="0" * 64) as page:
        print(page.wait(60), "token" in page.stderr.read())
    cluster.stop(delete_data=True, shutdown_ray=True)
"""


# The same is seen without Ray in tests/unit/test_dashboard_access.py.
@pytest.mark.nightly
def test_the_page_asks_for_the_token_of_the_ray_cluster() -> None:
    with sandbox() as box:
        (box.folder / "asking.py").write_text(PROGRAM)
        run = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
        lines = box.run(run, str(box.folder / "asking.py"), RAY_AUTH_MODE="token")
    assert lines == ["True False", "401 401", "200", "200", "0", "1 True"]
