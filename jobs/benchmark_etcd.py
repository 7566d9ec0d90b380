"""etcd as a peer: three members of the `etcd` binary on loopback, each with a folder of its own.

Driven over gRPC, with messages encoded here: a put and a range are two or three fields each. The
client is Python's gRPC: some thousand calls a second in one process, 0.2 to 0.35 ms of CPU each,
and a fraction of what etcd takes from a client written in Go (21,000/s at 1,000 in flight on two
cores): with many in flight this measures the client. The CPU time of its members beside the
driver's, in the report, says which of the two was busy. All calls go to the member that leads, over
several connections.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from benchmark_load import Call
from benchmark_processes import Process
from benchmark_target import Target
from benchmark_workload import Kind, Operation
from ray_paxos.errors import ClusterError, ConfigurationError, OutcomeUnknownError

BINARY = "etcd"
MEMBERS = ("e1", "e2", "e3")
CONNECTIONS = 4
READY_S = 30.0
CALL_S = 30.0
PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
STATUS = "/etcdserverpb.Maintenance/Status"
ABOUT = (
    "etcd, 3 members on loopback, fsync on, linearizable reads; the client is Python's gRPC in one "
    "process"
)


def check_installed() -> None:
    """Refuse where the binary is missing.

    Raises:
        ConfigurationError: It is.
    """
    if shutil.which(BINARY) is None:
        raise ConfigurationError(
            f"--peer etcd: there is no program `{BINARY}` on the PATH; allowed: once it is "
            "installed (on Debian: apt-get install etcd-server)"
        )


def encode_varint(number: int) -> bytes:
    """As Protocol Buffers write whole numbers."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def encode_field(number: int, data: bytes) -> bytes:
    """One field of bytes."""
    return encode_varint(number << 3 | 2) + encode_varint(len(data)) + data


def encode_put(operation: Operation) -> bytes:
    """A PutRequest."""
    return encode_field(1, operation.key.encode()) + encode_field(2, operation.value)


def encode_range(operation: Operation) -> bytes:
    """A RangeRequest of one key; linearizable, as it is by default."""
    return encode_field(1, operation.key.encode())


def decode_whole_fields(data: bytes) -> dict[int, int]:
    """The top-level fields of a message that are whole numbers; skips those of bytes."""
    fields: dict[int, int] = {}
    place = 0

    def varint() -> int:
        nonlocal place
        number = shift = 0
        while True:
            byte = data[place]
            place += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while place < len(data):
        tag = varint()
        if tag & 7 == 2:
            length = varint()
            place += length
        else:
            fields[tag >> 3] = varint()
    return fields


class EtcdTarget:
    """The member that leads."""

    def __init__(self, channels: list[Any]) -> None:
        """Use these connections in turn."""
        self._puts = itertools.cycle([channel.unary_unary(PUT) for channel in channels])
        self._ranges = itertools.cycle([channel.unary_unary(RANGE) for channel in channels])

    def call(self, operation: Operation) -> Call:
        """What starts an operation."""
        if operation.kind is Kind.READ:
            return partial(self._start, next(self._ranges), encode_range(operation))
        if operation.kind is Kind.READ_MODIFY_WRITE:
            return partial(
                self._start_two,
                (next(self._ranges), encode_range(operation)),
                (next(self._puts), encode_put(operation)),
            )
        return partial(self._start, next(self._puts), encode_put(operation))

    def wait(self, operation: Operation) -> Callable[[], object]:
        """What does an operation and waits for its end."""
        if operation.kind is Kind.READ_MODIFY_WRITE:
            both = self.call(operation)
            return lambda: both().result()
        is_read = operation.kind is Kind.READ
        method = next(self._ranges if is_read else self._puts)
        request = encode_range(operation) if is_read else encode_put(operation)
        return partial(method, request, timeout=CALL_S)

    @staticmethod
    def _start(method: Any, request: bytes) -> Future[Any]:
        future: Future[Any] = Future()
        method.future(request, timeout=CALL_S).add_done_callback(partial(_settle, future))
        return future

    def _start_two(self, first: tuple[Any, bytes], second: tuple[Any, bytes]) -> Future[Any]:
        whole: Future[Any] = Future()

        def go_on(done: Future[Any]) -> None:
            error = done.exception()
            if error is not None:
                whole.set_exception(error)
            else:
                second[0].future(second[1], timeout=CALL_S).add_done_callback(
                    partial(_settle, whole)
                )

        self._start(*first).add_done_callback(go_on)
        return whole


def _settle(future: Future[Any], call: Any) -> None:
    error = call.exception()
    if error is not None:
        future.set_exception(OutcomeUnknownError(f"etcd: {call.code().name}"))
    else:
        future.set_result(None)


@contextmanager
def etcd_members() -> Iterator[tuple[Target, list[Process], str]]:
    """Three members with connections to the one that leads."""
    from benchmark_peers import end_process, free_ports

    ports = free_ports(2 * len(MEMBERS))
    clients = [f"127.0.0.1:{port}" for port in ports[::2]]
    peers = [f"http://127.0.0.1:{port}" for port in ports[1::2]]
    everyone = ",".join(f"{name}={peer}" for name, peer in zip(MEMBERS, peers, strict=True))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray_paxos-etcd-"))
        processes = []
        for name, client, peer in zip(MEMBERS, clients, peers, strict=True):
            log = stack.enter_context(open(os.path.join(folder, f"{name}.log"), "wb"))
            child = subprocess.Popen(
                [
                    *(BINARY, "--name", name, "--data-dir", os.path.join(folder, name)),
                    *("--listen-client-urls", f"http://{client}"),
                    *("--advertise-client-urls", f"http://{client}"),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", everyone, "--initial-cluster-state", "new"),
                    *("--logger", "zap", "--log-outputs", "stderr", "--log-level", "error"),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(end_process, child)
            processes.append(Process(child.pid, "etcd", f"etcd {name}"))
        channels = stack.enter_context(_connections(_find_leader(clients)))
        processes.append(Process(os.getpid(), "driver", "driver"))
        yield EtcdTarget(channels), processes, ABOUT


@contextmanager
def _connections(address: str, count: int = CONNECTIONS) -> Iterator[list[Any]]:
    import grpc

    with ExitStack() as stack:
        # Channels of equal options share one connection.
        yield [
            stack.enter_context(
                grpc.insecure_channel(address, options=[("ray_paxos.connection", number)])
            )
            for number in range(count)
        ]


def _find_leader(addresses: list[str]) -> str:
    """The client address of the member that leads; waits for one."""
    import grpc

    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        for address in addresses:
            with _connections(address, 1) as (channel,):
                try:
                    answer = channel.unary_unary(STATUS)(
                        b"", timeout=max(deadline - time.monotonic(), 0.1), wait_for_ready=True
                    )
                except grpc.RpcError:
                    continue
            # StatusResponse: leader is field 4; the header, field 1, has the member's id as 2.
            leader = decode_whole_fields(answer).get(4, 0)
            if leader and leader == decode_whole_fields(_header(answer)).get(2):
                return address
    raise ClusterError(f"etcd has no leader after {READY_S:g} s")


def _header(answer: bytes) -> bytes:
    """The first field of an answer, under 128 bytes long."""
    return answer[2 : 2 + answer[1]] if answer[:1] == b"\x0a" else b""
