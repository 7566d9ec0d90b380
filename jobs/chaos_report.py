"""What `chaos.py` tells at its end: a JSON document, and the same for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos_checks import HistoryVerdict, by_operation, merge_verdicts
from chaos_gaps import SECOND_NS, SHOWN, Disturbance, Gap
from chaos_group import GroupResult
from job_console import JobConsole

PROBLEMS_TOLD = 10
DEFAULT_WORKLOAD = "kv"


@dataclass
class ChaosReport:
    """Everything that is told.

    Attributes:
        cluster: Its name.
        members: Of the cluster, in the end; those that have no folder any more included.
        seed: Of the run.
        clients: How many.
        seconds: For how long faults were to be injected.
        start_ns: Of the run: every client had been served.
        end_ns: Of the run: all was healed, and clients were told to end.
        lease_ms: As configured.
        gap_limit_s: For gaps outside the times of `restart-all`.
        restart_gap_limit_s: For those within.
        disturbances: What was injected.
        groups: What came of each group.
        is_of_many: Whether all groups of the cluster were worked on, rather than one.
        overall: The longest times without an acknowledgement in any group: outside the times of
            `restart-all`, and within.
        checks: Problems by check; a check without problems held.
        load: Load averages of this machine at the start and at the end.
        workload: What clients did.
        start_at_ms: When the run began by this machine's wall clock, in milliseconds since 1970:
            for what members noted by theirs.
    """

    cluster: str
    members: Sequence[str]
    seed: int
    clients: int
    seconds: float
    start_ns: int
    end_ns: int
    lease_ms: float
    gap_limit_s: float
    restart_gap_limit_s: float
    disturbances: Sequence[Disturbance]
    groups: Sequence[GroupResult]
    is_of_many: bool
    overall: tuple[float, float | None]
    checks: Mapping[str, Sequence[str]]
    load: Mapping[str, Sequence[float]] = field(default_factory=dict)
    workload: str = DEFAULT_WORKLOAD
    start_at_ms: float = 0.0

    @property
    def held(self) -> bool:
        """Whether everything held."""
        return not any(self.checks.values())

    @property
    def elapsed_s(self) -> float:
        """From start to end."""
        return (self.end_ns - self.start_ns) / SECOND_NS

    @property
    def injected(self) -> dict[str, int]:
        """Faults that came about, by kind."""
        return dict(Counter(d.kind.value for d in self.disturbances if not d.refusal))

    @property
    def outcomes(self) -> Counter[tuple[str, str]]:
        """Of operations of all groups, by kind and outcome."""
        return sum((group.outcomes for group in self.groups), Counter())

    @property
    def acknowledged(self) -> int:
        """Commands with a result."""
        return sum(group.acknowledged for group in self.groups)

    @property
    def checked(self) -> int:
        """Operations and ids that a check looked at."""
        return sum(group.checked for group in self.groups)

    @property
    def longest_gap_s(self) -> float:
        """Of any one group, outside the times of `restart-all`."""
        return max((group.gaps.longest_s for group in self.groups), default=0.0)

    @property
    def longest_gap_restart_all_s(self) -> float | None:
        """Likewise, within; None where there was none."""
        longest = [group.gaps.longest_restart_all_s for group in self.groups]
        return max((each for each in longest if each is not None), default=None)

    @property
    def gaps(self) -> list[tuple[int, Gap]]:
        """The longest of all, longest first, and whose each is."""
        shown = [(group.group, gap) for group in self.groups for gap in group.gaps.shown]
        return sorted(shown, key=lambda each: -each[1].length_s)[:SHOWN]

    def document(self) -> dict[str, Any]:
        """The JSON document, as `chaos.py` describes it."""
        history = merge_verdicts([group.history for group in self.groups])
        errors: Counter[str] = sum((Counter(group.errors) for group in self.groups), Counter())
        document = {
            "cluster": self.cluster,
            "group": None if self.is_of_many else self.groups[0].group,
            "members": list(self.members),
            "seed": self.seed,
            "clients": self.clients,
            "seconds": self.seconds,
            "elapsed_s": round(self.elapsed_s, 3),
            "lease_ms": self.lease_ms,
            "faults": self.injected,
            "refused": dict(Counter(d.kind.value for d in self.disturbances if d.refusal)),
            "injected": [self._disturbance(disturbance) for disturbance in self.disturbances],
            "operations": by_operation(self.outcomes),
            "errors": dict(errors),
            "acknowledged": self.acknowledged,
            "acknowledged_per_s": round(self.acknowledged / max(self.elapsed_s, 1e-9), 1),
            "longest_gap_s": round(self.longest_gap_s, 3),
            "longest_gap_restart_all_s": _rounded(self.longest_gap_restart_all_s),
            "gap_limit_s": self.gap_limit_s,
            "restart_gap_limit_s": self.restart_gap_limit_s,
            "gaps": [self._gap(group, gap) for group, gap in self.gaps],
            "linearizability": _history(history) if self.has_history else None,
            "checked": self.checked,
            "checks": {name: not problems for name, problems in self.checks.items()},
            "violations": [f"{name}: {text}" for name, text in self._problems()],
            "held": self.held,
            "load_average": {when: list(load) for when, load in self.load.items()},
        }  # fmt: skip
        if self.is_of_many:
            longest_s, longest_restart_all_s = self.overall
            document["overall_longest_gap_s"] = round(longest_s, 3)
            document["overall_longest_gap_restart_all_s"] = _rounded(longest_restart_all_s)
            document["groups"] = [self._group(group) for group in self.groups]
        if self.workload != DEFAULT_WORKLOAD:
            document["workload"] = self.workload
            document["figures"] = dict(self.groups[0].figures)
        return document

    @property
    def has_history(self) -> bool:
        """Whether there was one to check: not of every workload."""
        return any("linearizable" in group.checks for group in self.groups)

    def _problems(self) -> Iterator[tuple[str, str]]:
        for name, problems in self.checks.items():
            yield from ((name, problem) for problem in problems)

    def _seconds(self, moment_ns: int) -> float:
        return round((moment_ns - self.start_ns) / SECOND_NS, 3)

    def _group(self, group: GroupResult) -> dict[str, Any]:
        return {
            "group": group.group,
            "acknowledged": group.acknowledged,
            "operations": by_operation(group.outcomes),
            "longest_gap_s": round(group.gaps.longest_s, 3),
            "longest_gap_restart_all_s": _rounded(group.gaps.longest_restart_all_s),
            "linearizability": _history(group.history),
            "checked": group.checked,
            "checks": {name: not problems for name, problems in group.checks.items()},
        }

    def _disturbance(self, disturbance: Disturbance) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "kind": disturbance.kind.value,
            "what": disturbance.what,
            "start_s": self._seconds(disturbance.start_ns),
            "end_s": self._seconds(disturbance.end_ns) if disturbance.end_ns is not None else None,
        }
        if disturbance.refusal:
            fields["refusal"] = disturbance.refusal
        return fields

    def _gap(self, group: int, gap: Gap) -> dict[str, Any]:
        fields: dict[str, Any] = {"group": group} if self.is_of_many else {}
        return {
            **fields,
            "start_s": self._seconds(gap.start_ns),
            "length_s": round(gap.length_s, 3),
            "is_of_restart_all": gap.is_of_restart_all,
            "causes": [f"{cause.kind.value} {cause.what}" for cause in gap.causes],
        }

    def tell(self, console: JobConsole) -> None:
        """Say it all on the console."""
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.injected.items()))
        total = sum(self.injected.values())
        console.say(
            f"seed {self.seed}, {self.elapsed_s:.1f} s, {self.clients} clients; "
            f"{total} faults{': ' + faults if faults else ''}"
        )
        for operation, outcomes in by_operation(self.outcomes).items():
            counts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
            console.say(f"  {operation:<12}  {counts}")
        console.say(f"{self.acknowledged:,} commands acknowledged")
        self._tell_figures(console)
        history = merge_verdicts([group.history for group in self.groups])
        if self.has_history:
            console.say(
                f"linearizable: {history.verdict.value} ({history.operations:,} operations of "
                f"{history.keys:,} keys, at most {history.operations_max:,} of one, checked in "
                f"{history.elapsed_s:.1f} s)"
            )
        self._tell_gaps(console)
        for name, problems in self.checks.items():
            for problem in problems[:PROBLEMS_TOLD]:
                console.error(f"{name}: {problem}")
        violated = [name for name, problems in self.checks.items() if problems]
        verdict = "all held" if not violated else f"did not hold: {', '.join(violated)}"
        violations = sum(map(len, self.checks.values()))
        console.say(f"{self.checked:,} operations checked; violations: {violations}; {verdict}")

    def _tell_figures(self, console: JobConsole) -> None:
        figures = self.groups[0].figures if self.groups else {}
        for name, figure in figures.items():
            if not isinstance(figure, Mapping):
                console.say(f"  {name}: {figure:,}")
            elif "p50" in figure:
                console.say(f"  {name}: p50 {figure['p50']:g}, p99 {figure['p99']:g}")

    def _tell_gaps(self, console: JobConsole) -> None:
        of_one = " in one group" if self.is_of_many else ""
        console.say(
            f"longest gap without an acknowledged command{of_one}: {self.longest_gap_s:.2f} s "
            f"(limit {self.gap_limit_s:g} s)"
        )
        if self.longest_gap_restart_all_s is not None:
            console.say(
                f"longest where everything was restarted: {self.longest_gap_restart_all_s:.2f} s "
                f"(limit {self.restart_gap_limit_s:g} s)"
            )
        if self.is_of_many:
            console.say(f"longest gap in all groups together: {self.overall[0]:.2f} s")
        for group, gap in self.gaps[:3]:
            causes = "; ".join(f"{cause.kind.value} {cause.what}" for cause in gap.causes)
            start_s = self._seconds(gap.start_ns)
            where = f"group {group}, " if self.is_of_many else ""
            console.say(
                f"  {where}{gap.length_s:.2f} s from {start_s:.1f} s: {causes or 'no fault'}"
            )


def _rounded(seconds: float | None) -> float | None:
    return round(seconds, 3) if seconds is not None else None


def _history(history: HistoryVerdict) -> dict[str, Any]:
    return {
        "verdict": history.verdict.value,
        "operations": history.operations,
        "keys": history.keys,
        "operations_per_key_max": history.operations_max,
        "seconds": round(history.elapsed_s, 3),
        "slowest_keys": [
            {"key": key, "operations": operations, "seconds": round(seconds, 3)}
            for key, operations, seconds in history.slowest
        ],
    }
