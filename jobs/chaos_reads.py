"""Linearizable reads of what a chaos run left behind in the machines."""

from __future__ import annotations

import time

from chaos_clients import WorkingClient
from chaos_records import Records, described
from ray_paxos.machines import kv, log

READ_S = 30.0


def read_keys(client: WorkingClient, machine: str, records: Records) -> None:
    """A last linearizable read of every key; they are part of the history.

    Raises:
        QueryError: One cannot be read.
    """
    history = records.history
    for key in sorted(records.keys):
        operation = history.invoke("last-reads", "get", key, now_ns=time.monotonic_ns())
        answer = _query(client, kv.encode_get(key), machine)
        history.ok(operation, described(answer), now_ns=time.monotonic_ns())
        records.count("last read", "ok")


def read_lines(client: WorkingClient, machine: str, first: int) -> list[bytes]:
    """The log machine's lines from a position on.

    Raises:
        QueryError: They cannot be read.
    """
    lines: list[bytes] = []
    while True:
        page = log.decode_page(_query(client, log.encode_lines(first + len(lines)), machine))
        lines += page.lines
        if not page.lines:
            return lines


def line_count(client: WorkingClient, machine: str) -> int:
    """How many lines the log machine has.

    Raises:
        QueryError: It cannot be read.
    """
    return log.decode_page(_query(client, log.encode_length(), machine)).length


def _query(client: WorkingClient, request: bytes, machine: str) -> bytes:
    return client.query(
        request,
        machine,
        consistency="linearizable",
        at_least=None,
        max_staleness_ms=None,
        timeout_s=READ_S,
    )
