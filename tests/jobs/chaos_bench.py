"""The injector on processes and a clock of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos_gaps import SECOND_NS
from chaos_injection import Injector
from chaos_plan import FaultKind, PlannedFault
from chaos_voters import GroupVoters
from ray_paxos.errors import TransferError
from tests.jobs.chaos_fakes import (
    FakeChangedGroup,
    FakeChanges,
    FakeExecutor,
    FakeMembers,
    FakeNodes,
    FakeOrders,
    Flaws,
)

MEMBERS = ("m1", "m2", "m3")
FIVE = ("m1", "m2", "m3", "m4", "m5")


@dataclass
class Bench:
    """A cluster whose time passes only while the injector waits."""

    members: tuple[str, ...] = MEMBERS
    now_ns: int = 0
    handed_over: list[str | None] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    harmed_most: int = 0
    refuses: bool = False
    flaws: Flaws = field(default_factory=Flaws)
    voters: dict[int, tuple[str, ...]] = field(default_factory=dict)
    kinds: tuple[FaultKind, ...] = ()
    is_ordered: bool = False

    def __post_init__(self) -> None:
        self.processes = FakeMembers(self.members, back_after_s=1.5, clock_ns=lambda: self.now_ns)
        self.changes = FakeChanges(self.members, [0, 1], self.flaws)
        for group, names in self.voters.items():
            self.changes.voters[group] = set(names)
        self.executor = FakeExecutor()
        self.nodes = FakeNodes(self.processes)
        groups = [group for group in self.changes.voters if group]
        self.processes.groups = groups
        self.injector = Injector(
            self,
            self.processes,
            GroupVoters(self.members, self.changes.voters),
            groups,
            self.executor,
            kinds=self.kinds,
            nodes=self.nodes,
            is_ordered=self.is_ordered,
            say=self.said.append,
            clock_ns=lambda: self.now_ns,
            sleep=self.sleep,
        )

        self.nodes.site_of = self.injector.account.site_of

    def sleep(self, seconds: float) -> None:
        self.now_ns += max(int(seconds * SECOND_NS), 1)

    def drop_master(self, group: int, *, timeout_s: float) -> str | None:
        self.handed_over.append(None)
        return None

    def transfer_master(self, member: str, group: int, *, timeout_s: float) -> None:
        self.handed_over.append(member)
        if self.refuses:
            raise TransferError("it is too far behind")

    def group(self, group: int) -> FakeChangedGroup:
        return self.changes.group(group)

    @property
    def operations(self) -> FakeOrders:
        return self.changes.operations

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
