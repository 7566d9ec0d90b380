"""What `ray-paxos log` prints: lines for a person, documents for a program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ray_paxos.core.records import SealedInstance
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.inspection import GroupSummary, MemberSummary
from ray_paxos.storage.log_export import plain_row
from ray_paxos.storage.log_rows import LogRow, MachineKinds, describe_row, rows_of
from ray_paxos.storage.repair import RepairPlan
from ray_paxos.storage.verification import Verification


def document_of(summary: MemberSummary) -> dict[str, Any]:
    """A summary as JSON takes it."""
    document: dict[str, Any] = msgspec.to_builtins(summary)
    return document


def summary_lines(summary: MemberSummary) -> Iterator[str]:
    """A summary in lines."""
    state = "activated" if summary.is_activated else "staged only"
    yield f"member {summary.member} ({summary.member_id}), {state}"
    yield f"cluster {summary.cluster} ({summary.cluster_id})"
    yield summary.folder
    for role in summary.roles:
        incarnation = "damaged" if role.incarnation is None else role.incarnation
        in_use = ", in use" if role.is_running else ""
        yield f"  {role.name:<12} incarnation {incarnation}{in_use}"
    for file in summary.journal:
        end = "closed" if file.is_ended else "open"
        yield f"  {file.path}: {file.byte_count:,} bytes, {file.frames:,} frames, {end}"
    for group in summary.groups:
        yield from _group_lines(group)
    for note in summary.notes:
        yield f"note: {note}"
    for fault in summary.faults:
        yield f"damaged: {fault.problem}"


def _group_lines(group: GroupSummary) -> Iterator[str]:
    yield ""
    byte_count = sum(segment.byte_count for segment in group.segments)
    yield f"group {group.group}: {len(group.segments)} segments, {byte_count:,} bytes"
    votes = group.votes
    if votes is not None:
        held = f"{votes.first_vote} to {votes.last_vote}" if votes.votes else "none"
        yield (
            f"  acceptor: replica {votes.replica_id}, configuration {votes.config_id}, promise "
            f"{votes.promise or 'none'}, vote floor {votes.floor}, votes {held} ({votes.votes:,}), "
            f"longest lease {votes.longest_lease_ms:,} ms"
        )
    for segment in group.segments:
        ballots = f"ballots {segment.first_ballot} to {segment.last_ballot}"
        yield (
            f"  {segment.first:>9} to {segment.last:<9} {segment.byte_count:>12,} bytes  "
            + ("DAMAGED" if segment.problem else ballots)
        )
    for path in group.merged:
        yield f"  merged, to be published: {path}"
    if group.checkpoints:
        yield f"  checkpoints: {', '.join(map(str, group.checkpoints))}"


def instance_lines(instance: SealedInstance, kinds: MachineKinds) -> Iterator[str]:
    """One line a row."""
    for row in rows_of((instance,)):
        place = f"{row.instance_id}.{row.index}"
        who = f" {row.machine}" if row.machine else ""
        session = f" [{row.session} #{row.number}]" if row.session is not None else ""
        text = describe_row(row, kinds)
        yield f"{place:>12}  {row.ballot:<12} {row.kind}{who}{session}  {text}".rstrip()


def row_document(row: LogRow, kinds: MachineKinds) -> dict[str, Any]:
    """A row's columns, and what it says in words."""
    return {**plain_row(row), "text": describe_row(row, kinds)}


def verification_document(verification: Verification) -> dict[str, Any]:
    """A verification as JSON takes it."""
    findings = verification.findings
    journal = verification.journal
    return {
        "ok": verification.is_whole,
        "faults": msgspec.to_builtins(findings.faults),
        "notes": findings.notes,
        "files": len(findings.verified),
        "bytes": findings.byte_count,
        "journal": None
        if journal is None
        else {
            "files": len(journal.files),
            "votes": sum(len(part.votes) for part in journal.state.groups.values()),
            "closed": journal.is_ended,
        },
        "groups": {
            str(group): {
                "first": check.first,
                "last": check.last,
                "segments": check.segments,
                "instances": check.instances,
                "checkpoints": [c.instance_id for c in verification.checkpoints[group]],
            }
            for group, check in verification.logs.items()
        },
    }


