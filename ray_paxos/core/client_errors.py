"""What a client's callers are told where a command has no result; pure."""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.errors import (
    NoMasterError,
    NotAppliedError,
    OutcomeUnknownError,
    OverloadedError,
    SessionExpiredError,
    SessionUnknownError,
)


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why the group took nothing, the last time it was asked.

    Attributes:
        kind: Of the error for those whose time is over meanwhile.
        what: Happened.
        retry_after_s: When trying again makes sense; None where it does not.
    """

    kind: type[NotAppliedError]
    what: str
    retry_after_s: float | None


NO_ANSWER = Hindrance(NoMasterError, "no member answered", 1.0)


def not_applied(hindrance: Hindrance | None) -> NotAppliedError:
    """The error of commands whose time was over before the group took them."""
    if hindrance is None:
        return OverloadedError(
            "its time was over before its turn came, behind earlier commands of this client; it "
            "was not applied",
            0.1,
        )
    return hindrance.kind(
        f"the group did not take it: {hindrance.what}; it was not applied",
        hindrance.retry_after_s,
    )


def outcome_unknown(number: int, why: str) -> OutcomeUnknownError:
    """The error of a command without an answer."""
    return OutcomeUnknownError(
        f"{why}: the command may have been applied, or may still be, once. Client.outcome(number) "
        "waits for what became of it, Client.abandon(number) gives it up",
        number,
    )


def session_expired(may_have_applied: bool = True) -> SessionExpiredError:
    """The error of commands that were open when their session was evicted."""
    what = "this command may have been applied or not: read the state before submitting it again"
    if not may_have_applied:
        what = "this command was not applied, and may be submitted again"
    return SessionExpiredError(
        f"the group no longer knows this client's session, so {what}. The client goes on in a new "
        "session",
        may_have_applied,
    )


def session_unknown() -> SessionUnknownError:
    """The error of commands of a session that the group never opened."""
    return SessionUnknownError(
        "the group never opened this client's session: it is another group, or has lost its log. "
        "The command was not applied; the client goes on in a new session"
    )
