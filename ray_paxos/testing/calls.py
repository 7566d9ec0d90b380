"""Calls: what a client's requests are on Ray, where an answer belongs to one call.

A message of the simulated network is all that its parts are; a call is more. It runs at most once,
whatever the network repeats. Its answer is its own: two calls with one request are answered twice.
Real clients count on both (`core.session`, rule 5), so here every call has a sender of its own:

```
 client 1001, call 7 ── Submit from (1001, 7) ─▶ desk ── Submit from 1001 ─▶ proposer
                     ◀── to (1001, 7) ──────── desk ◀── Submitted to 1001 ──
```

The desk is part of the proposer's process, as `actors.proposer` has it, and dies with it.
"""

from __future__ import annotations

import msgspec

from ray_paxos.core.messages import Address, Envelope, RoleName

_CALL_BITS = 32


def call_address(client_id: int, call: int) -> Address:
    """The sender of one call of a client; calls count from 1."""
    return Address(call << _CALL_BITS | client_id, RoleName.CLIENT)


def split_address(address: Address) -> tuple[int, int]:
    """(client's id, number of the call) of a client's address; call 0 is the client itself."""
    return address.member_id & ((1 << _CALL_BITS) - 1), address.member_id >> _CALL_BITS


class CallDesk:
    """The open calls at one process."""

    def __init__(self) -> None:
        """Start with none."""
        self._waiting: dict[tuple[Address, int], list[Address]] = {}

    def take(self, envelope: Envelope) -> Envelope:
        """What the role is to be given in place of an envelope that was just received."""
        sender = envelope.sender
        if sender.role is not RoleName.CLIENT:
            return envelope
        client_id, call = split_address(sender)
        if not call:
            return envelope
        client = Address(client_id, RoleName.CLIENT)
        request_id = getattr(envelope.message, "request_id", 0)
        self._waiting.setdefault((client, request_id), []).append(sender)
        return msgspec.structs.replace(envelope, sender=client)

    def receivers(self, to: Address, envelope: Envelope) -> list[Address]:
        """To whom an envelope of the role goes: all calls that wait for it."""
        if to.role is not RoleName.CLIENT:
            return [to]
        request_id = getattr(envelope.message, "request_id", 0)
        return self._waiting.pop((to, request_id), None) or [to]
