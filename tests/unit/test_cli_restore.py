"""`ray-paxos restore`, `unsafe-recover` and `log adopt`: what they make, ask, and refuse."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ray_paxos.cli.main import main
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, GroupSpec, MachineSpec, Voter
from ray_paxos.core.messages import RoleName
from ray_paxos.core.parts import Part
from ray_paxos.core.records import PromiseMade, SealSegment, VoteCast
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.archive_files import FolderArchive
from ray_paxos.storage.archive_layout import cluster_folder, member_group
from ray_paxos.storage.archiver import Archiver
from ray_paxos.storage.checkpoints import newest_whole
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import activate_member, find_members, stage_member
from ray_paxos.storage.identity import Identity, open_role_folder
from ray_paxos.storage.journal import open_journal
from ray_paxos.storage.member_files import checkpoint_place, segment_place
from ray_paxos.storage.parts import read_parts, write_parts
from ray_paxos.storage.restore_survey import find_left_members
from ray_paxos.storage.segment_folders import SegmentFolder
from tests.storage.member_support import (
    FORMATS,
    IDENTITY,
    files_below,
    host_at,
    make_log,
    make_member,
)
from tests.storage.support import GENESIS, make_genesis

LOG = make_log(40)
PLACE = member_group(GENESIS, "amber", 1, ".parquet")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a member with 40 instances and checkpoints at 10 and 25."""
    root = tmp_path_factory.mktemp("template")
    make_member(root / "demo" / "amber", LOG, checkpoints=(10, 25))
    (root / "archive").mkdir()
    archive(root / "archive", root / "demo" / "amber")
    return root


def archive(target: Path, member: Path, identity: Identity = IDENTITY) -> None:
    Archiver(
        FolderArchive(LocalDisk(target)), LocalDisk(member), FORMATS, identity, checkpoints_kept=2
    ).update()


@pytest.fixture
def archived(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template / "archive", tmp_path / "archive"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "again.yaml"
    path.write_text(f"cluster: again\nmembers: [one, two]\ndata_dir: {tmp_path / 'data'}\n")
    return path


def run(*arguments: object, status: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)), input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def restore(
    archived: Path, config: Path, *more: object, status: int = 0, answer: str | None = None
) -> Result:
    arguments = ("restore", "--from", f"file://{archived}", "--config", config, *more)
    return run(*arguments, status=status, answer=answer)


def made(tmp_path: Path, group: int = 1) -> dict[str, int]:
    """What the members of the new cluster hold: instance by name; and it is right."""
    found = {}
    for member in find_members(tmp_path / "data" / "again"):
        assert member.state == "staged"
        assert member.identity is not None
        place = checkpoint_place(LocalDisk(member.path), FORMATS, member.identity, group)
        newest = newest_whole(place, MachineRegistry()).checkpoint
        assert newest is not None
        through = newest.cut.instance_id
        assert newest.host.machine_digest() == host_at(LOG, through).machine_digest()
        found[member.path.name] = through
    return found


def test_the_newest_state_is_restored(archived: Path, config: Path, tmp_path: Path) -> None:
    before = files_below(archived)
    result = restore(archived, config, "--yes")
    assert "group 1: as of instance 40, from checkpoint 25" in result.output
    assert made(tmp_path) == {"one": 40, "two": 40}
    assert files_below(archived) == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["again"]


def test_an_instance_is_restored(archived: Path, config: Path, tmp_path: Path) -> None:
    restore(archived, config, "--at", 17, "--group", 1, "--yes")
    assert made(tmp_path) == {"one": 17, "two": 17}


@pytest.mark.parametrize("below", ["demo", f"demo/{GENESIS.cluster_id}"])
def test_the_address_may_be_of_one_cluster(
    archived: Path, config: Path, tmp_path: Path, below: str
) -> None:
    restore(archived / below, config, "--yes")
    assert made(tmp_path) == {"one": 40, "two": 40}


