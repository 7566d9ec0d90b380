"""What a call of a line returns: what comes back is what went, and nothing else is taken."""

from __future__ import annotations

import msgspec
import pytest

from ray_paxos.actors.answers import state_of
from ray_paxos.actors.line_answers import (
    LINE_ANSWERS,
    ClientAnswer,
    decode_answers,
    encode_answers,
)
from ray_paxos.core.client_messages import Redirected, RefusalCode, Refused, Submitted
from ray_paxos.core.messages import Message
from ray_paxos.core.results import EntryResult
from ray_paxos.core.wire import encode_envelopes, seal
from ray_paxos.errors import WireFormatError
from tests.unit.core_helpers import envelope, proposer_of


def answer(number: int) -> ClientAnswer:
    messages: list[Message] = [
        Submitted(number, (EntryResult(number, 3, (b"r%d" % number, None), {}),)),
        Redirected(number, None, 5, untouched=True),
        Refused(number, RefusalCode.OVERLOADED, "full", 100),
    ]
    # Ids of clients are of 63 bits.
    client_id = (1 << 63) - 1 - number % 3
    return client_id, 1 + number % 7, envelope(proposer_of(1), messages[number % 3])


@pytest.mark.parametrize("count", [0, 1, 15, 16, 70_000])
def test_what_comes_back_is_what_went(count: int) -> None:
    answers = tuple(answer(number) for number in range(count))
    encoded = encode_answers(answers)
    assert decode_answers(encoded) == answers
    assert state_of(encoded) is None


def test_every_flipped_byte_is_noticed() -> None:
    encoded = encode_answers([answer(3)])
    for at in range(len(encoded)):
        damaged = bytearray(encoded)
        damaged[at] ^= 0x40
        with pytest.raises(WireFormatError):
            decode_answers(bytes(damaged))


def test_answers_that_say_not_of_how_many_copies_are_refused() -> None:
    client_id, _, reply = answer(1)
    packed = msgspec.msgpack.encode([(client_id, reply)])
    with pytest.raises(WireFormatError):
        decode_answers(seal(LINE_ANSWERS, 1, packed))


def test_answers_without_clients_are_refused() -> None:
    with pytest.raises(WireFormatError, match="of kind 1"):
        decode_answers(encode_envelopes([answer(1)[2]]))
    with pytest.raises(WireFormatError):
        decode_answers(b"")
