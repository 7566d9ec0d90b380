"""A shell's side of lines: requests of clients come in by calls, answers leave by whichever call.

```
 lone call ── submit ───▶ the role ── answers, as they come ──▶ mailbox ──▶ the call that waits
 line      ── exchange ─▶                                       mailbox of the line ──▶ a call of it
```

A call stays in its thread until its answers are there: a lone one waits for the answers to what it
brought, calls of a line for any answer to the line.

Whoever brings what completes an answer, any thread of the process, lays it into the mailbox that
the call waits at. The mailbox is opened at the end of the turn, so that what is answered together
leaves together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from ray_paxos.actors.line_answers import encode_answers
from ray_paxos.actors.mailbox import LineMailboxes, Mailbox, RequestKey
from ray_paxos.actors.shell import Arrival
from ray_paxos.actors.waiting_calls import WaitingCalls
from ray_paxos.core.driver import Action, Driver
from ray_paxos.core.messages import Address, Envelope
from ray_paxos.core.wire import decode_envelopes, encode_envelopes, version_of

REPLY_TIMEOUT_S = 10.0
"""A call that is not answered by then returns with nothing, and what it brought is not waited for
any more. Clients send again sooner, and give a call up later (`role_line.CALL_TIMEOUT_S`)."""

Refusal: TypeAlias = Callable[[Envelope], Envelope | None]
"""The answer to a request that cannot be asked here at all; None for one that can."""
Bring: TypeAlias = Callable[[Sequence[Arrival]], None]
"""Has a shell handle something in a turn, and sees to what comes of it."""
Admit: TypeAlias = Callable[[Envelope, int], Envelope]
"""Is told of a request, and when it came; gives what the role is to handle."""


class LineExchange:
    """The requests of one shell's clients that are not answered; used by all threads.

    Invariants: what is in `_answered` was answered in the turn that is under way.
    """

    def __init__(
        self,
        requests: tuple[type, ...],
        refusal: Refusal,
        bring: Bring,
        answer_timeout_s: float | None = None,
        admit: Admit | None = None,
    ) -> None:
        """Wait for nothing.

        Args:
            requests: The messages that clients may ask with; each has a `request_id`.
            refusal: Looks at each before it is asked.
            bring: Has them handled.
            answer_timeout_s: For how long an answer to a line is waited for, in seconds; None for
                as long as a call waits.
            admit: Is told of each in the turn that handles it; None where nobody is.
        """
        self._admit = admit
        self._answer_timeout_s = answer_timeout_s
        self._requests = requests
        self._refusal = refusal
        self._bring = bring
        self._calls = WaitingCalls()
        self._lines = LineMailboxes()
        self._answered: list[Mailbox] = []

    # What calls come to.

    def submit(self, batch: bytes) -> bytes:
        """Take a client's requests in, and return once all of them are answered.

        Args:
            batch: Encoded envelopes of one client, each with a request.

        Returns:
            Encoded envelopes with the answers there are.
        """
        mailbox = Mailbox()
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        asked, refused = self._sort(batch)
        replies = [answer for _, answer in refused]
        keys = {_key(envelope) for envelope in asked}
        count = len(keys) + len(replies)
        try:
            self._bring_for(mailbox, asked)
            while len(replies) < count and time.monotonic() < deadline:
                taken = mailbox.take(deadline - time.monotonic())
                replies += [envelope for _, _, envelope in taken]
        finally:
            mailbox.is_left = True
            for key in keys:
                self._calls.leave(key, mailbox)
        return encode_envelopes(replies, version_of(batch))

    def exchange(self, line: int, batch: bytes) -> bytes:
        """Take requests of a line in, and return with what is there for the line.

        Args:
            line: Number of the line, which its process has chosen at random.
            batch: As of `submit`, of any clients; may be empty.

        Returns:
            Encoded answers to requests of any call of the line. None, where another call of the
            line waits in this one's place, or nothing came in time.
        """
        now = time.monotonic()
        mailbox, dropped = self._lines.of(line, now)
        for each in dropped:
            each.is_left = True
            self._forget(each, math.inf)
        self._forget(mailbox, now)
        asked, refused = self._sort(batch)
        for key, answer in refused:
            mailbox.put(key, answer)
        self._bring_for(mailbox, asked)
        return encode_answers(mailbox.take(REPLY_TIMEOUT_S), version_of(batch))

    def _forget(self, mailbox: Mailbox, now: float) -> None:
        """What a mailbox has waited for until then is not waited for any more."""
        for key in mailbox.overdue(now):
            self._calls.leave(key, mailbox)

    def _sort(self, batch: bytes) -> tuple[list[Envelope], list[tuple[RequestKey, Envelope]]]:
        """What can be asked here of what a call brought, and the refusals of the rest."""
        asked: list[Envelope] = []
        refused: list[tuple[RequestKey, Envelope]] = []
        for envelope in decode_envelopes(batch):
            if not isinstance(envelope.message, self._requests):
                continue
            refusal = self._refusal(envelope)
            if refusal is None:
                asked.append(envelope)
            else:
                refused.append((_key(envelope), refusal))
        return asked, refused

    def _bring_for(self, mailbox: Mailbox, asked: Sequence[Envelope]) -> None:
        """Have requests handled, and their answers laid into a mailbox."""
        if asked:
            self._bring([partial(self._take_in, mailbox, envelope) for envelope in asked])

    # In a turn of the shell.

    def _take_in(
        self, mailbox: Mailbox, envelope: Envelope, driver: Driver, now_ns: int
    ) -> list[Action]:
        """Have the role handle a request."""
        key = _key(envelope)
        mailbox.expect(key, time.monotonic() + (self._answer_timeout_s or REPLY_TIMEOUT_S))
        self._calls.join(key, mailbox)
        if self._admit is not None:
            envelope = self._admit(envelope, now_ns)
        return driver.receive(envelope, now_ns)

    def answer(self, to: Address, envelope: Envelope) -> None:
        """Lay an answer into the mailboxes where it is waited for."""
        request_id = getattr(envelope.message, "request_id", None)
        if request_id is not None:
            for mailbox in self._calls.answer((to, request_id), envelope):
                if mailbox not in self._answered:
                    self._answered.append(mailbox)

    def open_answered(self) -> None:
        """Let the calls go that wait for what was answered in this turn."""
        answered, self._answered = self._answered, []
        for mailbox in answered:
            mailbox.open()


def _key(envelope: Envelope) -> RequestKey:
    """Which client's request of which number."""
    request_id: int = getattr(envelope.message, "request_id")  # noqa: B009  # of any request
    return envelope.sender, request_id
