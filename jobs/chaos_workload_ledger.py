"""Clients that do the work of the keys of a ledger, some of them for longer than their lease."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chaos_judge_ledger import check_ledger
from chaos_recipe_clients import Call, Crew, Judgement, RecipeClient, RecipeWork, WorkPlace
from chaos_recipe_records import Holding, KeyLook, RecipeRecords, Tried
from chaos_workload_permits import stop_renewals
from ray_paxos.errors import LeaseLostError
from ray_paxos.recipes.ledger_claims import Claim, Done

if TYPE_CHECKING:
    from ray_paxos import Cluster
    from ray_paxos.recipes.ledger import Ledger

SECOND_NS = 1_000_000_000
LEASE_S = 1.5
EPOCH_S = 0.5
KEYS_PER_EPOCH = 6
OLD_SHARE = 0.3
WAIT_S = (0.2, 3.0)
STILL_SHARE = 0.08
ABORT_SHARE = 0.15
# What a client does, and how often in a hundred operations.
SHARES = {"run_once": 35, "begin": 35, "look": 20, "wait": 10}


class LedgerWork(RecipeWork):
    """One ledger, whose keys are others every few seconds."""

    def __init__(self, place: WorkPlace, records: RecipeRecords) -> None:
        """As of `RecipeWork`."""
        super().__init__(place, records)
        self.looks: list[KeyLook] = []
        self.tried: list[Tried] = []
        self.claims: list[Holding] = []

    def ledger(self, cluster: Cluster) -> Ledger[str]:
        """The ledger, of one client."""
        return cluster.ledger(
            f"chaos-{self.place.run}",
            lease_s=LEASE_S,
            encode=str.encode,
            decode=bytes.decode,
            group=self.place.group,
        )

    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """One that does all of it."""
        return _Worker(crew, self, number, self.ledger(cluster))

    def finish(self, cluster: Cluster) -> None:
        """What all keys came to."""
        asked_ns = time.monotonic_ns()
        ledger = self.ledger(cluster)
        for key, state in ledger.keys():  # noqa: SIM118  # it is no mapping
            self.note(key, "keys", state, asked_ns)

    def note(self, key: str, how: str, state: object, asked_ns: int) -> None:
        """Somebody was told what a key has come to."""
        outcome, token = (state.outcome, state.token) if isinstance(state, Done) else (None, 0)
        self.looks.append(KeyLook(key, how, outcome, token, asked_ns, time.monotonic_ns()))

    def judge(self, check_s: float) -> Judgement:
        """See `chaos_judge_ledger`."""
        done = {look.key for look in self.looks if look.outcome is not None}
        figures = {
            "keys_done": len(done),
            "outcomes_told": sum(look.outcome is not None for look in self.looks),
            "claims": len(self.claims),
            "stood_still": sum(claim.stood_still for claim in self.claims),
            "lost": sum(each.is_lost for each in self.tried),
        }
        checks = {"one_outcome": check_ledger(self.looks, self.tried, self.claims)}
        return Judgement(checks, len(self.looks) + len(self.claims), figures)


class _Worker(RecipeClient):
    def __init__(self, crew: Crew, work: LedgerWork, number: int, ledger: Ledger[str]) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._ledger = ledger

    def step(self) -> None:
        epoch = self._work.epoch(EPOCH_S)
        if self.chance(OLD_SHARE):
            epoch = self.random.randint(0, epoch)
        key = f"{epoch}/{self.random.randrange(KEYS_PER_EPOCH)}"
        kind = self.random.choices(list(SHARES), list(SHARES.values()))[0]
        if kind == "run_once":
            self._run_once(key)
        elif kind == "begin":
            self._begin(key)
        elif kind == "look":
            timeout_s = self.place.read_s
            look = self.call(
                "look", lambda: self._ledger.look(key, timeout_s=timeout_s), is_read=True
            )
            if look.is_ok:
                self._work.note(key, "look", look.value, look.asked_ns)
        else:
            self._wait(key)

    def _run_once(self, key: str) -> None:
        def work() -> str:
            time.sleep(self.random.uniform(0.0, 0.03))
            outcome = self.unique()
            self._work.tried.append(Tried(key, outcome))
            return outcome

        call = self.call("run_once", lambda: self._ledger.run_once(key, work))
        if call.is_ok:
            look = KeyLook(key, "run_once", call.value, 0, call.asked_ns, call.told_ns)
            self._work.looks.append(look)

    def _wait(self, key: str) -> None:
        timeout_s = self.random.uniform(*WAIT_S)
        call = self.call(
            "wait", lambda: self._ledger.wait_for_outcome(key, timeout_s=timeout_s), is_read=True
        )
        if call.is_ok:
            self._work.note(key, "wait", call.value, call.asked_ns)

    def _begin(self, key: str) -> None:
        timeout_s = self.place.command_s
        call: Call[Any] = self.call("begin", lambda: self._ledger.begin(key, timeout_s=timeout_s))
        if not call.is_ok:
            return
        self._work.note(key, "begin", call.value, call.asked_ns)
        if isinstance(call.value, Claim):
            claim = call.value
            holding = Holding(self.name, key, 1, claim.token, call.asked_ns, call.told_ns)
            self._work.claims.append(holding)
            self._do(claim, holding)

    def _do(self, claim: Claim[str], holding: Holding) -> None:
        now_ns = time.monotonic_ns()
        holding.known_until_ns = now_ns + int(claim.remaining_s * SECOND_NS)
        if self.chance(STILL_SHARE):
            holding.stood_still = True
            stop_renewals(claim)
            time.sleep(LEASE_S * self.random.uniform(1.1, 2.0))
            if claim.is_held:
                self.fail(f"{claim!r} is said to be held after its lease")
        else:
            time.sleep(self.random.uniform(0.0, 0.03))
            now_ns = time.monotonic_ns()
            until_ns = now_ns + int(claim.remaining_s * SECOND_NS)
            holding.known_until_ns = max(
                holding.known_until_ns, until_ns if until_ns > now_ns else 0
            )
        # From here on it may be over.
        holding.end_asked_ns = time.monotonic_ns()
        holding.known_until_ns = min(holding.known_until_ns, holding.end_asked_ns)
        if self.chance(ABORT_SHARE):
            abort = self.call("abort", claim.abort)
            holding.was_held = abort.value if abort.is_ok else None
            return
        self._commit(claim, holding)

    def _commit(self, claim: Claim[str], holding: Holding) -> None:
        outcome = self.unique()
        self._work.tried.append(Tried(claim.key, outcome))
        timeout_s = self.place.command_s
        for _ in range(2):
            call = self.call("commit", lambda: claim.commit(outcome, timeout_s=timeout_s))
            if call.is_ok:
                holding.was_held = True
                look = KeyLook(
                    claim.key,
                    "commit",
                    call.value.outcome,
                    call.value.token,
                    call.asked_ns,
                    call.told_ns,
                )
                self._work.looks.append(look)
                return
            if isinstance(call.error, LeaseLostError):
                holding.was_held = False
                self._work.tried.append(Tried(claim.key, outcome, is_lost=True))
                return
            # Committing the same again tells what became of it.
