"""Compares the members' chosen logs with each other and with what clients were told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from chaos_checks import some
from chaos_cluster import MemberLog
from chaos_records import AcknowledgedCommand

KIND_COMMAND = "command"
WITHDRAWAL = ""
"""In place of a machine: rows that only stand for numbers which their client gave up."""


def check_logs(
    logs: Mapping[str, MemberLog], acknowledged: Sequence[AcknowledgedCommand], first: int
) -> list[str]:
    """All members have the same log, whole, and everything acknowledged is where it was said to be.

    A command may have several rows, as a new master proposes again what it finds: the machines'
    host applies the first of them (whether it did shows in the state). Its session and number are
    never another command's.

    Args:
        logs: From one instance on, by member.
        acknowledged: Commands of this run.
        first: That instance.
    """
    problems = [f"{member}: {log.problem}" for member, log in logs.items() if log.problem]
    readable = {name: log.rows for name, log in logs.items() if log.rows is not None}
    unread = [name for name, log in logs.items() if log.rows is None and not log.problem]
    problems += some("logs that could not be read", unread)
    needed = max((command.instance_id for command in acknowledged), default=0)
    for member, rows in readable.items():
        problems += [f"{member}: {problem}" for problem in _check_whole(rows, first, needed)]
    if not readable:
        return problems
    reference, *others = readable
    for member in others:
        problems += _compare(reference, readable[reference], member, readable[member])
    problems += _check_places(readable[reference], acknowledged)
    problems += _check_numbers(readable[reference])
    return problems


def _check_whole(rows: pa.Table, first: int, needed: int) -> list[str]:
    """Instances follow each other, and so do the rows of each; nothing is missing at the end."""
    expected, index = first, -1
    instances, indices = rows["instance_id"].to_pylist(), rows["index"].to_pylist()
    for instance_id, row in zip(instances, indices, strict=True):
        if index >= 0 and instance_id == expected and row == index + 1:
            index = row
        elif index >= 0 and instance_id == expected + 1 and row == 0:
            expected, index = instance_id, 0
        elif index < 0 and instance_id == expected and row == 0:
            index = 0
        else:
            where = f"instance {expected}, row {index}" if index >= 0 else "the beginning"
            return [f"instance {instance_id}, row {row} follows {where}"]
    last = _last(rows)
    if last < needed:
        return [f"the log ends at instance {last}; instance {needed} was acknowledged"]
    return []


def _compare(name: str, rows: pa.Table, other_name: str, other_rows: pa.Table) -> list[str]:
    """Row by row, as far as both go."""
    last = min(_last(rows), _last(other_rows))
    rows, other_rows = _through(rows, last), _through(other_rows, last)
    if rows.equals(other_rows):
        return []
    pairs = zip(_plain(rows), _plain(other_rows), strict=False)
    for row, other_row in pairs:
        for column, value in row.items():
            if value != other_row[column]:
                place = f"instance {row['instance_id']}, row {row['index']}"
                return [
                    f"{name} and {other_name} differ at {place}: {column} {value!r} and "
                    f"{other_row[column]!r}"
                ]
    return [f"{name} has {rows.num_rows} rows through instance {last}, {other_name} "
            f"{other_rows.num_rows}"]  # fmt: skip


def _check_places(rows: pa.Table, acknowledged: Iterable[AcknowledgedCommand]) -> list[str]:
    """Each acknowledged command stands where its result said."""
    commands = rows.filter(pc.field("kind") == KIND_COMMAND)
    places = zip(
        commands["instance_id"].to_pylist(),
        commands["index"].to_pylist(),
        commands["machine"].to_pylist(),
        commands["command"].to_pylist(),
        strict=True,
    )
    found = {(instance, index): (machine, command) for instance, index, machine, command in places}
    missing = [
        f"{a.command!r} at instance {a.instance_id}, row {a.index}"
        for a in acknowledged
        if found.get((a.instance_id, a.index)) != (a.machine, a.command)
    ]
    return some("acknowledged, and not in the log where it was said to be", missing)


def _check_numbers(rows: pa.Table) -> list[str]:
    """A session's number is one command for ever."""
    is_real = pc.field("machine") != WITHDRAWAL
    commands = rows.filter((pc.field("kind") == KIND_COMMAND) & is_real)
    meant: dict[tuple[Any, Any], tuple[Any, Any]] = {}
    reused = []
    for session, number, machine, command in zip(
        commands["session"].to_pylist(),
        commands["number"].to_pylist(),
        commands["machine"].to_pylist(),
        commands["command"].to_pylist(),
        strict=True,
    ):
        if meant.setdefault((session, number), (machine, command)) != (machine, command):
            reused.append(f"{number} of session {session}")
    return some("numbers that stand for two commands", reused)


def _last(rows: pa.Table) -> int:
    return int(pc.max(rows["instance_id"]).as_py() or 0)


def _through(rows: pa.Table, last: int) -> pa.Table:
    return rows.filter(pc.field("instance_id") <= last).combine_chunks()


def _plain(rows: pa.Table) -> Iterable[dict[str, Any]]:
    for batch in rows.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()
