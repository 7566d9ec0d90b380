"""What a command says in a log that a person reads."""

from __future__ import annotations

import pytest

from ray_paxos.machines import barriers, counters, kv, ledger_messages, permits, queue_messages
from ray_paxos.machines.describing import TXN_MAX, describe_command
from ray_paxos.machines.object_messages import Drop, encode


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


@pytest.mark.parametrize(
    ("kind", "command", "line"),
    [
        ("kv", kv.encode_record(), "record"),
        ("counters", counters.encode_take("ids", 5), 'take name="ids" count=5'),
        (
            "queues",
            queue_messages.encode_put("work", (b"a", b"\x00\xff")),
            'put queue="work" items=["a", 2 bytes 00ff]',
        ),
        (
            "queues",
            queue_messages.encode_acknowledge("work", tuple(range(9))),
            'acknowledge queue="work" receipts=9 of them',
        ),
        (
            "ledgers",
            ledger_messages.encode_begin("jobs", "k\n", "me", 50),
            'begin ledger="jobs" key="k\\n" owner="me" lease_ms=50',
        ),
        (
            "barriers",
            barriers.encode_leave("b", "p" * 100, 2),
            f'leave name="b" party="{"p" * 60}"... round=2',
        ),
        ("objects", b"\xc1", "no command of the machine: 1 bytes c1"),
        ("objects", encode(Drop("stock")), 'drop name="stock"'),
    ],
)
def test_commands_by_their_fields(kind: str, command: bytes, line: str) -> None:
    assert describe_command(kind, command) == line


def test_a_long_command_is_shortened() -> None:
    command = queue_messages.encode_put("q" * 60, tuple([b"x" * 100] * 5))
    described = describe_command("queues", command)
    assert len(described) == 303
    assert described.endswith("...")
