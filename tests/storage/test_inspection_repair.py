"""Repairing takes away what is damaged and nothing else, keeps it, and leaves a log that opens."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_paxos.errors import FolderHeldError
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.member_files import segment_place
from ray_paxos.storage.repair import RepairPlan, carry_out, plan_repair
from ray_paxos.storage.running import running_roles
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.verification import verify_member
from tests.storage.member_support import (
    FORMATS,
    IDENTITY,
    checkpoint_path,
    cut_at,
    files_below,
    flip,
    make_log,
    make_member,
    segment_path,
)

LOG = make_log(40)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_member(tmp_path_factory.mktemp("member") / "amber", LOG).root


@pytest.fixture(scope="module")
def checkpointed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("member") / "amber"
    return make_member(root, LOG, log_floor=11, checkpoints=(10, 25)).root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "amber"))


@pytest.fixture
def with_checkpoints(checkpointed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpointed, tmp_path / "amber"))


def plan_for(root: Path) -> RepairPlan:
    disk = LocalDisk(root)
    return plan_repair(disk, FORMATS, verify_member(disk, FORMATS))


def repaired(root: Path) -> tuple[RepairPlan, str]:
    plan = plan_for(root)
    return plan, carry_out(LocalDisk(root), plan)


def held(root: Path) -> list[tuple[int, int]]:
    """The ranges of the log, found by the code that opens it."""
    place = segment_place(LocalDisk(root), FORMATS, IDENTITY, 1)
    return [(s.first, s.last) for s in SegmentFolder.open(place).reader.segments]


def test_what_is_whole_is_left_alone(root: Path) -> None:
    before = files_below(root)
    plan, kept = repaired(root)
    assert (plan.moves, plan.beyond_repair, kept) == ((), (), "")
    assert files_below(root) == before


def test_a_damaged_segment_goes_with_those_behind_it_and_all_are_kept(root: Path) -> None:
    flip(segment_path(root, 21, 30), 60)
    before = files_below(root)
    plan, kept = repaired(root)
    assert kept == "replaced/1"
    assert plan.fetches_from == {1: 21}
    after = files_below(root)
    moved = [path for path in before if path not in after]
    assert [path[-24:-8] for path in moved] == [f"{last:016}" for last in (30, 40)]
    assert {path: after[f"{kept}/{path}"] for path in moved} == {p: before[p] for p in moved}
    assert {p: d for p, d in after.items() if not p.startswith(kept)} == {
        p: d for p, d in before.items() if p not in moved
    }
    assert verify_member(LocalDisk(root), FORMATS).is_whole
    assert held(root) == [(1, 10), (11, 20)]


def test_a_second_repair_keeps_what_the_first_one_kept(root: Path) -> None:
    flip(segment_path(root, 31, 40), 60)
    assert repaired(root)[1] == "replaced/1"
    flip(segment_path(root, 21, 30), 60)
    assert repaired(root)[1] == "replaced/2"
    assert len(list((root / "replaced").rglob("*.parquet"))) == 2


def test_with_a_checkpoint_the_log_behind_the_damage_stays(with_checkpoints: Path) -> None:
    root = with_checkpoints
    flip(segment_path(root, 11, 20), 60)
    plan, _ = repaired(root)
    assert [move.path.rpartition("/")[2][:16] for move in plan.moves] == ["0000000000000011"]
    assert verify_member(LocalDisk(root), FORMATS).is_whole
    place = segment_place(LocalDisk(root), FORMATS, IDENTITY, 1)
    opened = SegmentFolder.open(place, cut_at(LOG, 25))
    assert [(s.first, s.last) for s in opened.reader.segments] == [(21, 30), (31, 40)]


def test_beyond_the_checkpoint_the_log_ends_before_the_damage(with_checkpoints: Path) -> None:
    flip(segment_path(with_checkpoints, 31, 40), 60)
    plan, _ = repaired(with_checkpoints)
    assert plan.fetches_from == {1: 31}
    assert verify_member(LocalDisk(with_checkpoints), FORMATS).logs[1].last == 30


def test_a_damaged_checkpoint_goes_and_the_one_before_is_built_on(with_checkpoints: Path) -> None:
    root = with_checkpoints
    flip(checkpoint_path(root, 25) / "sessions.msgpack")
    plan, kept = repaired(root)
    assert [move.path for move in plan.moves] == ["checkpointer/group=1/0000000000000025"]
    assert (root / kept / plan.moves[0].path / "sessions.msgpack").exists()
    verification = verify_member(LocalDisk(root), FORMATS)
    assert verification.is_whole
    assert [cut.instance_id for cut in verification.checkpoints[1]] == [10]
    assert verification.logs[1].last == 40


def test_without_any_whole_checkpoint_a_log_without_its_beginning_goes(
    with_checkpoints: Path,
) -> None:
    root = with_checkpoints
    for instance_id in (10, 25):
        flip(checkpoint_path(root, instance_id) / "manifest.json", 20)
    plan, _ = repaired(root)
    assert len(plan.moves) == 2 + 3
    assert plan.fetches_from == {1: 1}
    assert verify_member(LocalDisk(root), FORMATS).is_whole


def test_parts_take_the_place_of_a_damaged_merged_segment(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, merges=(11, 30)).root
    merged = next((root / "checkpointer" / "group=1").glob("merged-*"))
    merged.rename(segment_path(root, 11, 30))
    flip(segment_path(root, 11, 30), 60)
    plan, _ = repaired(root)
    assert [move.path.rpartition("/")[2] for move in plan.moves] == [
        segment_path(root, 11, 30).name
    ]
    assert held(root) == [(1, 10), (11, 20), (21, 30), (31, 40)]


def add_overlap(root: Path) -> None:
    """An overlapping segment: 15 to 24 of the same log."""
    log = make_log(24)
    part = make_member(root.parent / "part", log, segment_length=14).root
    segment_path(part, 15, 24).rename(segment_path(root, 15, 24))


def add_unknown(root: Path) -> None:
    segment_path(root, 31, 40).rename(root / "learner" / "log" / "group=1" / "backup")


def add_leftover(root: Path) -> None:
    (root / "learner" / "log" / "group=1" / "_x.parquet").write_bytes(b"half")


def damage_merged(root: Path) -> None:
    whole = make_member(root.parent / "part", LOG, merges=(11, 30)).root
    merged = next((whole / "checkpointer" / "group=1").glob("merged-*"))
    flip(merged, 60)
    merged.rename(root / "checkpointer" / "group=1" / merged.name)


def add_duplicate(root: Path) -> None:
    shutil.copy(segment_path(root, 31, 40), segment_path(root, 41, 50))


def make_hole(root: Path) -> None:
    segment_path(root, 11, 20).unlink()


@pytest.mark.parametrize(
    ("damage", "moves", "ends"),
    [
        (add_overlap, 3, 20),
        (add_unknown, 1, 30),
        (add_duplicate, 1, 40),
        (add_leftover, 1, 40),
        (damage_merged, 1, 40),
        (make_hole, 2, 10),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_whatever_does_not_belong_to_the_log_goes(
    damage: Callable[[Path], None], moves: int, ends: int, root: Path
) -> None:
    damage(root)
    plan, _ = repaired(root)
    assert len(plan.moves) == moves
    verification = verify_member(LocalDisk(root), FORMATS)
    assert verification.is_whole
    assert verification.findings.notes == []
    assert verification.logs[1].last == ends


@pytest.mark.parametrize(
    "path",
    [
        "identity.json",
        "activated.json",
        "acceptor/current",
        "acceptor/lock",
        "proposer/incarnation",
        "learner/incarnation",
        "acceptor/journal/0000000000000002.journal",
    ],
)
def test_nothing_is_repaired_where_identity_or_promises_are_damaged(path: str, root: Path) -> None:
    flip(root / path, 40)
    flip(segment_path(root, 21, 30), 60)
    before = files_below(root)
    plan, kept = repaired(root)
    assert plan.beyond_repair
    assert (plan.moves, kept) == ((), "")
    assert files_below(root) == before


def test_beside_a_running_role_nothing_is_moved(root: Path) -> None:
    flip(segment_path(root, 21, 30), 60)
    before = files_below(root)
    lock = LocalDisk(root).lock("checkpointer/lock")
    with pytest.raises(FolderHeldError):
        repaired(root)
    assert files_below(root) == before
    lock.release()
    assert repaired(root)[1] == "replaced/1"


def test_all_roles_are_held_while_files_move(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(segment_path(root, 31, 40), 60)
    rename, held_meanwhile = LocalDisk.rename, []

    def watched(disk: LocalDisk, old: str, new: str) -> None:
        held_meanwhile.append(len(running_roles(root)))
        rename(disk, old, new)

    monkeypatch.setattr(LocalDisk, "rename", watched)
    repaired(root)
    assert held_meanwhile == [4]
    assert running_roles(root) == ()


def test_a_repair_that_breaks_off_leaves_a_log_and_can_be_made_again(root: Path) -> None:
    flip(segment_path(root, 11, 20), 60)
    plan = plan_for(root)
    for count in range(1, len(plan.moves)):
        again = Path(shutil.copytree(root, root.with_name(f"copy{count}")))
        carry_out(LocalDisk(again), RepairPlan(plan.moves[:count], (), {}))
        repaired(again)
        assert verify_member(LocalDisk(again), FORMATS).is_whole
        assert held(again) == [(1, 10)]
