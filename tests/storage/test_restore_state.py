"""Which files lead to a state, and building it from them; what is missing or damaged is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.messages import Vote
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.values import decode_value, extend_chain, value_hash
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.archive_files import FolderArchive
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.restore_plan import (
    IncompleteError,
    LogFile,
    RestorePlan,
    SavedState,
    plan_restore,
)
from ray_paxos.storage.restore_sources import FolderSource
from ray_paxos.storage.restore_state import RestoredState, StateRestorer, go_on_with_votes
from ray_paxos.storage.segment_format import header_of
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.archive_support import (
    LOG,
    PLAIN,
    archive_folder,
    archiver,
    checkpoint,
    make_disk,
    place_of,
    restorer,
    seal,
)
from tests.storage.member_support import FORMATS, IDENTITY, host_at, make_member
from tests.storage.support import GENESIS, make_genesis

# Planning.


def files(*ranges: tuple[int, int], member: str = "a") -> list[LogFile]:
    return [LogFile(first, last, member) for first, last in ranges]


def saved(*instances: int, member: str = "a") -> list[SavedState]:
    return [SavedState(instance_id, member) for instance_id in instances]


def test_the_newest_is_where_the_files_lead() -> None:
    plan = plan_restore(files((1, 10), (11, 20)), saved(12), at=None)
    assert plan == RestorePlan(20, saved(12)[0], tuple(files((11, 20))))


def test_an_earlier_instance_begins_with_an_earlier_checkpoint() -> None:
    log = files((1, 10), (11, 20), (21, 30))
    assert plan_restore(log, saved(5, 12, 25), at=14).base == saved(12)[0]
    assert plan_restore(log, saved(12), at=11) == RestorePlan(11, None, tuple(log[:2]))
    assert plan_restore(log, saved(12), at=12).segments == ()


def test_a_hole_is_stepped_over_by_a_checkpoint_above_it() -> None:
    log = files((1, 10), (21, 30))
    assert plan_restore(log, saved(25), at=None) == RestorePlan(30, saved(25)[0], (log[1],))
    assert plan_restore(log, saved(20), at=22).base == saved(20)[0]
    assert plan_restore(log, (), at=None).through == 10


def test_members_fill_each_others_holes_and_as_few_files_as_needed_are_read() -> None:
    log = files((1, 10), (21, 30)) + files((5, 22), (8, 12), member="b")
    plan = plan_restore(log, (), at=None)
    assert plan.segments == (log[0], log[2], log[1])


@pytest.mark.parametrize(
    ("ranges", "instances", "at", "why"),
    [
        ([(1, 10)], [], 11, "instance 11 is not there: what is there ends at instance 10"),
        ([], [], 3, "nothing is there"),
        ([(1, 10), (21, 30)], [], 25, "instances 11 to 20 are missing"),
        ([(11, 30)], [], 25, "instances 1 to 10 are missing"),
        ([(11, 30)], [20], 15, "instances 1 to 10 are missing"),
        ([(11, 30)], [5], 25, "instances 6 to 10 are missing"),
        ([(1, 10)], [20], 15, "instances 11 to 15 are missing"),
        ([(1, 10), (14, 20), (22, 30)], [], 30, "instances 11 to 13, 21 are missing"),
    ],
)
def test_what_is_missing_is_named(
    ranges: list[tuple[int, int]], instances: list[int], at: int, why: str
) -> None:
    with pytest.raises(IncompleteError) as caught:
        plan_restore(files(*ranges), saved(*instances), at=at)
    assert why in str(caught.value)


@pytest.mark.parametrize("seed", range(200))
def test_plans_agree_with_a_search_that_tries_everything(seed: int) -> None:
    random = Random(seed)
    log = [
        LogFile(first, first + random.randrange(5), random.choice("ab"))
        for first in (random.randrange(1, 15) for _ in range(random.randrange(9)))
    ]
    states = saved(*(random.randrange(1, 18) for _ in range(random.randrange(3))))
    held = {i for file in log for i in range(file.first, file.last + 1)}
    bases = {0, *(state.instance_id for state in states)}
    reachable = set()
    for base in bases:
        end = base
        reachable.add(end)
        while end + 1 in held:
            end += 1
            reachable.add(end)
    assert plan_restore(log, states, at=None).through == max(reachable)
    for at in range(1, 20):
        try:
            plan = plan_restore(log, states, at=at)
        except IncompleteError:
            assert at not in reachable
            continue
        assert at in reachable
        end = plan.base.instance_id if plan.base is not None else 0
        for file in plan.segments:
            assert file.first <= end + 1 <= file.last
            end = file.last
        assert end >= at
        assert not plan.segments or plan.segments[-1].first <= at


# From an archive.


@pytest.fixture
def target() -> SimulatedDisk:
    """Members amber and birch, of which each lacks something; log 1 to 40, checkpoint at 25."""
    target = archive_folder()
    disk = make_disk()
    seal(disk, 1, 40)
    checkpoint(disk, 25)
    archiver(FolderArchive(target), disk).update()
    return target


def log_path(first: int, last: int) -> str:
    return place_of().segment(first, last)


@pytest.mark.parametrize("at", [1, 2, 10, 11, 24, 25, 26, 39, 40, None])
def test_any_instance_is_restored(target: SimulatedDisk, tmp_path: Path, at: int | None) -> None:
    host, state = restorer(FolderArchive(target), tmp_path).restore(at)
    through = at or 40
    assert (state.through, state.damaged) == (through, ())
    assert state.chain == LOG[through - 1].chain
    assert state.result_chain == LOG[through - 1].result_chain
    assert state.base == (25 if through >= 25 else 0)
    assert host.digest() == host_at(LOG, through).digest()
    assert list(tmp_path.iterdir()) == []


def test_beyond_what_is_there(target: SimulatedDisk, tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="group 1: instance 41 is not there"):
        restorer(FolderArchive(target), tmp_path).restore(41)


def test_all_damaged_files_are_named(target: SimulatedDisk, tmp_path: Path) -> None:
    target.flip_bit(log_path(1, 10), 800)
    target.remove(log_path(11, 20))
    target.flip_bit(log_path(21, 30), 800)
    with pytest.raises(IncompleteError) as caught:
        restorer(FolderArchive(target), tmp_path).restore(24)
    for name in ("0000000000000001-0000000000000010", "instances 11 to 20 are missing"):
        assert name in str(caught.value)
    assert "0000000000000021-0000000000000030.plain: wrong checksum" in str(caught.value)


def test_a_damaged_checkpoint_falls_back_to_the_log(target: SimulatedDisk, tmp_path: Path) -> None:
    target.flip_bit(f"{place_of().checkpoint(25)}/host.msgpack", 3)
    host, state = restorer(FolderArchive(target), tmp_path).restore(None)
    assert (state.through, state.base) == (40, 0)
    assert "host.msgpack: wrong checksum" in state.damaged[0]
    assert place_of().checkpoint(25) in state.damaged[0]
    assert host.digest() == host_at(LOG, 40).digest()


def test_the_newest_whole_instance_is_the_default(target: SimulatedDisk, tmp_path: Path) -> None:
    target.flip_bit(log_path(31, 40), 800)
    _, state = restorer(FolderArchive(target), tmp_path).restore(None)
    assert state.through == 30
    assert len(state.damaged) == 1


def test_another_members_file_replaces_a_damaged_one(target: SimulatedDisk, tmp_path: Path) -> None:
    disk = make_disk("birch")
    seal(disk, 1, 36, length=12)
    archiver(FolderArchive(target), disk, "birch").update()
    target.flip_bit(log_path(31, 40), 800)
    target.flip_bit(f"{place_of().checkpoint(25)}/manifest.json", 100)
    target.flip_bit(log_path(11, 20), 800)
    host, state = restorer(FolderArchive(target), tmp_path).restore(None)
    assert state.through == 36
    assert host.digest() == host_at(LOG, 36).digest()


def test_a_segment_of_another_cluster_or_group_is_not_used(
    target: SimulatedDisk, tmp_path: Path
) -> None:
    for genesis, group, why in (
        (make_genesis("other").hash(), 1, "a segment of another cluster"),
        (GENESIS.hash(), 0, "a segment of group 0"),
    ):
        part = LOG[30:40]
        header = header_of(genesis, group, part, LOG[29].chain, LOG[29].result_chain)
        target.overwrite(log_path(31, 40), PLAIN.segments.encode(header, part))
        _, state = restorer(FolderArchive(target), tmp_path).restore(None)
        assert state.through == 30
        assert why in state.damaged[0]


def test_a_segment_under_another_ranges_name_is_not_used(
    target: SimulatedDisk, tmp_path: Path
) -> None:
    target.overwrite(log_path(31, 40), target.read(log_path(21, 30)))
    _, state = restorer(FolderArchive(target), tmp_path).restore(None)
    assert "holds instances 21 to 30" in state.damaged[0]


def test_a_segment_that_does_not_go_on_from_the_one_before_is_not_used(
    target: SimulatedDisk, tmp_path: Path
) -> None:
    """Well-formed, of the same cluster, and of another history."""
    wrong = b"x" * 16
    part = []
    chain = wrong
    for instance in LOG[30:40]:
        chain = extend_chain(chain, value_hash(instance.chosen.value))
        part.append(SealedInstance(instance.chosen, chain, None))
    header = header_of(GENESIS.hash(), 1, part, wrong, None)
    target.overwrite(log_path(31, 40), PLAIN.segments.encode(header, part))
    _, state = restorer(FolderArchive(target), tmp_path).restore(None)
    assert state.through == 30
    assert "does not go on" in state.damaged[0]


def test_every_flipped_byte_of_an_archive_is_found_or_harmless(
    target: SimulatedDisk, tmp_path: Path
) -> None:
    """What is restored has the right digest for its instance, whatever byte is wrong."""
    random = Random(4)
    paths = [path for path in target.files() if "group=1" in path]
    whole = host_at(LOG, 40).digest()
    worse = 0
    for path in paths:
        for _ in range(12):
            bit = random.randrange(8 * target.size(path))
            target.flip_bit(path, bit)
            host, state = restorer(FolderArchive(target), tmp_path).restore(None)
            assert host.digest() == host_at(LOG, state.through).digest()
            assert state.damaged != () or host.digest() == whole
            worse += bool(state.damaged)
            target.flip_bit(path, bit)
    assert worse > 40


# From members' folders.


def folder_restorer(*roots: tuple[str, Path]) -> StateRestorer:
    members = {name: (LocalDisk(root), IDENTITY) for name, root in roots}
    source = FolderSource(members, FORMATS, 1)
    return StateRestorer(
        source, FORMATS.segments, MachineRegistry(), genesis=GENESIS, spec=GENESIS.groups[1]
    )


def test_a_members_folder_is_a_source(tmp_path: Path) -> None:
    make_member(tmp_path / "a", LOG, log_floor=11, checkpoints=(10, 25))
    host, state = folder_restorer(("amber", tmp_path / "a")).restore(None)
    assert (state.through, state.base) == (40, 25)
    assert host.digest() == host_at(LOG, 40).digest()


def test_two_folders_fill_each_others_holes(tmp_path: Path) -> None:
    make_member(tmp_path / "a", LOG)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a/learner/log/group=1").iterdir())
    (tmp_path / "a/learner/log/group=1" / names[1]).unlink()
    (tmp_path / "b/learner/log/group=1" / names[3]).unlink()
    _, state = folder_restorer(("amber", tmp_path / "a"), ("birch", tmp_path / "b")).restore(None)
    assert state.through == 40
    _, alone = folder_restorer(("amber", tmp_path / "a")).restore(None)
    assert alone.through == 10


# Votes after the end of the log.


def test_votes_go_on_as_a_new_master_would() -> None:
    ballot = Ballot(2, 12, 1)
    host = host_at(LOG, 30)
    last = LOG[29]
    assert last.result_chain is not None
    state = RestoredState(30, last.chain, last.result_chain, last.chosen.ballot, 0)
    votes = {i: Vote(i, ballot, LOG[i - 1].chosen.value) for i in (29, 30, 31, 32, 33, 36)}
    after = go_on_with_votes(host, state, votes)
    assert (after.through, after.voted, after.ballot) == (36, 4, ballot)
    assert after.filled == ((34, 35),)
    assert host.applied_through == 36
    assert host.log_time_ns == decode_value(LOG[35].chosen.value).log_time_ns


def test_without_votes_nothing_changes() -> None:
    host = host_at(LOG, 30)
    last = LOG[29]
    assert last.result_chain is not None
    state = RestoredState(30, last.chain, last.result_chain, last.chosen.ballot, 0)
    assert go_on_with_votes(host, state, {}) == state
