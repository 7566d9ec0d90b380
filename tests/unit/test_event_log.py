"""The log of a role: one line for each event, in words that can be read back, and never two."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.observability.event_log import EventLog, line, set_up_logging, value_text
from ray_paxos.observability.event_record import EventRecord

NAME = "ray_paxos.demo/m1/learner"
WORD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


class Lines(logging.Handler):
    """What was written, as it would stand in a file."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger = logging.getLogger(NAME)
    handler = Lines()
    logger.addHandler(handler)
    level, logger.level = logger.level, logging.DEBUG
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The logger of the package, given back as it was."""
    logger = logging.getLogger("ray_paxos")
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers.clear()
    logger.propagate = True
    yield logger
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def record(**changes: Any) -> EventRecord:
    values: dict[str, Any] = {
        "sequence": 5,
        "at_ms": 6,
        "cluster": "demo",
        "member": "m1",
        "role": "learner",
        "group": 3,
        "kind": "MasterStarted",
        "level": "INFO",
        "text": "leads group 3",
        "fields": {"ballot": [7, 11, 2], "instance_id": 90},
    }
    return EventRecord(**{**values, **changes})


def words(text: str) -> dict[str, str]:
    """A line, read back."""
    found = WORD.findall(text)
    assert " ".join(f"{key}={value}" for key, value in found) == text
    return {key: json.loads(value) if value[:1] == '"' else value for key, value in found}


def test_a_line_says_who_where_what_and_tells_it(lines: Lines) -> None:
    EventLog("demo", "m1", "learner").write(record())
    assert lines.texts == [
        "member=m1 role=learner group=3 kind=MasterStarted ballot=[7,11,2] instance_id=90 "
        'text="leads group 3"'
    ]
    assert lines.records[0].name == NAME
    assert lines.records[0].levelno == logging.INFO


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_a_line_has_the_level_of_its_event(lines: Lines, level: str) -> None:
    EventLog("demo", "m1", "learner").write(record(level=level))
    assert lines.records[0].levelname == level


def test_an_event_of_all_of_the_role_has_no_group(lines: Lines) -> None:
    EventLog("demo", "m1", "learner").write(record(group=None))
    assert words(lines.texts[0])["group"] == "-"


def test_a_level_that_nobody_knows_is_written_all_the_same(lines: Lines) -> None:
    EventLog("demo", "m1", "learner").write(record(level="FATAL"))
    assert lines.records[0].levelno == logging.WARNING


def test_what_is_below_the_level_is_not_even_put_into_words(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger(NAME).setLevel(logging.INFO)
    monkeypatch.setattr("ray_paxos.observability.event_log.line", pytest.fail)
    EventLog("demo", "m1", "learner").write(record(level="DEBUG"))
    assert not lines.records


def test_no_line_breaks_get_through_and_no_word_is_forged(lines: Lines) -> None:
    forged = 'x" group=9 text="y\n2026-12-01 ERROR forged\r\x1b[31m\u2028 100%s'
    log = EventLog("demo", "m1", "learner")
    log.write(record(text=forged, fields={"why": forged, "more": {"a b": forged}}))
    log.warn(forged)
    for text in lines.texts:
        assert text.isprintable()
        assert len(text.splitlines()) == 1
        read = words(text)
        assert read["text"] == forged
        assert read.get("group", "3") == "3"
    first = words(lines.texts[0])
    assert first["why"] == forged
    assert json.loads(first["more"]) == {"a b": forged}


def test_a_field_hides_no_word_of_the_line(lines: Lines) -> None:
    EventLog("demo", "m1", "learner").write(record(fields={"role": "x", "text": "y"}))
    read = words(lines.texts[0])
    assert (read["role"], read["_role"], read["_text"]) == ("learner", "x", "y")
    assert read["text"] == "leads group 3"


def test_what_is_no_event_is_a_warning_with_its_place(lines: Lines) -> None:
    EventLog("demo", "m1", "learner").warn("the disk is slow")
    assert lines.texts == ['member=m1 role=learner text="the disk is slow"']
    assert lines.records[0].levelno == logging.WARNING


@given(st.text(max_size=30))
def test_every_text_comes_back_from_its_line(text: str) -> None:
    written = line([("a", 1), ("text", text), ("z", "end")])
    assert written.isprintable()
    assert words(written) == {"a": "1", "text": text, "z": "end"}


def test_a_bare_value_stays_bare() -> None:
    assert [value_text(each) for each in ("m1", "ünï", 5, [1, 2], True, "")] == [
        "m1", "ünï", "5", "[1,2]", "true", '""',
    ]  # fmt: skip


def test_the_log_of_a_process_is_set_up_once(root: logging.Logger) -> None:
    set_up_logging("INFO")
    set_up_logging("DEBUG")
    assert len(root.handlers) == 1
    assert root.level == logging.DEBUG
    assert not root.propagate


def test_a_role_that_does_not_know_its_cluster_yet_writes_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    EventLog("", "m1", "learner").warn("no folder yet")
    assert [record.name for record in caplog.records] == ["ray_paxos.m1/learner"]
