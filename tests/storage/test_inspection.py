"""Verifying a member's folder: silent on what is whole, precise on what is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.messages import RoleName
from ray_paxos.core.records import SealedInstance, VoteCast
from ray_paxos.core.values import EMPTY_CHAIN
from ray_paxos.storage.checked_files import encode_fields, read_fields
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import stage_member
from ray_paxos.storage.identity import Identity, role_fields
from ray_paxos.storage.inspection import ChosenLogView, summarize
from ray_paxos.storage.journal import open_journal
from ray_paxos.storage.log_rows import MachineKinds, describe_row, rows_of
from ray_paxos.storage.running import running_roles
from ray_paxos.storage.segment_format import header_of
from ray_paxos.storage.verification import verify_member
from tests.storage.member_support import (
    BALLOT,
    FORMATS,
    IDENTITY,
    MACHINES,
    checkpoint_path,
    files_below,
    flip,
    make_log,
    make_member,
    segment_path,
)
from tests.storage.support import GENESIS, MEMBER_ID, make_genesis

LOG = make_log(40)


def problems(root: Path) -> list[str]:
    return [fault.problem for fault in verify_member(LocalDisk(root), FORMATS).findings.faults]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_member(tmp_path_factory.mktemp("member") / "amber", LOG).root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A member with instances 1 to 40 in segments of ten."""
    return Path(shutil.copytree(template, tmp_path / "amber"))


def test_a_whole_member_is_verified_to_the_last_file_and_not_changed(tmp_path: Path) -> None:
    disk = make_member(
        tmp_path / "amber", LOG, vote_floor=21, log_floor=11, checkpoints=(10, 30), merges=(21, 40)
    )
    before = files_below(disk.root)
    verification = verify_member(disk, FORMATS)
    assert (verification.findings.faults, verification.findings.notes) == ([], [])
    assert sorted(verification.findings.verified) == list(before)
    assert verification.findings.byte_count == sum(map(len, before.values()))
    check = verification.logs[1]
    assert (check.first, check.last, check.segments, check.instances) == (11, 40, 3, 30)
    assert [cut.instance_id for cut in verification.checkpoints[1]] == [10, 30]
    assert files_below(disk.root) == before


def test_after_a_kill_the_unfinished_end_is_told_and_is_no_fault(tmp_path: Path) -> None:
    disk = make_member(tmp_path / "amber", LOG, stops_cleanly=False)
    verification = verify_member(disk, FORMATS)
    assert verification.is_whole
    assert any("not stopped cleanly" in note for note in verification.findings.notes)


def test_a_journal_that_was_closed_ends_with_its_mark(root: Path) -> None:
    verification = verify_member(LocalDisk(root), FORMATS)
    assert verification.journal is not None
    assert len(verification.journal.files) > 1
    for file in verification.journal.files:
        assert file.is_ended
        assert file.end == file.byte_count


def test_a_staged_member_is_whole_and_every_byte_of_it_counts(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path / "amber")
    stage_member(disk, GENESIS, MEMBER_ID)
    verification = verify_member(disk, FORMATS)
    assert verification.is_whole
    (note,) = verification.findings.notes
    assert "staged only" in note
    journal = next((disk.root / "acceptor" / "journal").iterdir())
    journal.write_bytes(journal.read_bytes()[:-1])
    assert not verify_member(disk, FORMATS).is_whole


# Segments that are whole and not where or what they should be.


def rename(root: Path) -> None:
    segment_path(root, 11, 20).rename(segment_path(root, 11, 21))


def rename_to_nothing(root: Path) -> None:
    segment_path(root, 11, 20).rename(segment_path(root, 11, 20).with_name("old.parquet"))


def duplicate(root: Path) -> None:
    shutil.copy(segment_path(root, 31, 40), segment_path(root, 41, 50))


def swap(root: Path) -> None:
    first, second = segment_path(root, 1, 10), segment_path(root, 11, 20)
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def remove(root: Path) -> None:
    segment_path(root, 11, 20).unlink()


def truncate(root: Path) -> None:
    path = segment_path(root, 11, 20)
    path.write_bytes(path.read_bytes()[:-100])


def mislay(root: Path) -> None:
    path = segment_path(root, 11, 20)
    path.rename(root / "learner" / "log" / "group=0" / path.name)


def make_foreign(root: Path, genesis: bytes, group: int = 1) -> None:
    header = header_of(genesis, group, LOG[10:20], LOG[9].chain, LOG[9].result_chain)
    segment_path(root, 11, 20).write_bytes(FORMATS.segments.encode(header, LOG[10:20]))


def take_from_another_cluster(root: Path) -> None:
    make_foreign(root, make_genesis("other").hash())


def take_from_another_group(root: Path) -> None:
    make_foreign(root, GENESIS.hash(), group=0)


