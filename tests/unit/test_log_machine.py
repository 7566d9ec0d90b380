"""The log machine: positions, paging, digest, saving."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ray_paxos.errors import QueryError
from ray_paxos.machines import log
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.log import LinePage, LogMachine

CONTEXT = ApplyContext(1, 0)


@pytest.fixture
def machine() -> LogMachine:
    return LogMachine()


def append(machine: LogMachine, *lines: bytes) -> list[bytes | None]:
    return [machine.apply(line, CONTEXT) for line in lines]


def page(machine: LogMachine, first: int = 1, limit: int = 10_000) -> LinePage:
    return log.decode_page(machine.query(log.encode_lines(first, limit)))


def test_the_result_is_the_position_in_decimal(machine: LogMachine) -> None:
    results = append(machine, *(b"x" for _ in range(12)))
    assert results[0] == b"1"
    assert results[11] == b"12"
    assert log.decode_position(b"12") == 12


def test_any_bytes_are_one_line(machine: LogMachine) -> None:
    lines = (b"", b"a\nb", b"\xff\x00", b"  spaces  ", b"same", b"same")
    append(machine, *lines)
    assert page(machine) == LinePage(6, lines)


def test_queries(machine: LogMachine) -> None:
    assert log.decode_page(machine.query(log.encode_length())) == LinePage(0, ())
    assert page(machine) == LinePage(0, ())
    append(machine, b"a", b"b", b"c", b"d")
    assert log.decode_page(machine.query(log.encode_length())) == LinePage(4, ())
    assert page(machine, 2, 2) == LinePage(4, (b"b", b"c"))
    assert page(machine, 4) == LinePage(4, (b"d",))
    assert page(machine, 5) == LinePage(4, ())


def test_pages_are_bounded(machine: LogMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    append(machine, b"aaa", b"bbb", b"ccc", b"ddd")
    monkeypatch.setattr(log, "PAGE_BYTES_MAX", 5)
    assert page(machine, 2) == LinePage(4, (b"bbb", b"ccc"))
    monkeypatch.setattr(log, "PAGE_BYTES_MAX", 0)
    assert page(machine, 2) == LinePage(4, (b"bbb",))
    monkeypatch.setattr(log, "PAGE_BYTES_MAX", 1_000)
    monkeypatch.setattr(log, "PAGE_LINES_MAX", 3)
    assert page(machine, 1, 1_000_000) == LinePage(4, (b"aaa", b"bbb", b"ccc"))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\xc1",
        b"\x91\xa3\xff\xff\xff",
        msgspec.msgpack.encode(["lines", 1]),
        msgspec.msgpack.encode(["len", 1]),
        log.encode_lines(0, 1),
        log.encode_lines(1, 0),
    ],
)
def test_a_malformed_query_is_an_error(machine: LogMachine, request_bytes: bytes) -> None:
    with pytest.raises(QueryError):
        machine.query(request_bytes)


def test_the_digest_does_not_depend_on_when_it_is_asked_for() -> None:
    one, two = LogMachine(), LogMachine()
    append(one, b"a", b"b", b"c")
    digests = [two.digest()]
    for line in (b"a", b"b", b"c"):
        append(two, line)
        assert two.digest() == two.digest()
        digests.append(two.digest())
    assert one.digest() == two.digest()
    assert len(set(digests)) == 4


def test_the_digest_tells_where_lines_end() -> None:
    digests = []
    for lines in [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"c", b"ab")]:
        machine = LogMachine()
        append(machine, *lines)
        digests.append(machine.digest())
    assert len(set(digests)) == len(digests)


def test_a_saved_state_comes_back(machine: LogMachine, tmp_path: Path) -> None:
    append(machine, b"", b"a\nb", b"c" * 1_000)
    machine.save(tmp_path)
    loaded = LogMachine()
    append(loaded, b"else")
    loaded.digest()
    loaded.load(tmp_path)
    assert page(loaded) == page(machine)
    assert loaded.digest() == machine.digest()
    assert append(loaded, b"d") == [b"4"]
    append(machine, b"d")
    assert loaded.digest() == machine.digest()
