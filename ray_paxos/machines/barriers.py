"""The barriers machine: parties that wait until all of them are there, round after round.

Rules:

1. A round of a barrier is passed once as many different parties as it is for have arrived. Then, at
   the same place in the log, the next round begins, and nobody is there yet. So every round has as
   many arrivals as its parties, all of them before anybody is told that it is passed.
2. How many the parties are says the first one to arrive, and it holds until nobody is there any
   more; who says another number is refused.
3. Parties are named by whoever asks. To arrive again in the same round changes nothing: it says the
   same place, and how many are missing now. Places are 0 to parties - 1; no two of a round have the
   same one when it is passed, so that one of them can be picked for what is to be done once.
4. A party whose result is lost does not know whether its round is passed, and to arrive again may
   be to arrive at the next one, where nobody has come so far. Who starts anew, such as a task that
   is tried again, names the round it means: it arrives at that one or not at all.
5. To leave is to be there no more; only from the round that is named, and not once it is passed: a
   round that is passed stays so. Whoever leaves and was not waiting asks whether it is. A party
   that is gone without a word stays there until somebody leaves in its name, or it comes back.
6. Rounds are numbers, from 1 without gaps, and how many are passed is never forgotten: those, and
   no others, are passed for ever, however late the question. So a barrier that has passed a round
   takes up its name and one number for good, and there is room for `BARRIERS_MAX`: use names again.
   Forgotten is who was at a round that is passed; and a barrier of which no round is passed, once
   nobody is there: it is as one never used, whose round 1 is not passed either.
7. Who waits for a round does so under a topic of that round alone; it is told once, when the round
   is passed.

Commands, results, queries and answers are msgpack arrays that start with their name.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

import msgspec

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext, StateMachine

BARRIERS_MAX = 1_000_000
"""Which have passed a round, or at which somebody is."""
PARTIES_MAX = 10_000
"""Of one barrier."""
WAITING_MAX = 1_000_000
"""Parties that are there, at all barriers together."""
NAME_LENGTH_MAX = 500
"""Characters."""
PARTY_LENGTH_MAX = 100
"""Characters."""
_STATE_FILE = "barriers"


class Arrive(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="arrive"
):
    """Command: let a party be there.

    Attributes:
        name: Of the barrier.
        party: Who.
        parties: How many make a round.
        round: At this one or not at all; 0 for whichever they gather for.
    """

    name: str
    party: str
    parties: int
    round: int


class Leave(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="leave"):
    """Command: let a party be there no more, if it waits for this round."""

    name: str
    party: str
    round: int


class Wait(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="wait"):
    """Query: whether a round is passed; there is no answer before."""

    name: str
    round: int


class Look(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="look"):
    """Query: who is there."""

    name: str


class Arrived(msgspec.Struct, frozen=True, array_like=True, tag="arrived"):
    """Result of an arrival.

    Attributes:
        round: At which the party is; to wait for.
        missing: How many others are; with 0, the round is passed.
        place: The party's own.
    """

    round: int
    missing: int
    place: int


class Passed(msgspec.Struct, frozen=True, array_like=True, tag="passed"):
    """Answer to a wait, and result of an arrival at a round that was passed before: it is."""

    round: int


class Left(msgspec.Struct, frozen=True, array_like=True, tag="left"):
    """Result of a leave: whether the party was there, at a round that is not passed."""

    was_waiting: bool


class Gathering(msgspec.Struct, frozen=True, array_like=True):
    """Answer to a look.

    Attributes:
        round: For which they gather; those below are passed.
        parties: How many make it; 0 where nobody is there.
        places: Of those who are, by party, in the order in which they came.
    """

    round: int
    parties: int
    places: dict[str, int]


class _Parties(msgspec.Struct, array_like=True):
    """Who is at a barrier.

    Attributes:
        count: How many make the round.
        places: By party; never empty.
        free: Places of parties that left, as a heap. Together with `places` they are the numbers
            from 0 on without gaps.
    """

    count: int
    places: dict[str, int]
    free: list[int]


class _State(msgspec.Struct, array_like=True):
    """What a checkpoint holds."""

    passed: dict[str, int]
    gathered: dict[str, _Parties]


BarrierCommand: TypeAlias = Arrive | Leave
BarrierResult: TypeAlias = Arrived | Passed | Left
BarrierQuery: TypeAlias = Wait | Look

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
_encode = msgspec.msgpack.Encoder().encode
_decode_command: Callable[[bytes], BarrierCommand] = msgspec.msgpack.Decoder(BarrierCommand).decode
_decode_result: Callable[[bytes], BarrierResult] = msgspec.msgpack.Decoder(BarrierResult).decode
_decode_query: Callable[[bytes], BarrierQuery] = msgspec.msgpack.Decoder(BarrierQuery).decode
_decode_passed = msgspec.msgpack.Decoder(Passed).decode
_decode_gathering = msgspec.msgpack.Decoder(Gathering).decode
_decode_state = msgspec.msgpack.Decoder(_State).decode


def encode_arrive(name: str, party: str, parties: int, round: int = 0) -> bytes:
    """The command that lets a party arrive at a barrier; see `Arrive`."""
    return _encode(Arrive(name, party, parties, round))


def encode_leave(name: str, party: str, round: int) -> bytes:
    """The command that lets a party wait for a round no more."""
    return _encode(Leave(name, party, round))


def encode_wait(name: str, round: int) -> bytes:
    """The query that has an answer once a round is passed."""
    return _encode(Wait(name, round))


def encode_look(name: str) -> bytes:
    """The query for who is at a barrier."""
    return _encode(Look(name))


def decode_result(data: bytes) -> BarrierResult:
    """Read the result of a command.

    Raises:
        msgspec.DecodeError: Not a result of this machine.
    """
    return _decode_result(data)


def decode_passed(data: bytes) -> Passed:
    """Read the answer to a wait.

    Raises:
        msgspec.DecodeError: Not such an answer of this machine.
    """
    return _decode_passed(data)


def decode_gathering(data: bytes) -> Gathering:
    """Read the answer to a look.

    Raises:
        msgspec.DecodeError: Not such an answer of this machine.
    """
    return _decode_gathering(data)


class BarriersMachine(StateMachine):
    """Barriers by name.

    Invariants: `_passed` has every barrier; where somebody is, fewer are there than make the round;
    where nobody is, a round is passed; the passed rounds of a barrier never become fewer.
    """

    kind: ClassVar[str] = "barriers"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """Nobody is anywhere."""
        self._passed: dict[str, int] = {}
        self._gathered: dict[str, _Parties] = {}
        self._waiting_count = 0

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Execute a `BarrierCommand`.

        Returns:
            An encoded `BarrierResult`.

        Raises:
            CommandError: The bytes are no command of this machine, or one that means nothing, or
                the parties of the round are another number, or there is no room; nothing has
                changed.
        """
        try:
            decoded = _decode_command(command)
        except _UNREADABLE:
            raise CommandError("not a command of the barriers machine") from None
        match decoded:
            case Arrive():
                return _encode(self._arrive(decoded, context))
            case Leave():
                return _encode(Left(self._leave(decoded)))

    def query(self, request: bytes) -> bytes:
        """Answer a `Wait` with a `Passed`, and a `Look` with a `Gathering`.

        Raises:
            NotYetError: The round that is waited for is not passed; its topic is of that round.
            QueryError: It is no such query, or one for a round below 1.
        """
        try:
            decoded = _decode_query(request)
        except _UNREADABLE as error:
            raise QueryError(f"not a query of the barriers machine: {error}") from error
        passed = self._passed.get(decoded.name, 0)
        if isinstance(decoded, Look):
            there = self._gathered.get(decoded.name)
            if there is None:
                return _encode(Gathering(passed + 1, 0, {}))
            return _encode(Gathering(passed + 1, there.count, there.places))
        if decoded.round < 1:
            raise QueryError(f"rounds are from 1 on, not {decoded.round}")
        if decoded.round > passed:
            raise NotYetError(
                _topic(decoded.name, decoded.round), f"round {decoded.round} is not passed"
            )
        return _encode(Passed(decoded.round))

    def save(self, directory: Path) -> None:
        """Write all into one file."""
        (directory / _STATE_FILE).write_bytes(self._encoded())

    def load(self, directory: Path) -> None:
        """Read it back."""
        state = _decode_state((directory / _STATE_FILE).read_bytes())
        self._passed, self._gathered = state.passed, state.gathered
        self._waiting_count = sum(len(there.places) for there in state.gathered.values())

    def digest(self) -> bytes:
        """Over its one encoding."""
        return hashlib.blake2b(self._encoded(), digest_size=DIGEST_BYTES).digest()

    def _encoded(self) -> bytes:
        # In the order of first use, which depends on the log alone, and is saved.
        return _encode(_State(self._passed, self._gathered))

    # Commands.

    def _arrive(self, arrive: Arrive, context: ApplyContext) -> BarrierResult:
        _check(arrive)
        name, party = arrive.name, arrive.party
        this_round = self._passed.get(name, 0) + 1
        if arrive.round > this_round:
            raise CommandError(f"they gather for round {this_round}, not {arrive.round}")
        if 0 < arrive.round < this_round:
            return Passed(arrive.round)
        there = self._gathered.get(name)
        if there is not None:
            if there.count != arrive.parties:
                raise CommandError(
                    f"{there.count} parties make this round, not {arrive.parties}, as long as "
                    "anybody is there"
                )
            if party in there.places:
                return Arrived(this_round, there.count - len(there.places), there.places[party])
        here = len(there.places) if there is not None else 0
        self._check_room(name, completes=here + 1 == arrive.parties)
        if there is None:
            self._passed.setdefault(name, 0)
            there = self._gathered[name] = _Parties(arrive.parties, {}, [])
        place = heapq.heappop(there.free) if there.free else len(there.places)
        there.places[party] = place
        self._waiting_count += 1
        missing = there.count - len(there.places)
        if not missing:
            self._passed[name] = this_round
            self._end(name, there)
            context.notify(_topic(name, this_round))
        return Arrived(this_round, missing, place)

    def _leave(self, leave: Leave) -> bool:
        """Whether the party was there."""
        passed = self._passed.get(leave.name, 0)
        there = self._gathered.get(leave.name)
        if there is None or leave.round != passed + 1 or leave.party not in there.places:
            return False
        if len(there.places) == 1:
            self._end(leave.name, there)
            if not passed:
                del self._passed[leave.name]
            return True
        heapq.heappush(there.free, there.places.pop(leave.party))
        self._waiting_count -= 1
        return True

    def _end(self, name: str, there: _Parties) -> None:
        """Let nobody be there."""
        del self._gathered[name]
        self._waiting_count -= len(there.places)

    def _check_room(self, name: str, completes: bool) -> None:
        # Who completes a round does not wait, and ends the waiting of others.
        if self._waiting_count >= WAITING_MAX and not completes:
            raise CommandError(f"{WAITING_MAX} parties wait already")
        if name not in self._passed and len(self._passed) >= BARRIERS_MAX:
            raise CommandError(f"there are {BARRIERS_MAX} barriers already; use one of them again")


def _topic(name: str, round: int) -> str:
    return f"{round}/{name}"


def _check(arrive: Arrive) -> None:
    if not 1 <= arrive.parties <= PARTIES_MAX:
        raise CommandError(f"parties are 1 to {PARTIES_MAX}, not {arrive.parties}")
    if arrive.round < 0:
        raise CommandError(f"rounds are from 1 on, not {arrive.round}")
    if len(arrive.name) > NAME_LENGTH_MAX:
        raise CommandError(f"a name has at most {NAME_LENGTH_MAX} characters")
    if len(arrive.party) > PARTY_LENGTH_MAX:
        raise CommandError(f"a party's name has at most {PARTY_LENGTH_MAX} characters")
