"""What a type checker makes of replicated objects: mypy, strict, on a user's file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TEXT = """
from collections.abc import Mapping
from typing import Any

from ray_paxos.replicated import Replicated, command, query
from ray_paxos.replicated_handle import upgrade_replicated
from ray_paxos.testing.local_objects import LocalObjects


class Inventory(Replicated):
    def __init__(self, items: Mapping[str, int], *, limit: int = 3) -> None:
        self._stock = dict(items)
        self._made = self.context.now

    @command
    def take(self, item: str, n: int) -> int:
        reveal_type(self.context.random.random())  # float
        self._stock[item] -= n
        return self._stock[item]

    @command(atomic=True)
    def rename(self, names: dict[str, str], *, strict: bool = True) -> None:
        self.take("bolt", 1)
        self.take("bolt", "1")  # error: arg-type

    @query
    def count(self, item: str) -> int | None:
        return self._stock.get(item)


class Newer(Inventory):
    version = 2

    @query
    def total(self) -> int:
        return sum(self._stock.values())


async def use() -> None:
    stock = LocalObjects().replicated(Inventory, "stock", {"bolt": 10}, limit=4)
    reveal_type(stock)  # Inventory
    reveal_type(stock.take("bolt", 3))  # int
    reveal_type(stock.take(item="bolt", n=3))  # int
    reveal_type(stock.count("bolt"))  # int | None
    stock.rename({}, strict=False)
    reveal_type(await stock.take.asynchronously("bolt", 3))  # int
    reveal_type(stock.upgrade(Newer).total())  # int
    reveal_type(stock.upgrade(Newer, migrate=lambda state: {**state, "x": 1}))  # Newer
    reveal_type(upgrade_replicated(LocalObjects(), Newer, "stock", 1))  # Newer
    reveal_type(stock.drop())  # bool
    stock.take("bolt")  # error: call-arg
    stock.take("bolt", "3")  # error: arg-type
    stock.take("bolt", 3, 4)  # error: call-arg
    stock.rename({}, tidy=1)  # error: call-arg
    stock.count(3)  # error: arg-type
    await stock.take.asynchronously("bolt", None)  # error: arg-type
    stock.take.submit(3, 3)  # error: arg-type
    LocalObjects().replicated(Inventory, "stock", {"bolt": "x"})  # error: dict-item
    LocalObjects().replicated(Inventory, "stock")  # error: call-arg
    stock.nothing()  # error: attr-defined
"""


def said_of(text: str, directory: Path) -> dict[int, str]:
    """What mypy says, by line: a revealed type or an error's code."""
    path = directory / "user.py"
    path.write_text(text)
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context",
            "--config-file=", f"--cache-dir={directory / 'cache'}", "--follow-imports=silent",
            "--python-version=3.11", str(path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    said = {}
    for line in done.stdout.splitlines():
        found = re.search(
            r"user\.py:(\d+): (?:error: .*\[(.*)\]$|note: Revealed .* \"(.*)\")", line
        )
        if found:
            number, code, revealed = found.groups()
            said[int(number)] = f"error: {code}" if code else revealed
    return said


def expected_of(text: str) -> dict[int, str]:
    lines = enumerate(text.splitlines(), 1)
    return {number: line.split("  # ")[1] for number, line in lines if "  # " in line}


def plain(revealed: str) -> str:
    """A revealed type without the modules of its parts."""
    return re.sub(r"[\w.]*\.(\w+)", r"\1", revealed)


@pytest.mark.timeout(280)
def test_a_checker_follows_calls_and_finds_wrong_ones(tmp_path: Path) -> None:
    said = {number: plain(text) for number, text in said_of(TEXT, tmp_path).items()}
    assert said == expected_of(TEXT)
