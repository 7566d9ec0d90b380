"""What a command says in a log that a person reads."""

from __future__ import annotations

import pytest

from ray_paxos.machines import kv, permits
from ray_paxos.machines.describing import TXN_MAX, describe_command


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (kv.encode_put_for("a", b"1", 50), 'put_for key="a" value="1" ttl_ms=50'),
        (kv.encode_renew("a", 50, 2), 'renew key="a" ttl_ms=50 expected_version=2'),
        (
            kv.encode_txn(
                [kv.HasVersion("a", 1), kv.HasValue("b", None), kv.HasValue("c", b"x")],
                [kv.Put("a", b"2"), kv.Delete("b")],
                [kv.Get("a")],
            ),
            'txn if version "a" = 1, value "b" = none, value "c" = "x": put key="a" value="2"; '
            'delete key="b"; else: get key="a";',
        ),
    ],
)
def test_commands_of_the_kv_machine(command: bytes, line: str) -> None:
    assert describe_command("kv", command) == line


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            permits.encode_acquire("gpu", "me", ttl_ms=50, units=2, capacity=8, wait_ms=7),
            'acquire name="gpu" holder="me" units=2/8 ttl_ms=50 wait_ms=7',
        ),
        (
            permits.encode_renew("gpu", "me", 3, 50),
            'renew name="gpu" holder="me" token=3 ttl_ms=50',
        ),
        (permits.encode_release("gpu", "\n"), 'release name="gpu" holder="\\n"'),
        (b"junk", "no command of the machine: 4 bytes 6a756e6b"),
    ],
)
def test_commands_of_the_permits_machine(command: bytes, line: str) -> None:
    assert describe_command("permits", command) == line


def test_a_long_txn_is_shortened() -> None:
    line = describe_command("kv", kv.encode_txn([], [kv.Put("\n", b"\x1b[2J")] * 900))
    assert len(line) == TXN_MAX + 3
    assert line.endswith("...")
    assert line.isprintable()
