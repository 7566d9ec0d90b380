"""What is seen rests on what roles are, not on how they run: the shells import it, never back."""

from __future__ import annotations

import ast
from pathlib import Path

HIGHER = ("actors", "cli", "client", "cluster", "dashboard")


def test_observing_imports_nothing_that_rests_on_it(repository: Path) -> None:
    found = [
        f"{path.name}: {node.module}"
        for path in sorted((repository / "ray_paxos" / "observability").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith(tuple(f"ray_paxos.{each}" for each in HIGHER))
    ]
    assert found == []
