"""Clients that append to a replicated object, and read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray_paxos
from chaos_checks import check_appends, some
from chaos_judge_order import highest_before
from chaos_recipe_clients import Crew, Judgement, RecipeClient, RecipeWork, WorkPlace
from chaos_recipe_records import RecipeRecords
from chaos_records import Append

if TYPE_CHECKING:
    from ray_paxos import Cluster

READING_SHARE = 0.3
PAGE_LINES = 1_000


class Journal(ray_paxos.Replicated):
    """Lines, one after the other."""

    def __init__(self) -> None:
        """None yet."""
        self._lines: list[str] = []

    @ray_paxos.command
    def append(self, line: str) -> int:
        """Append a line; gives its position, from 1."""
        self._lines.append(line)
        return len(self._lines)

    @ray_paxos.query
    def length(self) -> int:
        """How many there are."""
        return len(self._lines)

    @ray_paxos.query
    def lines(self, first: int, count: int) -> list[str]:
        """So many from a position on."""
        return self._lines[first - 1 : first - 1 + count]


class ObjectWork(RecipeWork):
    """One object, of a class of this job."""

    def __init__(self, place: WorkPlace, records: RecipeRecords) -> None:
        """As of `RecipeWork`."""
        super().__init__(place, records)
        self.appends: list[Append] = []
        self.told: list[tuple[int, int]] = []
        self.lengths: list[tuple[int, int]] = []
        self._lines: list[bytes] | None = None

    def journal(self, cluster: Cluster) -> Journal:
        """The object, of one client."""
        return cluster.replicated(Journal, f"chaos-{self.place.run}")

    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """One that appends and reads."""
        return _Author(crew, self, number, self.journal(cluster))

    def finish(self, cluster: Cluster) -> None:
        """All lines."""
        journal = self.journal(cluster)
        lines: list[bytes] = []
        while page := journal.lines(len(lines) + 1, PAGE_LINES):
            lines += [line.encode() for line in page]
        self._lines = lines

    def judge(self, check_s: float) -> Judgement:
        """Every acknowledged line is there once, where it was said to be; reads miss none."""
        if self._lines is None:
            problems = ["the object could not be read"]
        else:
            prefix = f"{self.place.run} ".encode()
            problems = check_appends(self._lines, self.appends, first=1, prefix=prefix)
        older = [
            f"{length}, after {highest}"
            for length, highest in highest_before(self.told, self.lengths)
            if length < highest
        ]
        checks = {"exactly_once": problems, "reads": some("lengths that are too small", older)}
        figures = {"lines": len(self._lines or ()), "reads": len(self.lengths)}
        return Judgement(checks, len(self.appends) + len(self.lengths), figures)


class _Author(RecipeClient):
    def __init__(self, crew: Crew, work: ObjectWork, number: int, journal: Journal) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._journal = journal

    def step(self) -> None:
        if self.chance(READING_SHARE):
            read = self.call("length", self._journal.length, is_read=True)
            if read.is_ok:
                self._work.lengths.append((read.asked_ns, read.value))
            return
        line = f"{self.place.run} {self.unique()}"
        append = Append(line.encode(), self.name)
        self._work.appends.append(append)
        call = self.call("append", lambda: self._journal.append(line))
        append.is_refused = call.is_refused
        if call.is_ok:
            append.position = call.value
            self._work.told.append((call.told_ns, call.value))
