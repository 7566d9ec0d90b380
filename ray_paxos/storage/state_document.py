"""A group's rebuilt state as one document, for people and for other programs."""

from __future__ import annotations

import base64
from typing import Any

from ray_paxos.machines import kv, log
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.storage.state_rebuilding import RebuiltState


def state_document(state: RebuiltState) -> dict[str, Any]:
    """All of a state that can be shown: what `json.dumps` takes.

    Machines that are not built in are told by their digests alone.

    Raises:
        QueryError: A machine could not digest its state.
    """
    host = state.host
    ballot = host.master.ballot if host.master is not None else None
    return {
        "instance_id": host.applied_through,
        "chain": state.chain.hex(),
        "result_chain": state.result_chain.hex(),
        "unconfirmed_results": state.unconfirmed,
        "digest": host.digest().hex(),
        "machine_digest": host.machine_digest().hex(),
        "log_time_ns": host.log_time_ns,
        "master": None
        if ballot is None
        else {
            "member_id": ballot.member_id,
            "ballot": f"{ballot.round}.{ballot.member_id}.{ballot.incarnation}",
            "version": host.master_version,
        },
        "sessions": host.session_count,
        "machines": [
            {
                "name": spec.name,
                "kind": spec.kind,
                "version": spec.version,
                "digest": machine.digest().hex(),
                **_content(host, spec.name, machine),
            }
            for spec, machine in host.machines
        ],
    }


def _content(host: MachineHost, name: str, machine: StateMachine) -> dict[str, Any]:
    if isinstance(machine, KeyValueMachine):
        return {"keys": _keys(host, name)}
    if isinstance(machine, log.LogMachine):
        return {"lines": _lines(host, name)}
    return {}


def _keys(host: MachineHost, name: str) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = []
    after_key: str | None = None
    while True:
        page = kv.decode_page(host.query(name, kv.encode_dump(after_key=after_key)))
        keys += [
            {"key": e.key, **_shown("value", e.value), "version": e.version} for e in page.entries
        ]
        after_key = page.next_after
        if after_key is None:
            return keys


def _lines(host: MachineHost, name: str) -> list[dict[str, str]]:
    lines: list[dict[str, str]] = []
    while True:
        page = log.decode_page(host.query(name, log.encode_lines(len(lines) + 1)))
        lines += [_shown("line", line) for line in page.lines]
        if len(lines) >= page.length:
            return lines


def _shown(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