def test_it_asks_and_no_means_no(archived: Path, config: Path, tmp_path: Path) -> None:
    result = restore(archived, config, status=1, answer="n\n")
    assert "make it?" in result.output
    assert list((tmp_path / "data").iterdir()) == []
    restore(archived, config, answer="y\n")
    assert made(tmp_path) == {"one": 40, "two": 40}


def test_nodes_build_their_members_from_one_genesis(
    archived: Path, config: Path, tmp_path: Path
) -> None:
    genesis = tmp_path / "genesis.json"
    restore(archived, config, "--member", "two", "--genesis", genesis, "--at", 30, "--yes")
    assert made(tmp_path) == {"two": 30}
    restore(archived, config, "--member", "one", "--genesis", genesis, "--yes")
    assert made(tmp_path) == {"one": 30, "two": 30}
    ids = {m.identity.genesis.hash() for m in find_members(tmp_path / "data/again") if m.identity}
    assert len(ids) == 1


# Several groups.

WIDE = make_genesis(groups=3)
LOGS = {1: LOG, 2: make_log(25, group=2)}


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """An archive of a member with two groups, of 40 and of 25 instances."""
    disk = LocalDisk(tmp_path / "wide")
    stage_member(disk, WIDE, 11)
    identity = Identity(WIDE, 11)
    for group, log in LOGS.items():
        folder = SegmentFolder.open(segment_place(disk, FORMATS, identity, group))
        for start in range(0, len(log), 10):
            folder.seal(SealSegment(group, tuple(log[start : start + 10])))
            folder.sync()
    (tmp_path / "archive").mkdir()
    archive(tmp_path / "archive", disk.root, identity)
    return tmp_path / "archive"


def begins(tmp_path: Path) -> dict[int, int]:
    """After which instance each group of the new cluster begins."""
    (member, *_) = find_members(tmp_path / "data" / "again")
    assert member.identity is not None
    return {spec.group: spec.begins_after for spec in member.identity.genesis.groups}


def test_each_group_is_restored_as_of_its_own_newest(
    wide: Path, config: Path, tmp_path: Path
) -> None:
    restore(wide, config, "--yes")
    assert begins(tmp_path) == {0: 0, 1: 40, 2: 25}
    assert made(tmp_path) == {"one": 40, "two": 40}


def test_one_group_is_restored_alone(wide: Path, config: Path, tmp_path: Path) -> None:
    result = restore(wide, config, "--group", 2, "--at", 12, "--yes")
    assert begins(tmp_path) == {0: 0, 2: 12}
    assert "groups 1 of the configuration are not made" in result.output


def test_an_instance_of_several_groups_means_nothing(
    wide: Path, config: Path, tmp_path: Path
) -> None:
    refused(restore(wide, config, "--at", 12, "--yes", status=2), tmp_path, "give --group, too")


def test_one_damaged_group_of_several_and_nothing_is_made(
    wide: Path, config: Path, tmp_path: Path
) -> None:
    """The default of a damaged group is an earlier instance, which is said and asked for."""
    place = member_group(WIDE, "amber", 2, ".parquet")
    path = wide / place.segment(11, 20)
    path.write_bytes(path.read_bytes()[:-9])
    result = restore(wide, config, answer="n\n", status=1)
    refused(result, tmp_path, "group 2: as of instance 10", f"not used: {path}")


# What is missing or damaged is named, and nothing is made.


def refused(result: Result, tmp_path: Path, *texts: str) -> None:
    for text in texts:
        assert text in result.output
    assert "Traceback" not in result.output
    data = tmp_path / "data"
    assert not data.exists() or list(data.iterdir()) == []


def test_holes_and_damaged_files_are_named(archived: Path, config: Path, tmp_path: Path) -> None:
    (archived / PLACE.segment(11, 20)).unlink()
    path = archived / PLACE.segment(1, 10)
    path.write_bytes(path.read_bytes()[:-1])
    result = restore(archived, config, "--at", 24, "--yes", status=1)
    refused(result, tmp_path, "instances 11 to 20 are missing", str(path))


def test_beyond_the_end(archived: Path, config: Path, tmp_path: Path) -> None:
    result = restore(archived, config, "--at", 41, "--yes", status=1)
    refused(result, tmp_path, "instance 41 is not there: what is there ends at instance 40")


