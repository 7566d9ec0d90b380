"""Keys: transfers between accounts, watches, and values that end by themselves.

Rules:

1. Transfers are transactions: whoever reads all accounts in one, or by a linearizable read of one
   page, sees all the money there is.
2. A watch is told each version of each key once, in order and without a gap, with the value that
   was written as that version; or that something is missing, and then begins anew.
3. A value with a time to live is there for that time, by the clock of whoever wrote it, counted
   from before it wrote it; and, once nobody writes it any more, it is gone some time later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar

from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.kv import (
    Change,
    Conflict,
    Get,
    HasVersion,
    Put,
    Read,
    Renewed,
    TxnDone,
    Written,
    decode_changed,
    decode_page,
    decode_result,
    encode_changes,
    encode_delete,
    encode_dump,
    encode_get,
    encode_put,
    encode_put_for,
    encode_record,
    encode_renew,
    encode_txn,
)
from ray_paxos.machines.kv_machine import NO_OFFSET
from ray_paxos.testing.recipe_check import Recipe, Table
from ray_paxos.testing.recipe_client import Play, RecipeClient, Step
from ray_paxos.testing.recipe_machines import RECIPE_KV

ACCOUNTS = tuple(f"accounts/{number}" for number in range(4))
MONEY = 100
"""In each account at first."""
WATCHED = "watched/"
END = f"{WATCHED}end"
TTLS_MS = (80, 300, 1_000)


class Transfers(Recipe):
    """Accounts, and those who move money between them."""

    title: ClassVar[str] = "kv-txn"
    machine: ClassVar[str] = RECIPE_KV

    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """Some who transfer, and one who reads."""
        return [self._transfer_all] * self.table.random.randint(2, 3) + [self._read_all]

    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """No money is lost."""
        self._check_page(machine.query(encode_dump("accounts/")))

    def _transfer_all(self, client: RecipeClient) -> Play:
        nobody = tuple(HasVersion(key, 0) for key in ACCOUNTS)
        start = tuple(Put(key, b"%d" % MONEY) for key in ACCOUNTS)
        yield from client.command(self.machine, encode_txn(nobody, start))
        while not client.stopped:
            yield from client.rest(50)
            yield from self._transfer(client)

    def _transfer(self, client: RecipeClient) -> Play:
        source, target = client.random.sample(ACCOUNTS, 2)
        command = encode_txn((), (Get(source), Get(target)))
        outcome = yield from client.command(self.machine, command)
        done = decode_result(outcome.result or b"")
        assert isinstance(done, TxnDone)
        there, here = (each for each in done.results if isinstance(each, Read))
        assert there.value is not None and here.value is not None, "accounts are there"
        amount = client.random.randint(1, 20)
        conditions = (HasVersion(source, there.version), HasVersion(target, here.version))
        puts = (
            Put(source, b"%d" % (int(there.value) - amount)),
            Put(target, b"%d" % (int(here.value) + amount)),
        )
        otherwise = tuple(Get(key) for key in ACCOUNTS)
        command = encode_txn(conditions, puts, otherwise)
        outcome = yield from client.command(self.machine, command)
        done = decode_result(outcome.result or b"")
        assert isinstance(done, TxnDone)
        if not done.held:
            self.saw("conflict")
            reads = [each for each in done.results if isinstance(each, Read)]
            self._check_sum([int(each.value or b"0") for each in reads])
            return
        self.saw("transferred")
        versions = [each.version for each in done.results if isinstance(each, Written)]
        self.expect(
            versions == [there.version + 1, here.version + 1],
            f"a transfer under versions {there.version} and {here.version} has written {versions}",
        )

    def _read_all(self, client: RecipeClient) -> Play:
        while not client.stopped:
            yield from client.rest(80)
            answer = yield from client.read(self.machine, encode_dump("accounts/"))
            if answer is not None:
                self._check_page(answer.result)

    def _check_page(self, page: bytes) -> None:
        entries = decode_page(page).entries
        if entries:
            self.saw("all read")
            self._check_sum([int(each.value) for each in entries])

    def _check_sum(self, amounts: list[int]) -> None:
        self.expect(
            len(amounts) == len(ACCOUNTS) and sum(amounts) == MONEY * len(ACCOUNTS),
            f"the accounts have {amounts}",
        )


class Watches(Recipe):
    """Keys that are written, and those who watch them."""

    title: ClassVar[str] = "kv-watch"
    machine: ClassVar[str] = RECIPE_KV

    def __init__(self, table: Table) -> None:
        """Draw who writes."""
        super().__init__(table)
        self._writers = table.random.randint(1, 2)
        self._values: dict[tuple[str, int], bytes | None] = {}

    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """Writers and watchers."""
        return [self._write_all] * self._writers + [self._watch] * 2

    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """Each key has the last version that anybody wrote or saw."""
        last: dict[str, int] = {}
        for key, version in self._values:
            last[key] = max(version, last.get(key, 0))
        for key, version in last.items():
            found = decode_result(machine.query(encode_get(key)))
            value = self._values[key, version]
            self.expect(
                found == Read(value is not None, version, value),
                f"{key} is {found} in the end, and was {value!r} as version {version}",
            )

    def _write_all(self, client: RecipeClient) -> Play:
        count = 0
        while not client.stopped:
            yield from client.rest(80)
            count += 1
            key = f"{WATCHED}{client.random.randrange(3)}"
            value: bytes | None = b"%s/%d" % (client.name.encode(), count)
            if client.random.random() < 0.15:
                value = None
                command = encode_delete(key)
            else:
                assert value is not None
                command = encode_put(key, value)
            outcome = yield from client.command(self.machine, command)
            result = decode_result(outcome.result or b"")
            assert isinstance(result, Written)
            self._is(key, result.version, value)
        self._writers -= 1
        if not self._writers:
            # Whoever watches ends with this.
            yield from client.command(self.machine, encode_put(END, b"end"))

    def _is(self, key: str, version: int, value: bytes | None) -> None:
        known = self._values.setdefault((key, version), value)
        self.expect(known == value, f"{key}, version {version}, is {known!r}, and {value!r}")

    def _watch(self, client: RecipeClient) -> Play:
        while True:
            outcome = yield from client.command(self.machine, encode_record())
            position = (outcome.instance_id, NO_OFFSET)
            # What has ended by then is not told any more.
            answer = None
            while answer is None:
                answer = yield from client.read(self.machine, encode_get(END))
            ended = decode_result(answer.result)
            if isinstance(ended, Read) and ended.found:
                return
            is_over = yield from self._follow(client, position)
            if is_over:
                return

    def _follow(
        self, client: RecipeClient, position: tuple[int, int]
    ) -> Generator[Step, Any, bool]:
        """Watch on; whether the end was seen, and not a gap."""
        known: dict[str, int] = {}
        while True:
            request = encode_changes(WATCHED, *position)
            answer = yield from client.wait(self.machine, request, position[0])
            assert answer is not None, "it has all the time there is"
            changed = decode_changed(answer.result)
            if changed.is_compacted:
                self.saw("gap told")
                yield from client.pause(20)
                return False
            self.expect(bool(changed.changes), "no change, and an answer")
            for change in changed.changes:
                self._changed(change, known, position)
                position = (change.instance_id, change.offset)
                if change.key == END:
                    return True
            self.saw("change told")
            self.expect(
                position == (changed.instance_id, changed.offset),
                f"to go on from {(changed.instance_id, changed.offset)}, after {position}",
            )

    def _changed(self, change: Change, known: dict[str, int], after: tuple[int, int]) -> None:
        self.expect((change.instance_id, change.offset) > after, f"{change} is told after {after}")
        version = known.setdefault(change.key, change.version - 1)
        self.expect(change.version == version + 1, f"{change} is told after version {version}")
        known[change.key] = change.version
        if change.key != END:
            self._is(change.key, change.version, change.value)


class Lifetimes(Recipe):
    """Values that end by themselves, each of one client."""

    title: ClassVar[str] = "kv-ttl"
    machine: ClassVar[str] = RECIPE_KV

    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """Some, each with a key of its own."""
        return [self._live] * 2

    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """All have ended, as their clients have seen."""

    def _live(self, client: RecipeClient) -> Play:
        draw, key = client.random, f"lives/{client.name}"
        while not client.stopped:
            yield from client.rest(50)
            ttl_ms = draw.choice(TTLS_MS)
            asked_ns = client.now_ns
            command = encode_put_for(key, b"alive", ttl_ms)
            outcome = yield from client.command(self.machine, command)
            written = decode_result(outcome.result or b"")
            assert isinstance(written, Written)
            until_ns = asked_ns + self.table.trusted_ns(ttl_ms)
            for _ in range(draw.randint(1, 3)):
                yield from client.rest(ttl_ms)
                if draw.random() < 0.5:
                    asked_ns = client.now_ns
                    renewed = yield from self._renew(client, key, ttl_ms, written.version, until_ns)
                    if not renewed:
                        break
                    until_ns = asked_ns + self.table.trusted_ns(ttl_ms)
                yield from self._look(client, key, written.version, until_ns)
        yield from self._see_it_end(client, key)

    def _renew(
        self, client: RecipeClient, key: str, ttl_ms: int, version: int, until_ns: int
    ) -> Generator[Step, Any, bool]:
        outcome = yield from client.command(self.machine, encode_renew(key, ttl_ms, version))
        result = decode_result(outcome.result or b"")
        if isinstance(result, Conflict):
            self.saw("renewed too late")
            self._check_over(client, key, until_ns)
            return False
        self.expect(result == Renewed(version), f"{key} of version {version}: {result}")
        self.saw("renewed")
        return True

    def _look(self, client: RecipeClient, key: str, version: int, until_ns: int) -> Play:
        answer = yield from client.read(self.machine, encode_get(key))
        if answer is None:
            return
        found = decode_result(answer.result)
        assert isinstance(found, Read)
        if not found.found:
            self.saw("ended")
            self._check_over(client, key, until_ns)
            self.expect(found.version == version + 1, f"{key} has ended as {found}")
        else:
            self.saw("alive")
            self.expect(found.version == version, f"{key} of {version} is {found}")

    def _check_over(self, client: RecipeClient, key: str, until_ns: int) -> None:
        self.expect(client.now_ns >= until_ns, f"{key} has ended before its time")

    def _see_it_end(self, client: RecipeClient, key: str) -> Play:
        """Nobody writes it any more: before long it is gone."""
        while True:
            answer = yield from client.read(self.machine, encode_get(key))
            found = decode_result(answer.result) if answer is not None else None
            if isinstance(found, Read) and not found.found:
                self.saw("seen to end")
                return
            yield from client.pause(200)
