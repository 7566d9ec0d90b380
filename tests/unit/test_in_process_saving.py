"""What is wrong with saving, loading and digests of a machine is found."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from ray_paxos.errors import (
    CheckpointError,
)
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.testing.in_process_check import FaultyMachineError
from tests.unit.in_process_machines import Plain, found, played

# Saving, loading, digests.


class HoldsLock(Plain):
    """Cannot be pickled; says itself what counts."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def digest(self) -> bytes:
        return self.held or b""


class NoDigest(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.held = threading.Lock()
        return None


class ForgetsInSave(Plain):
    def save(self, directory: Path) -> None:
        (directory / "state").write_bytes(b"nothing")

    def load(self, directory: Path) -> None:
        self.held = (directory / "state").read_bytes()


class FailsToLoad(Plain):
    def save(self, directory: Path) -> None:
        pass

    def load(self, directory: Path) -> None:
        (directory / "sub" / "state").read_bytes()


class WritesInSave(Plain):
    def save(self, directory: Path) -> None:
        self.held = b"saved"
        super().save(directory)


class KeepsSavedElsewhere(Plain):
    elsewhere: ClassVar[dict[str, bytes]] = {}

    def save(self, directory: Path) -> None:
        (directory / "sub").mkdir()
        (directory / "sub" / "key").write_bytes(b"key")
        self.elsewhere["key"] = self.held

    def load(self, directory: Path) -> None:
        self.held = self.elsewhere[(directory / "sub" / "key").read_text()]


class HashesInDigest(Plain):
    def digest(self) -> bytes:
        return b"%d" % hash(self.held)


@pytest.mark.parametrize(
    ("machine", "what"),
    [
        (HoldsLock, "'m' cannot be saved: TypeError: HoldsLock.lock cannot be pickled"),
        (HoldsLock, "keep plain data in the state"),
        (NoDigest, "Keep plain data in its attributes, or define `digest`"),
        (ForgetsInSave, "'m' has another digest once it is saved and loaded: let `save` write"),
        (FailsToLoad, "'m' cannot be loaded from what it saved: FileNotFoundError"),
        (WritesInSave, "`save` of machine 'm' has changed its state: let it write, and change"),
        (KeepsSavedElsewhere, "'m' cannot be loaded in another process: KeyError: 'key'"),
        (HashesInDigest, "not deterministic: executed in another process"),
    ],
)
def test_what_is_wrong_with_saving_and_digests(machine: type[StateMachine], what: str) -> None:
    assert what in found(played(machine))


class RanksWords(Plain):
    """Its digest depends on how it was loaded, and on nothing before."""

    def load(self, directory: Path) -> None:
        super().load(directory)
        self.rank = hash("rank")

    def digest(self) -> bytes:
        return b"%d" % (getattr(self, "rank", HERE_RANK) - HERE_RANK)


HERE_RANK = hash("rank")


def test_a_digest_that_depends_on_the_process_it_was_loaded_in() -> None:
    assert "has another digest in another process once it is saved and loaded" in found(
        played(RanksWords)
    )


class HasDigestHereOnly(Plain):
    def digest(self) -> bytes:
        if os.getpid() != HERE:
            raise RuntimeError("not here")
        return b""


HERE = os.getpid()


def test_a_digest_that_fails_in_another_process() -> None:
    text = found(played(HasDigestHereOnly))
    assert "in another process" in text
    assert "a machine has no digest: RuntimeError: not here. Let `digest` depend on" in text


def test_a_checkpoint_of_what_cannot_be_pickled() -> None:
    cluster = played(HoldsLock)
    what = "member .: machine 'm' of kind .* cannot be saved: .*HoldsLock.lock cannot be pickled"
    with pytest.raises(CheckpointError, match=what):
        cluster.checkpoint()


def test_a_member_that_cannot_load_what_it_saved() -> None:
    cluster = played(FailsToLoad)
    what = r"member .\.learner cannot open its folder: cannot load checkpointer"
    with pytest.raises(FaultyMachineError, match=what):
        cluster.restart_from_checkpoint()