@pytest.mark.parametrize(
    ("damage", "name", "what"),
    [
        (rename, "0000000000000011-0000000000000021", "holds instances 11 to 20"),
        (rename_to_nothing, "old.parquet", "is no file of a member"),
        (duplicate, "0000000000000041-0000000000000050", "holds instances 31 to 40"),
        (swap, "0000000000000001-0000000000000010", "holds instances 11 to 20"),
        (remove, "0000000000000021-0000000000000030", "instances 11 to 20 are missing"),
        (truncate, "0000000000000011-0000000000000020", "not a whole Parquet file"),
        (mislay, "group=0/0000000000000011-0000000000000020", "is a segment of group 1"),
        (take_from_another_cluster, "0000000000000011-0000000000000020", "another cluster"),
        (take_from_another_group, "0000000000000011-0000000000000020", "of group 0"),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_a_segment_that_is_not_what_its_place_says_is_named(
    damage: Callable[[Path], None], name: str, what: str, root: Path
) -> None:
    damage(root)
    assert any(name in problem and what in problem for problem in problems(root)), problems(root)


def test_results_that_do_not_continue_from_segment_to_segment_are_found(root: Path) -> None:
    header = header_of(GENESIS.hash(), 1, LOG[10:20], LOG[9].chain, EMPTY_CHAIN)
    segment_path(root, 11, 20).write_bytes(FORMATS.segments.encode(header, LOG[10:20]))
    (problem,) = problems(root)
    assert "instance 11: its result chain does not follow" in problem


def test_a_footer_that_contradicts_its_last_row_is_found(root: Path) -> None:
    header = header_of(GENESIS.hash(), 1, LOG[30:], LOG[29].chain, LOG[29].result_chain)
    header = replace_header(header, result_chain_after=LOG[0].result_chain)
    segment_path(root, 31, 40).write_bytes(FORMATS.segments.encode(header, LOG[30:]))
    (problem,) = problems(root)
    assert "its result chain is not the footer's" in problem


def replace_header(header, **changes):
    return type(header)(**{**{f: getattr(header, f) for f in header.__struct_fields__}, **changes})


def test_results_unknown_while_applying_was_stopped_are_told_and_are_no_fault(root: Path) -> None:
    instances = [SealedInstance(i.chosen, i.chain, None) for i in LOG[30:]]
    header = header_of(GENESIS.hash(), 1, instances, LOG[29].chain, LOG[29].result_chain)
    segment_path(root, 31, 40).write_bytes(FORMATS.segments.encode(header, instances))
    findings = verify_member(LocalDisk(root), FORMATS).findings
    assert findings.faults == []
    assert any("the results of 10 instances are not known" in note for note in findings.notes)


# What the files say about each other.


def append_vote(root: Path, instance_id: int, ballot: Ballot, value: bytes) -> None:
    journal, _ = open_journal(LocalDisk(root), "acceptor", owner=IDENTITY.owner)
    journal.append([VoteCast(1, instance_id, ballot, value)])
    journal.close()


@pytest.mark.parametrize("ballot", [BALLOT, Ballot(2, 12, 1)], ids=["same", "higher"])
def test_a_vote_for_another_value_than_the_chosen_one_is_found(root: Path, ballot: Ballot) -> None:
    append_vote(root, 25, ballot, b"another value")
    (problem,) = problems(root)
    assert "0000000000000021-0000000000000030" in problem
    assert "instance 25: chosen at ballot 1.11.1" in problem


def test_a_vote_at_a_lower_ballot_may_be_for_another_value(root: Path) -> None:
    append_vote(root, 25, Ballot(0, 12, 1), b"another value")
    assert problems(root) == []


def test_a_vote_floor_above_all_that_is_held_is_found(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, vote_floor=31).root
    assert problems(root) == []
    segment_path(root, 31, 40).unlink()
    assert problems(root) == []
    segment_path(root, 21, 30).unlink()
    (problem,) = problems(root)
    assert "ends at instance 20, and the vote floor is 31" in problem


def test_a_checkpoint_reaches_the_vote_floor_where_the_log_does_not(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, vote_floor=31, checkpoints=(30,)).root
    for first in (1, 11, 21, 31):
        segment_path(root, first, first + 9).unlink()
    assert problems(root) == []


def test_a_log_without_its_beginning_needs_a_whole_checkpoint(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, log_floor=21, checkpoints=(25,)).root
    assert problems(root) == []
    flip(checkpoint_path(root, 25) / "host.msgpack")
    found = problems(root)
    assert any("host.msgpack: wrong checksum" in problem for problem in found)
    assert any("begins at instance 21, and no whole checkpoint" in problem for problem in found)


def test_a_checkpoint_of_another_history_is_found(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, checkpoints=(25,)).root
    other = make_member(tmp_path / "other", make_log(40, commands=3), checkpoints=(25,)).root
    shutil.rmtree(checkpoint_path(root, 25))
    shutil.copytree(checkpoint_path(other, 25), checkpoint_path(root, 25))
    (problem,) = problems(root)
    assert "instance 25: its chain is not that of the checkpoint" in problem


def test_a_file_too_much_in_a_checkpoint_is_found(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, checkpoints=(25,)).root
    (checkpoint_path(root, 25) / "machine-0000" / "more").write_bytes(b"")
    assert any("'machine-0000/more' is not in the manifest" in p for p in problems(root))


def test_an_incarnation_that_was_set_back_is_found(root: Path) -> None:
    disk = LocalDisk(root)
    fields = {**read_fields(disk, "proposer/incarnation"), "incarnation": 0}
    (root / "proposer" / "incarnation").write_bytes(encode_fields(fields))
    (problem,) = problems(root)
    assert "proposer/incarnation says 0" in problem
    assert "incarnation 1" in problem


def test_the_lock_of_another_member_is_found(root: Path) -> None:
    other = role_fields(Identity(GENESIS, 12), RoleName.LEARNER)
    (root / "learner" / "lock").write_bytes(encode_fields(other))
    assert any("learner/lock is of the learner of member 12" in p for p in problems(root))


def test_a_marker_that_is_gone_and_folders_that_are_gone_are_found(root: Path) -> None:
    (root / "activated.json").unlink()
    assert any("the member has taken part already" in p for p in problems(root))
    shutil.rmtree(root / "checkpointer" / "group=1")
    shutil.rmtree(root / "acceptor" / "journal")
    found = problems(root)
    assert any("checkpointer/group=1 is missing" in problem for problem in found)
    assert any("acceptor/journal" in problem for problem in found)


@pytest.mark.parametrize(
    "path",
    ["notes.txt", "acceptor/x", "learner/log/group=7", "learner/log/group=1/x", "proposer/journal"],
)
def test_what_nobody_wrote_there_is_reported(path: str, root: Path) -> None:
    (root / path).write_bytes(b"")
    assert problems(root) == [f"{root / path} is no file of a member: it was renamed or mislaid"]


@pytest.mark.parametrize("role", ["proposer", "acceptor", "learner", "checkpointer"])
def test_files_of_events_are_no_fault_where_roles_write_them(role: str, root: Path) -> None:
    for name in ("events.jsonl", "events.jsonl.1"):
        (root / role / name).write_bytes(b"not even JSON")
    assert problems(root) == []


def test_a_file_in_the_journal_that_is_none_is_reported(root: Path) -> None:
    (root / "acceptor" / "journal" / "x").write_bytes(b"")
    assert any("journal/x is no file of the journal" in problem for problem in problems(root))


@pytest.mark.parametrize(
    "path",
    [
        "learner/log/group=1/_0000000000000041-0000000000000050.parquet",
        "checkpointer/group=1/_0000000000000001-0000000000000020.parquet",
        "acceptor/current.unfinished",
    ],
)
def test_what_a_killed_process_began_is_noted(path: str, root: Path) -> None:
    (root / path).write_bytes(b"half")
    findings = verify_member(LocalDisk(root), FORMATS).findings
    assert findings.faults == []
    assert findings.notes == [f"{root / path} is left over; nothing reads it"]


@pytest.mark.parametrize(
    "path",
    [
        "learner/set_aside/group=1/damaged-0000000000000011-0000000000000020.parquet",
        "checkpointer/group=1/damaged-0000000000000010",
    ],
)
def test_what_a_role_set_aside_is_noted(path: str, root: Path) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"")
    findings = verify_member(LocalDisk(root), FORMATS).findings
    assert findings.faults == []
    assert findings.notes == [f"{root / path} was set aside; nothing reads it"]


def test_an_unfinished_checkpoint_is_noted(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, checkpoints=(10, 20)).root
    folder = checkpoint_path(root, 20)
    (folder / "manifest.json").rename(folder / "_manifest.json")
    findings = verify_member(LocalDisk(root), FORMATS).findings
    assert findings.faults == []
    assert findings.notes == [f"{folder} is an unfinished checkpoint; nothing reads it"]


def test_parts_inside_a_merged_segment_are_verified_too(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, merges=(11, 30)).root
    merged = next((root / "checkpointer" / "group=1").glob("merged-*"))
    merged.rename(segment_path(root, 11, 30))
    verification = verify_member(LocalDisk(root), FORMATS)
    assert verification.is_whole
    assert verification.logs[1].segments == 3
    flip(segment_path(root, 21, 30))
    (problem,) = problems(root)
    assert "0000000000000021-0000000000000030" in problem


def test_a_merged_segment_under_another_name_is_found(tmp_path: Path) -> None:
    root = make_member(tmp_path / "amber", LOG, merges=(11, 30)).root
    merged = next((root / "checkpointer" / "group=1").glob("merged-*"))
    other = merged.rename(merged.with_name(merged.name.replace("030.", "040.")))
    assert problems(root) == [f"{other} holds instances 11 to 30"]


# What a person is shown.


def test_a_role_that_runs_is_seen_and_not_disturbed(root: Path) -> None:
    disk = LocalDisk(root)
    assert running_roles(root) == ()
    lock = disk.lock("learner/lock")
    assert running_roles(root) == (RoleName.LEARNER,)
    lock.release()
    assert running_roles(root) == ()
    disk.lock("learner/lock").release()


def test_a_summary_goes_on_where_something_is_damaged(root: Path) -> None:
    flip(segment_path(root, 11, 20), 100)
    flip(root / "proposer" / "incarnation", 10)
    summary = summarize(LocalDisk(root), FORMATS, IDENTITY)
    assert [role.incarnation for role in summary.roles] == [None, 1, 1, 1]
    segments = summary.groups[1].segments
    assert [bool(segment.problem) for segment in segments] == [False, True, False, False]
    assert segments[0].first_ballot == segments[3].last_ballot == "1.11.1"
    votes = summary.groups[1].votes
    assert votes is not None
    assert (votes.promise, votes.floor, votes.votes) == ("1.11.1", 1, 40)
    assert len(summary.faults) == 2


def test_rows_say_what_their_commands_do() -> None:
    kinds = MachineKinds((), LOG[:2])
    texts = [describe_row(row, kinds) for i in LOG[:8] for row in rows_of((i,))]
    assert texts[:4] == ["1.11.1", "1 kv", "1 log", "a client"]
    assert texts[4].startswith('put key="key-12" value=16 bytes ')
    assert 'line "line 5"' in texts
    assert "" in texts


def test_a_reader_that_begins_in_the_middle_learns_the_machines_from_what_is_before() -> None:
    kinds = MachineKinds((), LOG)
    (row,) = rows_of((LOG[39],))
    assert describe_row(row, kinds) == 'line "line 40"'
    unknown = MachineKinds((), ())
    assert describe_row(row, unknown) == "7 bytes 6c696e65203430"
    named = MachineKinds(MACHINES, ())
    assert describe_row(row, named) == 'line "line 40"'


def test_following_gives_what_is_sealed_later(tmp_path: Path) -> None:
    disk = make_member(tmp_path / "amber", LOG[:20])
    view = ChosenLogView(disk, FORMATS, IDENTITY, 1)
    waits = []

    def wait() -> None:
        waits.append(1)
        if len(waits) == 2:
            header = header_of(GENESIS.hash(), 1, LOG[20:], LOG[19].chain, LOG[19].result_chain)
            segment_path(disk.root, 21, 40).write_bytes(FORMATS.segments.encode(header, LOG[20:]))

    followed = view.follow(18, wait)
    seen = [next(followed).chosen.instance_id for _ in range(23)]
    assert seen == list(range(18, 41))
    assert len(waits) == 2


# Beside a member that runs.


def test_a_journal_that_changes_while_it_is_read_is_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LocalDisk.read
    torn = [f"acceptor/journal/{number:016}.journal" for number in (2, 3)]
    left: list[str] = []

    def racing(disk: LocalDisk, path: str, offset: int = 0, size: int | None = None) -> bytes:
        data = read(disk, path, offset, size)
        if path in left:
            left.remove(path)
            return data[:600] + bytes([data[600] ^ 1]) + data[601:]
        return data

    monkeypatch.setattr(LocalDisk, "read", racing)
    left += torn
    assert verify_member(LocalDisk(root), FORMATS, running=[RoleName.ACCEPTOR]).is_whole
    left += torn
    assert not verify_member(LocalDisk(root), FORMATS).is_whole
    left.clear()
    assert problems(root) == []


def test_segments_that_are_merged_while_they_are_read_are_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_member(tmp_path / "amber", LOG, merges=(11, 30)).root
    merged = next((root / "checkpointer" / "group=1").glob("merged-*"))
    read = LocalDisk.read

    def racing(disk: LocalDisk, path: str, offset: int = 0, size: int | None = None) -> bytes:
        data = read(disk, path, offset, size)
        if merged.exists() and path.endswith("0000000000000001-0000000000000010.parquet"):
            merged.rename(segment_path(root, 11, 30))
            for first in (11, 21):
                segment_path(root, first, first + 9).unlink()
        return data

    monkeypatch.setattr(LocalDisk, "read", racing)
    verification = verify_member(LocalDisk(root), FORMATS)
    assert verification.findings.faults == []
    check = verification.logs[1]
    assert (check.segments, check.instances) == (3, 40)
