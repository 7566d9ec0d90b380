"""What happened in a run: a hash that two runs of one seed share, and lines to read.

The hash covers the time, the place and the bytes of everything that happens, so that any
difference between two runs of one seed, however small, shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ray_paxos.core.messages import Address, Message, RoleName

ROLE_NAMES = {
    RoleName.CLIENT: "client",
    RoleName.PROPOSER: "proposer",
    RoleName.ACCEPTOR: "acceptor",
    RoleName.LEARNER: "learner",
    RoleName.CHECKPOINTER: "checkpointer",
}
FIELD_TEXT_MAX = 160


def name_member(member_id: int) -> str:
    """Members 1, 2, 3 ... are A, B, C ...; anything else is a client."""
    return chr(ord("A") + member_id - 1) if 1 <= member_id <= 26 else f"client-{member_id:x}"


def name_address(address: Address) -> str:
    """For a person: `B.acceptor`, or `client-1f`."""
    member = name_member(address.member_id)
    return member if address.role is RoleName.CLIENT else f"{member}.{ROLE_NAMES[address.role]}"


def describe(message: Message) -> str:
    """A message as one short line."""
    fields = ", ".join(
        f"{name}={_shorten(getattr(message, name))}" for name in message.__struct_fields__
    )
    return f"{type(message).__name__}({fields})"


def _shorten(field: object) -> str:
    if isinstance(field, bytes):
        return f"<{len(field)} bytes {hashlib.blake2b(field, digest_size=3).hexdigest()}>"
    text = str(field)
    return text if len(text) <= FIELD_TEXT_MAX else text[: FIELD_TEXT_MAX - 3] + "..."


class Trace:
    """Collects what happens.

    Attributes:
        line: Where readable lines go; None to make none.
    """

    def __init__(self, line: Callable[[str], None] | None = None) -> None:
        """Start empty."""
        self.line = line
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, now_ns: int, what: str, data: bytes = b"") -> None:
        """Take one thing in, with the bytes that it moved."""
        self._hash.update(b"%d %b %b;" % (now_ns, what.encode(), data))

    def say(self, now_ns: int, what: str) -> None:
        """Give a reader one line; callers ask `line` first where making the text costs."""
        if self.line is not None:
            self.line(f"{now_ns / 1e6:12.3f} ms  {what}")

    def digest(self) -> str:
        """Of everything so far, in hexadecimal."""
        return self._hash.hexdigest()
