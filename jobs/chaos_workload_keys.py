"""Clients that move something between keys, each time in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from chaos_checks import check_linearizability
from chaos_judge_keys import (
    ACCOUNTS,
    CLOSED,
    FIRST_BALANCE,
    Accounts,
    Bank,
    check_totals,
)
from chaos_recipe_clients import Crew, Judgement, RecipeClient, RecipeWork, WorkPlace
from chaos_recipe_records import RecipeRecords
from ray_paxos.machines.kv import Get, HasVersion, Put, Read, TxnDone
from ray_paxos.testing.history import Event, HistoryRecorder

if TYPE_CHECKING:
    from ray_paxos import Cluster, KeyValue

READ_S = 30.0
EPOCH_S = 2.5
OLD_SHARE = 0.25
READING_SHARE = 0.4


def space_name(place: WorkPlace, what: str) -> str:
    """Of the space of keys that a run has for itself."""
    return f"chaos-{what}-{place.run}".replace(".", "-")


class TxnWork(RecipeWork):
    """Banks, another one every few seconds: what a checker has to search grows with each."""

    def __init__(
        self, place: WorkPlace, records: RecipeRecords, sink: Callable[[Event], None] | None
    ) -> None:
        """As of `RecipeWork`; with what takes the history as it happens."""
        super().__init__(place, records)
        self.history = HistoryRecorder(sink)
        self.reads: list[tuple[str, Accounts]] = []
        self.banks: set[str] = set()

    def space(self, cluster: Cluster) -> KeyValue:
        """The keys, of one client: all of one group."""
        return cluster.kv(space_name(self.place, "txn"), groups=[self.place.group])

    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """One that does all of it."""
        return _Teller(crew, self, number, self.space(cluster))

    def finish(self, cluster: Cluster) -> None:
        """A last read of every bank."""
        space = self.space(cluster)
        for bank in sorted(self.banks):
            number = self.history.invoke("last-reads", "read", bank, now_ns=time.monotonic_ns())
            accounts = read_bank(space, bank, READ_S)
            self.history.ok(number, as_lists(accounts), now_ns=time.monotonic_ns())
            self.reads.append((bank, accounts))

    def judge(self, check_s: float) -> Judgement:
        """See `chaos_judge_keys`."""
        verdict = check_linearizability(self.history.history(), check_s, model=Bank())
        checks = {
            "totals": check_totals(self.reads),
            "linearizable": list(verdict.problems),
        }
        figures = {"banks": len(self.banks), "reads": len(self.reads)}
        return Judgement(checks, verdict.operations, figures, verdict)


def account(bank: str, number: int) -> str:
    """The key of an account."""
    return f"{bank}/{number}"


def read_bank(space: KeyValue, bank: str, timeout_s: float) -> Accounts:
    """All accounts of a bank, in one transaction.

    Raises:
        RequestError: It has no outcome.
    """
    gets = [Get(account(bank, number)) for number in range(ACCOUNTS)]
    return accounts_of(space.txn([], gets, timeout_s=timeout_s))


def accounts_of(done: TxnDone) -> Accounts:
    """What the gets of a transaction found."""
    found = []
    for result in done.results:
        assert isinstance(result, Read), "the result of a get"
        found.append((result.version, int(result.value or b"0")))
    return tuple(found)


def as_lists(accounts: Accounts) -> list[list[int]]:
    """For a history."""
    return [list(each) for each in accounts]


class _Teller(RecipeClient):
    def __init__(self, crew: Crew, work: TxnWork, number: int, space: KeyValue) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._space = space

    def step(self) -> None:
        epoch = self._work.epoch(EPOCH_S)
        bank = f"bank-{max(epoch - self.chance(OLD_SHARE), 0)}"
        self._work.banks.add(bank)
        accounts = self._read(bank)
        if accounts is None or self.chance(READING_SHARE):
            return
        if accounts == CLOSED:
            self._open(bank)
        else:
            self._transfer(bank, accounts)

    def _read(self, bank: str) -> Accounts | None:
        history, timeout_s = self._work.history, self.place.command_s
        number = history.invoke(self.name, "read", bank, now_ns=time.monotonic_ns())
        call = self.call("read", lambda: read_bank(self._space, bank, timeout_s), is_read=True)
        if not call.is_ok:
            # Whatever became of it, it changes nothing.
            history.failed(number, now_ns=time.monotonic_ns())
            return None
        history.ok(number, as_lists(call.value), now_ns=time.monotonic_ns())
        self._work.reads.append((bank, call.value))
        return call.value

    def _open(self, bank: str) -> None:
        keys = [account(bank, number) for number in range(ACCOUNTS)]
        conditions = [HasVersion(key, 0) for key in keys]
        puts = [Put(key, b"%d" % FIRST_BALANCE) for key in keys]
        timeout_s = self.place.command_s
        self._recorded(
            "open",
            bank,
            None,
            lambda: self._space.txn(conditions, puts, timeout_s=timeout_s),
            lambda done: done.held,
        )

    def _transfer(self, bank: str, accounts: Accounts) -> None:
        source, target = self.random.sample(range(ACCOUNTS), 2)
        amount = self.random.randint(1, 10)
        keys = account(bank, source), account(bank, target)
        versions = accounts[source][0], accounts[target][0]
        balances = accounts[source][1] - amount, accounts[target][1] + amount
        conditions = [HasVersion(key, n) for key, n in zip(keys, versions, strict=True)]
        puts = [Put(key, b"%d" % n) for key, n in zip(keys, balances, strict=True)]
        gets = [Get(key) for key in keys]
        timeout_s = self.place.command_s
        self._recorded(
            "transfer",
            bank,
            [source, target, *versions, *balances],
            lambda: self._space.txn(conditions, puts, gets, timeout_s=timeout_s),
            lambda done: True if done.held else as_lists(accounts_of(done)),
        )

    def _recorded(
        self,
        kind: str,
        bank: str,
        argument: object,
        transact: Callable[[], TxnDone],
        result_of: Callable[[TxnDone], object],
    ) -> None:
        """Do something, and record what came of it; what has no outcome stays open."""
        history = self._work.history
        number = history.invoke(self.name, kind, bank, argument, now_ns=time.monotonic_ns())
        call = self.call(kind, transact)
        if call.is_ok:
            history.ok(number, result_of(call.value), now_ns=time.monotonic_ns())
        elif call.is_refused:
            history.failed(number, now_ns=time.monotonic_ns())
