"""A run's operations as histories of keyed registers, for the linearizability checker.

Commands of the kv machine, and linearizable and lease reads of it, go into the history of their
group with their times of call and answer; instances, sessions and numbers do not. So the checker,
which knows nothing of Paxos, judges by what clients saw alone.
"""

from __future__ import annotations

import msgspec

from ray_paxos.core.client_messages import Consistency, QueryResult
from ray_paxos.machines.kv import (
    Cas,
    Conflict,
    Delete,
    Get,
    KeyCommand,
    Put,
    PutFor,
    Renew,
    Written,
    decode_result,
)
from ray_paxos.machines.kv import Read as KvRead
from ray_paxos.testing.client import Operation
from ray_paxos.testing.history import HistoryRecorder
from ray_paxos.testing.linearizability.budget import Budget
from ray_paxos.testing.linearizability.history_check import check_history
from ray_paxos.testing.linearizability.kv import Kv
from ray_paxos.testing.linearizability.report import report_lines
from ray_paxos.testing.linearizability.search import Verdict
from ray_paxos.testing.reads import Read
from ray_paxos.testing.violation import Violation
from ray_paxos.testing.workload import KV_MACHINE

CONFIGURATIONS_MAX = 500_000

_decode_command = msgspec.msgpack.Decoder(KeyCommand).decode


class GroupRecording:
    """The history of one group's kv machine."""

    def __init__(self, group: int) -> None:
        """Start with nothing called."""
        self._group = group
        self._recorder = HistoryRecorder()

    def called(self, operation: Operation) -> None:
        """A command is about to be sent for the first time."""
        if operation.machine != KV_MACHINE:
            return
        try:
            command = _decode_command(operation.command)
        except msgspec.DecodeError:
            return
        function, argument = _as_function(command)
        operation.history_id = self._recorder.invoke(
            operation.client, function, command.key, argument, now_ns=operation.invoked_ns
        )

    def acknowledged(self, operation: Operation) -> None:
        """A client was told the result of a command."""
        if operation.history_id is None:
            return
        assert operation.outcome is not None and operation.answered_ns is not None
        if operation.outcome.result is None:
            self._recorder.failed(operation.history_id, now_ns=operation.answered_ns)
            return
        result = _as_result(decode_result(operation.outcome.result))
        self._recorder.ok(operation.history_id, result, now_ns=operation.answered_ns)

    def denied(self, operation: Operation) -> None:
        """A client was told that a command is not applied, and never will be."""
        if operation.history_id is not None:
            assert operation.answered_ns is not None
            self._recorder.failed(operation.history_id, now_ns=operation.answered_ns)

    def read_called(self, read: Read, now_ns: int) -> None:
        """A read is about to be sent for the first time."""
        if read.machine == KV_MACHINE and read.consistency >= Consistency.LEASE:
            key = _decode_command(read.request).key
            read.history_id = self._recorder.invoke(read.client, "get", key, now_ns=now_ns)

    def read_answered(self, read: Read, answer: QueryResult, now_ns: int) -> None:
        """A read has its answer."""
        if read.history_id is not None:
            result = _as_result(decode_result(answer.result))
            self._recorder.ok(read.history_id, result, now_ns=now_ns)

    def check(self) -> int:
        """Have the whole history checked.

        Returns:
            How many operations it has.

        Raises:
            Violation: It is not linearizable, or too hard to tell.
        """
        history = self._recorder.history()
        # By effort and not by the clock: a seed's verdict must not depend on the machine.
        result = check_history(history, Kv(), Budget(lambda: 0, 1, CONFIGURATIONS_MAX))
        if result.verdict is not Verdict.TRUE:
            report = "\n".join(report_lines(result, history))
            raise Violation("linearizable", f"group {self._group}: {report}")
        return result.operations


def _as_function(command: KeyCommand) -> tuple[str, object]:
    match command:
        case Put(value=value):
            return "put", value.decode()
        case Delete():
            return "delete", None
        case Cas(value=value, expected_version=version):
            return "cas", (value.decode(), version)
        case Get():
            return "get", None
        case PutFor() | Renew():
            raise AssertionError("what ends by itself is in no history")


def _as_result(result: object) -> object:
    match result:
        case Written(version=version, replaced=replaced):
            return "written", version, replaced
        case Conflict(version=version):
            return "conflict", version
        case KvRead(found=found, version=version, value=value):
            return "read", found, version, value.decode() if value is not None else None
        case _:
            raise AssertionError(f"no result of a command: {result}")
