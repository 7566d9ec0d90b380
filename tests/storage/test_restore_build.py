"""The members of a new cluster: what they hold, and that their roles open and go on."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ray_paxos.core.bootstrap import Activate, FolderFound, FolderState, NodeReport, Refuse, decide
from ray_paxos.core.learner import Learner
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.settings import AcceptorSettings, LearnerSettings
from ray_paxos.errors import ConfigurationError, DamageError
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import activate_member, find_members, stage_member
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.member_files import checkpoint_place
from ray_paxos.storage.opening import open_acceptor, open_learner
from ray_paxos.storage.restore_build import (
    ClusterBuilder,
    NewCluster,
    ParkedStates,
    building_aside,
    check_absent,
    decode_new_cluster,
    new_cluster,
)
from ray_paxos.storage.restore_state import RestoredState
from ray_paxos.storage.verification import verify_member
from tests.storage.member_support import FORMATS, host_at, make_log
from tests.storage.support import GENESIS, acceptor_state

LOG = make_log(30)
NAMES = ("one", "two", "three")

SPECS = {spec.group: spec for spec in GENESIS.groups}


def state_at(instance_id: int) -> RestoredState:
    at = LOG[instance_id - 1]
    assert at.result_chain is not None
    return RestoredState(instance_id, at.chain, at.result_chain, at.chosen.ballot, 0)


def make_cluster(instance_id: int = 20, name: str = "again") -> NewCluster:
    return new_cluster(name, NAMES, SPECS, {1: state_at(instance_id)}, Random(3))


def build(
    data_dir: Path, cluster: NewCluster, members: tuple[str, ...] = NAMES, at: int = 20
) -> list[Path]:
    with building_aside(data_dir, cluster.genesis.cluster, "token") as aside:
        builder = ClusterBuilder(data_dir, aside, cluster, members)
        builder.add_group(FORMATS, 1, host_at(LOG, at), state_at(at))
        return builder.publish()


def test_the_genesis_is_new_and_says_where_the_groups_go_on() -> None:
    genesis = make_cluster().genesis
    assert genesis.cluster_id != GENESIS.cluster_id
    assert [member.name for member in genesis.members] == list(NAMES)
    assert not {m.member_id for m in genesis.members} & {m.member_id for m in GENESIS.members}
    assert [(spec.group, spec.begins_after) for spec in genesis.groups] == [(0, 0), (1, 20)]
    assert len({voter.replica_id for voter in genesis.groups[1].voters}) == 3


def test_members_are_staged_with_the_state_and_open(tmp_path: Path) -> None:
    cluster = make_cluster()
    paths = build(tmp_path, cluster)
    assert [path.name for path in sorted((tmp_path).iterdir())] == ["again"]
    assert [found.state for found in find_members(tmp_path / "again")] == ["staged"] * 3
    for path, spec in zip(paths, cluster.genesis.members, strict=True):
        disk = LocalDisk(path)
        activate_member(disk)
        assert verify_member(disk, FORMATS).findings.faults == []
        acceptor = open_acceptor(
            disk, cluster.genesis, spec.member_id, settings=AcceptorSettings(), clock=lambda: 0
        )
        groups = acceptor_state(acceptor).groups
        assert (groups[1].floor, groups[0].floor) == (21, 1)
        acceptor.store.close()
        learner = open_learner(
            disk,
            cluster.genesis,
            spec.member_id,
            settings=LearnerSettings(),
            codec=FORMATS.segments,
            tables=FORMATS.tables,
            registry=MachineRegistry(),
            random=Random(1),
            now_ns=0,
        )
        assert isinstance(learner.role, GroupRouter)
        role = learner.role.roles[1]
        assert isinstance(role, Learner)
        assert (role.applied_through, role.log_floor) == (20, 21)
        host, old = role.host, host_at(LOG, 20)
        assert host.machine_digest() == old.machine_digest()
        assert (host.log_time_ns, host.session_count) == (old.log_time_ns, old.session_count)
        assert (host.master, host.master_version) == (None, old.master_version)
        learner.store.close()


def test_the_cut_goes_on_from_the_old_chains_and_ballots(tmp_path: Path) -> None:
    cluster = make_cluster()
    (path, *_) = build(tmp_path, cluster)
    identity = Identity(cluster.genesis, cluster.genesis.members[0].member_id)
    folder = CheckpointFolder.open(checkpoint_place(LocalDisk(path), FORMATS, identity, 1))
    cut = folder.load(20, MachineRegistry()).cut
    assert (cut.chain, cut.result_chain) == (LOG[19].chain, LOG[19].result_chain)
    assert cut.ballot == LOG[19].chosen.ballot
    assert cut.configuration == cluster.genesis.groups[1].configuration


def test_a_group_of_which_nothing_is_there_begins_anew(tmp_path: Path) -> None:
    nothing = RestoredState(0, bytes(16), bytes(16), LOG[0].chosen.ballot, 0)
    cluster = new_cluster("again", NAMES, SPECS, {1: nothing}, Random(3))
    with building_aside(tmp_path, "again", "token") as aside:
        builder = ClusterBuilder(tmp_path, aside, cluster, NAMES)
        builder.add_group(FORMATS, 1, host_at(LOG, 0), nothing)
        paths = builder.publish()
    assert list((paths[0] / "checkpointer/group=1").iterdir()) == []


def test_two_nodes_build_members_of_one_cluster(tmp_path: Path) -> None:
    cluster = make_cluster()
    text = cluster.encoded()
    again = decode_new_cluster(text, "x")
    assert again == cluster
    build(tmp_path / "a", cluster, ("one",))
    build(tmp_path / "b", again, ("two", "three"))
    build(tmp_path / "b2", again, ("three",))
    ids = {
        found.identity.genesis.cluster_id
        for node in ("a", "b", "b2")
        for found in find_members(tmp_path / node / "again")
        if found.identity is not None
    }
    assert ids == {cluster.genesis.cluster_id}


def test_a_second_member_on_a_node_joins_the_first(tmp_path: Path) -> None:
    cluster = make_cluster()
    build(tmp_path, cluster, ("one",))
    build(tmp_path, cluster, ("two",))
    assert [found.path.name for found in find_members(tmp_path / "again")] == ["one", "two"]


def test_another_state_than_the_shared_one_is_refused(tmp_path: Path) -> None:
    cluster = make_cluster(20)
    with pytest.raises(DamageError, match="is not that from which"):
        build(tmp_path, cluster, at=19)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_genesis_file_is_refused() -> None:
    text = bytearray(make_cluster().encoded())
    random = Random(2)
    for at in random.sample(range(len(text)), 60):
        text[at] ^= 1
        with pytest.raises(DamageError):
            decode_new_cluster(bytes(text), "x")
        text[at] ^= 1


def test_an_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "again" / "two").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="two exists"):
        check_absent(tmp_path / "again", NAMES)
    with pytest.raises(ConfigurationError, match="two exists"):
        build(tmp_path, make_cluster())
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["two"]


def test_what_was_built_aside_goes_where_it_breaks_off(tmp_path: Path) -> None:
    def break_off() -> None:
        with building_aside(tmp_path, "again", "token") as aside:
            (aside / "x").mkdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert list(tmp_path.iterdir()) == []


def found_on(node: str, data_dir: Path) -> NodeReport:
    folders = tuple(
        FolderFound(
            found.path.name,
            str(found.path),
            str(found.path),
            FolderState(found.state),
            found.identity.genesis,
            found.identity.member_id,
        )
        for found in find_members(data_dir / "again")
        if found.identity is not None
    )
    return NodeReport(node, node, True, folders=folders)


def test_a_start_makes_no_empty_member_beside_restored_ones(tmp_path: Path) -> None:
    """An empty one would count for a majority without the state that the others go on from."""
    cluster = make_cluster()
    build(tmp_path / "a", cluster, ("one", "two"))
    reports = [found_on("a", tmp_path / "a"), found_on("b", tmp_path / "b")]
    decision = decide("again", reports)
    assert isinstance(decision, Refuse)
    assert "no directory of three was found" in decision.reason
    assert "--genesis" in decision.reason
    build(tmp_path / "b", cluster, ("three",))
    reports = [found_on("a", tmp_path / "a"), found_on("b", tmp_path / "b")]
    decision = decide("again", reports)
    assert isinstance(decision, Activate)
    assert set(decision.places) == set(NAMES)


def test_a_member_staged_empty_never_votes_where_the_others_go_on(tmp_path: Path) -> None:
    cluster = make_cluster()
    disk = LocalDisk(tmp_path / "three")
    stage_member(disk, cluster.genesis, cluster.genesis.members[2].member_id)
    activate_member(disk)
    opened = open_acceptor(
        disk,
        cluster.genesis,
        cluster.genesis.members[2].member_id,
        settings=AcceptorSettings(),
        clock=lambda: 0,
    )
    assert acceptor_state(opened).groups[1].floor == 21
    opened.store.close()


def test_states_are_parked_one_by_one(tmp_path: Path) -> None:
    parked = ParkedStates(tmp_path, FORMATS, GENESIS, SPECS)
    for group, at in ((1, 20), (0, 30)):
        parked.park(group, host_at(LOG, at), state_at(at))
    for group, at in ((1, 20), (0, 30)):
        host = parked.take(group, state_at(at), MachineRegistry())
        assert host.digest() == host_at(LOG, at).digest()
