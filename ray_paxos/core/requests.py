"""A client's calls: to whom the next one goes, and what an answer or its absence means; pure.

`ClientSession` knows the commands; here are the calls that carry them. Every call belongs to an
epoch. When one is lost, refused by a redirect or answered with nothing, everything on its way is
to be sent again, and a new epoch begins: errors and redirects of an older epoch mean nothing any
more, while results are welcome whenever they come, and so is the word that a call left nothing in
the log: a call runs at most once, so that settles its copy for good.

A call that got no answer is remembered for a while. A member that owes too many gets no more, so
that a stopped process costs its clients a bounded amount.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.client_errors import (
    NO_ANSWER,
    Hindrance,
    not_applied,
    outcome_unknown,
    session_expired,
    session_unknown,
)
from ray_paxos.core.client_messages import (
    OpenSession,
    Redirected,
    RefusalCode,
    Refused,
    Submit,
    Submitted,
)
from ray_paxos.core.late_outcomes import LateOutcomes
from ray_paxos.core.master_guess import MasterGuess
from ray_paxos.core.messages import Envelope
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import FOREVER_NS, Outcomes, Receiver
from ray_paxos.core.results import NoteCode
from ray_paxos.core.session import ClientSession
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import SESSION_IDLE_NS, SessionId
from ray_paxos.errors import (
    ClientClosedError,
    CommandTooLargeError,
    MachineStoppedError,
    NoMasterError,
    NotAppliedError,
    OverloadedError,
    PaxosError,
)

_RETIRE_NS = SESSION_IDLE_NS // 2
_ANSWERS = (Submitted, Redirected, Refused)
_UNABLE = (RefusalCode.APPLY_STOPPED, RefusalCode.UNKNOWN_GROUP)


class ClientRequests:
    """Decides which call a client makes next, and takes in what comes back.

    Invariants: calls of the current epoch are exactly the requests on their way; at most one
    opening of a session is on its way.
    """

    def __init__(
        self, patience: Patience, *, label: str, first: int, settings: ClientSettings
    ) -> None:
        """Begin without a session; it is opened with the first command.

        Args:
            patience: Of the client; knows the members, any of which may be the master.
            label: What a person calls the client.
            first: Which member to try first, modulo their number.
            settings: Bounds and times.
        """
        self.session = ClientSession(
            request_bytes_max=settings.request_bytes_max, window_max=settings.window_max
        )
        self.guess = MasterGuess(patience, first)
        self.last_instance = 0
        self._members = frozenset(patience.members)
        self._label = label
        self._settings = settings
        self._late = LateOutcomes()
        self._calls: set[Call] = set()
        self._epoch = 0
        self._not_before_ns = 0
        self._looked_ns = 0
        self._used_ns = 0
        self._opening_id: int | None = None
        self._redirects = 0
        self._turns_seen = 0
        self._hindrance: Hindrance | None = NO_ANSWER
        # Members whose last word was that they cannot serve the group.
        self._unable: set[int] = set()
        self._lacks_members = False

    def take_lack_of_members(self) -> bool:
        """Whether somebody should look for further members, and call `meet`; true once.

        One that is unknown leads, or none of those that are known can serve the group, or they go
        on naming each other.
        """
        lacks, self._lacks_members = self._lacks_members, False
        return lacks

    def meet(self, members: Collection[int], now_ns: int, outcomes: Outcomes) -> None:
        """Somebody has looked for members.

        Args:
            members: Ids of all that are known now.
            now_ns: The client's clock.
            outcomes: Gets what has no hope any more: where nobody else was found, and none of
                those that are known can serve the group, waiting makes no sense.
        """
        found = [each for each in members if each not in self._members]
        if found:
            self._members |= frozenset(found)
            self.guess.meet(found)
            self._not_before_ns = now_ns
        elif self._unable >= self._members and self._hindrance is not None:
            why = f"no member can serve the group ({self._hindrance.what})"
            self._part_with_overdue(FOREVER_NS, self._hindrance, why, outcomes)

    @property
    def is_idle(self) -> bool:
        """Whether a session is open, and no command is without its outcome."""
        return self.session.session is not None and not self.session.has_work

    def has_room(self, commands: int, byte_count: int) -> bool:
        """Whether so much more may be held; what alone is over a limit may, where it is alone."""
        held_commands, held_bytes = self.session.held
        settings = self._settings
        return not held_commands or (
            held_commands + commands <= settings.held_commands_max
            and held_bytes + byte_count <= settings.held_bytes_max
        )

    # What goes out.

    def next_call(self, now_ns: int) -> Call | None:
        """The call to make now; None where there is nothing to send or it has to wait."""
        session = self.session
        if now_ns < self._not_before_ns or not self._may_ask(self.guess.member_id, now_ns):
            return None
        if session.is_between and session.has_work and now_ns - self._used_ns > _RETIRE_NS:
            # The group may evict it before long, and nobody has any use for it.
            session.retire()
        message: Submit | OpenSession | None
        if session.session is None:
            if self._opening_id is not None or not session.has_work:
                return None
            self._opening_id = session.next_request_id()
            message = OpenSession(self._opening_id, self._label)
        else:
            message = session.next_submit(now_ns)
            if message is None:
                return None
        call = self._call_to_master(message, now_ns)
        self._calls.add(call)
        return call

    def last_call(self, now_ns: int) -> Call | None:
        """The call that ends the session, for which nobody waits; None where there is none."""
        submit = self.session.end()
        if submit is None:
            return None
        return self._call_to_master(submit, now_ns)

    def _call_to_master(self, message: Submit | OpenSession, now_ns: int) -> Call:
        member_id = self.guess.member_id
        patience_ns = self.guess.patience.limit_ns(member_id, self._settings.call_timeout_ns)
        return Call(message, member_id, self._epoch, now_ns, patience_ns)

    def _may_ask(self, member_id: int, now_ns: int) -> bool:
        owed = sum(call.member_id == member_id for call in self._calls)
        if owed < self._settings.owed_calls_max:
            return True
        self.guess.failed(member_id)
        self._not_before_ns = now_ns + 10 * self._settings.pause_ns
        return False

    # Time.

    def due_ns(self, now_ns: int) -> int | None:
        """When `on_deadline` or `next_call` wants to be called next; None for never."""
        settings = self._settings
        due = [self._not_before_ns] if self._not_before_ns > now_ns else []
        if self.session.held_commands:
            due.append(self._looked_ns + settings.deadline_interval_ns)
        for call in self._calls:
            is_current = call.epoch == self._epoch
            patience_ns = call.patience_ns if is_current else settings.owed_ns
            due.append(call.sent_ns + patience_ns)
        return min(due, default=None)

    def on_deadline(self, now_ns: int, outcomes: Outcomes) -> None:
        """Give up on calls that took too long, and tell receivers whose time is over."""
        settings = self._settings
        for call in list(self._calls):
            if call.epoch == self._epoch and now_ns >= call.sent_ns + call.patience_ns:
                self.on_lost(call, now_ns, is_over=False)
            elif now_ns >= call.sent_ns + settings.owed_ns:
                self._calls.discard(call)
        if now_ns >= self._looked_ns + settings.deadline_interval_ns:
            self.on_overdue(now_ns, outcomes)

    def on_overdue(self, now_ns: int, outcomes: Outcomes) -> None:
        """Tell receivers whose time is over."""
        self._looked_ns = now_ns
        self._part_with_overdue(now_ns, self._hindrance, "no answer in time", outcomes)

    def _part_with_overdue(
        self, now_ns: int, hindrance: Hindrance | None, why: str, outcomes: Outcomes
    ) -> None:
        overdue = self.session.on_time(now_ns)
        for part, number in overdue.unknown:
            outcomes.fail([part], outcome_unknown(number, why))
        if overdue.untouched or overdue.unsent:
            outcomes.fail(overdue.untouched + overdue.unsent, not_applied(hindrance))

    # What came back.

    def on_lost(
        self,
        call: Call,
        now_ns: int,
        *,
        is_over: bool = True,
        what: str = "a member did not answer",
    ) -> None:
        """A call has no answer: everything is sent again, in order, to the next member.

        Args:
            call: Which.
            now_ns: The client's clock.
            is_over: Whether it is certain that no answer will come.
            what: Happened, for a person.
        """
        if is_over:
            self._calls.discard(call)
        if call.epoch == self._epoch:
            self._hindrance = Hindrance(NoMasterError, what, 1.0)
            self.guess.failed(call.member_id)
            self._start_over(now_ns, self._settings.pause_ns)

    def on_not_serving(self, call: Call, what: str, now_ns: int) -> None:
        """The role that was called does not serve, and has taken nothing."""
        self._note_untouched(call)
        self.on_lost(call, now_ns, what=what)

    def _start_over(self, now_ns: int, pause_ns: int) -> None:
        self._epoch += 1
        self._opening_id = None
        self.session.on_lost()
        self._not_before_ns = now_ns + pause_ns

    def _note_untouched(self, call: Call) -> None:
        if isinstance(call.message, Submit):
            self.session.on_untouched(call.message.request_id)

    def on_answer(
        self, call: Call, envelopes: Sequence[Envelope], now_ns: int, outcomes: Outcomes
    ) -> None:
        """Take in what a call returned.

        Args:
            call: Which.
            envelopes: None where the role gave up waiting.
            now_ns: The client's clock.
            outcomes: Gets what became known.
        """
        self._calls.discard(call)
        answer = next((e.message for e in envelopes if isinstance(e.message, _ANSWERS)), None)
        if answer is None or answer.request_id != call.message.request_id:
            self.on_lost(call, now_ns, what="a member gave up waiting for the group's answer")
            return
        self.guess.patience.answered(call.member_id)
        if not isinstance(answer, Refused) or answer.code not in _UNABLE:
            self._unable.discard(call.member_id)
        match answer:
            case Submitted():
                self._on_submitted(call, answer, now_ns, outcomes)
            case Redirected():
                self._on_redirected(call, answer, now_ns)
            case Refused():
                self._on_refused(call, answer, now_ns, outcomes)

    def _on_submitted(
        self, call: Call, submitted: Submitted, now_ns: int, outcomes: Outcomes
    ) -> None:
        self._redirects = 0
        self.guess.answered(call.member_id)
        self._used_ns = max(self._used_ns, call.sent_ns)
        if isinstance(call.message, OpenSession):
            self._on_opened(submitted, now_ns)
            return
        answered = self.session.on_submitted(submitted.request_id, submitted.results)
        for resolved in answered.resolved:
            outcomes.resolve(resolved.batch, resolved.result)
            self._late.take(resolved.batch, resolved.result, outcomes)
            self.last_instance = max(self.last_instance, resolved.result.instance_id)
            self._hindrance = None
        if answered.no_room:
            self._note_no_room(answered.no_room, now_ns)
        if answered.gone is not None:
            self._on_gone(answered.gone, outcomes)

    def _note_no_room(self, what: str, now_ns: int) -> None:
        pause_ns = self._settings.no_room_pause_ns
        self._hindrance = Hindrance(OverloadedError, what, pause_ns / 1e9)
        self._not_before_ns = now_ns + pause_ns

    def _on_gone(self, code: NoteCode, outcomes: Outcomes) -> None:
        self._epoch += 1
        for batch, may_have_applied in self.session.on_gone():
            error: PaxosError = session_expired(may_have_applied)
            if code is NoteCode.SESSION_UNKNOWN:
                error = session_unknown()
            outcomes.fail(batch.receivers, error)
            self._late.fail(batch, error, outcomes)

    def _on_opened(self, submitted: Submitted, now_ns: int) -> None:
        if submitted.request_id == self._opening_id:
            self._opening_id = None
        opened = submitted.results[0]
        self.last_instance = max(self.last_instance, opened.instance_id)
        refusal = opened.notes.get(0)
        if refusal is not None:
            self._note_no_room(refusal.message, now_ns)
        elif self.session.session is None:
            self._hindrance = None
            self.session.opened(SessionId(opened.instance_id, opened.index))

    def _on_redirected(self, call: Call, redirected: Redirected, now_ns: int) -> None:
        if redirected.untouched:
            self._note_untouched(call)
        if call.epoch != self._epoch:
            return
        if redirected.master is not None and redirected.master not in self._members:
            self._lacks_members = True
        self.guess.redirected(call.member_id, redirected.master)
        pause_ns = 0
        self._redirects += 1
        if self._redirects > len(self._members):
            # Two members that name each other: neither leads yet, or any more.
            pause_ns = self._settings.pause_ns
        if self.guess.search.turns > self._turns_seen:
            self._turns_seen = self.guess.search.turns
            self._lacks_members = True
        if redirected.master is None:
            pause_ns = max(redirected.retry_after_ms * MILLISECOND_NS, self._settings.pause_ns)
            self._hindrance = Hindrance(NoMasterError, "no member knows of a master", 1.0)
        self._start_over(now_ns, pause_ns)

    def _on_refused(self, call: Call, refused: Refused, now_ns: int, outcomes: Outcomes) -> None:
        self._note_untouched(call)
        pause_ns = refused.retry_after_ms * MILLISECOND_NS
        retry_after_s = max(refused.retry_after_ms / 1e3, 0.1)
        if refused.code in _UNABLE:
            self._on_unable(call, refused, now_ns, outcomes)
        elif refused.code in (RefusalCode.OVERLOADED, RefusalCode.TOO_LATE):
            self._hindrance = Hindrance(OverloadedError, refused.message, retry_after_s)
            if call.epoch != self._epoch:
                return
            self.guess.answered(call.member_id)
            self._opening_id = None
            if refused.code is RefusalCode.TOO_LATE:
                late = self.session.on_too_late(refused.request_id)
                outcomes.fail(late, not_applied(self._hindrance))
            else:
                self.session.on_not_taken(refused.request_id)
            self._not_before_ns = now_ns + pause_ns
        else:
            self._on_refused_for_good(call, refused, now_ns, outcomes)

    def _on_unable(self, call: Call, refused: Refused, now_ns: int, outcomes: Outcomes) -> None:
        """That member cannot serve the group; where no member can, waiting makes no sense."""
        self._unable.add(call.member_id)
        hindrance = Hindrance(NotAppliedError, refused.message, None)
        if refused.code is RefusalCode.APPLY_STOPPED:
            hindrance = Hindrance(MachineStoppedError, refused.message, 10.0)
        self._hindrance = hindrance
        self._lacks_members |= self._unable >= self._members
        if call.epoch == self._epoch:
            self.guess.redirected(call.member_id, None)
            pause_ns = max(refused.retry_after_ms * MILLISECOND_NS, self._settings.pause_ns)
            self._start_over(now_ns, pause_ns)

    def _on_refused_for_good(
        self, call: Call, refused: Refused, now_ns: int, outcomes: Outcomes
    ) -> None:
        kind = NotAppliedError
        if refused.code is RefusalCode.TOO_LARGE:
            kind = CommandTooLargeError
        error = kind(f"the group refused the command: {refused.message}; it was not applied")
        if isinstance(call.message, OpenSession):
            # Without a session nothing can be sent: whatever waits has to be told.
            self._opening_id = None
            outcomes.fail(self.session.on_time(FOREVER_NS).unsent, error)
            return
        for batch in self.session.on_refused(refused.request_id):
            outcomes.fail(batch.receivers, error)
            self._late.fail(batch, error, outcomes)
        self._not_before_ns = now_ns + self._settings.pause_ns

    # Numbers of which their receiver was told that the outcome is unknown.

    def ask(self, number: int, receiver: Receiver, outcomes: Outcomes) -> None:
        """Tell a receiver what became of a number: now, or once it is known.

        Raises:
            ConfigurationError: The number is none of those.
            OverloadedError: Too many ask.
        """
        if self._late.tell(number, receiver, outcomes):
            return
        if not self.session.is_unknown(number):
            self._late.check_kept(number)
        self._late.wait(number, receiver)

    def abandon(self, number: int, receiver: Receiver, outcomes: Outcomes) -> None:
        """As `ask`, and have the number withdrawn where it was not applied.

        Raises:
            As `ask`.
        """
        self.ask(number, receiver, outcomes)
        if self.session.is_unknown(number):
            self.session.withdraw(number)

    def leave(self, number: int, receiver: Receiver) -> None:
        """A receiver that asked waits no longer."""
        self._late.leave(number, receiver)

    def give_up(self, outcomes: Outcomes) -> None:
        """Forget everything, as the client closes."""
        self._calls.clear()
        self._epoch += 1
        overdue = self.session.on_time(FOREVER_NS)
        closed = "the client was closed before its outcome was known"
        for part, number in overdue.unknown:
            outcomes.fail([part], outcome_unknown(number, closed))
        unsent = ClientClosedError("the client was closed; the command was not applied")
        outcomes.fail(overdue.untouched + overdue.unsent, unsent)
        for batch, _ in self.session.on_gone():
            error = outcome_unknown(batch.first_number, closed)
            self._late.fail(batch, error, outcomes)
