"""What leaves a process at once, what waits for company, and under which cluster version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ray_paxos.actors import switchboard as switchboard_module
from ray_paxos.actors.addressed import encode_addressed
from ray_paxos.actors.errands import Errand
from ray_paxos.actors.feeds import Haste
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.core import wire
from ray_paxos.core.learner_messages import Chosen, VoteFloorRaised
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.releases import NEWEST, OLDEST, Release
from ray_paxos.core.wire import version_of
from ray_paxos.errors import ReleaseError, StorageFullError, WireFormatError

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


# The cluster version.


def member_batch(version: int) -> bytes:
    envelope = Envelope(b"g" * 16, 1, Address(2, RoleName.PROPOSER), 1, 1, 0, VoteFloorRaised(3))
    return encode_addressed([(RoleName.LEARNER, envelope)], version)


@pytest.fixture
def later_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process knows the versions 1 to 3."""
    for module in (wire, switchboard_module):
        monkeypatch.setattr(module, "THIS_RELEASE", Release(1, 3))


@pytest.mark.usefixtures("later_release")
def test_a_member_goes_by_the_latest_version_that_it_hears_of() -> None:
    switchboard: Any = Switchboard()
    assert version_of(switchboard._join_addressed([])) == OLDEST
    for heard, goes_by in ((2, 2), (1, 2), (3, 3), (2, 3)):
        switchboard._read_addressed(member_batch(heard))
        assert switchboard.version == goes_by
        assert version_of(switchboard._join_addressed([])) == goes_by
        assert version_of(switchboard._join([])) == goes_by


@pytest.mark.usefixtures("later_release")
def test_what_is_gone_by_is_recorded_before_anything_is_sent_under_it() -> None:
    recorded: list[int] = []
    switchboard: Any = Switchboard()
    switchboard.hear(2)

    def record(version: int) -> None:
        assert version_of(switchboard._join([])) < version or not recorded
        recorded.append(version)

    switchboard.record_versions_by(record)
    switchboard.raise_version(3)
    switchboard.raise_version(3)
    assert recorded == [2, 3]


@pytest.mark.usefixtures("later_release")
def test_a_version_that_cannot_be_recorded_is_not_gone_by() -> None:
    switchboard: Any = Switchboard()
    is_full = True

    def record(version: int) -> None:
        if is_full:
            raise StorageFullError("no room")

    switchboard.record_versions_by(record)
    switchboard._read_addressed(member_batch(2))
    assert switchboard.version == OLDEST
    is_full = False
    switchboard._read_addressed(member_batch(2))
    assert switchboard.version == 2


def test_an_unknown_version_is_refused_by_name() -> None:
    switchboard: Any = Switchboard()
    with pytest.raises(ReleaseError, match=f"version {NEWEST + 1}; this release knows"):
        switchboard.raise_version(NEWEST + 1)
    with pytest.raises(WireFormatError, match=f"version {NEWEST + 1}; this release knows"):
        switchboard._read_addressed(member_batch(NEWEST + 1))
    assert switchboard.version == OLDEST
