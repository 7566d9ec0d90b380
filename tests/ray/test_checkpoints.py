"""Checkpoints, cleaning, installs and repair on Ray, and what `status` says of damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import ray_paxos
from ray_paxos.config import ClusterConfiguration, parse_configuration
from ray_paxos.errors import ClusterError, ConfigurationError
from ray_paxos.machines import kv
from tests.ray.helpers import end_member, put, read, wait_for
from verify_log import reading, verify_group

pytestmark = pytest.mark.fused_by_default

# Small segments, short logs, and a scrubber that comes around within seconds.
CONFIGURATION = """
cluster: checkpoints
members: 3
logging: {level: WARNING}
learner: {seal_bytes: 20_000, seal_age_ms: 100, memory_bytes: 10_000, hold_count: 10}
checkpointer: {checkpoint_instances: 40, scrub_bytes_per_s: 100_000_000, scrub_interval_ms: 100}
"""


@pytest.fixture(scope="module")
def kept_configuration(arrangement: str) -> ClusterConfiguration:
    return parse_configuration(f"{CONFIGURATION}roles: {arrangement}\n")


@pytest.fixture(scope="module")
def kept(local_ray: None, kept_configuration: ClusterConfiguration) -> Iterator[ray_paxos.Cluster]:
    """A cluster of this module's own: what is damaged here is not the other tests' business."""
    started = ray_paxos.start(kept_configuration)
    yield started
    started.stop(delete_data=True)


@pytest.fixture
def kept_client(kept: ray_paxos.Cluster) -> Iterator[ray_paxos.Client]:
    with kept.client(label="test") as opened:
        yield opened


def write(client: ray_paxos.Client, prefix: str, values: int = 50) -> None:
    """So many values at least, each of some thousand bytes."""
    for number in range(values):
        client.propose_many([kv.encode_put(f"{prefix}{number % 7}", bytes([number]) * 3_000)])


def of_role(cluster: ray_paxos.Cluster, member: str, role: str, field: str, group: int = 1) -> int:
    """A number that a role tells of a group; 0 where it does not serve."""
    (status,) = (m for m in cluster.status().members if m.name == member)
    found = (status.roles[role].groups or {}).get(group, {}).get(field, 0)
    assert isinstance(found, int)
    return found


def promises(cluster: ray_paxos.Cluster) -> dict[str, tuple[int, ...]]:
    """What each acceptor that serves has promised in group 1, in the order of ballots."""
    found = {}
    for member in cluster.status().members:
        groups = member.roles["acceptor"].groups
        if groups is not None:
            promise = groups[1]["promise"]
            found[member.name] = tuple(promise.values() if isinstance(promise, dict) else promise)
    return found


def check_agreement(cluster: ray_paxos.Cluster) -> None:
    digests = cluster.member_digests()
    assert set(digests) == set(cluster.members)
    assert len(set(digests.values())) == 1, digests


def segments(home: Path, cluster: str, member: str) -> list[Path]:
    folder = home / cluster / member / "learner" / "log" / "group=1"
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("_"))


def flip(path: Path) -> None:
    """Change one byte in the middle of a file, in place."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_a_checkpoint_is_made_on_demand_on_all_members(
    kept: ray_paxos.Cluster, kept_client: ray_paxos.Client
) -> None:
    written = put(kept_client, "before", b"1")
    # It covers what a member has learned: followers are told a moment after the client.
    kept.member_digests()
    made = kept.checkpoint()
    assert set(made) == set(kept.members)
    assert min(made.values()) >= written.instance_id
    (group,) = (g for g in kept.status().groups if g.group == 1)
    assert {name: position.checkpoint for name, position in group.positions.items()} == made
    with pytest.raises(ConfigurationError, match="found 9; allowed: 0, 1"):
        kept.checkpoint(9)
    put(kept_client, "after", b"2")
    with pytest.raises(ClusterError, match="in time"):
        kept.checkpoint(timeout_s=0.0)


def test_members_start_from_a_checkpoint_and_the_log_after_it(
    kept: ray_paxos.Cluster,
    kept_client: ray_paxos.Client,
    kept_configuration: ClusterConfiguration,
) -> None:
    write(kept_client, "cleaned")
    kept.checkpoint()
    write(kept_client, "cleaned", 3)
    wait_for(
        "logs are cleaned below checkpoints",
        lambda: all(of_role(kept, name, "learner", "log_floor") > 1 for name in kept.members),
    )
    before = kept.member_digests()
    kept.stop()
    again = ray_paxos.start(kept_configuration)
    assert not again.was_running
    assert read(kept_client, "cleaned0").value == bytes([0]) * 3_000
    assert read(kept_client, "cleaned3").value == bytes([45]) * 3_000
    check_agreement(again)
    applied = {digest.applied_instance_id for digest in again.member_digests().values()}
    assert min(applied) >= max(digest.applied_instance_id for digest in before.values())
    put(kept_client, "goes on", b"1")


