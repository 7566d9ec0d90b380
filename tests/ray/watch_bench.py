"""What a look costs: `python tests/ray/watch_bench.py [GROUPS]`, of three fused members at rest.

Processor time of this process and of the members, for one picture of `ray-paxos top` and for one
`ray-paxos status`, beyond what they take without anybody watching.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ray
from rich.console import Console

import ray_paxos
from ray_paxos.actors.watching import Watching
from ray_paxos.cli.status import status_lines
from ray_paxos.cli.top_options import TopOptions
from ray_paxos.cli.top_view import frame
from ray_paxos.config import parse_configuration

LOOKS = 50
REST_S = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


def used_s(process_ids: list[int]) -> float:
    """Processor time of these processes so far."""
    total = 0
    for process_id in process_ids:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def cost_ms(work: Callable[[], object], members: list[int]) -> tuple[float, float, float]:
    """Of one piece of work: (processor here, processor at the members, time), in milliseconds."""
    begun, before, before_here = time.perf_counter(), used_s(members), time.process_time()
    time.sleep(REST_S)
    rest_s = (used_s(members) - before) / (time.perf_counter() - begun)
    rest_here_s = (time.process_time() - before_here) / (time.perf_counter() - begun)
    begun, before, before_here = time.perf_counter(), used_s(members), time.process_time()
    for _ in range(LOOKS):
        work()
    taken = time.perf_counter() - begun
    here = time.process_time() - before_here - rest_here_s * taken
    there = used_s(members) - before - rest_s * taken
    return here / LOOKS * 1_000, there / LOOKS * 1_000, taken / LOOKS * 1_000


def main() -> None:
    """Measure, and print."""
    groups = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="rpx-") as home:
        os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_PAXOS_HOME": home}
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        text = f"cluster: watched\nmembers: 3\nroles: fused\ngroups: {groups}\n"
        cluster = ray_paxos.start(parse_configuration(text))
        watching = Watching(cluster)
        members = [m.roles["acceptor"].pid for m in cluster.status().members]

        def top() -> None:
            console = Console(file=io.StringIO(), width=160, height=50)
            console.print(frame(watching.look(), TopOptions(), width=160, height=50))

        def status() -> None:
            status_lines(cluster.status(), watching.look())

        time.sleep(REST_S)
        for name, work in (("top", top), ("status", status)):
            here, there, taken = cost_ms(work, members)
            print(
                f"{name}, {groups} groups: {here:.0f} ms of processor here, {there:.0f} ms at the "
                f"members together; done after {taken:.0f} ms"
            )
        cluster.stop(delete_data=True)
        ray.shutdown()


if __name__ == "__main__":
    main()
