"""Who leads while some links are down: F7, F10-F12, and the three shapes of OmniPaxos (F11)."""

from __future__ import annotations

import dataclasses

import pytest

from ray_paxos.core.client_messages import MasterTransferred, Submitted, TransferMaster
from ray_paxos.core.lease import held_ms
from ray_paxos.core.settings import AcceptorSettings
from tests.unit.core_helpers import MS
from tests.unit.small_cluster import SETTINGS, SmallCluster

TIMEOUT_MS = SETTINGS.election_timeout_ns // MS
INTERVAL_MS = SETTINGS.heartbeat_interval_ns // MS
LEASE_MS = held_ms(SETTINGS.lease_ns // MS, AcceptorSettings().clock_drift_ppm)
FAIL_OVER_MS = LEASE_MS + 2 * TIMEOUT_MS
SEEDS = range(3)


def led_by(count: int, master: int, *, seed: int = 1, lease: bool = True) -> SmallCluster:
    """A cluster with some entries, led by this member."""
    settings = SETTINGS if lease else dataclasses.replace(SETTINGS, lease_ns=0)
    cluster = SmallCluster(count, seed=seed, settings=settings)
    cluster.run(5_000, until_master=True)
    cluster.run(1_000)
    (first,) = cluster.masters
    if first != master:
        cluster.tell(first, TransferMaster(1, master))
        cluster.run(1_000)
    assert cluster.masters == [master]
    cluster.submit(master, range(10, 20))
    cluster.run(1_000)
    assert len([r for r in cluster.replies if isinstance(r, Submitted)]) == 10
    assert cluster.holders == ([master] if lease else [])
    cluster.reigns.clear()
    cluster.replies.clear()
    return cluster


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lease", [True, False])
def test_a_master_in_peace_leads_on(seed: int, lease: bool) -> None:
    cluster = led_by(3, 1, seed=seed, lease=lease)
    cluster.run(60_000)
    assert cluster.reigns == []
    assert cluster.masters == [1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_master_that_dies_is_followed_once_its_lease_is_over(seed: int) -> None:
    cluster = led_by(3, 1, seed=seed)
    lease_until_ns = cluster.proposer(1).lease_until_ns
    cluster.stopped.add(1)
    began_ms = cluster.now_ns // MS
    cluster.run(FAIL_OVER_MS)
    ((at_ms, _),) = cluster.reigns
    assert at_ms * MS > lease_until_ns
    # As soon as that: who was refused comes back when the refusals say.
    assert at_ms - began_ms <= LEASE_MS + INTERVAL_MS + TIMEOUT_MS // 2


@pytest.mark.parametrize("seed", SEEDS)
def test_without_leases_it_is_followed_after_an_election_timeout(seed: int) -> None:
    cluster = led_by(3, 1, seed=seed, lease=False)
    cluster.stopped.add(1)
    began_ms = cluster.now_ns // MS
    cluster.run(FAIL_OVER_MS)
    ((at_ms, _),) = cluster.reigns
    assert TIMEOUT_MS - INTERVAL_MS <= at_ms - began_ms <= 3 * TIMEOUT_MS


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lease", [True, False])
def test_a_member_that_was_cut_off_comes_back_without_unseating_anybody(
    seed: int, lease: bool
) -> None:
    # F12, the commonest of all.
    cluster = led_by(3, 1, seed=seed, lease=lease)
    for _ in range(3):
        cluster.only((1, 2))
        cluster.submit(1, range(20, 25))
        cluster.run(15_000)
        cluster.heal()
        cluster.run(5_000)
        assert cluster.learned(3) == cluster.learned(1)
    assert cluster.reigns == []
    assert cluster.masters == [1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_master_that_is_cut_off_steps_down_and_the_others_lead(seed: int) -> None:
    cluster = led_by(3, 1, seed=seed)
    cluster.only((2, 3))
    cluster.run(TIMEOUT_MS + 2 * INTERVAL_MS)
    assert cluster.masters == [], "before anybody else can lead"
    cluster.run(FAIL_OVER_MS)
    (second,) = cluster.masters
    assert second in (2, 3)
    cluster.heal()
    cluster.run(10_000)
    assert cluster.masters == [second]
    assert len(cluster.reigns) == 1


@pytest.mark.parametrize("seed", range(8))
def test_leases_are_disjoint_whatever_the_clocks_do_within_their_drift(seed: int) -> None:
    # The cluster asserts it after every message. The master's clock is slow, all others are fast.
    cluster = SmallCluster(3, seed=seed)
    cluster.run(5_000, until_master=True)
    (first,) = cluster.masters
    # Everybody knows of it, and of nothing that a clock has shown so far.
    cluster = SmallCluster(3, seed=seed, rates={m: 0.99 if m == first else 1.01 for m in (1, 2, 3)})
    cluster.run(10_000, until_master=True)
    cluster.run(2_000)
    (master,) = cluster.masters
    others = [m for m in (1, 2, 3) if m != master]
    cluster.only((others[0], others[1]))
    cluster.run(2 * FAIL_OVER_MS)
    assert cluster.holders == cluster.masters
    assert cluster.masters != [master]


# OmniPaxos, section 2.


@pytest.mark.parametrize("seed", SEEDS)
def test_quorum_loss(seed: int) -> None:
    """The master and all others hear only member 3; who hears a majority has to lead."""
    cluster = led_by(5, 1, seed=seed)
    cluster.only((1, 3), (2, 3), (4, 3), (5, 3))
    cluster.run(2 * FAIL_OVER_MS)
    assert cluster.masters == [3]
    cluster.submit(3, range(30, 35))
    cluster.run(30_000)
    assert len([r for r in cluster.replies if isinstance(r, Submitted)]) == 5
    assert cluster.masters == [3]
    assert [member_id for _, member_id in cluster.reigns] == [3], "and nobody unseats it"


@pytest.mark.parametrize("seed", SEEDS)
def test_constrained_election(seed: int) -> None:
    """The only member that hears a majority has the shortest log, and the master is gone."""
    cluster = led_by(5, 1, seed=seed)
    cluster.only((1, 2), (1, 4), (1, 5), (2, 4), (2, 5), (4, 5))
    cluster.submit(1, range(20, 60))
    cluster.run(1_000)
    known_to_others = cluster.learned(2)
    assert cluster.learned(3) < known_to_others
    cluster.only((2, 3), (4, 3), (5, 3))
    cluster.run(2 * FAIL_OVER_MS)
    assert cluster.masters == [3]
    assert cluster.learned(3) > known_to_others, "and it learned what it missed"
    cluster.run(30_000)
    assert [member_id for _, member_id in cluster.reigns] == [3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lease", [True, False])
def test_chained(seed: int, lease: bool) -> None:
    """Members 1 and 3 do not hear each other, 2 hears both: the master goes on."""
    cluster = led_by(3, 1, seed=seed, lease=lease)
    cluster.only((1, 2), (2, 3))
    rounds = cluster.proposer(3)._round_seen
    cluster.run(60_000)
    assert cluster.masters == [1]
    assert cluster.reigns == []
    assert cluster.proposer(3)._round_seen == rounds, "no ballot is raised meanwhile"


# One-way cuts (F10).


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("deaf", [True, False])
def test_a_master_that_is_cut_off_one_way_is_followed(seed: int, deaf: bool) -> None:
    cluster = led_by(3, 1, seed=seed)
    cluster.links -= {(m, 1) if deaf else (1, m) for m in (2, 3)}
    cluster.run(2 * FAIL_OVER_MS)
    (second,) = cluster.masters
    assert second in (2, 3)
    cluster.heal()
    cluster.run(10_000)
    assert cluster.masters == [second]


# Handing over.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", [0, 2, 3])
def test_a_lead_that_is_handed_over_goes_on_without_waiting_for_the_lease(
    seed: int, target: int
) -> None:
    cluster = led_by(3, 1, seed=seed)
    cluster.submit(1, range(20, 25))
    began_ms = cluster.now_ns // MS
    cluster.tell(1, TransferMaster(7, target))
    cluster.run(1_000)
    ((at_ms, second),) = cluster.reigns
    assert second == target or (not target and second != 1)
    assert at_ms - began_ms < 100
    assert MasterTransferred(7, second) in cluster.replies
    assert cluster.masters == [second]
    cluster.run(20_000)
    assert len(cluster.reigns) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lead_that_is_handed_to_a_dead_member_is_taken_by_another(seed: int) -> None:
    # Schedule 21: the ballot that was released lives on nowhere.
    cluster = led_by(3, 1, seed=seed)
    cluster.stopped.add(2)
    cluster.tell(1, TransferMaster(7, 2))
    cluster.run(3 * TIMEOUT_MS + INTERVAL_MS)
    assert MasterTransferred(7, 2) in cluster.replies
    assert len(cluster.masters) == 1
    assert 2 not in cluster.masters


@pytest.mark.parametrize("seed", SEEDS)
def test_the_member_of_the_highest_priority_leads_in_the_end(seed: int) -> None:
    cluster = SmallCluster(3, seed=seed, priorities={2: 5})
    cluster.run(15_000)
    assert cluster.masters == [2]
    cluster.run(20_000)
    assert cluster.masters == [2]
    cluster.stopped.add(2)
    cluster.run(2 * FAIL_OVER_MS)
    assert len(set(cluster.masters) - {2}) == 1
    cluster.stopped.discard(2)
    cluster.run(3 * SETTINGS.preferred_settled_ns // MS)
    assert cluster.masters == [2]
