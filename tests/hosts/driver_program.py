"""A driver on a host: does what it is told by lines of JSON, and tells what comes of it likewise.

    python driver_program.py GCS_ADDRESS OWN_ADDRESS

An order is `{"order": number, "do": name, ...}` and has one answer, `{"order": number, "result":
...}` or `{"order": number, "error": text}`. A *series* writes or reads one key until it is told to
stop, and says of each operation `{"series": number, "start_ns": ..., "end_ns": ..., "value": ...}`
or, in the place of the value, `error`. Times are of the monotonic clock, which is the same for all
processes of the machine.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import ray

import ray_paxos
from ray_paxos.config import parse_configuration
from ray_paxos.errors import PaxosError
from ray_paxos.machines import kv

LABEL = "host"
PAUSE_S = 0.02
"""Between two operations of a series: the machine has other things to do."""

_telling = threading.Lock()
# Whatever else is printed here goes to standard error.
_told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def tell(fields: dict[str, Any]) -> None:
    """Say something in one line."""
    with _telling:
        _told.write(json.dumps(fields) + "\n")
        _told.flush()


def end_with(error: threading.ExceptHookArgs) -> None:
    """A bug in a thread ends the program, so that nobody waits for an answer."""
    threading.__excepthook__(error)
    os._exit(1)


class Driver:
    """Carries out orders; each in a thread of its own."""

    def __init__(self) -> None:
        """Know no cluster yet."""
        self._clusters: dict[str, ray_paxos.Cluster] = {}
        self._stops: dict[int, threading.Event] = {}

    def take(self, order: dict[str, Any]) -> None:
        """Begin to carry out an order."""
        threading.Thread(target=self._carry_out, args=(order,), daemon=True).start()

    def _carry_out(self, order: dict[str, Any]) -> None:
        number, name = order.pop("order"), order.pop("do")
        methods: dict[str, Callable[..., Any]] = {
            "start": self.start,
            "stop": self.stop,
            "alive": self.alive,
            "serving": self.serving,
            "digests": self.digests,
            "master": self.master,
            "lead": self.lead,
            "write": self.write,
            "read": self.read,
            "end": self.end,
        }
        try:
            tell({"order": number, "result": methods[name](**order)})
        except PaxosError as error:
            tell({"order": number, "error": f"{type(error).__name__}: {error}"})

    def _cluster(self, name: str) -> ray_paxos.Cluster:
        if name not in self._clusters:
            self._clusters[name] = ray_paxos.connect(name)
        return self._clusters[name]

    # Orders.

    def start(self, configuration: str) -> list[str]:
        """Start a cluster; gives its members."""
        parsed = parse_configuration(configuration)
        started = self._clusters[parsed.cluster] = ray_paxos.start(parsed, timeout_s=180.0)
        return list(started.members)

    def stop(self, cluster: str) -> None:
        """Stop a cluster."""
        self._clusters.pop(cluster).stop()

    def alive(self) -> list[str]:
        """The hosts whose Ray nodes live."""
        nodes: list[dict[str, Any]] = ray.nodes()
        return [node["Labels"].get(LABEL, "") for node in nodes if node["Alive"]]

    def serving(self, cluster: str) -> list[str]:
        """The members all of whose roles serve."""
        return [
            member.name
            for member in self._cluster(cluster).status().members
            if all(role.phase == "serving" for role in member.roles.values())
        ]

    def digests(self, cluster: str) -> dict[str, str]:
        """Digests of the members' states, once they are equally far."""
        found = self._cluster(cluster).member_digests(timeout_s=60.0)
        return {member: digest.digest for member, digest in found.items()}

    def master(self, cluster: str) -> tuple[str, int] | None:
        """The latest who leads, and since which instance; waits for the first one."""
        # Which any member may have told of; one that is cut off does not know of later ones.
        self._cluster(cluster).wait_for_master()
        master = self._cluster(cluster).master()
        return (master.member, master.version) if master is not None else None

    def lead(self, cluster: str, member: str) -> None:
        """Have a member lead."""
        self._cluster(cluster).transfer_master(member, timeout_s=30.0)

    def write(self, cluster: str, series: int, key: str, timeout_s: float) -> None:
        """Write 1, 2, ... to a key."""
        with self._cluster(cluster).client(label=f"series {series}") as client:
            numbers = iter(range(1, 1 << 62))

            def once() -> int:
                number = next(numbers)
                tell({"series": series, "begun": number, "start_ns": time.monotonic_ns()})
                client.propose(kv.encode_put(key, b"%d" % number), timeout_s=timeout_s)
                return number

            self._repeat(series, once)

    def read(self, cluster: str, series: int, key: str, consistency: str, timeout_s: float) -> None:
        """Read a key again and again; the value is 0 where it was never written."""
        with self._cluster(cluster).client(label=f"series {series}") as client:

            def once() -> int:
                answer = client.query(
                    kv.encode_get(key), consistency=consistency, timeout_s=timeout_s
                )
                found = kv.decode_result(answer)
                assert isinstance(found, kv.Read)
                return int(found.value or b"0")

            self._repeat(series, once)

    def end(self, series: int) -> None:
        """Let a series end."""
        self._stops[series].set()

    def _repeat(self, series: int, once: Callable[[], int]) -> None:
        stop = self._stops[series] = threading.Event()
        while not stop.is_set():
            told: dict[str, Any] = {"series": series, "start_ns": time.monotonic_ns()}
            try:
                told["value"] = once()
            except PaxosError as error:
                told["error"] = f"{type(error).__name__}: {error}"
            told["end_ns"] = time.monotonic_ns()
            tell(told)
            stop.wait(PAUSE_S)


def main() -> None:
    """Take orders until there are no more."""
    threading.excepthook = end_with
    gcs_address, own_address = sys.argv[1:]
    ray.init(
        address=gcs_address,
        _node_ip_address=own_address,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    driver = Driver()
    tell({"order": 0, "result": None})
    for line in sys.stdin:
        driver.take(json.loads(line))


if __name__ == "__main__":
    main()
