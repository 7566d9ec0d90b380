"""What has to hold after a chaos run, over what its clients saw and what the cluster has; pure.

Each check gives its problems as texts, at most a few of each kind; none means that it holds.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chaos_records import Append, FollowerRead, Write
from ray_paxos.testing.history import Event, History, Invocation
from ray_paxos.testing.linearizability.budget import Budget
from ray_paxos.testing.linearizability.history_check import CheckResult, check_history
from ray_paxos.testing.linearizability.kv import Kv
from ray_paxos.testing.linearizability.model import Model
from ray_paxos.testing.linearizability.report import report_lines
from ray_paxos.testing.linearizability.search import Verdict

SHOWN = 5
SLOWEST_SHOWN = 5
EXPLAINED = 3
SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


class Digest(Protocol):
    """How far a member has applied, and a hash over its state there."""

    @property
    def applied_instance_id(self) -> int:
        """The last instance it applied."""

    @property
    def digest(self) -> str:
        """Hexadecimal."""


def some(what: str, found: Sequence[object]) -> list[str]:
    """One problem that names the first few of what was found; none where nothing was."""
    if not found:
        return []
    shown = ", ".join(map(str, found[:SHOWN])) + (", ..." if len(found) > SHOWN else "")
    return [f"{what}: {len(found)} ({shown})"]


# Exactly once.


def check_appends(
    lines: Sequence[bytes], appends: Sequence[Append], *, first: int, prefix: bytes
) -> list[str]:
    """Every acknowledged id is in the log machine once, where it was said to be.

    Args:
        lines: Of the machine, from one position on.
        appends: In each client's order.
        first: Position of the first of the lines.
        prefix: Of all ids of this run; other lines may be others'.
    """
    positions: dict[bytes, list[int]] = defaultdict(list)
    for position, line in enumerate(lines, first):
        if line.startswith(prefix):
            positions[line].append(position)
    known = {append.line for append in appends}
    acknowledged = [append for append in appends if append.position is not None]
    lost = [a.line.decode() for a in acknowledged if a.line not in positions]
    doubled = [line.decode("utf-8", "replace") for line, at in positions.items() if len(at) > 1]
    moved = [
        f"{a.line.decode()} at {positions[a.line][0]}, not {a.position}"
        for a in acknowledged
        if a.line in positions and a.position not in positions[a.line]
    ]
    refused = [a.line.decode() for a in appends if a.is_refused and a.line in positions]
    invented = [line.decode("utf-8", "replace") for line in positions if line not in known]
    return [
        *some("acknowledged and lost", lost),
        *some("applied twice", doubled),
        *some("not where it was acknowledged", moved),
        *some("applied, and reported as certainly not applied", refused),
        *some("applied, and never submitted", invented),
        *some("applied out of their client's order", _out_of_order(appends, positions)),
    ]


def _out_of_order(appends: Sequence[Append], positions: Mapping[bytes, Sequence[int]]) -> list[str]:
    found = []
    last: dict[str, int] = {}
    for append in appends:
        if append.line in positions:
            position = positions[append.line][0]
            if position < last.get(append.client, 0):
                found.append(append.line.decode())
            last[append.client] = position
    return found


# Reads of followers.


def check_follower_reads(reads: Iterable[FollowerRead], writes: Iterable[Write]) -> list[str]:
    """Every read is as fresh as was promised, and shows a state that there was."""
    values: dict[tuple[str, int], str | None] = {}
    by_key: dict[str, list[Write]] = defaultdict(list)
    for write in sorted(writes, key=lambda write: write.at_ns):
        values[write.key, write.version] = write.value
        by_key[write.key].append(write)
    # Of each key: times of acknowledgements, and the highest version acknowledged by then.
    times = {key: [write.at_ns for write in of_key] for key, of_key in by_key.items()}
    highest = {key: _running_maximum(w.version for w in of_key) for key, of_key in by_key.items()}
    stale, wrong = [], []
    for read in reads:
        version_min = read.version_min
        if read.max_staleness_ms is not None:
            until_ns = read.asked_ns - read.max_staleness_ms * MILLISECOND_NS
            count = bisect_right(times.get(read.key, []), until_ns)
            version_min = max(version_min, highest[read.key][count - 1] if count else 0)
        shown = f"{read.client} saw version {read.version} of {read.key}"
        if read.version < version_min:
            stale.append(f"{shown}, not {version_min} ({read.promise})")
        wanted = values.get((read.key, read.version), read.value)
        if wanted != read.value:
            wrong.append(f"{shown} as {read.value!r}, not {wanted!r}")
    return [*some("older than promised", stale), *some("a state that never was", wrong)]


def _running_maximum(numbers: Iterable[int]) -> list[int]:
    maxima: list[int] = []
    for number in numbers:
        maxima.append(max(number, maxima[-1] if maxima else number))
    return maxima


# States.


def check_digests(members: Sequence[str], digests: Mapping[str, Digest]) -> list[str]:
    """Every member answered, and all have the same state after the same instance."""
    silent = [name for name in members if name not in digests]
    seen = {(digest.applied_instance_id, digest.digest) for digest in digests.values()}
    problems = some("members without an answer", silent)
    if len(seen) > 1:
        shown = ", ".join(
            f"{name} {digest.digest} after instance {digest.applied_instance_id}"
            for name, digest in digests.items()
        )
        problems.append(f"members differ: {shown}")
    return problems


# Linearizability.


@dataclass(frozen=True)
class HistoryVerdict:
    """What the checker found.

    Attributes:
        verdict: Of the whole history.
        operations: Checked.
        keys: Checked.
        operations_max: Of one key.
        elapsed_s: That it took.
        slowest: Keys that took longest: name, operations, seconds.
        problems: Why it is not true; empty where it is.
    """

    verdict: Verdict
    operations: int
    keys: int
    operations_max: int
    elapsed_s: float
    slowest: tuple[tuple[str, int, float], ...]
    problems: tuple[str, ...]


NO_HISTORY = HistoryVerdict(Verdict.TRUE, 0, 0, 0, 0.0, (), ())
"""Of what has none."""


def check_linearizability(
    history: History,
    limit_s: float,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    *,
    model: Model[Any] | None = None,
) -> HistoryVerdict:
    """Check every key by itself, so that it is known which of them take long.

    Args:
        history: Of the kv machine, or of what the model is of.
        limit_s: For all of it. A verdict that took longer is unknown.
        clock_ns: Monotonic.
        model: What each key's object promises; by default a key of the kv machine.
    """
    model = Kv() if model is None else model
    started_ns = clock_ns()
    end_ns = started_ns + int(limit_s * SECOND_NS)
    parts = split_by_key(history)
    took: list[tuple[str, int, float]] = []
    undecided: list[str] = []
    wrong: list[str] = []
    verdict = Verdict.TRUE
    for key, part in sorted(parts.items(), key=lambda item: len(item[1].events)):
        began_ns = clock_ns()
        result = check_history(part, model, Budget(clock_ns, max(end_ns - began_ns, 0)))
        took.append((key, result.operations, (clock_ns() - began_ns) / SECOND_NS))
        if result.verdict is Verdict.FALSE:
            verdict = Verdict.FALSE
            # A fault mostly shows at many keys; a few of them tell what it is.
            lines = list(report_lines(result, part))[1:] if len(wrong) < EXPLAINED else []
            wrong.append("\n  ".join([f"key {key} is not linearizable", *lines]))
        elif result.verdict is Verdict.UNKNOWN:
            undecided.append(_undecided(key, result))
    if undecided and verdict is Verdict.TRUE:
        verdict = Verdict.UNKNOWN
    problems = [*wrong, *some("not decided, which is no pass", undecided)]
    return HistoryVerdict(
        verdict=verdict,
        operations=sum(operations for _, operations, _ in took),
        keys=len(parts),
        operations_max=max((operations for _, operations, _ in took), default=0),
        elapsed_s=(clock_ns() - started_ns) / SECOND_NS,
        slowest=tuple(sorted(took, key=lambda item: -item[2])[:SLOWEST_SHOWN]),
        problems=tuple(problems),
    )


def merge_verdicts(verdicts: Sequence[HistoryVerdict]) -> HistoryVerdict:
    """One verdict over several histories without common keys."""
    found = {each.verdict for each in verdicts}
    verdict = Verdict.FALSE if Verdict.FALSE in found else Verdict.TRUE
    if Verdict.UNKNOWN in found and verdict is Verdict.TRUE:
        verdict = Verdict.UNKNOWN
    slowest = sorted((key for each in verdicts for key in each.slowest), key=lambda key: -key[2])
    return HistoryVerdict(
        verdict=verdict,
        operations=sum(each.operations for each in verdicts),
        keys=sum(each.keys for each in verdicts),
        operations_max=max((each.operations_max for each in verdicts), default=0),
        elapsed_s=sum(each.elapsed_s for each in verdicts),
        slowest=tuple(slowest[:SLOWEST_SHOWN]),
        problems=tuple(problem for each in verdicts for problem in each.problems),
    )


def _undecided(key: str, result: CheckResult) -> str:
    return f"{key} with {result.operations} operations: {result.reason}"


def split_by_key(history: History) -> dict[str, History]:
    """The part of a history that each key has."""
    events: dict[str, list[Event]] = defaultdict(list)
    keys: dict[int, str] = {}
    for event in history.events:
        if isinstance(event, Invocation):
            keys[event.operation_id] = str(event.key)
        events[keys[event.operation_id]].append(event)
    return {key: History(tuple(part)) for key, part in events.items()}


def by_operation(outcomes: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts by operation, and by outcome in it."""
    table: dict[str, dict[str, int]] = {}
    for (operation, outcome), count in sorted(outcomes.items()):
        table.setdefault(operation, {})[outcome] = count
    return table
