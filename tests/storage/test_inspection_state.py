"""A state built again from log and checkpoints is the state that members had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ray_paxos.errors import DamageError
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.host import NOBODY
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.log import LogMachine
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.inspection import ChosenLogView
from ray_paxos.storage.member_files import checkpoint_place
from ray_paxos.storage.state_document import state_document
from ray_paxos.storage.state_rebuilding import RebuildingError, RebuiltState, rebuild_at
from tests.storage.member_support import (
    FORMATS,
    IDENTITY,
    checkpoint_path,
    flip,
    host_at,
    make_log,
    make_member,
    segment_path,
)

LOG = make_log(40)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("member") / "amber"
    return make_member(root, LOG, log_floor=11, checkpoints=(10, 25)).root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "amber"))


def state_at(
    root: Path, instance_id: int, registry: MachineRegistry | None = None
) -> tuple[RebuiltState, int, tuple[str, ...]]:
    disk = LocalDisk(root)
    view = ChosenLogView(disk, FORMATS, IDENTITY, 1)
    place = checkpoint_place(disk, FORMATS, IDENTITY, 1)
    return rebuild_at(view, place, registry or MachineRegistry(), NOBODY, instance_id)


@pytest.mark.parametrize(
    ("instance_id", "start"), [(10, 10), (11, 10), (24, 10), (25, 25), (26, 25), (40, 25)]
)
def test_the_state_as_of_an_instance_is_that_of_a_host_that_applied_through_it(
    instance_id: int, start: int, root: Path
) -> None:
    state, built_on, problems = state_at(root, instance_id)
    assert (built_on, problems) == (start, ())
    assert state.host.digest() == host_at(LOG, instance_id).digest()
    assert state.chain == LOG[instance_id - 1].chain
    assert state.result_chain == LOG[instance_id - 1].result_chain
    assert state.unconfirmed == 0


def test_without_checkpoints_the_log_is_applied_from_its_first_instance(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG).root
    state, built_on, _ = state_at(root, 33)
    assert built_on == 0
    assert state.host.digest() == host_at(LOG, 33).digest()


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_built_on(root: Path) -> None:
    flip(checkpoint_path(root, 25) / "host.msgpack")
    state, built_on, problems = state_at(root, 40)
    assert built_on == 10
    assert "0000000000000025/host.msgpack: wrong checksum" in problems[0]
    assert state.host.digest() == host_at(LOG, 40).digest()


def test_below_the_oldest_checkpoint_there_is_no_state(root: Path) -> None:
    with pytest.raises(RebuildingError, match="the log begins at instance 11"):
        state_at(root, 9)


def test_beyond_the_log_there_is_no_state(root: Path) -> None:
    with pytest.raises(RebuildingError, match="the log ends at instance 40, before 41"):
        state_at(root, 41)


def test_a_damaged_segment_ends_it(root: Path) -> None:
    flip(segment_path(root, 31, 40), 60)
    with pytest.raises(DamageError, match="0000000000000031"):
        state_at(root, 40)
    assert state_at(root, 30)[0].host.applied_through == 30


class OtherLog(LogMachine):
    """Does what no member did."""

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return super().apply(command, context) if context.instance_id < 30 else b"other"


def test_machines_that_do_something_else_are_found_where_they_first_do(root: Path) -> None:
    registry = MachineRegistry((KeyValueMachine, OtherLog))
    assert state_at(root, 29, registry)[0].host.applied_through == 29
    with pytest.raises(RebuildingError, match="instance 30 gives other results here"):
        state_at(root, 40, registry)


def test_the_document_has_every_key_and_line(root: Path) -> None:
    document = state_document(state_at(root, 40)[0])
    assert json.loads(json.dumps(document)) == document
    settings, events = document["machines"]
    assert [line["line"] for line in events["lines"]] == [
        f"line {n}" for n in range(5, 41, 5) if n % 7
    ]
    keys = [entry["key"] for entry in settings["keys"]]
    assert keys == sorted(keys)
    assert len(keys) == 50
    assert document["master"] == {"member_id": 11, "ballot": "1.11.1", "version": 1}
    assert document["sessions"] == 1
