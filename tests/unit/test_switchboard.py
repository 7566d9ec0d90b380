"""What leaves a process at once, and what waits for company."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray_paxos.actors.errands import Errand
from ray_paxos.actors.feeds import Haste
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.core.learner_messages import Chosen, VoteFloorRaised
from ray_paxos.core.messages import Address, Envelope, Message, RoleName

OWN, OTHER = (Address(member, RoleName.LEARNER) for member in (1, 2))
PROPOSER = Address(1, RoleName.PROPOSER)


class RecordedFeeds:
    """Takes the place of the feeds."""

    def __init__(self) -> None:
        self.sent: list[tuple[Address, Haste]] = []

    def send(self, messages: Sequence[tuple[Address, bytes]], haste: Haste = Haste.AT_ONCE) -> None:
        self.sent += [(to, haste) for to, _ in messages]


def sent_by(*messages: tuple[Address, Message]) -> list[tuple[Address, Haste]]:
    """How a proposer of its own actor sends these."""
    switchboard: Any = Switchboard()
    switchboard._member_id = PROPOSER.member_id
    feeds = switchboard._feeds = RecordedFeeds()
    errand = Errand()
    for to, message in messages:
        errand.send(to, Envelope(b"g" * 16, 1, PROPOSER, 1, 1, 0, message))
    switchboard.settle(errand)
    return feeds.sent


def test_only_other_members_learners_wait_for_what_is_chosen() -> None:
    """Clients wait for the own member's learner, which has a feed of its own here."""
    chosen = Chosen((), 7, 7)
    sent = sent_by((OTHER, chosen), (OWN, chosen))
    assert sorted(sent) == [(OWN, Haste.AT_ONCE), (OTHER, Haste.NEWS)]


def test_anything_else_leaves_at_once() -> None:
    assert sent_by((OTHER, VoteFloorRaised(3))) == [(OTHER, Haste.AT_ONCE)]
