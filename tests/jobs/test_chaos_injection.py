"""The injector on processes and a clock of this test: what overlaps, what is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from chaos_gaps import SECOND_NS
from chaos_injection import Injector
from chaos_plan import DEFAULT_KINDS, ROLES, FaultKind, PlannedFault, minority, plan_faults
from ray_paxos.errors import TransferError
from tests.jobs.chaos_fakes import FakeMembers

MEMBERS = ("m1", "m2", "m3")


@dataclass
class Bench:
    """A cluster whose time passes only while the injector waits."""

    members: tuple[str, ...] = MEMBERS
    now_ns: int = 0
    handed_over: list[str | None] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    harmed_most: int = 0
    refuses: bool = False

    def __post_init__(self) -> None:
        self.processes = FakeMembers(self.members, back_after_s=1.5, clock_ns=lambda: self.now_ns)
        self.injector = Injector(
            self,
            self.processes,
            1,
            say=self.said.append,
            clock_ns=lambda: self.now_ns,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.now_ns += max(int(seconds * SECOND_NS), 1)

    def drop_master(self, group: int, *, timeout_s: float) -> str | None:
        self.handed_over.append(None)
        return None

    def transfer_master(self, member: str, group: int, *, timeout_s: float) -> None:
        self.handed_over.append(member)
        if self.refuses:
            raise TransferError("it is too far behind")

    def run(self, plan: Iterator[PlannedFault], until_s: float) -> None:
        self.injector.run(plan, int(until_s * SECOND_NS))


def planned(kind: FaultKind, after_s: float = 1.0, **fields: object) -> PlannedFault:
    defaults = {
        "is_for_master": False,
        "draw": 0.0,
        "role": "learner",
        "pause_s": 2.0,
        "is_transfer": True,
    }
    return PlannedFault(kind, after_s, **{**defaults, **fields})  # type: ignore[arg-type]


def watch_harm(bench: Bench) -> None:
    """Look, after each signal, how many members are not whole."""

    def watched(signal):
        def send(lives, *arguments):
            hit = bench.processes.places_of(lives)
            count: int = signal(lives, *arguments)
            # But for those that hit everything.
            if len({place[0] for place in hit}) == 1:
                bench.harmed_most = max(bench.harmed_most, len(bench.processes.harmed()))
            return count

        return send

    bench.processes.kill = watched(bench.processes.kill)  # type: ignore[method-assign]
    bench.processes.pause = watched(bench.processes.pause)  # type: ignore[method-assign]


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_never_more_than_a_minority_is_harmed(seed: int, count: int) -> None:
    bench = Bench(tuple(f"m{number}" for number in range(1, count + 1)))
    watch_harm(bench)
    kinds = (*DEFAULT_KINDS, FaultKind.PAUSE_ROLE)
    bench.run(plan_faults(kinds, seed, 1.0), 300)
    assert bench.harmed_most == minority(count)
    found = [disturbance.kind for disturbance in bench.injector.disturbances]
    assert set(found) == set(kinds)
    assert len(found) > 100
    assert bench.injector.heal(30.0) == []
    assert all(disturbance.end_ns is not None for disturbance in bench.injector.disturbances)


def test_each_kind_does_what_it_says() -> None:
    bench = Bench()
    plan = [
        planned(FaultKind.KILL_ROLE, role="acceptor", is_for_master=True),
        planned(FaultKind.KILL_MEMBER, after_s=5.0, draw=0.5),
        planned(FaultKind.PAUSE_MEMBER, after_s=5.0, draw=0.9),
        planned(FaultKind.PAUSE_ROLE, after_s=5.0),
        planned(FaultKind.RESTART_ALL, after_s=5.0),
        planned(FaultKind.DROP_MASTER),
    ]
    bench.run(iter(plan), 60)
    killed_role, killed_member, killed_all = bench.processes.killed
    assert killed_role == [("m1", "acceptor")]
    assert killed_member == [("m2", role) for role in ROLES]
    assert killed_all == bench.processes.places
    assert bench.processes.stopped == [[("m3", role) for role in ROLES], [("m1", "learner")]]
    assert bench.handed_over == ["m2"]
    assert bench.said == [
        "kill-role m1/acceptor (master)",
        "kill-member m2",
        "pause-member m3 for 2.0 s",
        "pause-role m1/learner (master) for 2.0 s",
        "restart-all all members",
        "drop-master m1 to m2",
    ]
    assert bench.now_ns == 60 * SECOND_NS


def test_an_account_is_open_until_everything_serves_again() -> None:
    bench = Bench()
    bench.run(iter([planned(FaultKind.KILL_ROLE), planned(FaultKind.PAUSE_MEMBER, 4.0)]), 20)
    killed, paused = bench.injector.disturbances
    assert killed.start_ns == 1 * SECOND_NS
    assert 2.5 <= (killed.end_ns or 0) / SECOND_NS < 3.2
    assert paused.start_ns == 5 * SECOND_NS
    assert 7.0 <= (paused.end_ns or 0) / SECOND_NS < 7.7


def test_a_member_may_be_killed_while_it_is_paused() -> None:
    bench = Bench()
    plan = [
        planned(FaultKind.PAUSE_MEMBER, pause_s=6.0, draw=0.5),
        planned(FaultKind.KILL_MEMBER, draw=0.9),
    ]
    bench.run(iter(plan), 20)
    assert bench.processes.killed == [[("m2", role) for role in ROLES]]
    assert bench.injector.is_whole


def test_a_fault_waits_until_it_may_hit_somebody() -> None:
    bench = Bench()
    # The only member that may be hit has no process left to kill.
    plan = [planned(FaultKind.KILL_MEMBER), planned(FaultKind.KILL_MEMBER, 0.1, draw=0.9)]
    bench.run(iter(plan), 20)
    first, second = bench.injector.disturbances
    assert second.start_ns >= first.start_ns + int(1.5 * SECOND_NS)


def test_nothing_happens_while_everything_is_restarted() -> None:
    bench = Bench()
    plan = [planned(FaultKind.RESTART_ALL), planned(FaultKind.DROP_MASTER, 0.1)]
    bench.run(iter(plan), 20)
    restart, drop = bench.injector.disturbances
    assert restart.end_ns is not None
    assert drop.start_ns >= restart.end_ns >= restart.start_ns + int(1.5 * SECOND_NS)


def test_nothing_is_injected_at_the_end_or_later() -> None:
    bench = Bench()
    bench.run(iter([planned(FaultKind.KILL_ROLE, 5.0)]), 5)
    assert bench.injector.disturbances == []
    assert bench.now_ns == 5 * SECOND_NS
    bench.run(plan_faults(DEFAULT_KINDS, 1, 0.2), 30)
    assert bench.now_ns < 31 * SECOND_NS


def test_a_refused_transfer_is_told() -> None:
    bench = Bench(refuses=True)
    bench.run(iter([planned(FaultKind.DROP_MASTER)]), 3)
    (refused,) = bench.injector.disturbances
    assert refused.refusal == "it is too far behind"
    assert bench.said == ["drop-master m1 to m2: refused: it is too far behind"]


def test_healing_continues_what_is_stopped_and_names_what_does_not_come_back() -> None:
    bench = Bench()
    bench.run(iter([planned(FaultKind.PAUSE_MEMBER, pause_s=1_000.0)]), 3)
    assert not bench.injector.is_whole
    assert bench.injector.heal(10.0) == []
    assert bench.processes.resumed == 1
    bench.processes.never_back = True
    started_ns = bench.now_ns
    (problem,) = bench.injector.heal(10.0)
    assert problem == "not all roles served within 10 s of the last fault: m1/learner"
    assert bench.now_ns - started_ns < 11 * SECOND_NS
