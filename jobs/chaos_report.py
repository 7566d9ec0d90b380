"""What `chaos.py` tells at its end: a JSON document, and the same for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos_checks import HistoryVerdict, by_operation
from chaos_gaps import SECOND_NS, Disturbance, Gap, Gaps
from job_console import JobConsole

PROBLEMS_TOLD = 10


@dataclass
class ChaosReport:
    """Everything that is told.

    Attributes:
        cluster: Its name.
        group: Whose log was worked on.
        members: Of the cluster.
        seed: Of the run.
        clients: How many.
        seconds: For how long faults were to be injected.
        start_ns: Of the run: every client had been served.
        end_ns: Of the run: all was healed, and clients were told to end.
        lease_ms: As configured.
        gap_limit_s: For gaps outside the times of `restart-all`.
        restart_gap_limit_s: For those within.
        disturbances: What was injected.
        outcomes: Of operations, by kind and outcome.
        errors: That clients met, by kind.
        acknowledged: Commands with a result.
        checked: Operations and ids that a check looked at.
        gaps: Times without an acknowledgement.
        history: Of the kv machine; None where it was not checked.
        checks: Problems by check; a check without problems held.
        load: Load averages of this machine at the start and at the end.
    """

    cluster: str
    group: int
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
    outcomes: Counter[tuple[str, str]]
    errors: Mapping[str, int]
    acknowledged: int
    checked: int
    gaps: Gaps
    history: HistoryVerdict | None
    checks: Mapping[str, Sequence[str]]
    load: Mapping[str, Sequence[float]] = field(default_factory=dict)

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

    def document(self) -> dict[str, Any]:
        """The JSON document, as `chaos.py` describes it."""
        return {
            "cluster": self.cluster,
            "group": self.group,
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
            "errors": dict(self.errors),
            "acknowledged": self.acknowledged,
            "acknowledged_per_s": round(self.acknowledged / max(self.elapsed_s, 1e-9), 1),
            "longest_gap_s": round(self.gaps.longest_s, 3),
            "longest_gap_restart_all_s": _rounded(self.gaps.longest_restart_all_s),
            "gap_limit_s": self.gap_limit_s,
            "restart_gap_limit_s": self.restart_gap_limit_s,
            "gaps": [self._gap(gap) for gap in self.gaps.shown],
            "linearizability": _history(self.history),
            "checked": self.checked,
            "checks": {name: not problems for name, problems in self.checks.items()},
            "violations": [f"{name}: {text}" for name, text in self._problems()],
            "held": self.held,
            "load_average": {when: list(load) for when, load in self.load.items()},
        }  # fmt: skip

    def _problems(self) -> Iterator[tuple[str, str]]:
        for name, problems in self.checks.items():
            yield from ((name, problem) for problem in problems)

    def _seconds(self, moment_ns: int) -> float:
        return round((moment_ns - self.start_ns) / SECOND_NS, 3)

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

    def _gap(self, gap: Gap) -> dict[str, Any]:
        return {
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
        if self.history is not None:
            history = self.history
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

    def _tell_gaps(self, console: JobConsole) -> None:
        console.say(
            f"longest gap without an acknowledged command: {self.gaps.longest_s:.2f} s "
            f"(limit {self.gap_limit_s:g} s)"
        )
        if self.gaps.longest_restart_all_s is not None:
            console.say(
                f"longest where everything was restarted: {self.gaps.longest_restart_all_s:.2f} s "
                f"(limit {self.restart_gap_limit_s:g} s)"
            )
        for gap in self.gaps.shown[:3]:
            causes = "; ".join(f"{cause.kind.value} {cause.what}" for cause in gap.causes)
            start_s = self._seconds(gap.start_ns)
            console.say(f"  {gap.length_s:.2f} s from {start_s:.1f} s: {causes or 'no fault'}")


def _rounded(seconds: float | None) -> float | None:
    return round(seconds, 3) if seconds is not None else None


def _history(history: HistoryVerdict | None) -> dict[str, Any] | None:
    if history is None:
        return None
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
