"""Clients that write keys, and clients that watch them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from chaos_judge_keys import check_watch
from chaos_recipe_clients import Crew, Judgement, RecipeClient, RecipeWork, WorkPlace
from chaos_recipe_records import ChangeSeen, KeyWritten, RecipeRecords, percentiles_ms
from chaos_workload_keys import READ_S, space_name
from ray_paxos.errors import CompactedError, PaxosError, WaitTimeoutError
from ray_paxos.machines.kv import Conflict

if TYPE_CHECKING:
    from ray_paxos import Cluster, KeyValue
    from ray_paxos.key_watch import KeyChange, KeyPosition, KeyWatch

WATCHED_KEYS = 6
WATCHERS = 2
REOPEN_SHARE = 0.02
WATCH_WAIT_S = 1.0
LAST_S = 20.0


class WatchWork(RecipeWork):
    """Keys that are written and watched. The first clients watch, all others write."""

    def __init__(self, place: WorkPlace, records: RecipeRecords) -> None:
        """As of `RecipeWork`."""
        super().__init__(place, records)
        self.written: list[KeyWritten] = []
        self.told: dict[str, list[ChangeSeen]] = defaultdict(list)
        self.told_ns: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
        self.reopened = 0
        self.found: dict[str, tuple[int, str | None]] = {}
        self._watchers: list[_Watcher] = []

    def space(self, cluster: Cluster) -> KeyValue:
        """The keys, of one client."""
        return cluster.kv(space_name(self.place, "watch"), groups=[self.place.group])

    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """One that watches, or writes."""
        space = self.space(cluster)
        if number < min(WATCHERS, self.place.clients - 1):
            # From before the first write: so nothing is missing at the beginning either.
            watcher = _Watcher(crew, self, number, space, space.watch("key/", timeout_s=READ_S))
            self._watchers.append(watcher)
            return watcher
        return _Writer(crew, self, number, space)

    def finish(self, cluster: Cluster) -> None:
        """What there is in the end; and what watches have to tell still."""
        space = self.space(cluster)
        for number in range(WATCHED_KEYS):
            found = space.read(f"key/{number}", timeout_s=READ_S)
            value = found.value.decode() if found.value is not None else None
            self.found[f"key/{number}"] = (found.version, value)
        for watcher in self._watchers:
            watcher.catch_up(self.found)

    def judge(self, check_s: float) -> Judgement:
        """See `chaos_judge_keys`."""
        ends = {watcher.record: watcher.ends(self.found) for watcher in self._watchers}
        problems = [
            problem
            for record, told in self.told.items()
            for problem in check_watch(record, told, self.written, ends.get(record, {}))
        ]
        written_ns = {(each.key, each.version): each.told_ns for each in self.written}
        delays = [
            max(at_ns - written_ns[key, version], 0)
            for told in self.told_ns.values()
            for key, version, at_ns in told
            if (key, version) in written_ns
        ]
        changes = sum(map(len, self.told.values()))
        figures = {
            "written": len(self.written),
            "told": changes,
            "gaps_said": sum(each.is_after_gap for told in self.told.values() for each in told),
            "reopened": self.reopened,
            "begun_anew": len(self.told) - len(self._watchers),
            "told_after_ms": percentiles_ms(delays),
        }
        return Judgement({"watches": problems}, changes + len(self.written), figures)


class _Writer(RecipeClient):
    def __init__(self, crew: Crew, work: WatchWork, number: int, space: KeyValue) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._space = space

    def step(self) -> None:
        key, value = f"key/{self.random.randrange(WATCHED_KEYS)}", self.unique()
        kind = self.random.choices(["put", "cas", "delete"], [70, 15, 15])[0]
        timeout_s = self.place.command_s
        if kind == "put":
            call = self.call(
                kind, lambda: self._space.put(key, value.encode(), timeout_s=timeout_s)
            )
            self._note(call.result.version if call.result else None, key, value)
        elif kind == "delete":
            call = self.call(kind, lambda: self._space.delete(key, timeout_s=timeout_s))
            self._note(call.result.version if call.result else None, key, None)
        else:
            read_s = self.place.read_s
            found = self.call("get", lambda: self._space.read(key, timeout_s=read_s), is_read=True)
            if found.is_ok:
                self._compare_and_set(key, value, found.value.version)

    def _compare_and_set(self, key: str, value: str, version: int) -> None:
        timeout_s = self.place.command_s
        call = self.call(
            "cas", lambda: self._space.cas(key, value.encode(), version, timeout_s=timeout_s)
        )
        if call.is_ok and not isinstance(call.value, Conflict):
            self._note(call.value.version, key, value)

    def _note(self, version: int | None, key: str, value: str | None) -> None:
        if version is not None:
            self._work.written.append(KeyWritten(key, version, value, time.monotonic_ns()))


class _Watcher(RecipeClient):
    """Watches, and is begun again from its position now and then.

    Where nobody remembers what came after that, it begins anew with what is there: what it tells
    from then on is another record, of which the first change of each key comes after a gap.
    """

    def __init__(
        self, crew: Crew, work: WatchWork, number: int, space: KeyValue, watch: KeyWatch
    ) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._space = space
        self._watch: KeyWatch | None = watch
        self._position: KeyPosition | None = watch.position
        self._begun = 0
        # So that there is one also if nothing is told.
        self._told()

    @property
    def record(self) -> str:
        """Name of what it tells."""
        return f"{self.name}, begun anew {self._begun}" if self._begun else self.name

    def _told(self) -> list[ChangeSeen]:
        return self._work.told[self.record]

    def step(self) -> None:
        watch = self._open()
        if watch is None:
            return
        call = self.call("watch", lambda: watch.next(WATCH_WAIT_S), is_read=True)
        if call.is_ok:
            self._note(call.value)
            if not self._begun or len(self._told()) >= WATCHED_KEYS:
                # Of what is there to begin with a position knows all or nothing.
                self._position = watch.position
        elif call.error is not None and not isinstance(call.error, WaitTimeoutError):
            self._break_off(call.error)
            return
        if self._position is not None and self.chance(REOPEN_SHARE):
            # As a program would that is started again: what was told is known, the rest is not.
            self._close()

    def pause(self, pause_s: float) -> None:
        """None: whoever watches tells as soon as there is something."""

    def _open(self) -> KeyWatch | None:
        if self._watch is not None:
            return self._watch
        self._work.reopened += 1
        position = self._position
        call = self.call(
            "open",
            lambda: self._space.watch(
                "key/", position=position, initial=position is None, timeout_s=READ_S
            ),
            is_read=True,
        )
        if call.is_ok:
            self._watch = call.value
        return self._watch

    def _close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch = None

    def _break_off(self, error: PaxosError) -> None:
        if isinstance(error, CompactedError) or self._position is None:
            self._begun += 1
            self._told()
            self._position = None
        self._close()

    def ends(
        self, found: Mapping[str, tuple[int, str | None]]
    ) -> dict[str, tuple[int, str | None]]:
        """What it has to have told at last; begun anew, nothing of what was gone by then."""
        told = {each.key for each in self._told()}
        return {
            key: state
            for key, state in found.items()
            if not self._begun or key in told or state[1] is not None
        }

    def _note(self, change: KeyChange) -> None:
        value = change.value.decode() if change.value is not None else None
        is_first = all(each.key != change.key for each in self._told()) if self._begun else False
        is_after_gap = change.is_after_gap or is_first
        self._told().append(ChangeSeen(change.key, change.version, value, is_after_gap))
        self._work.told_ns[self.name].append((change.key, change.version, time.monotonic_ns()))

    def catch_up(self, found: dict[str, tuple[int, str | None]]) -> None:
        """Once it has ended: what it has to tell still, until the last versions are told."""
        deadline = time.monotonic() + LAST_S
        while time.monotonic() < deadline:
            last = {each.key: each.version for each in self._told()}
            ends = self.ends(found)
            if all(last.get(key, 0) >= version for key, (version, _) in ends.items()):
                break
            watch = self._open()
            if watch is None:
                continue
            try:
                change = watch.next(WATCH_WAIT_S)
            except WaitTimeoutError:
                continue
            except PaxosError as error:
                self._break_off(error)
                continue
            self._note(change)
        self._close()