def test_a_member_away_for_longer_than_the_logs_reach_installs_a_checkpoint(
    kept: ray_paxos.Cluster,
    kept_client: ray_paxos.Client,
    kept_configuration: ClusterConfiguration,
) -> None:
    put(kept_client, "while all are there", b"1")
    kept.member_digests()
    master = kept.wait_for_master()
    assert master is not None
    away = next(name for name in kept.members if name != master.member)
    others = [name for name in kept.members if name != away]
    promised = promises(kept)
    end_member(kept, away)
    # It may have learned something after it was asked last, but no more than the others.
    learned = max(of_role(kept, name, "learner", "learned_through") for name in others)

    def is_cleaned() -> bool:
        # Logs are cleaned by whole segments, below the older of two checkpoints.
        write(kept_client, "while it is away")
        assert set(kept.checkpoint()) == set(others)
        floors = [of_role(kept, name, "learner", "log_floor") for name in others]
        return min(floors) > learned + 1

    wait_for("the others' logs are cleaned beyond it", is_cleaned)
    again = ray_paxos.start(kept_configuration)
    assert again.was_running
    wait_for(
        "it gets a checkpoint",
        lambda: of_role(again, away, "checkpointer", "received_bytes") > 0,
    )
    check_agreement(again)
    assert of_role(again, away, "learner", "log_floor") > learned + 1
    now = promises(again)
    assert all(now[name] >= promised[name] for name in kept.members)
    put(kept_client, "it is back", b"1")
    check_agreement(again)


def test_logs_of_members_that_run_are_compared(
    kept: ray_paxos.Cluster, kept_client: ray_paxos.Client
) -> None:
    write(kept_client, "compared", 10)
    with reading(kept, 100_000_000) as readers:
        found = verify_group(kept, 1, readers)
    assert found["problems"] == []
    assert set(found["members"]) == set(found["digests"]) == set(kept.members)
    assert found["points"] >= 1
    assert found["through"] >= 10


def test_a_damaged_segment_of_a_running_member_is_found_and_repaired(
    kept: ray_paxos.Cluster, kept_client: ray_paxos.Client, home: Path
) -> None:
    write(kept_client, "damaged", 10)
    kept.flush(1)
    check_agreement(kept)
    member = kept.members[2]
    damaged = segments(home, kept.name, member)[-1]
    whole = damaged.read_bytes()
    flip(damaged)
    flipped = damaged.read_bytes()
    assert flipped != whole
    wait_for("it is found", lambda: of_role(kept, member, "checkpointer", "damaged_files") == 1)
    wait_for("it is repaired", lambda: not damaged.exists() or damaged.read_bytes() != flipped)
    wait_for(
        "no alarm but the count is left",
        lambda: (
            [text for text in alarms_of(kept, member) if "damaged" in text]
            == [text for text in alarms_of(kept, member) if "1 damaged files were found" in text]
        ),
    )
    check_agreement(kept)


def alarms_of(cluster: ray_paxos.Cluster, member: str) -> tuple[str, ...]:
    (status,) = (m for m in cluster.status().members if m.name == member)
    return status.alarms


def test_damage_at_rest_is_served_by_nobody_and_repaired(
    kept: ray_paxos.Cluster,
    kept_client: ray_paxos.Client,
    kept_configuration: ClusterConfiguration,
    home: Path,
) -> None:
    kept.checkpoint()
    write(kept_client, "at rest", 10)
    kept.flush(1)
    first, second, _ = kept.members
    kept.stop()
    segment = segments(home, kept.name, first)[-1]
    flip(segment)
    folder = home / kept.name / second / "checkpointer" / "group=1"
    newest = max(path for path in folder.iterdir() if path.name.isdigit())
    flip(max(newest.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size))
    again = ray_paxos.start(kept_configuration)
    assert read(kept_client, "at rest3").value == bytes([3]) * 3_000
    check_agreement(again)
    assert any(segment.name in text for text in alarms_of(again, first))
    assert any(newest.name in text for text in alarms_of(again, second))
    wait_for("the checkpoint is set aside", lambda: (folder / f"damaged-{newest.name}").exists())
    wait_for(
        "another one is made",
        lambda: again.checkpoint().keys() == set(again.members),
    )


def test_an_emptied_folder_does_not_vote_and_status_says_what_to_do(
    kept: ray_paxos.Cluster,
    kept_client: ray_paxos.Client,
    kept_configuration: ClusterConfiguration,
    home: Path,
    tmp_path: Path,
) -> None:
    member = kept.members[1]
    folder = home / kept.name / member
    kept.stop()
    aside = folder.with_name(f"{member}-aside")
    folder.rename(aside.parent.parent / aside.name)
    folder.mkdir()
    try:
        again = ray_paxos.start(kept_configuration)
        put(kept_client, "by the other two", b"1")
        assert not list(folder.iterdir())
        found = again.status()
        assert f"ray-paxos members replace {member}" in found.alarms[0]
        assert "never votes again" in found.alarms[0]
        assert found.alarms[0].startswith(f"{member}: ")
        again.stop()
    finally:
        folder.rmdir()
        (aside.parent.parent / aside.name).rename(folder)
    # The very disk, brought back.
    again = ray_paxos.start(kept_configuration)
    check_agreement(again)
    assert not any("replace" in text for text in again.status().alarms)


def test_a_damaged_journal_does_not_vote_and_status_says_what_to_do(
    kept: ray_paxos.Cluster,
    kept_client: ray_paxos.Client,
    kept_configuration: ClusterConfiguration,
    home: Path,
) -> None:
    member = kept.members[1]
    kept.stop()
    journal = home / kept.name / member / "acceptor" / "journal"
    flip(max(journal.iterdir(), key=lambda path: path.stat().st_size))
    again = ray_paxos.start(kept_configuration)
    put(kept_client, "by the other two, too", b"1")
    found = again.status()
    assert "does not vote" in found.alarms[0]
    assert f"ray-paxos members replace {member}" in found.alarms[0]
    assert str(journal) in found.alarms[0]
    # It goes on learning.
    wait_for(
        "its learner follows",
        lambda: len({digest for digest in again.member_digests().values()}) == 1,
    )