def verification_lines(verification: Verification) -> Iterator[str]:
    """A verification in lines: the first fault first, or what was verified."""
    findings = verification.findings
    for fault in findings.faults:
        yield f"damaged: {fault.problem}"
    for note in findings.notes:
        yield f"note: {note}"
    if findings.faults:
        yield f"faults: {len(findings.faults)}; the first is at {findings.faults[0].path}"
        return
    yield f"whole: {len(findings.verified):,} files, {findings.byte_count:,} bytes"
    journal = verification.journal
    if journal is not None:
        votes = sum(len(part.votes) for part in journal.state.groups.values())
        yield f"journal files: {len(journal.files)}, votes: {votes:,}"
    for group, check in verification.logs.items():
        held = f"instances {check.first} to {check.last}" if check.last else "no instances"
        cuts = [cut.instance_id for cut in verification.checkpoints[group]]
        checkpoints = f"; checkpoints {', '.join(map(str, cuts))}" if cuts else ""
        yield f"group {group}: {held} in {check.segments} segments{checkpoints}"


def state_lines(document: dict[str, Any], limit: int) -> Iterator[str]:
    """A state document in lines, at most `limit` keys or lines of a machine."""
    start = document["checkpoint"]
    built_on = f"checkpoint {start}" if start else "the log alone"
    yield f"group {document['group']} as of instance {document['instance_id']}, from {built_on}"
    yield f"  digest {document['digest']}, of the machines alone {document['machine_digest']}"
    yield f"  chain {document['chain']}, over results {document['result_chain']}"
    if document["unconfirmed_results"]:
        yield f"  the log does not tell the results of {document['unconfirmed_results']} instances"
    master = document["master"]
    if master is not None:
        yield (
            f"  master {master['member_id']} at ballot {master['ballot']}, since instance "
            f"{master['version']}"
        )
    yield f"  {document['sessions']} sessions, log time {document['log_time_ns']} ns"
    for machine in document["machines"]:
        yield ""
        yield (
            f"{machine['name']} ({machine['kind']} version {machine['version']}), digest "
            f"{machine['digest']}"
        )
        content = machine.get("keys", machine.get("lines", []))
        for entry in content[:limit]:
            yield "  " + " ".join(f"{name}={value!r}" for name, value in entry.items())
        if len(content) > limit:
            yield f"  ... {len(content) - limit:,} more; --json or --output give all"


def repair_document(
    plan: RepairPlan, verification: Verification, kept: str | None
) -> dict[str, Any]:
    """What a repair did, or would do, as JSON takes it.

    Args:
        plan: Of the repair.
        verification: That it was made from.
        kept: The folder with what was set aside; None where nothing was done.
    """
    return {
        "was_whole": verification.is_whole,
        "faults": [fault.problem for fault in verification.findings.faults],
        "moves": [{"path": move.path, "why": move.why} for move in plan.moves],
        "beyond_repair": [fault.problem for fault in plan.beyond_repair],
        "fetches_from": {str(group): first for group, first in plan.fetches_from.items()},
        "kept": kept,
    }


def plan_lines(disk: Disk, verification: Verification, plan: RepairPlan) -> Iterator[str]:
    """What a repair would do."""
    if plan.beyond_repair:
        for fault in plan.beyond_repair:
            yield f"damaged: {fault.problem}"
        yield (
            f"{disk.where('')} cannot be repaired: who the member is or what it has promised is "
            "damaged. It must never vote again; replace it by a new member in an empty folder"
        )
        return
    for move in plan.moves:
        yield f"set aside {disk.where(move.path)}: {move.why}"
    for group, first in plan.fetches_from.items():
        yield (
            f"group {group}: the member then fetches instances from {first} on from other "
            "members, and answers for nothing below its vote floor until it has them"
        )
    if not plan.moves and verification.is_whole:
        yield "nothing to repair"
    elif not plan.moves:
        for fault in verification.findings.faults:
            yield f"damaged: {fault.problem}"
        yield "setting files aside does not mend this; the member mends it as it catches up"
