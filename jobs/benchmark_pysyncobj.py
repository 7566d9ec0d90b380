"""PySyncObj as a peer: a replicated dict of three processes on loopback.

As it comes: no journal, so nothing is on any disk when a command is acknowledged. It has no clients
outside its members; the load runs inside the member that leads, which saves it the way of every
command there and back. The driver's member leads, since the others stand for election much later.
Reads are look-ups in the leader's own dict; they ask nobody.

It has the better of its two ways of sending for each load: at once for one command at a time (with
batches a lone command waits for the next period: 100 ms as it comes), batches for many in flight
(at once they are several times slower), and a period of 20 ms.

    python benchmark_pysyncobj.py SELF OTHER OTHER     # one of the other members; ends with stdin
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from benchmark_load import Call
from benchmark_processes import Process
from benchmark_target import Target
from benchmark_workload import Kind, Operation
from ray_paxos.errors import ClusterError, ConfigurationError, OutcomeUnknownError

READY_S = 30.0
APPEND_PERIOD_S = 0.02
LEADER_TIMEOUT_S = (0.4, 0.8)
FOLLOWER_TIMEOUT_S = (20.0, 30.0)
ABOUT = (
    "PySyncObj, 3 processes, no journal (nothing on disk), the load inside the leader's process, "
    "reads are its own dict"
)


def check_installed() -> None:
    """Refuse where the package is missing.

    Raises:
        ConfigurationError: It is.
    """
    if find_spec("pysyncobj") is None:
        raise ConfigurationError(
            "--peer pysyncobj: the package is not installed; allowed: after "
            "`pip install 'ray_paxos[benchmark]'`"
        )


class DictTarget:
    """The replicated dict of this process's member."""

    def __init__(self, shared: Any, configuration: Any) -> None:
        """Use a dict of a member that has this configuration, which it looks at all the time."""
        self._shared = shared
        self._configuration = configuration

    def call(self, operation: Operation) -> Call:
        """What starts an operation."""
        if operation.kind is Kind.READ:
            return partial(self._read, operation.key)
        return partial(self._write, operation)

    def wait(self, operation: Operation) -> Callable[[], object]:
        """What does an operation and waits for its end."""
        if operation.kind is Kind.READ:
            return partial(self._read, operation.key)
        return lambda: self._write(operation, is_batched=False).result(READY_S)

    def _read(self, key: str) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(self._shared.get(key))
        return future

    def _write(self, operation: Operation, *, is_batched: bool = True) -> Future[Any]:
        self._configuration.appendEntriesUseBatch = is_batched
        if operation.kind is Kind.READ_MODIFY_WRITE:
            self._shared.get(operation.key)
        future: Future[Any] = Future()
        self._shared.set(operation.key, operation.value, callback=partial(_settle, future))
        return future


def _settle(future: Future[Any], result: object, reason: int) -> None:
    if reason:
        future.set_exception(OutcomeUnknownError(f"PySyncObj's reason {reason}"))
    else:
        future.set_result(result)


def _member(own: str, others: list[str], timeout_s: tuple[float, float], **more: Any) -> Any:
    from pysyncobj import SyncObj, SyncObjConf
    from pysyncobj.batteries import ReplDict

    shared = ReplDict()
    low, high = timeout_s
    configuration = SyncObjConf(
        # Changed later by the load: only a member that begins so can ever send at once.
        appendEntriesUseBatch=False,
        appendEntriesPeriod=APPEND_PERIOD_S,
        autoTickPeriod=APPEND_PERIOD_S,
        raftMinTimeout=low,
        raftMaxTimeout=high,
        # At least the time above, or it refuses to start.
        connectionTimeout=high + 5.0,
        connectionRetryTime=0.2,
        **more,
    )
    return SyncObj(own, others, configuration, consumers=[shared]), shared, configuration


@contextmanager
def pysyncobj_members() -> Iterator[tuple[Target, list[Process], str]]:
    """Three members, of which this process is the one that leads."""
    from benchmark_peers import end_process, free_ports

    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    with ExitStack() as stack:
        processes = []
        for own in addresses[1:]:
            others = [address for address in addresses if address != own]
            child = subprocess.Popen(
                [sys.executable, __file__, own, *others], stdin=subprocess.PIPE
            )
            stack.callback(end_process, child)
            processes.append(Process(child.pid, "follower", f"follower {own}"))
        leads = threading.Event()

        def changed(_before: int, state: int) -> None:
            # 2 is a leader, in PySyncObj's numbers.
            if state == 2:
                leads.set()

        member, shared, configuration = _member(
            addresses[0], addresses[1:], LEADER_TIMEOUT_S, onStateChanged=changed
        )
        stack.callback(member.destroy)
        if not leads.wait(READY_S):
            raise ClusterError(f"PySyncObj has no leader after {READY_S:g} s")
        yield (
            DictTarget(shared, configuration),
            [*processes, Process(os.getpid(), "leader", "leader")],
            ABOUT,
        )


def main() -> None:
    """One of the other members."""
    own, *others = sys.argv[1:]
    member, _, _ = _member(own, others, FOLLOWER_TIMEOUT_S)
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        # The driver is interrupted, too, and ends this process.
        pass
    finally:
        member.destroy()


if __name__ == "__main__":
    main()
