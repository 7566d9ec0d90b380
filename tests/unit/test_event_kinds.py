"""Every kind of event has a level, a sentence and plain data; none gives values away."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import typing
from typing import Any

import msgspec
import pytest

from ray_paxos.core import events
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import RefusalCode
from ray_paxos.core.events import Event
from ray_paxos.core.genesis import Configuration, MemberSpec, Voter
from ray_paxos.core.intake import Request
from ray_paxos.core.messages import Address, NackReason, RoleName
from ray_paxos.core.results import NoteCode
from ray_paxos.core.values import CommandBatch, SessionId
from ray_paxos.observability import event_kinds
from ray_paxos.observability.event_kinds import (
    FIELD_MAX,
    KINDS,
    WORDS_MAX,
    describe,
    fields_of,
    is_recorded,
    kind_of,
    level_of,
)
from ray_paxos.observability.event_record import EventRecord, decode_record, encode_record

NAMES = {11: "m1", 12: "m2", 13: "m3"}
SECRET = b"the user's secret"
ALL: tuple[type[Any], ...] = typing.get_args(Event)
CONFIGURATION = Configuration(
    40, (Voter(11, 1), Voter(12, 2)), (Voter(14, 5),), 5, (MemberSpec("m4", 14),)
)
SAMPLES: dict[str, Any] = {
    "Ballot": Ballot(7, 11, 2),
    "Configuration": CONFIGURATION,
    "NackReason": NackReason.PROMISED,
    "RefusalCode": RefusalCode.TOO_LATE,
    "int": 12,
    "str": "why not",
    "bytes": b"\xab" * 32,
    "tuple[tuple[int, int], ...]": ((11, 5), (12, 6)),
}


def request() -> Request:
    batch = CommandBatch(SessionId(12, 3), 1, 1, "kv", (SECRET,))
    return Request(Address(11, RoleName.CLIENT), 1, (batch,), 20)


def sample(kind: type[Any], **changes: Any) -> Any:
    """An event of a class, with something in every field."""
    values = {
        field.name: SAMPLES.get(kind.__annotations__[field.name])
        for field in msgspec.structs.fields(kind)
    }
    if "value" in values:
        values["value"] = SECRET
    if "requests" in values:
        values["requests"] = (request(), request())
    return kind(**{**values, **changes})


def record_of(event: Any) -> EventRecord:
    return EventRecord(
        sequence=1,
        at_ms=2,
        cluster="demo",
        member="m1",
        role="learner",
        group=getattr(event, "group", None),
        kind=kind_of(event),
        level=level_of(type(event)),
        text=describe(event, NAMES),
        fields=fields_of(event),
    )


def test_no_class_of_events_is_missing() -> None:
    structs = [c for _, c in inspect.getmembers(events, inspect.isclass)
               if c.__module__ == events.__name__]  # fmt: skip
    assert set(KINDS) == set(structs) == set(ALL)


def test_what_comes_with_each_instance_or_request_is_only_counted() -> None:
    hot = {
        events.InstanceChosen,
        events.InstanceApplied,
        events.CommandsAnswered,
        events.AcceptRejected,
        events.NackReceived,
        events.RequestRefused,
        events.RequestRedirected,
        events.CommandRefused,
        events.SegmentsSealed,
        events.FloorRaised,
        events.CaughtUp,
        events.ChunksConfirmed,
        events.PrepareResent,
        events.AcceptResent,
        events.CatchUpUnanswered,
    }
    assert {kind for kind in ALL if not is_recorded(kind)} == hot


def test_what_wants_a_person_is_an_error_and_is_recorded() -> None:
    errors = {kind for kind in ALL if level_of(kind) == "ERROR"}
    assert errors == {
        events.ApplyingStopped,
        events.ChainsDiffered,
        events.ChunkDiffered,
        events.GroupNotOpened,
        events.InvariantBroken,
        events.StorageFailed,
    }
    assert all(KINDS[kind].is_recorded for kind in ALL if KINDS[kind].level > logging.DEBUG)
    assert {level_of(kind) for kind in ALL} == {"DEBUG", "INFO", "WARNING", "ERROR"}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_each_has_a_sentence_and_data_that_come_back_from_json(kind: type[Any]) -> None:
    event = sample(kind)
    record = record_of(event)
    assert decode_record(encode_record(record)) == record
    assert json.loads(json.dumps(record.fields)) == record.fields
    assert record.kind == kind.__name__
    assert "None" not in record.text
    assert "{" not in record.text
    if hasattr(event, "group"):
        assert "group 12" in record.text


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_no_value_leaves_this_way(kind: type[Any]) -> None:
    if not {"value", "requests"} & {field.name for field in msgspec.structs.fields(kind)}:
        return
    line = encode_record(record_of(sample(kind))).decode()
    assert SECRET.decode() not in line
    assert SECRET.hex()[:8] not in line


def test_of_a_value_there_is_its_size_and_of_requests_their_number() -> None:
    chosen = fields_of(sample(events.InstanceChosen))
    assert chosen == {"instance_id": 12, "ballot": [7, 11, 2], "value_bytes": len(SECRET)}
    answered = fields_of(sample(events.CommandsAnswered))
    assert answered["requests"] == 2
    assert answered["votes"] == [[11, 5], [12, 6]]


def test_members_are_told_by_name_and_ballots_in_short() -> None:
    ballot = Ballot(7, 11, 2)
    assert describe(events.MasterStarted(3, ballot, 90), NAMES) == (
        "leads group 3 and serves, at ballot 7/m1/2, since instance 90"
    )
    assert describe(events.MasterChanged(3, 13, 90), NAMES) == (
        "knows m3 as the master of group 3 since instance 90"
    )
    assert "member 99" in describe(events.MasterChanged(3, 99, 90), NAMES)
    differed = events.ChunkDiffered(3, 5, 12, b"\xab" * 32, 13, b"\xcd" * 32)
    assert describe(differed, NAMES) == (
        "m2 and m3 have different logs of group 3 after instance 5: checksums abababab and cdcdcdcd"
    )
    assert fields_of(differed)["source_chain"] == "ab" * 32


def test_a_configuration_is_told_by_names_also_of_those_that_joined() -> None:
    event = events.ConfigurationLearned(3, CONFIGURATION)
    assert describe(event, NAMES) == (
        "group 3 has the voters m1, m2 and the followers m4 after instance 40"
    )
    assert fields_of(event)["configuration"]["voters"] == [[11, 1], [12, 2]]


def test_every_reason_has_words_and_its_name_as_data() -> None:
    for reason in NackReason:
        event = events.NackReceived(3, 12, reason)
        assert reason.name not in describe(event, NAMES)
        assert fields_of(event)["reason"] == reason.name
    for code in RefusalCode:
        refused = events.RequestRefused(3, code)
        assert code.name not in describe(refused, NAMES)
        assert fields_of(refused)["code"] == code.name
    assert describe(events.CommandRefused(3, 9, NoteCode.SESSION_EXPIRED), NAMES).endswith(
        "session expired"
    )
    assert describe(events.CommandRefused(3, 9, 77), NAMES).endswith("77")


def test_what_an_error_said_is_one_line_of_bounded_length() -> None:
    why = "one {group}\nERROR forged\r\n" + "x" * 1_000_000
    event = events.ApplyingStopped(3, why)
    text = describe(event, NAMES)
    assert text.startswith("applies nothing more in group 3: one {group} ERROR forged xxx")
    assert len(text) < WORDS_MAX + 100
    assert text.isprintable()
    assert len(fields_of(event)["why"]) == FIELD_MAX


def test_a_path_that_is_no_utf8_can_be_told_and_encoded() -> None:
    event = events.StorageFailed("/data/\udcff/journal: no room")
    assert "/data/?/journal" in record_of(event).text
    encode_record(record_of(event))


def test_a_kind_without_words_is_told_of_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {k: v for k, v in KINDS.items() if k is not events.MasterStarted}
    monkeypatch.setattr(event_kinds, "KINDS", known)
    event = sample(events.MasterStarted)
    assert is_recorded(type(event))
    assert level_of(type(event)) == "WARNING"
    assert "nobody" in describe(event, NAMES)


def test_a_kind_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        KINDS[events.MasterStarted].level = 0  # type: ignore[misc]


def test_durations_are_told_in_milliseconds() -> None:
    promised = events.MajorityPromised(7, Ballot(3, 1, 2), 2_635_449)
    assert describe(promised, {1: "m1"}) == (
        "has the promises of a majority of group 7 for ballot 3/m1/2, after 2.6 ms"
    )
    assert fields_of(promised)["after_ns"] == 2_635_449
