"""Clients that hold locks, semaphores and leads, some of them for longer than they may.

A holder looks again and again whether it still knows to hold what it was granted, and writes by its
token to a store outside of the cluster meanwhile. Some stand still: their lease is renewed no more,
as if their process was stopped, and they write when it is over, without having looked. That is to
be refused wherever somebody else has written.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

from chaos_checks import check_linearizability
from chaos_judge_permits import (
    check_capacity,
    check_epochs_of_watches,
    check_leaders,
    check_tokens,
    check_writes,
    hand_overs_ns,
    history_of_locks,
)
from chaos_recipe_clients import Call, Crew, Judgement, RecipeClient, RecipeWork, WorkPlace
from chaos_recipe_records import (
    FencedStore,
    Holding,
    LeaderSeen,
    RecipeRecords,
    percentiles_ms,
)
from ray_paxos.errors import ClientClosedError
from ray_paxos.machines.permits import CAPACITY_MAX
from ray_paxos.testing.linearizability.lock import Lock as LockModel

if TYPE_CHECKING:
    from ray_paxos import Cluster
    from ray_paxos.recipes.election import Election, Leader
    from ray_paxos.recipes.ledger_claims import Claim
    from ray_paxos.recipes.lock import Lock, ReadWriteLock, Semaphore
    from ray_paxos.recipes.permit_recipe import Grant

    Handle: TypeAlias = Lock | ReadWriteLock | Semaphore | Election

SECOND_NS = 1_000_000_000
TTLS_S = (1.0, 1.5, 4.0)
"""Two that a change of masters mostly outlasts, and one that mostly outlasts it."""
CAPACITY = 3
STILL_SHARE = 0.05
"""So many holders stand still."""
LONG_SHARE = 0.03
"""So many hold it for longer than the lease, which is renewed."""
WAIT_S = (1.0, 8.0)
READING_SHARE = 0.7
LOOKS_MAX = 4
OBSERVING_SHARE = 0.3


class PermitWork(RecipeWork):
    """Of locks, locks for readers and a writer, semaphores and elections.

    Attributes:
        kind: The workload's name.
        holdings: Whatever was granted.
        store: What holders write to.
        seen: Who leads, as was told.
        watched: The same, as each watch told.
    """

    def __init__(self, place: WorkPlace, records: RecipeRecords, kind: str) -> None:
        """As of `RecipeWork`."""
        super().__init__(place, records)
        self.kind = kind
        self.holdings: list[Holding] = []
        self.store = FencedStore()
        self.seen: list[LeaderSeen] = []
        self.watched: dict[str, list[LeaderSeen]] = defaultdict(list)

    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """One that holds."""
        return _Holder(crew, self, number, self.handles(cluster))

    def handles(self, cluster: Cluster) -> list[Handle]:
        """What there is to hold."""
        names = [(f"chaos-{self.place.run}-{n}", ttl_s) for n, ttl_s in enumerate(TTLS_S)]
        group = self.place.group
        if self.kind == "lock":
            return [cluster.lock(name, ttl_s=ttl_s, group=group) for name, ttl_s in names]
        if self.kind == "rw-lock":
            return [cluster.rw_lock(name, ttl_s=ttl_s, group=group) for name, ttl_s in names]
        if self.kind == "semaphore":
            return [
                cluster.semaphore(name, CAPACITY, ttl_s=ttl_s, group=group) for name, ttl_s in names
            ]
        return [cluster.election(name, ttl_s=ttl_s, group=group) for name, ttl_s in names]

    @property
    def is_of_one(self) -> bool:
        """Whether one holder is alone with it."""
        return self.kind in ("lock", "election")

    def judge(self, check_s: float) -> Judgement:
        """See `chaos_judge_permits`."""
        holdings, writes = self.holdings, self.store.writes
        capacity = {"semaphore": CAPACITY, "rw-lock": CAPACITY_MAX}.get(self.kind, 1)
        capacities = dict.fromkeys({each.resource for each in holdings}, capacity)
        checks = {
            "mutual_exclusion": check_capacity(holdings, capacities),
            "tokens": check_tokens(holdings),
            "fenced": check_writes(writes),
        }
        late = [write for write in writes if write.is_late]
        figures = {
            "grants": len(holdings),
            "stood_still": sum(each.stood_still for each in holdings),
            "lost": sum(each.was_held is False for each in holdings),
            "writes": len(writes),
            "late_writes": len(late),
            "late_writes_refused": sum(not write.is_taken for write in late),
            "hand_over_ms": percentiles_ms(hand_overs_ns(holdings)),
        }
        checked = len(holdings) + len(writes) + len(self.seen)
        if self.kind == "election":
            checks["one_leader"] = check_leaders(holdings, self.seen)
            checks["watches"] = check_epochs_of_watches(self.watched)
            figures["leaders_seen"] = len(self.seen)
            figures["changes_watched"] = sum(map(len, self.watched.values()))
        if not self.is_of_one:
            return Judgement(checks, checked, figures)
        history = check_linearizability(history_of_locks(holdings), check_s, model=LockModel())
        checks["linearizable"] = list(history.problems)
        return Judgement(checks, checked, figures, history)


class _Holder(RecipeClient):
    def __init__(self, crew: Crew, work: PermitWork, number: int, handles: list[Handle]) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._handles = handles
        self._watches: list[Any] = []

    def begin(self) -> None:
        if self._work.kind != "election" or self.number:
            return
        for handle in self._handles:
            self._watches.append(handle.watch(self._note_of(handle)))  # type: ignore[union-attr]

    def end(self) -> None:
        for watch in self._watches:
            watch.close()

    def _note_of(self, election: Handle) -> Any:
        told = self._work.watched[f"watch of {election.name}"]

        def note(leader: Leader | None) -> None:
            now_ns = time.monotonic_ns()
            candidate, epoch = leader if leader is not None else (None, 0)
            told.append(LeaderSeen(election.name, candidate, epoch, now_ns, now_ns))

        return note

    def step(self) -> None:
        handle = self.random.choice(self._handles)
        if self._work.kind == "election" and self.chance(OBSERVING_SHARE):
            self._observe(handle)
            return
        units, call = self._acquire(handle)
        if call.is_ok:
            holding = Holding(
                self.name, handle.name, units, call.value.token, call.asked_ns, call.told_ns
            )
            self._work.holdings.append(holding)
            self._hold(handle, call.value, holding)

    def _acquire(self, handle: Any) -> tuple[int, Call[Grant]]:
        """Ask for it; with how many units of it."""
        timeout_s = self.random.uniform(*WAIT_S)
        kind = self._work.kind
        if kind == "lock":
            return 1, self.call("acquire", lambda: handle.acquire(timeout_s=timeout_s))
        if kind == "election":
            return 1, self.call("lead", lambda: handle.lead(self.name, timeout_s=timeout_s))
        if kind == "semaphore":
            units = self.random.randint(1, CAPACITY)
            return units, self.call("acquire", lambda: handle.acquire(units, timeout_s=timeout_s))
        if self.chance(READING_SHARE):
            return 1, self.call("reading", lambda: handle.reading(timeout_s=timeout_s))
        return CAPACITY_MAX, self.call("writing", lambda: handle.writing(timeout_s=timeout_s))

    def _hold(self, handle: Handle, grant: Grant, holding: Holding) -> None:
        if self.chance(STILL_SHARE):
            self._stand_still(handle, grant, holding)
        else:
            is_long = self.chance(LONG_SHARE)
            until_ns = holding.granted_ns + int(handle.ttl_s * 1.3 * SECOND_NS) if is_long else 0
            looks = self.random.randint(1, LOOKS_MAX)
            while looks > 0 or time.monotonic_ns() < until_ns:
                if not self._look(grant, holding):
                    break
                looks -= 1
                # Also while clients are to end: what is held long is held on.
                time.sleep(self.random.uniform(0.001, 0.06 if is_long else 0.02))
        self._release(grant, holding)

    def _look(self, grant: Grant, holding: Holding) -> bool:
        """See whether it is still known to be held, and write where it is."""
        now_ns = time.monotonic_ns()
        remaining_s = grant.remaining_s
        if remaining_s <= 0:
            return False
        until_ns = now_ns + int(remaining_s * SECOND_NS)
        holding.known_until_ns = max(holding.known_until_ns, until_ns)
        # Who holds it with others does not fence them out.
        if holding.units == CAPACITY_MAX or self._work.is_of_one:
            self._work.store.write(holding.resource, holding.token, until_ns)
        return True

    def _stand_still(self, handle: Handle, grant: Grant, holding: Holding) -> None:
        holding.stood_still = True
        if not self._look(grant, holding):
            return
        stop_renewals(grant)
        still_s = handle.ttl_s * self.random.uniform(1.1, 2.0)
        time.sleep(still_s)
        # It wakes and writes before it has looked at any clock.
        if holding.units == CAPACITY_MAX or self._work.is_of_one:
            self._work.store.write(holding.resource, holding.token, 0, is_late=True)
        if grant.is_held:
            self.fail(f"{grant!r} is said to be held {still_s:.2f} s after its last renewal")

    def _release(self, grant: Grant, holding: Holding) -> None:
        timeout_s = self.place.command_s
        call = self.call("release", lambda: grant.release(timeout_s=timeout_s))
        holding.end_asked_ns = call.asked_ns
        holding.known_until_ns = min(holding.known_until_ns, call.asked_ns)
        if call.is_ok:
            holding.was_held = call.value

    def _observe(self, election: Any) -> None:
        timeout_s = self.place.read_s
        call: Call[Leader | None] = self.call(
            "leader", lambda: election.leader(timeout_s=timeout_s), is_read=True
        )
        if call.is_ok:
            candidate, epoch = call.value if call.value is not None else (None, 0)
            seen = LeaderSeen(election.name, candidate, epoch, call.asked_ns, call.told_ns)
            self._work.seen.append(seen)


def stop_renewals(grant: Grant | Claim[str]) -> None:
    """Have a lease renewed no more, as that of a process that stands still.

    The one place where a workload reaches behind a handle: no program has a use for this.
    """

    def stopped() -> Any:
        raise ClientClosedError("this holder stands still")

    grant._lease._renew = stopped
