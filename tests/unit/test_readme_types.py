"""README's Python is what type checkers follow: mypy, and pyright where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """\
import ray_paxos
from ray_paxos.errors import OutcomeUnknownError
from ray_paxos.machines import kv as kv_machine

cluster = ray_paxos.connect("demo")
client = cluster.client()
command = b"x"
keys = ["a"]
"""
"""What blocks take that they do not make; the module `kv` where they do not have a space of that
name."""
KV_MODULE = "from ray_paxos.machines import kv\n"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each block."""
    folder = tmp_path_factory.mktemp("examples")
    text = (Path(__file__).parent.parent.parent / "README.md").read_text()
    for number, part in enumerate(text.split("```python\n")[1:]):
        block = part.split("\n```")[0]
        if block.startswith("def test_"):
            # Fixtures have no types.
            continue
        own = "" if "kv = " in block or "import kv" in block else KV_MODULE
        prelude = "" if block.startswith("import gc") else PRELUDE + own
        (folder / f"block_{number}.py").write_text(f"{prelude}{block}\n")
    assert len(list(folder.iterdir())) > 15
    return folder


def test_mypy_follows_every_block(examples: Path, repository: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--config-file", "", "--cache-dir", str(examples / ".mypy")),
            *map(str, sorted(examples.glob("*.py"))),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=240,
    )
    told = [line for line in done.stdout.splitlines() if "block_" in line]
    assert told == [], done.stdout + done.stderr


def test_pyright_follows_every_block(examples: Path, repository: Path) -> None:
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("pyright is not installed (npm install -g pyright)")
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, str(examples)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=240)
    told = json.loads(done.stdout)["generalDiagnostics"]
    assert [each["message"] for each in told if each["severity"] == "error"] == []
