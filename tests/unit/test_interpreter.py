"""What a process of ours asks of the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ray_paxos.actors import member, role
from ray_paxos.actors.acceptor import AcceptorActor
from ray_paxos.actors.member import MemberActor
from ray_paxos.actors.switchboard import Switchboard

PROGRAM = """
import gc, sys
from ray_paxos.actors.interpreter import settle_in

class Knot:
    pass

settle_in()
knot = Knot()
knot.own = knot
del knot
frozen = gc.get_freeze_count()
print(sys.getswitchinterval(), gc.get_threshold()[0], frozen > 1_000, gc.collect() > 0)
"""


def test_threads_take_short_turns_and_garbage_is_looked_for_rarely_but_found(
    repository: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["0.0005", "20000", "True", "True"]


@pytest.mark.parametrize(("actor", "module"), [(MemberActor, member), (AcceptorActor, role)])
def test_every_actor_asks_for_it(actor: Any, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    plugged: list[Any] = []
    monkeypatch.setattr(module, "settle_in", lambda: asked.append("settled"))
    monkeypatch.setattr(Switchboard, "plug_in", lambda _self, *shells: plugged.extend(shells))
    actor(b"", "m1")
    for shell in plugged:
        shell.background.close()
    assert asked == ["settled"]
