"""What all tests share: where the repository and its sample data are."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def hdfs_commands(repository: Path) -> Path:
    """2,469 real key-value commands; skips where the shared data is not beside the repository."""
    path = repository.parent / "shared" / "data" / "hdfs_commands.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not there: the shared data lies beside the repository")
    return path
