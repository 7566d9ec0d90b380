"""A copy of a member's folder does not take part, and what accepts a moved one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ray_paxos.core.bootstrap import FolderFound, FolderState, NodeReport, Refuse, decide
from ray_paxos.core.messages import RoleName
from ray_paxos.core.settings import AcceptorSettings
from ray_paxos.errors import DamageError, ForeignFolderError, PaxosError
from ray_paxos.storage import disk as disk_module
from ray_paxos.storage.adoption import adopt, plan_adoption
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import activate_member, find_members, stage_member
from ray_paxos.storage.identity import check_member, open_role_folder
from ray_paxos.storage.opening import open_acceptor
from ray_paxos.storage.place import PLACE
from tests.storage.member_support import IDENTITY, make_log, make_member
from tests.storage.support import GENESIS, MEMBER_ID

LOG = make_log(12)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_member(tmp_path / "demo" / "amber", LOG).root


def check(root: Path) -> None:
    check_member(LocalDisk(root), GENESIS, MEMBER_ID)


def test_a_member_is_itself_where_it_was_made(root: Path) -> None:
    check(root)


@pytest.mark.parametrize(
    "command", [["cp", "-r"], ["cp", "-a"], ["cp", "--reflink=auto", "-a"]], ids=" ".join
)
def test_a_copy_does_not_open(root: Path, tmp_path: Path, command: list[str]) -> None:
    copy = tmp_path / "elsewhere"
    subprocess.run([*command, str(root), str(copy)], check=True)
    with pytest.raises(ForeignFolderError, match="is a copy or was moved") as caught:
        check(copy)
    assert "ray-paxos log adopt" in str(caught.value)
    with pytest.raises(ForeignFolderError):
        open_acceptor(
            LocalDisk(copy), GENESIS, MEMBER_ID, settings=AcceptorSettings(), clock=lambda: 0
        )
    check(root)


def test_a_backup_that_takes_the_members_place_does_not_open(root: Path, tmp_path: Path) -> None:
    """The same path on the same machine, with the votes of an earlier day."""
    archive = shutil.make_archive(str(tmp_path / "backup"), "tar", root)
    shutil.rmtree(root)
    shutil.unpack_archive(archive, root)
    with pytest.raises(ForeignFolderError, match="copy or was moved"):
        check(root)


def test_files_copied_back_into_the_members_own_folder_do_not_open(
    root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "copy")
    for path in root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(tmp_path / "copy", root, dirs_exist_ok=True)
    # Which one is told depends on the numbers that the file system gives again.
    with pytest.raises(ForeignFolderError, match="is not the file that was made with the member"):
        check(root)


def test_a_folder_renamed_on_its_disk_stays_itself(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "other" / "place"
    moved.parent.mkdir()
    root.rename(moved)
    check(moved)


@pytest.fixture
def on_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says which machine this is."""

    def be(name: str) -> None:
        path = tmp_path / f"machine-{name}"
        path.write_text(name)
        monkeypatch.setattr(disk_module, "MACHINE_ID_PATHS", (str(path),))

    be("one")
    return be


def test_a_disk_moved_to_another_machine_is_accepted_by_a_person(
    tmp_path: Path, on_machine
) -> None:
    root = make_member(tmp_path / "amber", LOG, stops_cleanly=False).root
    on_machine("two")
    with pytest.raises(ForeignFolderError, match="another machine"):
        check(root)
    adoption = plan_adoption(root)
    assert (adoption.moved, adoption.refusal) == ("it was made on another machine", "")
    with pytest.raises(ForeignFolderError):
        check(root)
    adopt(root, adoption)
    check(root)
    on_machine("one")
    with pytest.raises(ForeignFolderError, match="another machine"):
        check(root)


def test_no_machine_id_tells_nothing(
    tmp_path: Path, on_machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "MACHINE_ID_PATHS", ())
    root = make_member(tmp_path / "amber", LOG).root
    on_machine("two")
    check(root)


def test_a_copy_of_a_member_that_is_still_there_is_not_accepted(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    assert f"the member is at {root}" in plan_adoption(copy).refusal


def test_a_copy_of_a_member_that_had_not_stopped_is_not_accepted(
    tmp_path: Path,
) -> None:
    root = make_member(tmp_path / "amber", LOG, stops_cleanly=False).root
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    shutil.rmtree(root)
    assert "had not stopped cleanly" in plan_adoption(copy).refusal


def test_a_copy_of_a_member_that_had_stopped_and_is_gone_is_accepted(
    root: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    shutil.rmtree(root)
    adoption = plan_adoption(copy)
    assert adoption.refusal == ""
    adopt(copy, adoption)
    check(copy)


def test_a_folder_in_use_is_not_accepted(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    shutil.rmtree(root)
    held = open_role_folder(LocalDisk(copy), IDENTITY, RoleName.ACCEPTOR)
    assert "a process uses it (acceptor)" in plan_adoption(copy).refusal
    held.release()


def test_a_damaged_or_missing_place_is_refused_and_says_what_to_do(root: Path) -> None:
    data = bytearray((root / PLACE).read_bytes())
    random = Random(1)
    for at in random.sample(range(len(data)), 40):
        data[at] ^= 1
        (root / PLACE).write_bytes(data)
        with pytest.raises(DamageError, match=PLACE):
            check(root)
        data[at] ^= 1
    (root / PLACE).unlink()
    with pytest.raises(DamageError, match="ray-paxos log adopt"):
        check(root)
    adopt(root, plan_adoption(root))
    check(root)


def test_another_members_place_is_refused(root: Path, tmp_path: Path) -> None:
    other = LocalDisk(tmp_path / "birch")
    stage_member(other, GENESIS, 12)
    shutil.copy(other.root / PLACE, root / PLACE)
    with pytest.raises(ForeignFolderError, match="of another member"):
        check(root)


def test_a_start_sees_a_copy_as_something_that_cannot_be_used(root: Path, tmp_path: Path) -> None:
    (tmp_path / "copied").mkdir()
    shutil.copytree(root, tmp_path / "copied" / "amber")
    (found,) = find_members(tmp_path / "copied")
    assert found.state == "damaged"
    assert "copy or was moved" in found.problem


def test_a_start_that_sees_a_member_and_its_copy_refuses(root: Path, tmp_path: Path) -> None:
    (tmp_path / "b" / "demo").mkdir(parents=True)
    shutil.copytree(root, tmp_path / "b" / "demo" / "amber")
    reports = []
    for node, folder in (("a", tmp_path / "demo"), ("b", tmp_path / "b" / "demo")):
        (found,) = find_members(folder)
        assert found.identity is not None
        state = FolderState.UNREADABLE if found.state == "damaged" else FolderState(found.state)
        described = FolderFound(
            "amber", str(found.path), node, state, GENESIS, MEMBER_ID, found.problem
        )
        reports.append(NodeReport(node, node, True, folders=(described,)))
    for seen in (reports, reports[::-1]):
        decision = decide("demo", seen)
        assert isinstance(decision, Refuse)
        assert "member amber has two directories" in decision.reason


def test_a_copy_of_a_staged_member_is_not_activated(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path / "amber")
    stage_member(disk, GENESIS, MEMBER_ID)
    copy = Path(shutil.copytree(tmp_path / "amber", tmp_path / "copy"))
    with pytest.raises(PaxosError, match="copy or was moved"):
        activate_member(LocalDisk(copy))
    activate_member(disk)
