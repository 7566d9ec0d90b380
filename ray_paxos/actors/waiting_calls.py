"""Which mailboxes wait for the answer to a client's request, by the client and its number.

Several copies of a request may be under way, since clients send again what is not answered in
time. An answer is for those copies that were handled before it was given, and for no later one:
that one may be proposed although an earlier one was refused. So a copy joins in the turn of the
role that handles it, directly before, and the answer says how many it is for.
"""

from __future__ import annotations

import threading

from ray_paxos.actors.mailbox import Mailbox, RequestKey
from ray_paxos.core.messages import Envelope


class WaitingCalls:
    """The requests of one proposer that are not answered; used by all threads.

    Invariants: a request is here exactly while a mailbox waits for its answer.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._waiting: dict[RequestKey, list[Mailbox]] = {}

    def __len__(self) -> int:
        """How many requests are waited for."""
        return len(self._waiting)

    def join(self, key: RequestKey, mailbox: Mailbox) -> None:
        """One copy more of a request, whose answer is to be put into a mailbox, unless it is left.

        Who leaves a mailbox first says so there: what joins then, finds that out.
        """
        with self._lock:
            if not mailbox.is_left:
                self._waiting.setdefault(key, []).append(mailbox)

    def leave(self, key: RequestKey, mailbox: Mailbox) -> None:
        """A mailbox that joined waits no longer, answered or not."""
        with self._lock:
            left = [each for each in self._waiting.get(key, ()) if each is not mailbox]
            if left:
                self._waiting[key] = left
            else:
                self._waiting.pop(key, None)

    def answer(self, key: RequestKey, envelope: Envelope) -> list[Mailbox]:
        """Put an answer into all mailboxes that wait for it.

        Returns:
            These, which are to be opened.
        """
        with self._lock:
            waiting = self._waiting.pop(key, [])
        mailboxes = list(dict.fromkeys(waiting))
        for mailbox in mailboxes:
            mailbox.put(key, envelope, waiting.count(mailbox))
        return mailboxes
