"""Decoders are made when their modules are imported, by one thread.

msgspec completes what it knows of a class when a decoder for it is first made; two threads that do
so at once crash the process. A fused member has many threads from the start.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TOOLS = {"ray_paxos.machines.describing"}
"""For the command line only."""
PARTS = ("core", "machines", "storage", "actors")


def calls_in(tree: ast.AST) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def makes_decoder(call: ast.Call) -> bool:
    """`msgspec.msgpack.Decoder(...)`, or `msgspec.msgpack.decode(..., type=...)`."""
    name = ast.unparse(call.func)
    is_typed = any(keyword.arg in ("type", None) for keyword in call.keywords)
    return name.endswith("Decoder") or (name.endswith("msgpack.decode") and is_typed)


def sources(repository: Path) -> Iterator[tuple[str, ast.Module]]:
    package = repository / "ray_paxos"
    for part in PARTS:
        for path in sorted((package / part).rglob("*.py")):
            name = ".".join(path.relative_to(repository).with_suffix("").parts)
            yield name.removesuffix(".__init__"), ast.parse(path.read_text(), str(path))


def test_no_function_makes_a_decoder(repository: Path) -> None:
    found = [
        f"{name}:{call.lineno}"
        for name, tree in sources(repository)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for call in calls_in(function)
        if makes_decoder(call)
    ]
    assert found == []


def test_a_fused_member_has_all_decoders_before_it_has_threads(repository: Path) -> None:
    wanted = {name for name, tree in sources(repository) if any(map(makes_decoder, calls_in(tree)))}
    assert {"ray_paxos.core.wire", "ray_paxos.storage.journal_files"} <= wanted
    program = "import sys, ray_paxos.actors.member; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    missing = wanted - set(done.stdout.split())
    assert missing <= TOOLS, "import them in ray_paxos.actors.member"