def test_before_what_is_there(archived: Path, config: Path, tmp_path: Path) -> None:
    (archived / PLACE.segment(1, 10)).unlink()
    result = restore(archived, config, "--at", 5, "--yes", status=1)
    refused(result, tmp_path, "instances 1 to 5 are missing")


def test_a_damaged_file_that_nothing_needs_is_said(
    archived: Path, config: Path, tmp_path: Path
) -> None:
    path = archived / PLACE.checkpoint(25) / "host.msgpack"
    path.write_bytes(b"")
    result = restore(archived, config, "--yes")
    assert f"not used: {path} has 0 bytes" in result.output
    assert made(tmp_path) == {"one": 40, "two": 40}


def test_an_empty_archive(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = restore(tmp_path / "empty", config, "--yes", status=2)
    refused(result, tmp_path, "holds no cluster's archive")
    disk = LocalDisk(tmp_path / "new")
    stage_member(disk, GENESIS, IDENTITY.member_id)
    archive(tmp_path / "empty", tmp_path / "new")
    result = restore(tmp_path / "empty", config, "--yes", status=2)
    refused(result, tmp_path, "nothing was archived yet")


def test_several_clusters_in_one_archive(archived: Path, config: Path, tmp_path: Path) -> None:
    other = make_genesis("other")
    disk = LocalDisk(tmp_path / "new")
    stage_member(disk, other, 11)
    archive(archived, tmp_path / "new", Identity(other, 11))
    result = restore(archived, config, "--yes", status=2)
    refused(result, tmp_path, "holds several", f"other/{other.cluster_id}")
    restore(archived / "demo", config, "--yes")
    assert made(tmp_path) == {"one": 40, "two": 40}


def test_another_clusters_files_mixed_in(archived: Path, config: Path, tmp_path: Path) -> None:
    other = make_genesis("other")
    text = (archived / cluster_folder(GENESIS) / "genesis.json").read_text()
    (archived / "stray.txt").write_text("x")
    (archived / PLACE.log / "notes.txt").write_text("x")
    result = restore(archived, config, "--at", 40, "--yes")
    assert "notes.txt is nothing of an archive" in result.output
    shutil.rmtree(tmp_path / "data")
    folder = archived / "other" / other.cluster_id
    folder.mkdir(parents=True)
    (folder / "genesis.json").write_text(text)
    result = restore(archived / "other", config, "--yes", status=1)
    refused(result, tmp_path, "it was mislaid")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("gs://bucket/x", "scheme 'gs'"),
        ("/srv/archive", "no scheme"),
        ("file:///does/not/exist", "no folder that is there"),
        ("s3://b/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1", "cannot reach"),
    ],
)
@pytest.mark.timeout(120)
def test_addresses_that_lead_nowhere(
    address: str, why: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    status = 2 if why.startswith(("scheme", "no scheme")) else 1
    result = run("restore", "--from", address, "--config", config, "--yes", status=status)
    refused(result, tmp_path, why)


def test_an_existing_member_is_refused(archived: Path, config: Path, tmp_path: Path) -> None:
    (tmp_path / "data/again/two").mkdir(parents=True)
    result = restore(archived, config, "--yes", status=2)
    assert "two exists" in result.output
    assert [p.name for p in (tmp_path / "data/again").iterdir()] == ["two"]


def test_no_permission_for_the_archive(
    archived: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir = os.listdir

    def refusing(path: Path) -> list[str]:
        if str(path).startswith(str(archived)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    refused(restore(archived, config, "--yes", status=2), tmp_path, f"cannot list {archived}")


def test_no_permission_for_the_data_directory(
    archived: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refusing)
    refused(restore(archived, config, "--yes", status=2), tmp_path, "Permission denied")


def test_a_data_directory_that_is_a_file(archived: Path, config: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    result = restore(archived, config, "--yes", status=1)
    assert f"cannot make {tmp_path / 'data'}" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--group", 7), "no group 7; it has 1"),
        (("--group", 0), "the system's own"),
        (("--member", "one"), "--member and --genesis go together"),
        (("--member", "nobody", "--genesis", "x"), "has no member nobody"),
    ],
)
def test_options_that_are_wrong(
    archived: Path, config: Path, tmp_path: Path, options: tuple[object, ...], why: str
) -> None:
    refused(restore(archived, config, *options, "--yes", status=2), tmp_path, why)


def test_a_configuration_that_is_wrong(archived: Path, tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text("cluster: again\narchive: gs://x\n")
    result = restore(archived, config, "--yes", status=2)
    assert f"{config}:2: archive: " in result.output
    assert "scheme 'gs'" in result.output


# unsafe-recover


def recover(
    folders: list[Path], config: Path, *more: object, status: int = 0, answer: str | None = None
) -> Result:
    return run("unsafe-recover", *folders, "--config", config, *more, status=status, answer=answer)


def test_a_minority_is_recovered_with_its_votes(config: Path, tmp_path: Path) -> None:
    root = make_member(tmp_path / "demo/amber", LOG[:30], checkpoints=(25,)).root
    vote_after(root, 31, 33)
    before = files_below(root)
    result = recover([root], config, answer="y\n")
    for text in (
        "given are amber; missing are birch, coral",
        "group 1: as of instance 33",
        "the last 2 values are what members given here voted for",
        "instances 32 are in no folder given",
        "may be lost: whatever only the missing members (birch, coral) hold after instance 31",
        "make it?",
    ):
        assert text in result.output
    assert files_below(root) == before
    (found, _) = find_members(tmp_path / "data/again")
    assert found.identity is not None
    assert found.identity.genesis.groups[1].begins_after == 33


def vote_after(root: Path, *instances: int) -> None:
    """Votes for instances that were not sealed."""
    disk = LocalDisk(root)
    held = open_role_folder(disk, IDENTITY, RoleName.ACCEPTOR)
    journal, _ = open_journal(disk, "acceptor", owner=IDENTITY.owner)
    ballot = Ballot(5, 12, 1)
    journal.append([PromiseMade(1, ballot)])
    for instance_id in instances:
        journal.append([VoteCast(1, instance_id, ballot, LOG[instance_id - 1].chosen.value)])
    journal.sync()
    journal.close()
    held.release()


def test_of_two_votes_that_of_the_higher_ballot_counts(tmp_path: Path) -> None:
    roots = []
    for name, member_id, round_number in (("amber", 11, 7), ("birch", 12, 9), ("coral", 13, 8)):
        disk = LocalDisk(tmp_path / name)
        stage_member(disk, GENESIS, member_id)
        identity = Identity(GENESIS, member_id)
        journal, _ = open_journal(disk, "acceptor", owner=identity.owner)
        ballot = Ballot(round_number, 12, 1)
        journal.append([PromiseMade(1, ballot), VoteCast(1, 5, ballot, name.encode())])
        journal.sync()
        journal.close()
        roots.append(disk.root)
    left = find_left_members(roots)
    assert left.votes[1][5].value == b"birch"
    assert left.missing == ()


def test_no_means_no_for_a_recovery_too(config: Path, tmp_path: Path) -> None:
    root = make_member(tmp_path / "demo/amber", LOG).root
    refused(recover([root], config, status=1, answer="n\n"), tmp_path, "make it?")


def test_what_was_chosen_and_is_gone_is_called_lost(config: Path, tmp_path: Path) -> None:
    root = make_member(tmp_path / "demo/amber", LOG, vote_floor=35).root
    for path in sorted((root / "learner/log/group=1").iterdir())[2:]:
        path.unlink()
    result = recover([root], config, "--yes")
    assert "lost: instances 21 to 34 were chosen, and no folder given holds them" in result.output
    assert "group 1: as of instance 20" in result.output
    assert made(tmp_path) == {"one": 20, "two": 20}


def test_a_damaged_journal_is_said_and_the_log_is_used(config: Path, tmp_path: Path) -> None:
    root = make_member(tmp_path / "demo/amber", LOG).root
    (path, *_) = sorted((root / "acceptor/journal").iterdir())
    data = bytearray(path.read_bytes())
    data[700] ^= 255
    path.write_bytes(data)
    result = recover([root], config, "--yes")
    assert "votes cannot be used" in result.output
    assert made(tmp_path) == {"one": 40, "two": 40}


def test_a_majority_loses_nothing(config: Path, tmp_path: Path) -> None:
    first = make_member(tmp_path / "demo/amber", LOG).root
    other = LocalDisk(tmp_path / "demo/birch")
    stage_member(other, GENESIS, 12)
    activate_member(other)
    result = recover([first, other.root], config, "--yes")
    assert "are a majority: all that was acknowledged is here" in result.output
    assert "missing are coral" in result.output


def test_groups_that_were_made_later_are_recovered(config: Path, tmp_path: Path) -> None:
    root = make_member(tmp_path / "demo/amber", LOG).root
    disk, spec = LocalDisk(root), GroupSpec(7, (Voter(11, 1),), (MachineSpec("kv", "kv", 1),))
    parts = read_parts(disk, IDENTITY)
    parts.parts[7] = Part(1, spec, spec.configuration)
    write_parts(disk, IDENTITY, parts)
    result = recover([root], config, "--yes")
    assert "group 7: nothing is there; it begins anew" in result.output
    (made_of, _) = find_members(tmp_path / "data/again")
    assert made_of.identity is not None
    assert [group.group for group in made_of.identity.genesis.groups] == [0, 1, 7]


def test_a_majority_is_one_of_those_that_vote_in_the_end(tmp_path: Path) -> None:
    """Two of the three that the genesis names may have left the group, with all that is in it."""
    roots = []
    for name, member_id in (("amber", 11), ("birch", 12)):
        disk = LocalDisk(tmp_path / name)
        stage_member(disk, GENESIS, member_id)
        roots.append(disk.root)
    left = find_left_members(roots)
    first = GENESIS.groups[1].configuration
    assert left.is_majority(1, first)
    assert left.missing_voters(1, first) == ("coral",)
    # Birch came back under another replica_id; its votes of before are gone.
    later = Configuration(9, (first.voters[0], Voter(12, 9), Voter(14, 8)))
    assert not left.is_majority(1, later)
    assert left.missing_voters(1, later) == ("birch", "14")


def test_folders_that_do_not_belong_together(config: Path, tmp_path: Path) -> None:
    root = make_member(tmp_path / "demo/amber", LOG).root
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    refused(recover([root, copy], config, status=2), tmp_path, "are both of member amber")
    other = LocalDisk(tmp_path / "other/amber")
    stage_member(other, make_genesis("other"), 11)
    refused(recover([root, other.root], config, status=2), tmp_path, "is of cluster other")
    refused(recover([tmp_path / "nowhere"], config, status=2), tmp_path, "is no folder")
    refused(recover([tmp_path / "demo"], config, status=1), tmp_path, "identity.json is missing")


def test_a_member_that_runs_is_refused(config: Path, tmp_path: Path) -> None:
    root = make_member(tmp_path / "demo/amber", LOG).root
    held = open_role_folder(LocalDisk(root), IDENTITY, RoleName.LEARNER)
    refused(recover([root], config, status=2), tmp_path, "is in use (learner)")
    held.release()


# log adopt


def test_a_moved_member_is_accepted_only_by_yes(tmp_path: Path) -> None:
    root = make_member(tmp_path / "demo/amber", LOG).root
    assert "nothing to accept" in run("log", "adopt", root).output
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    assert "this is a copy of it" in run("log", "adopt", copy, "--yes", status=2).output
    shutil.rmtree(root)
    assert "nothing was changed" in run("log", "adopt", copy, status=1).output
    assert find_members(tmp_path)[0].state == "damaged"
    assert "done: member amber" in run("log", "adopt", copy, "--yes").output
    assert find_members(tmp_path)[0].state == "activated"
    assert "no member's folder" in run("log", "adopt", tmp_path / "demo", status=2).output
