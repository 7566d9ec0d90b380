"""Two worlds: the pure part knows no Ray, no pyarrow, no clock and no randomness of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PURE = ("core", "machines", "testing")
SEEDED = (*PURE, "storage")
RAY_ALLOWED = ("actors", "cli", "cluster.py", "client.py", "observability")
PYARROW_ALLOWED = (
    "storage/archive_s3.py",
    "storage/parquet.py",
    "storage/parquet_tables.py",
    "storage/parquet_export.py",
)


def imported_packages(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name.split(".")[0]) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]


def modules_of(package: Path, *folders: str) -> list[str]:
    return [
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for folder in folders
        for path in sorted((package / folder).rglob("*.py"))
    ]


@pytest.fixture(scope="module")
def package(repository: Path) -> Path:
    return repository / "ray_paxos"


@pytest.mark.parametrize(
    ("library", "allowed"), [("ray", RAY_ALLOWED), ("pyarrow", PYARROW_ALLOWED)]
)
def test_a_library_is_imported_only_where_it_belongs(
    library: str, allowed: tuple[str, ...], package: Path
) -> None:
    found = [
        f"{path.relative_to(package)}:{line}"
        for path in sorted(package.rglob("*.py"))
        for line, name in imported_packages(path)
        if name == library and not str(path.relative_to(package)).startswith(allowed)
    ]
    assert found == []


def test_the_walk_sees_imports_at_every_depth(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    import ray.util as u\n    from pyarrow import parquet\n")
    assert list(imported_packages(path)) == [(2, "ray"), (3, "pyarrow")]


def test_importing_the_pure_part_loads_neither_library(package: Path) -> None:
    modules = modules_of(package, *PURE)
    assert {f"ray_paxos.{name}" for name in PURE} <= set(modules)
    program = (
        "import importlib, sys\n"
        f"for name in {['ray_paxos', *modules]!r}:\n"
        "    importlib.import_module(name)\n"
        "    loaded = {'ray', 'pyarrow'} & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


BANNED = [
    ("import time", "time.time()"),
    ("import time", "time.monotonic()"),
    ("from time import monotonic_ns", "monotonic_ns()"),
    ("import time", "time.sleep(1)"),
    ("import datetime", "datetime.datetime.now()"),
    ("import random", "random.random()"),
    ("import random", "random.shuffle([])"),
    ("import random", "random.SystemRandom()"),
    ("import uuid", "uuid.uuid4()"),
    ("import os", "os.urandom(8)"),
    ("import secrets", "secrets.token_bytes(8)"),
]


def is_refused(source: str, path: str, repository: Path) -> bool:
    """Whether the repository's lint refuses such a file as a banned API."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", path, "-"],
        input=source,
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    return "TID251" in done.stdout


@pytest.mark.parametrize(("line", "call"), BANNED, ids=[call for _, call in BANNED])
def test_lint_refuses_clocks_and_unseeded_randomness(
    line: str, call: str, repository: Path
) -> None:
    for folder in SEEDED:
        assert is_refused(f"{line}\n\n{call}\n", f"ray_paxos/{folder}/x.py", repository)
    assert not is_refused(f"{line}\n\n{call}\n", "ray_paxos/actors/x.py", repository)


def test_lint_allows_a_seeded_generator(repository: Path) -> None:
    source = "import random\n\nrandom.Random(7).random()\n"
    assert not is_refused(source, "ray_paxos/core/x.py", repository)


def test_a_test_without_the_mark_cannot_start_ray() -> None:
    import ray

    with pytest.raises(AssertionError, match="only tests marked `ray` start Ray"):
        ray.init()
