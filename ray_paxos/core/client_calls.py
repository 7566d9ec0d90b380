"""A client's bounds, times and calls."""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.core.client_messages import OpenSession, Query, Submit
from ray_paxos.core.messages import RoleName
from ray_paxos.core.settings import MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Bounds and times of one client.

    Attributes:
        request_bytes_max: Commands in one request (at least one).
        window_max: Requests on their way.
        command_bytes_max: A longer command is refused before it is numbered.
        held_commands_max: Commands without a known outcome.
        held_bytes_max: Their bytes.
        call_timeout_ns: A request without an answer for this long is sent again; sooner, where
            nobody knows whether the member can be reached (`patience`).
        pause_ns: After a failure, before the next try.
        owed_calls_max: Unanswered calls after which a member gets no more of them,
        owed_ns: until one is answered or is this old.
        no_room_pause_ns: After the log refused something for want of room, before the next try.
        deadline_interval_ns: How often commands are looked through for those whose time is over.
    """

    request_bytes_max: int = 90_000
    window_max: int = 8
    command_bytes_max: int = 1_000_000
    held_commands_max: int = 100_000
    held_bytes_max: int = 64_000_000
    call_timeout_ns: int = 3_000 * MILLISECOND_NS
    pause_ns: int = 50 * MILLISECOND_NS
    owed_calls_max: int = 32
    owed_ns: int = 60_000 * MILLISECOND_NS
    no_room_pause_ns: int = 1_000 * MILLISECOND_NS
    deadline_interval_ns: int = 250 * MILLISECOND_NS


@dataclass(slots=True, eq=False)
class Call:
    """One request on its way to one member.

    Attributes:
        message: The request.
        member_id: Whose role it is for.
        epoch: In which it was made.
        sent_ns: When.
        patience_ns: How long an answer is waited for.
        role: Which of the member's roles it is for.
    """

    message: Submit | OpenSession | Query
    member_id: int
    epoch: int
    sent_ns: int
    patience_ns: int
    role: RoleName = RoleName.PROPOSER
