"""What one thread is about while it goes through the shells of its process.

A thread that comes with a call, or with something that was noticed in the background, runs an
errand: it takes the turn of one shell after the other, and each adds what is to be done next.

```
 call ─▶ shell ─▶ replies    ride back as the call's answer
                  outbound   leave by the feeds
                  handed     wait in the inboxes of other shells here, which are visited next
```

An errand never has two turns at once, so that no two threads can wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ray_paxos.actors.addressed import Addressed
from ray_paxos.core.learner_messages import Chosen, LearnerStatus
from ray_paxos.core.messages import Accept, Address, Envelope, Message
from ray_paxos.core.wire import encode_envelope

if TYPE_CHECKING:
    from ray_paxos.actors.shell import Shell


NEWS = (Chosen, LearnerStatus)
"""Other members' learners are told what is chosen, and tell how far they are, when it suits."""


@dataclass(slots=True, eq=False)
class Errand:
    """One thread's; touched by it, and by who does its work while it waits for a shell's turn.

    Attributes:
        caller: Who sent the call that it answers; None where there is none.
        is_for_member: Whether the answer carries messages to all roles of the caller's member.
        is_in_background: Whether the thread must not wait for a disk: others need it.
        replies: What the answer carries.
        outbound: Encoded envelopes for others,
        news: and those that nobody waits for, unless it is the own member's role,
        accepts: and those that ask for votes, of which a majority is waited for.
        handed: Shells of this process whose inboxes have got something.
    """

    caller: Address | None = None
    is_for_member: bool = False
    is_in_background: bool = False
    replies: list[Addressed] = field(default_factory=list)
    outbound: list[tuple[Address, bytes]] = field(default_factory=list)
    news: list[tuple[Address, bytes]] = field(default_factory=list)
    accepts: list[tuple[Address, bytes]] = field(default_factory=list)
    handed: list[Shell] = field(default_factory=list)
    _message: Message | None = None
    _encoded: bytes = b""

    def takes(self, to: Address) -> bool:
        """Whether what is for that address rides back with the answer."""
        caller = self.caller
        if caller is None:
            return False
        return to == caller or (self.is_for_member and to.member_id == caller.member_id)

    def send(self, to: Address, envelope: Envelope) -> None:
        """Have an envelope leave; the same message to several is encoded once."""
        if envelope.message is not self._message:
            self._encoded, self._message = encode_envelope(envelope), envelope.message
        message = envelope.message
        if isinstance(message, Accept):
            leaving = self.accepts
        else:
            leaving = self.news if isinstance(message, NEWS) else self.outbound
        leaving.append((to, self._encoded))

    def hand(self, shell: Shell) -> None:
        """Note that a shell has got something."""
        if shell not in self.handed:
            self.handed.append(shell)

    def wake_all(self) -> None:
        """Have the shells that have got something see to it themselves."""
        handed, self.handed = self.handed, []
        for shell in handed:
            shell.wake()


@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope in a shell's inbox.

    Attributes:
        envelope: As it came.
        errand: Whose thread waits until it is handled; None where nobody does.
    """

    envelope: Envelope
    errand: Errand | None = None
