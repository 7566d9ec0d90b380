"""One line of input: what it means, and what is said where it means nothing."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_formats import BadLineError, encode_kv_line, encode_plain_line
from ray_paxos.machines import kv


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ('{"op": "put", "key": "a", "value": "1"}', kv.encode_put("a", b"1")),
        ('{"op":"put","key":"","value":""}', kv.encode_put("", b"")),
        ('{"value":"grün","key":"größe","op":"put"}', kv.encode_put("größe", "grün".encode())),
        ('{"op":"get","key":"a"}', kv.encode_get("a")),
        ('{"op":"get","key":"a","value":null,"expected_version":null}', kv.encode_get("a")),
        ('  {"op":"delete","key":"a"}\r', kv.encode_delete("a")),
        (
            '{"op":"cas","key":"a","value":"2","expected_version":3}',
            kv.encode_cas("a", b"2", 3),
        ),
        # JSON leaves it open what a field given twice means; most readers take the last.
        ('{"op":"get","key":"a","key":"b"}', kv.encode_get("b")),
    ],
)
def test_a_json_line_is_a_command(line: str, command: bytes) -> None:
    assert encode_kv_line(line.encode()) == command


@pytest.mark.parametrize("line", [b"", b"   ", b"\t\r"])
def test_a_blank_line_is_passed_over(line: bytes) -> None:
    assert encode_kv_line(line) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON: Input data was truncated"),
        (b'{"op":"get","key":"a"} x', "not valid JSON: trailing characters (byte 2"),
        (b'{"op":"get","key":"\xff"}', "not UTF-8 text (invalid start byte)"),
        (b'{"op":"get","key":"\\ud800"}', "not valid JSON: "),
        (b"[" * 100_000, "not valid JSON: nested too deeply"),
        (b"[1]", 'not a JSON object such as {"op": "put", "key": "a", "value": "1"}'),
        (b"17", "not a JSON object"),
        (b'{"key":"a"}', "op: found nothing; allowed: put, get, delete, cas"),
        (b'{"op":"incr","key":"a"}', 'op: found "incr"; allowed: put, get, delete, cas'),
        (b'{"op":["put"],"key":"a"}', 'op: found ["put"]; allowed: put, get, delete, cas'),
        (b'{"op":"put","value":"1"}', "key: found nothing; put takes text"),
        (b'{"op":"put","key":1,"value":"1"}', "key: found 1; put takes text"),
        (b'{"op":"put","key":"a"}', "value: found nothing; put takes text"),
        (b'{"op":"put","key":"a","value":17}', "value: found 17; put takes text"),
        (b'{"op":"put","key":"a","value":{"b":1}}', 'value: found {"b":1}; put takes text'),
        (b'{"op":"get","key":"a","value":"1"}', 'value: found "1"; get takes none'),
        (
            b'{"op":"put","key":"a","value":"1","expected_version":2}',
            "expected_version: found 2; put takes none",
        ),
        (
            b'{"op":"cas","key":"a","value":"1"}',
            "expected_version: found nothing; cas takes a whole number from 0",
        ),
        (
            b'{"op":"cas","key":"a","value":"1","expected_version":true}',
            "expected_version: found true; cas takes a whole number from 0",
        ),
        (
            b'{"op":"cas","key":"a","value":"1","expected_version":1.5}',
            "expected_version: found 1.5; cas takes a whole number from 0",
        ),
        (
            b'{"op":"cas","key":"a","value":"1","expected_version":-1}',
            "expected_version: found -1; allowed: a whole number from 0",
        ),
        (
            b'{"op":"cas","key":"a","value":"1","expected_version":9223372036854775808}',
            "expected_version: found 9223372036854775808; allowed: a whole number from 0",
        ),
        (
            b'{"op":"put","key":"a","value":"1","ttl":3}',
            "unknown field 'ttl'; allowed: op, key, value, expected_version",
        ),
    ],
)
def test_a_bad_line_is_refused_with_the_reason(line: bytes, reason: str) -> None:
    with pytest.raises(BadLineError) as caught:
        encode_kv_line(line)
    assert str(caught.value).startswith(reason)


@given(key=st.text(), value=st.text(), expected_version=st.integers(0, 2**63 - 1))
def test_any_text_comes_through(key: str, value: str, expected_version: int) -> None:
    line = {"op": "cas", "key": key, "value": value, "expected_version": expected_version}
    for is_ascii in (True, False):
        encoded = json.dumps(line, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
        assert encode_kv_line(encoded) == kv.encode_cas(key, value.encode(), expected_version)


@given(line=st.binary())
def test_no_bytes_raise_anything_else(line: bytes) -> None:
    with contextlib.suppress(BadLineError):
        encode_kv_line(line)


@given(line=st.binary())
def test_a_plain_line_is_its_bytes(line: bytes) -> None:
    assert encode_plain_line(line) == line
