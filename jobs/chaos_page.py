"""The report of a chaos run as one HTML page: what held, what happened, and where it was run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaos_checks import by_operation, merge_verdicts
from chaos_effects import Acknowledged, effects_by_kind, stretches
from chaos_gaps import SECOND_NS
from chaos_report import DEFAULT_WORKLOAD, PROBLEMS_TOLD, ChaosReport
from chaos_timeline import STRETCHES_MAX, reign_seconds, timeline
from report_machine import Circumstances
from report_page import Cell, Page, Section, Verdict, bullets, circumstances_section, table

if TYPE_CHECKING:
    from chaos_events import MemberReign
    from report_charts import Chart

MEANINGS = {
    "linearizable": "puts, deletes, compare-and-sets and reads are as if done one after the other",
    "exactly_once": "every acknowledged id is in the log once, where it was acknowledged, in order",
    "follower_reads": "reads at any member are as fresh as they were promised to be",
    "digests_equal": "all members that have the group have the same state in the end",
    "logs_equal": "they have the same chosen log, row by row, with every acknowledged command",
    "gap": "no time without an acknowledged command is over its limit",
    "restart_all_gap": "the same around a restart of everything",
    "healed": "all roles serve again",
    "events": "one master at each ballot, and no error of a member that no fault explains",
    "clients": "no client met what must not happen",
    "stays_out": "a member whose folder was deleted never votes again",
    "read_at_the_end": "what is there in the end could be read",
}
"""Of checks that every workload has; those of recipes have names that say it."""


@dataclass(frozen=True)
class ChaosAccount:
    """All that a page is made of.

    Attributes:
        report: Of the run.
        acknowledged: Commands of each group: when asked for, when they had their result.
        circumstances: How it was run.
        reigns: Of masters, as far as they are known.
    """

    report: ChaosReport
    acknowledged: Acknowledged
    circumstances: Circumstances
    reigns: Sequence[MemberReign] = ()


def chaos_page(account: ChaosAccount) -> Page:
    """The page of a run."""
    report = account.report
    return Page(
        f"Chaos run of cluster {report.cluster}, seed {report.seed}",
        _verdict(report),
        _facts(report),
        list(_sections(account)),
    )


def _verdict(report: ChaosReport) -> Verdict:
    violated = [name for name, problems in report.checks.items() if problems]
    if not violated:
        return Verdict("Everything held.", held=True)
    reasons = [
        f"{name}: {problem}"
        for name, problems in report.checks.items()
        for problem in problems[:PROBLEMS_TOLD]
    ]
    return Verdict(f"Did not hold: {', '.join(violated)}.", held=False, reasons=reasons)


def _facts(report: ChaosReport) -> dict[str, str]:
    facts = {
        "length": f"{report.elapsed_s:.1f} s",
        "members": str(len(report.members)),
        "groups": str(len(report.groups)) if report.is_of_many else "one",
        "clients": str(report.clients),
        "faults": f"{sum(report.injected.values()):,}",
        "commands acknowledged": f"{report.acknowledged:,}",
        "commands a second": f"{report.acknowledged / max(report.elapsed_s, 1e-9):,.1f}",
        "longest silence": f"{report.longest_gap_s:.2f} s of {report.gap_limit_s:g} s allowed",
        "operations checked": f"{report.checked:,}",
        "violations": f"{sum(map(len, report.checks.values())):,}",
    }
    if report.longest_gap_restart_all_s is not None:
        facts["longest around a restart-all"] = (
            f"{report.longest_gap_restart_all_s:.2f} s of {report.restart_gap_limit_s:g} s allowed"
        )
    if report.workload != DEFAULT_WORKLOAD:
        facts["workload"] = report.workload
    return facts


def _sections(account: ChaosAccount) -> Iterator[Section]:
    report = account.report
    seconds = stretches(account.acknowledged, report.start_ns, report.end_ns, STRETCHES_MAX)
    yield Section("What happened when", [timeline(report, seconds, account.reigns)])
    yield _checks(report)
    yield _gaps(report)
    if report.disturbances:
        yield _kinds(account)
        yield _faults(report)
    yield _operations(report)
    if report.is_of_many:
        yield _groups(report)
    if report.has_history:
        yield _history(report)
    yield _states(report)
    if account.reigns:
        yield _reigns(report, account.reigns)
    figures = report.groups[0].figures if report.groups else {}
    if figures:
        yield _figures(report.workload, figures)
    yield circumstances_section(account.circumstances)


def _checks(report: ChaosReport) -> Section:
    rows: list[list[Cell]] = [
        [name, not problems, MEANINGS.get(name, ""), len(problems)]
        for name, problems in report.checks.items()
    ]
    parts: list[str | Chart] = [table(["check", "held", "what it promises", "problems"], rows)]
    for name, problems in report.checks.items():
        if problems:
            parts += [f"{name}:", bullets(problems, PROBLEMS_TOLD)]
    return Section("Checks", parts)


def _gaps(report: ChaosReport) -> Section:
    rows: list[list[Cell]] = []
    for group, gap in report.gaps:
        causes = "; ".join(f"{cause.kind.value} {cause.what}" for cause in gap.causes)
        limit_s = report.restart_gap_limit_s if gap.is_of_restart_all else report.gap_limit_s
        start_s = (gap.start_ns - report.start_ns) / SECOND_NS
        where: list[Cell] = [f"group {group}"] if report.is_of_many else []
        held = gap.length_s <= limit_s
        rows.append([*where, start_s, gap.length_s, limit_s, held, causes or "no fault"])
    where_to = ["group"] if report.is_of_many else []
    headings = [*where_to, "from, s", "length, s", "limit, s", "held", "what was going on"]
    text = "The longest times between two acknowledged commands, or one and an end of the run."
    if report.is_of_many:
        text += f" In all groups together the longest was {report.overall[0]:.2f} s."
    return Section("Silences", [text, table(headings, rows)])


def _kinds(account: ChaosAccount) -> Section:
    report = account.report
    found = effects_by_kind(
        report.disturbances, account.acknowledged, report.start_ns, report.end_ns
    )
    rows: list[list[Cell]] = [
        [
            *(each.kind, each.injected, each.refused, each.unfinished, each.usual_s),
            *(each.longest_s, each.silence_s, each.per_s, each.p99_ms),
        ]
        for each in found
    ]
    headings = ["kind", "injected", "refused", "not over", "over after, median s", "longest, s"]
    headings += ["longest silence, s", "commands/s meanwhile", "p99 meanwhile, ms"]
    text = (
        "A fault is over when all that it hit serves again. Faults overlap, so what was seen "
        "meanwhile may be another one's doing."
    )
    return Section("Faults by kind, and what was seen meanwhile", [text, table(headings, rows)])


def _faults(report: ChaosReport) -> Section:
    rows: list[list[Cell]] = []
    for disturbance in report.disturbances:
        start_s = (disturbance.start_ns - report.start_ns) / SECOND_NS
        end_ns = disturbance.end_ns
        length_s = (end_ns - disturbance.start_ns) / SECOND_NS if end_ns is not None else None
        refusal = f"refused: {disturbance.refusal}" if disturbance.refusal else ""
        rows.append([start_s, length_s, disturbance.kind.value, disturbance.what, refusal])
    return Section(
        "Every fault", [table(["from, s", "over after, s", "kind", "whom it hit", ""], rows)]
    )


def _operations(report: ChaosReport) -> Section:
    by_kind = by_operation(report.outcomes)
    outcomes = sorted({outcome for counts in by_kind.values() for outcome in counts})
    rows: list[list[Cell]] = [
        [kind, *(counts.get(outcome, 0) for outcome in outcomes)]
        for kind, counts in by_kind.items()
    ]
    parts: list[str | Chart] = [table(["operation", *outcomes], rows)]
    errors: dict[str, int] = {}
    for group in report.groups:
        for name, count in group.errors.items():
            errors[name] = errors.get(name, 0) + count
    if errors:
        parts.append(table(["error that clients met", "times"], sorted(errors.items())))
    return Section("Operations", parts)


def _groups(report: ChaosReport) -> Section:
    rows: list[list[Cell]] = []
    for group in report.groups:
        violated = [name for name, problems in group.checks.items() if problems]
        if group.gaps.longest_s > report.gap_limit_s:
            violated.append("gap")
        if (group.gaps.longest_restart_all_s or 0.0) > report.restart_gap_limit_s:
            violated.append("restart_all_gap")
        rows.append(
            [
                *(f"group {group.group}", not violated, group.acknowledged),
                group.acknowledged / max(report.elapsed_s, 1e-9),
                *(group.gaps.longest_s, group.gaps.longest_restart_all_s, group.checked),
                ", ".join(violated),
            ]
        )
    headings = ["group", "held", "commands", "commands/s", "longest silence, s"]
    headings += ["around a restart-all, s", "checked", "did not hold"]
    return Section("Groups", [table(headings, rows)])


def _history(report: ChaosReport) -> Section:
    history = merge_verdicts([group.history for group in report.groups])
    text = (
        f"Linearizable: {history.verdict.value}. {history.operations:,} operations of "
        f"{history.keys:,} keys, at most {history.operations_max:,} of one, checked in "
        f"{history.elapsed_s:.1f} s. The keys that took longest:"
    )
    rows: list[list[Cell]] = [list(each) for each in history.slowest]
    return Section("Linearizability", [text, table(["key", "operations", "seconds"], rows)])


def _states(report: ChaosReport) -> Section:
    rows: list[list[Cell]] = []
    for group in report.groups:
        same: dict[tuple[int, str], list[str]] = {}
        for member, digest in sorted(group.digests.items()):
            same.setdefault((digest.applied_instance_id, digest.digest), []).append(member)
        rows += [
            [f"group {group.group}", ", ".join(members), instance, digest]
            for (instance, digest), members in same.items()
        ]
    text = "A digest over each member's state; members in one line have the same."
    return Section(
        "States in the end",
        [text, table(["group", "members", "applied through instance", "digest"], rows)],
    )


def _reigns(report: ChaosReport, reigns: Sequence[MemberReign]) -> Section:
    rows: list[list[Cell]] = []
    for reign in sorted(reigns, key=lambda reign: (reign.group, reign.ballot)):
        start_s, end_s = reign_seconds(report, reign)
        until_s = None if reign.to_ms is None else end_s
        group = f"group {reign.group}"
        rows.append([group, reign.member, start_s, until_s, end_s - start_s, reign.version])
    text = (
        "By events that members wrote, each by the clock of its own node. A master that stood "
        "still ends its reign only when it finds out: there reigns may overlap."
    )
    headings = ["group", "master", "from, s", "until, s", "seconds", "version"]
    return Section("Masters", [text, table(headings, rows)])


def _figures(workload: str, figures: Mapping[str, Any]) -> Section:
    rows = [[name, told] for name, told in _flat(figures)]
    return Section(f"Figures of the workload {workload}", [table(["what", ""], rows)])


def _flat(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Every figure by itself, with a name that says where it stands."""
    for name, figure in figures.items():
        if isinstance(figure, Mapping):
            if figure and not any(isinstance(each, Mapping) for each in figure.values()):
                yield before + name, ", ".join(f"{key} {each}" for key, each in figure.items())
            else:
                yield from _flat(figure, f"{before}{name}: ")
        else:
            yield before + name, f"{figure:,}" if isinstance(figure, int | float) else str(figure)
