"""Reads the whole state of a key-value machine, page by page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Protocol

from ray_paxos.machines import kv


class QueryingClient(Protocol):
    """What this module needs of a `ray_paxos.Client`."""

    def query(self, request: bytes, machine: str) -> bytes:
        """Ask one machine, for a state that has all this client was acknowledged."""


def dump_lines(client: QueryingClient, machine: str) -> Iterator[str]:
    """One JSON object a live key, ascending by key: key, value, version.

    A value that is not UTF-8 text is given as `value_base64` instead of `value`. The lines are one
    cut of the state if nothing is written meanwhile.

    Raises:
        QueryError: The state cannot be read.
    """
    after_key: str | None = None
    while True:
        page = kv.decode_page(client.query(kv.encode_dump(after_key=after_key), machine))
        for entry in page.entries:
            yield json.dumps(
                {"key": entry.key, **_shown(entry.value), "version": entry.version},
                ensure_ascii=False,
            )
        after_key = page.next_after
        if after_key is None:
            return


def _shown(value: bytes) -> dict[str, str]:
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}
