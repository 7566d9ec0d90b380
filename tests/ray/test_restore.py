"""A cluster that is archived, lost, and restored as of an instance, on real Ray."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ray_paxos
from ray_paxos.cli.main import main
from ray_paxos.errors import PaxosError
from ray_paxos.machines import kv
from tests.ray import helpers
from tests.ray.helpers import wait_for

pytestmark = pytest.mark.fused_by_default

TEXT = """
cluster: vault
members: 3
archive: file://{archive}
data_dir: {data_dir}
learner: {{seal_age_ms: 100}}
logging: {{level: WARNING}}
roles: {arrangement}
"""


def made_config(tmp_path: Path, arrangement: str) -> tuple[Path, Path, Path]:
    """The folders of archive and data, and the configuration that names them."""
    archive, data_dir = tmp_path / "archive", tmp_path / "data"
    archive.mkdir()
    config = tmp_path / "vault.yaml"
    config.write_text(TEXT.format(archive=archive, data_dir=data_dir, arrangement=arrangement))
    return archive, data_dir, config


def archive_state(member: str) -> dict[str, Any]:
    def told() -> dict[str, Any]:
        (status,) = (m for m in ray_paxos.connect("vault").status().members if m.name == member)
        groups = status.roles["checkpointer"].groups
        return groups[1]["archive"] if groups is not None else {}

    return wait_for("m1 tells of its archive", told)


def wait_until_archived(through: int) -> int:
    def archived_through() -> int:
        archived: int = archive_state("m1")["archived_through"]
        return archived if archived >= through else 0

    return wait_for(f"m1 has archived through {through}", archived_through)


def wait_until_group_is_archived(cluster: ray_paxos.Cluster, group: int) -> None:
    """All that a member had learned of it when this begins."""

    def learned() -> int:
        (status,) = (each for each in cluster.status().groups if each.group == group)
        return max(each.learned_through for each in status.positions.values())

    through = learned()

    def is_archived() -> bool:
        checkpointers = [m.roles["checkpointer"].groups or {} for m in cluster.status().members]
        archived = [c[group]["archive"]["archived_through"] for c in checkpointers if group in c]
        return max(archived, default=0) >= through

    wait_for(f"group {group} is archived through {through}", is_archived)


def put(client: ray_paxos.Client, key: str, value: bytes) -> int:
    return helpers.put(client, key, value).instance_id


def get(client: ray_paxos.Client, key: str) -> bytes | None:
    return helpers.read(client, key).value


def test_a_cluster_is_archived_lost_restored_and_goes_on(
    local_ray: None, tmp_path: Path, arrangement: str
) -> None:
    archive, data_dir, config = made_config(tmp_path, arrangement)
    cluster = ray_paxos.start(config)
    old_client = cluster.client(label="old")
    chosen = 0
    for number in range(20):
        chosen = put(old_client, f"key{number}", b"before")
    last = put(old_client, "key0", b"after")
    assert last > chosen
    wait_until_archived(last)
    old_id = cluster.status().cluster_id
    # The archive goes away: nothing is disturbed, and status says so.
    archive.rename(tmp_path / "away")
    wait_for(
        "m1 misses its archive",
        lambda: put(old_client, "late", b"x") and archive_state("m1")["problem"],
    )
    assert "make or mount it" in archive_state("m1")["problem"]
    (tmp_path / "away").rename(archive)
    end = put(old_client, "late", b"y")
    wait_until_archived(end)
    assert archive_state("m1")["problem"] == ""
    cluster.stop(delete_data=True)
    shutil.rmtree(data_dir, ignore_errors=True)

    arguments = ["restore", "--from", f"file://{archive}", "--at", str(chosen), "--config"]
    result = CliRunner().invoke(main, [*arguments, str(config), "--yes"])
    assert result.exit_code == 0, result.output

    cluster = ray_paxos.start(config)
    try:
        assert cluster.status().cluster_id != old_id
        with cluster.client(label="new") as client:
            assert get(client, "key0") == b"before"
            assert get(client, "key19") == b"before"
            assert get(client, "late") is None
            assert put(client, "key0", b"restored") > chosen
            assert get(client, "key0") == b"restored"
            # A client of the lost cluster is told something, and changes nothing.
            with pytest.raises(PaxosError):
                old_client.propose(kv.encode_put("key1", b"old"), timeout_s=5)
            assert get(client, "key1") == b"before"
        assert wait_until_archived(1) > chosen
    finally:
        old_client.close(timeout_s=1.0)
        cluster.stop(delete_data=True)


@pytest.mark.slow
def test_groups_that_were_made_later_are_restored_and_dropped_ones_are_not(
    local_ray: None, tmp_path: Path, arrangement: str
) -> None:
    """Nothing of them is in the genesis: what they began with is in group 0."""
    archive, data_dir, config = made_config(tmp_path, arrangement)
    cluster = ray_paxos.start(config)
    for group in (7, 8):
        cluster.operations.create_group(group)
        with cluster.client(group) as client:
            put(client, "where", b"%d" % group)
    # A member that changed is part of what is computed again.
    (away, *_) = cluster.group(7).members().voters
    cluster.group(7).remove(away)
    cluster.operations.drop_group(8)
    with cluster.client(7) as client:
        put(client, "last", b"of all")
    cluster.flush()
    for group in (0, 7):
        wait_until_group_is_archived(cluster, group)
    cluster.stop(delete_data=True)
    shutil.rmtree(data_dir, ignore_errors=True)
    arguments = ["restore", "--from", f"file://{archive}", "--config", str(config), "--yes"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "not restored: group 8 was dropped" in result.output
    cluster = ray_paxos.start(config)
    try:
        assert sorted(g.group for g in cluster.status().groups) == [0, 1, 7]
        with cluster.client(7) as client:
            assert get(client, "where") == b"7"
            assert get(client, "last") == b"of all"
    finally:
        cluster.stop(delete_data=True)
