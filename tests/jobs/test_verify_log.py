"""The comparison of members' logs, over folders made by the code that members run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from log_comparison import LogScan, compare, first_difference
from log_reading import LogReading
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.values import CommandBatch, decode_value, encode_value, extend_chain, value_hash
from ray_paxos.errors import ClusterError
from tests.storage.member_support import (
    checkpoint_path,
    flip,
    make_log,
    make_member,
    segment_path,
)
from verify_log import verify_group

FAST = 10**12


def with_another_value(log: Sequence[SealedInstance], at: int) -> list[SealedInstance]:
    """The log of a member that has another command at one instance."""
    changed = list(log[: at - 1])
    chain = log[at - 2].chain
    for instance in log[at - 1 :]:
        chosen = instance.chosen
        if chosen.instance_id == at:
            value = decode_value(chosen.value)
            (batch,) = value.entries
            assert isinstance(batch, CommandBatch)
            commands = (*batch.commands[:-1], b"something else")
            entries = (msgspec.structs.replace(batch, commands=commands),)
            raw = encode_value(msgspec.structs.replace(value, entries=entries))
            chosen = msgspec.structs.replace(chosen, value=raw)
        chain = extend_chain(chain, value_hash(chosen.value))
        changed.append(SealedInstance(chosen, chain, instance.result_chain))
    return changed


def with_another_result(log: Sequence[SealedInstance], at: int) -> list[SealedInstance]:
    """The log of a member whose machine answered otherwise at one instance."""
    changed = list(log[: at - 1])
    for instance in log[at - 1 :]:
        assert instance.result_chain is not None
        changed.append(
            SealedInstance(
                instance.chosen, instance.chain, extend_chain(instance.result_chain, b"x" * 16)
            )
        )
    return changed


class PlayedReaders:
    """Reads folders in this process."""

    def __init__(self, folders: Mapping[str, Path], silent: Mapping[str, str]) -> None:
        self.readings = {name: LogReading(str(path), FAST) for name, path in folders.items()}
        self.silent = dict(silent)

    def call(self, method: str, timeout_s: float, *arguments: Any) -> dict[str, Any]:
        return {name: getattr(each, method)(*arguments) for name, each in self.readings.items()}


class PlayedCluster:
    """Says where logs begin and end, and which states there are."""

    def __init__(self, through: int, digests: Mapping[str, str]) -> None:
        self.through = through
        self.digests = digests

    def flush(self, group: int) -> None:
        pass

    def status(self) -> Any:
        position = SimpleNamespace(durable_through=self.through, log_floor=1)
        group = SimpleNamespace(group=1, positions=dict.fromkeys(self.digests, position))
        return SimpleNamespace(groups=(group,))

    def member_digests(self, group: int) -> dict[str, Any]:
        if not self.digests:
            raise ClusterError("no learner answers")
        return {name: _Digest(self.through, digest) for name, digest in self.digests.items()}


class _Digest(msgspec.Struct, frozen=True):
    applied_instance_id: int
    digest: str


def verify(
    folders: Mapping[str, Path],
    *,
    through: int = 40,
    digests: Mapping[str, str] | None = None,
    silent: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    cluster: Any = PlayedCluster(through, digests or dict.fromkeys(folders, "same"))
    readers: Any = PlayedReaders(folders, silent or {})
    return verify_group(cluster, 1, readers)


def test_equal_logs_that_begin_at_different_places_agree(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", log)
    make_member(tmp_path / "b", log, log_floor=21, checkpoints=[20, 30])
    found = verify({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert found["problems"] == []
    assert found["members"]["a"] == {"first": 1, "last": 40, "checkpoints": [], "problems": []}
    assert found["members"]["b"]["first"] == 21
    assert found["members"]["b"]["checkpoints"] == [20, 30]
    assert found["through"] == 40
    # Instances 21 to 40, and the checkpoint at 20.
    assert found["points"] == 21


def test_a_log_is_compared_with_a_checkpoint_where_they_do_not_overlap(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", log[:20])
    make_member(tmp_path / "b", log, log_floor=31, checkpoints=[20])
    found = verify({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert found["problems"] == []
    assert (found["points"], found["through"]) == (1, 20)


def test_logs_with_nothing_in_common_are_told(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", log[:20])
    make_member(tmp_path / "b", log, log_floor=31, checkpoints=[30])
    found = verify({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert found["problems"] == [
        "a: has nothing in common with others",
        "b: has nothing in common with others",
    ]


def test_the_first_value_that_differs_is_told_with_what_both_have(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", log)
    make_member(tmp_path / "b", log)
    make_member(tmp_path / "c", with_another_value(log, 17))
    found = verify({name: tmp_path / name for name in "abc"})
    (problem,) = found["problems"]
    assert problem.startswith("the values differ first at instance 17: ")
    assert problem.count(log[16].chain.hex()) == 2
    assert "put key" in problem
    assert "something else" in problem or "73 6f" in problem or "736f6d65" in problem


def test_the_first_result_that_differs_is_told(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", log)
    make_member(tmp_path / "b", with_another_result(log, 23))
    found = verify({"a": tmp_path / "a", "b": tmp_path / "b"})
    (problem,) = found["problems"]
    assert problem.startswith("the results differ first at instance 23: ")


def test_a_damaged_segment_is_told_with_its_name(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", log)
    make_member(tmp_path / "b", log)
    damaged = segment_path(tmp_path / "b", 21, 30)
    flip(damaged, damaged.stat().st_size // 2)
    found = verify({"a": tmp_path / "a", "b": tmp_path / "b"})
    (problem,) = found["problems"]
    assert problem.startswith("b: ")
    assert damaged.name in problem


def test_a_damaged_checkpoint_is_told_with_its_name(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", log, checkpoints=[30])
    make_member(tmp_path / "b", log)
    folder = checkpoint_path(tmp_path / "a", 30)
    flip(max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size))
    (problem,) = verify({"a": tmp_path / "a", "b": tmp_path / "b"})["problems"]
    assert problem.startswith("a: ")
    assert folder.name in problem


def test_a_checkpoint_that_is_not_of_its_own_log_is_told(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", with_another_value(log, 17), checkpoints=[30])
    make_member(tmp_path / "b", log)
    make_member(tmp_path / "c", log, checkpoints=[30])
    folder = checkpoint_path(tmp_path / "a", 30)
    other = checkpoint_path(tmp_path / "c", 30)
    for path in other.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(other)).write_bytes(path.read_bytes())
    (problem,) = verify({"a": tmp_path / "a"})["problems"]
    assert "a's checkpoint has" in problem


def test_states_that_differ_are_told(tmp_path: Path) -> None:
    log = make_log(40)
    make_member(tmp_path / "a", log)
    make_member(tmp_path / "b", log)
    digests = {"a": "one", "b": "two"}
    found = verify({name: tmp_path / name for name in "ab"}, digests=digests)
    assert found["problems"] == ["the states differ: a one, b two"]


def test_a_member_that_does_not_answer_is_told(tmp_path: Path) -> None:
    make_member(tmp_path / "a", make_log(10))
    make_member(tmp_path / "b", make_log(10))
    folders = {name: tmp_path / name for name in "ab"}
    found = verify(folders, through=10, silent={"c": "its learner does not serve: gone"})
    assert found["problems"] == ["c: its learner does not serve: gone"]


def test_reading_keeps_to_its_rate(tmp_path: Path) -> None:
    make_member(tmp_path / "a", make_log(40))
    fast = LogReading(str(tmp_path / "a"), FAST).scan(1, 40, 1)
    # About 40 * 200 bytes and the values: half a second and more.
    slow = LogReading(str(tmp_path / "a"), 20_000)
    started = slow._free_s
    assert slow.scan(1, 40, 1) == fast
    assert slow._free_s - started > 0.4


def test_points_before_a_difference_are_those_that_agree() -> None:
    same = ((10, "a", "r"), (20, "b", "s"))
    scans = {
        "m1": LogScan(1, 30, (*same, (30, "c", "t")), ()),
        "m2": LogScan(1, 30, (*same, (30, "x", "t")), ()),
    }
    found = compare(scans)
    assert found.difference is not None
    assert (found.difference.after, found.difference.instance_id) == (20, 30)
    assert found.through == 20


def test_a_result_that_is_not_known_is_compared_with_nothing() -> None:
    scans = {
        "m1": LogScan(1, 10, ((10, "a", None),), ()),
        "m2": LogScan(1, 10, ((10, "a", "r"),), ()),
    }
    assert compare(scans).difference is None
    assert first_difference({"m1": [(10, "a", None)], "m2": [(10, "a", "r")]}, "results") is None


def test_one_member_alone_is_no_difference() -> None:
    assert compare({"m1": LogScan(1, 10, ((10, "a", "r"),), ())}).alone == []
