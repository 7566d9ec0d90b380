"""Peers, measured by the same loads: what of a workload they can do, and which there are.

`pysyncobj` (an extra) and `etcd` (a binary on the PATH), three members on loopback each. Neither
has the product's checks: PySyncObj writes nothing to the disk as it comes, etcd's clients have no
sessions. Peers that are not installed are refused before anything is started.
"""

from __future__ import annotations

import random
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from benchmark_run import Subject
from benchmark_target import make_calls
from benchmark_workload import Kind, Workload
from ray_paxos.errors import ConfigurationError

PEERS = ("pysyncobj", "etcd")
END_S = 10.0
LOAD_S = 60.0


@dataclass(frozen=True)
class Peer:
    """A peer that is ready.

    Attributes:
        subject: To be measured.
        about: What a person should know of how it was run.
    """

    subject: Subject
    about: str


def check_peer(name: str, workload: Workload) -> None:
    """Refuse a peer that is not known, not here, or cannot do the workload.

    Raises:
        ConfigurationError: As it says.
    """
    if name not in PEERS:
        raise ConfigurationError(f"--peer: found {name!r}; allowed: {', '.join(PEERS)}")
    if Kind.SCAN in workload.shares:
        raise ConfigurationError(
            f"--peer {name} with --workload {workload.name}: peers are measured with puts and gets"
        )
    if name == "pysyncobj":
        from benchmark_pysyncobj import check_installed
    else:
        from benchmark_etcd import check_installed
    check_installed()


@contextmanager
def running_peer(name: str, workload: Workload, value_bytes: int, seed: int) -> Iterator[Peer]:
    """Start a peer, write the records that the workload reads, and end it in the end."""
    if name == "pysyncobj":
        from benchmark_pysyncobj import pysyncobj_members as members
    else:
        from benchmark_etcd import etcd_members as members
    with members() as (target, processes, about):
        if workload.reads:
            initial = workload.initial(value_bytes, random.Random(seed))
            wait_all([target.call(operation) for operation in initial])
        calls = make_calls([target], workload, value_bytes, random.Random(seed))
        yield Peer(Subject(calls, processes, dict), about)


def wait_all(calls: Sequence[Callable[[], Future[Any]]], at_once: int = 100) -> None:
    """Start all, some at a time, and wait for all."""
    for start in range(0, len(calls), at_once):
        for future in [call() for call in calls[start : start + at_once]]:
            future.result(LOAD_S)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            listening = stack.enter_context(socket.socket())
            listening.bind(("127.0.0.1", 0))
            found.append(int(listening.getsockname()[1]))
        return found


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
        return
    process.kill()
    process.wait()
