"""A client's calls: to whom the next one goes, and what an answer or its absence means; pure.

`ClientSession` knows the commands; here are the calls that carry them. Every call belongs to an
epoch. When one is lost, refused by a redirect or answered with nothing, everything on its way is
to be sent again, and a new epoch begins: errors and redirects of an older epoch mean nothing any
more, while results are welcome whenever they come.

A call that got no answer is remembered for a while. A member that owes too many gets no more, so
that a stopped process costs its clients a bounded amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ray_paxos.core.master_guess import MasterGuess
from ray_paxos.core.messages import (
    Envelope,
    OpenSession,
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    Submitted,
)
from ray_paxos.core.pending import Part, PendingBatch
from ray_paxos.core.results import EntryResult, NoteCode
from ray_paxos.core.session import ClientSession
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import SessionId
from ray_paxos.errors import (
    ClientClosedError,
    CommandTooLargeError,
    NotAppliedError,
    OutcomeUnknownError,
    PaxosError,
    SessionExpiredError,
)


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Bounds and times of one client.

    Attributes:
        request_bytes_max: Commands in one request (at least one).
        window_max: Requests on their way.
        command_bytes_max: A longer command is refused before it is numbered.
        held_commands_max: Commands without a known outcome.
        held_bytes_max: Their bytes.
        call_timeout_ns: A request without an answer for this long is sent again.
        pause_ns: After a failure, before the next try.
        owed_calls_max: Unanswered calls after which a member gets no more of them,
        owed_ns: until one is answered or is this old.
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
    deadline_interval_ns: int = 250 * MILLISECOND_NS


@dataclass(slots=True, eq=False)
class Call:
    """One request on its way to one member.

    Attributes:
        message: The request.
        member_id: Whose proposer it is for.
        epoch: In which it was made.
        sent_ns: When.
    """

    message: Submit | OpenSession
    member_id: int
    epoch: int
    sent_ns: int


@dataclass(slots=True)
class Outcomes:
    """What became known of commands, to be handed out once no lock is held."""

    _resolved: list[tuple[PendingBatch, EntryResult]] = field(default_factory=list)
    _failed: list[tuple[Part, PaxosError]] = field(default_factory=list)

    def resolve(self, batch: PendingBatch, result: EntryResult) -> None:
        """A batch has its results."""
        self._resolved.append((batch, result))

    def fail(self, parts: Sequence[Part], error: PaxosError) -> None:
        """These commands have no result."""
        self._failed += [(part, error) for part in parts]

    def settle(self) -> None:
        """Tell everyone; runs the callbacks that users attached to their futures."""
        for batch, result in self._resolved:
            batch.deliver(result)
        for (receiver, start, count), error in self._failed:
            receiver.fail(start, error, count)


class ClientRequests:
    """Decides which call a client makes next, and takes in what comes back.

    Invariants: calls of the current epoch are exactly the requests on their way; at most one
    opening of a session is on its way.
    """

    def __init__(
        self, members: Sequence[int], *, label: str, first: int, settings: ClientSettings
    ) -> None:
        """Begin without a session; it is opened with the first command.

        Args:
            members: Ids of the members, any of which may be the master.
            label: What a person calls the client.
            first: Which member to try first, modulo their number.
            settings: Bounds and times.
        """
        self.session = ClientSession(
            request_bytes_max=settings.request_bytes_max, window_max=settings.window_max
        )
        self.guess = MasterGuess(members, first)
        self.last_instance = 0
        self._label = label
        self._settings = settings
        self._calls: set[Call] = set()
        self._epoch = 0
        self._not_before_ns = 0
        self._looked_ns = 0
        self._opening_id: int | None = None
        self._wants_session = False

    def want_session(self) -> None:
        """Open a session even without commands."""
        self._wants_session = True

    @property
    def is_idle(self) -> bool:
        """Whether a session is open, and no command is without its outcome."""
        return self.session.session is not None and not self.session.has_work

    def has_room(self, commands: int, byte_count: int) -> bool:
        """Whether so much more may be held; what alone is over a limit may, where it is alone."""
        session, settings = self.session, self._settings
        return not session.held_commands or (
            session.held_commands + commands <= settings.held_commands_max
            and session.held_bytes + byte_count <= settings.held_bytes_max
        )

    def next_call(self, now_ns: int) -> Call | None:
        """The call to make now; None where there is nothing to send or it has to wait."""
        session = self.session
        if now_ns < self._not_before_ns or not self._may_ask(self.guess.member_id, now_ns):
            return None
        message: Submit | OpenSession | None
        if session.session is None:
            if self._opening_id is not None or not (session.has_work or self._wants_session):
                return None
            self._opening_id = session.next_request_id()
            message = OpenSession(self._opening_id, self._label)
        else:
            message = session.next_submit()
            if message is None:
                return None
        call = Call(message, self.guess.member_id, self._epoch, now_ns)
        self._calls.add(call)
        return call

    def _may_ask(self, member_id: int, now_ns: int) -> bool:
        owed = sum(call.member_id == member_id for call in self._calls)
        if owed < self._settings.owed_calls_max:
            return True
        self.guess.failed(member_id)
        self._not_before_ns = now_ns + 10 * self._settings.pause_ns
        return False

    def due_ns(self, now_ns: int) -> int | None:
        """When `on_deadline` or `next_call` wants to be called next; None for never."""
        settings = self._settings
        due = [self._not_before_ns] if self._not_before_ns > now_ns else []
        if self.session.held_commands:
            due.append(self._looked_ns + settings.deadline_interval_ns)
        for call in self._calls:
            is_current = call.epoch == self._epoch
            patience_ns = settings.call_timeout_ns if is_current else settings.owed_ns
            due.append(call.sent_ns + patience_ns)
        return min(due, default=None)

    def on_deadline(self, now_ns: int, outcomes: Outcomes) -> None:
        """Give up on calls that took too long, and tell receivers whose time is over."""
        settings = self._settings
        for call in list(self._calls):
            if call.epoch == self._epoch and now_ns >= call.sent_ns + settings.call_timeout_ns:
                self.on_lost(call, now_ns, is_over=False)
            elif now_ns >= call.sent_ns + settings.owed_ns:
                self._calls.discard(call)
        if now_ns >= self._looked_ns + settings.deadline_interval_ns:
            self._looked_ns = now_ns
            numbered, unsent = self.session.on_time(now_ns)
            if numbered:
                outcomes.fail(numbered, outcome_unknown())
            if unsent:
                outcomes.fail(unsent, NotAppliedError("its time was over before it was sent"))

    def on_lost(
        self, call: Call, now_ns: int, *, is_over: bool = True, pause_ns: int | None = None
    ) -> None:
        """A call has no answer: everything is sent again, in order, to the next member.

        Args:
            call: Which.
            now_ns: The client's clock.
            is_over: Whether it is certain that no answer will come.
            pause_ns: How long to wait before; by default as the settings say.
        """
        if is_over:
            self._calls.discard(call)
        if call.epoch == self._epoch:
            self.guess.failed(call.member_id)
            self._start_over(now_ns, self._settings.pause_ns if pause_ns is None else pause_ns)

    def on_not_made(self, call: Call, now_ns: int) -> None:
        """A call could not be made yet, but can be now."""
        self._calls.discard(call)
        if call.epoch == self._epoch:
            self._start_over(now_ns, 0)

    def _start_over(self, now_ns: int, pause_ns: int) -> None:
        self._epoch += 1
        self._opening_id = None
        self.session.on_lost()
        self._not_before_ns = now_ns + pause_ns

    def on_answer(
        self, call: Call, envelopes: Sequence[Envelope], now_ns: int, outcomes: Outcomes
    ) -> None:
        """Take in what a call returned.

        Args:
            call: Which.
            envelopes: None where the role does not serve, or gave up waiting.
            now_ns: The client's clock.
            outcomes: Gets what became known.
        """
        self._calls.discard(call)
        if not envelopes:
            self.on_lost(call, now_ns)
        for envelope in envelopes:
            match envelope.message:
                case Submitted() as submitted:
                    self._on_submitted(call, submitted, outcomes)
                case Redirected() as redirected:
                    self._on_redirected(call, redirected, now_ns)
                case Refused() as refused:
                    self._on_refused(call, refused, now_ns, outcomes)
                case _:
                    pass

    def _on_submitted(self, call: Call, submitted: Submitted, outcomes: Outcomes) -> None:
        self.guess.answered(call.member_id)
        if isinstance(call.message, OpenSession):
            self._on_opened(submitted)
            return
        is_expired = False
        for resolved in self.session.on_submitted(submitted.request_id, submitted.results):
            outcomes.resolve(resolved.batch, resolved.result)
            self.last_instance = max(self.last_instance, resolved.result.instance_id)
            for note in resolved.result.notes.values():
                is_expired = is_expired or note.code is NoteCode.NO_SESSION
        if is_expired:
            self._epoch += 1
            for batch in self.session.on_expired():
                outcomes.fail(batch.receivers, session_expired())

    def _on_opened(self, submitted: Submitted) -> None:
        if submitted.request_id == self._opening_id:
            self._opening_id = None
        opened = submitted.results[0]
        self.last_instance = max(self.last_instance, opened.instance_id)
        if self.session.session is None:
            self._wants_session = False
            self.session.opened(SessionId(opened.instance_id, opened.index))

    def _on_redirected(self, call: Call, redirected: Redirected, now_ns: int) -> None:
        if call.epoch != self._epoch:
            return
        self.guess.redirected(call.member_id, redirected.master)
        pause_ns = 0
        if redirected.master is None:
            pause_ns = max(redirected.retry_after_ms * MILLISECOND_NS, self._settings.pause_ns)
        self._start_over(now_ns, pause_ns)

    def _on_refused(self, call: Call, refused: Refused, now_ns: int, outcomes: Outcomes) -> None:
        self.guess.answered(call.member_id)
        is_opening = isinstance(call.message, OpenSession)
        if is_opening:
            self._opening_id = None
        if refused.code is RefusalCode.OVERLOADED:
            self.session.on_not_taken(refused.request_id)
            self._not_before_ns = now_ns + refused.retry_after_ms * MILLISECOND_NS
            return
        kind = NotAppliedError
        if refused.code is RefusalCode.TOO_LARGE:
            kind = CommandTooLargeError
        error = kind(f"the group refused the command: {refused.message}")
        if is_opening:
            # Without a session nothing can be sent: whatever waits has to be told.
            self._wants_session = False
            outcomes.fail(self.session.give_up()[1], error)
            return
        for batch in self.session.on_refused(refused.request_id):
            outcomes.fail(batch.receivers, error)

    def give_up(self, outcomes: Outcomes) -> None:
        """Forget everything, as the client closes."""
        numbered, unsent = self.session.give_up()
        self._calls.clear()
        self._epoch += 1
        unknown = OutcomeUnknownError(
            "the client was closed before the outcome was known: the command may have been applied"
        )
        outcomes.fail(numbered, unknown)
        outcomes.fail(unsent, ClientClosedError("the client was closed before this was sent"))


def outcome_unknown() -> OutcomeUnknownError:
    """The error of commands without an answer in time."""
    return OutcomeUnknownError(
        "no answer in time: the command may have been applied, or may still be, once. The client "
        "goes on sending it under its number, ahead of later ones"
    )


def session_expired() -> SessionExpiredError:
    """The error of commands that were open when their session was evicted."""
    return SessionExpiredError(
        "the group no longer knows this client's session, so this command may have been applied "
        "or not. Read the state before submitting it again; the client goes on in a new session"
    )
