"""The thread that measures the disk and exports: what it counts, and what it never breaks on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_paxos.actors.observing import bytes_below


def test_bytes_are_of_all_files_below_and_of_no_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "b").write_bytes(b"123")
    outside = tmp_path.parent / "outside"
    outside.write_bytes(b"1" * 1_000)
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert bytes_below(tmp_path) == 8 + sum(
        (tmp_path / name).lstat().st_size for name in ("link", "loop")
    )


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bytes_below(tmp_path / "none")


def test_what_vanishes_meanwhile_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    (tmp_path / "stays").write_bytes(b"12")
    (tmp_path / "goes").mkdir()
    (tmp_path / "goes" / "too").write_bytes(b"123")
    real = os.scandir

    def scan(path: str) -> object:
        if path.endswith("goes"):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert bytes_below(tmp_path) == 2
