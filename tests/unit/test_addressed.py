"""Batches between fused members: what comes back is what went, and nothing else is taken."""

from __future__ import annotations

import pytest

from ray_paxos.actors.addressed import (
    address,
    decode_addressed,
    encode_addressed,
    join_addressed,
)
from ray_paxos.actors.answers import state_of
from ray_paxos.core.learner_messages import VoteFloorRaised
from ray_paxos.core.messages import Envelope, RoleName
from ray_paxos.core.wire import encode_envelope, encode_envelopes
from ray_paxos.errors import WireFormatError
from tests.unit.core_helpers import envelope, learner_of


def numbered(number: int) -> Envelope:
    return envelope(learner_of(1), VoteFloorRaised(number))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 70_000])
def test_separately_encoded_and_joined_is_the_same_as_encoded_together(count: int) -> None:
    roles = [RoleName.ACCEPTOR, RoleName.LEARNER, RoleName.PROPOSER, RoleName.CHECKPOINTER]
    batch = [(roles[number % 4], numbered(number)) for number in range(count)]
    joined = join_addressed([address(role, encode_envelope(e)) for role, e in batch])
    assert joined == encode_addressed(batch)
    assert decode_addressed(joined) == tuple(batch)
    assert state_of(joined) is None


def test_every_flipped_byte_is_noticed() -> None:
    batch = encode_addressed([(RoleName.ACCEPTOR, numbered(3))])
    for at in range(len(batch)):
        damaged = bytearray(batch)
        damaged[at] ^= 0x40
        with pytest.raises(WireFormatError):
            decode_addressed(bytes(damaged))


def test_a_batch_without_addresses_is_refused() -> None:
    with pytest.raises(WireFormatError, match="of kind 1"):
        decode_addressed(encode_envelopes([numbered(1)]))
    with pytest.raises(WireFormatError):
        decode_addressed(b"")
