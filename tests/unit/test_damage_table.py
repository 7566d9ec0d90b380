"""The table of damage is told once, and shown to users word for word."""

from __future__ import annotations

from pathlib import Path

from ray_paxos.storage import opening


def test_readme_shows_the_table_of_the_module_that_decides(repository: Path) -> None:
    assert opening.__doc__ is not None
    rows = [line for line in opening.__doc__.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert "\n".join(rows) in (repository / "README.md").read_text()
