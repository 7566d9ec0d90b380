"""A program with a Ray and a cluster of its own, which does what it is told, line by line.

Run with the port for Ray's metrics, `fused` or `separate`, and whether there are disks of its own.
Each line of its input is a JSON list of a command and its arguments; each line of its output is the
JSON of what came of it. It ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos_disks import FILLER, LoopDisk, hide_mounts, make_disk

NAME = "watched"
CONFIGURATION = """
cluster: watched
members: 3
logging: {level: WARNING}
groups:
  - {group: 1}
  - {group: 2, machines: {odd: "tests.ray.odd_machine:Odd"}}
learner: {seal_bytes: 20_000, seal_age_ms: 100, memory_bytes: 10_000, hold_count: 10}
checkpointer:
  checkpoint_instances: 40
  checkpoint_retry_ms: 500
  scrub_bytes_per_s: 100_000_000
  scrub_interval_ms: 100
observability: {metrics_interval_ms: 250}
"""
REPORT_MS = 1_000
"""From one of Ray's reports of metrics to the next; gauges are forgotten after two of them."""
OF_ITS_OWN = "m3"
"""The member that has a disk of its own."""


class Watched:
    """The cluster, and what can be done to it."""

    def __init__(self, home: Path, roles: str, disk: LoopDisk | None) -> None:
        """Start it."""
        import ray_paxos
        from ray_paxos.config import parse_configuration

        self._home = home
        self._disk = disk
        self._configuration = parse_configuration(f"{CONFIGURATION}roles: {roles}\n")
        self._cluster = ray_paxos.start(self._configuration)
        self._client = self._cluster.client(group=1)
        self._odd = self._cluster.client(group=2)

    def write(self, count: int, group: int = 1, size: int = 3_000) -> int:
        """So many commands, each an instance of its own; gives the last instance."""
        from ray_paxos.machines import kv

        last = 0
        for number in range(count):
            if group == 1:
                command = kv.encode_put(f"key{number % 7}", bytes([number % 256]) * size)
                last = self._client.propose(command, timeout_s=30).instance_id
            else:
                last = self.tell_odd("even")
        return last

    def tell_odd(self, command: str) -> int:
        """Give the machine of group 2 a command: `odd`, `unsavable`, or any other."""
        return self._odd.propose(command.encode(), "odd", timeout_s=30).instance_id

    def master(self, group: int) -> str:
        """Who leads."""
        master = self._cluster.wait_for_master(group)
        assert master is not None
        return master.member

    def change_masters(self, times: int) -> None:
        """Have the lead of group 1 handed around."""
        from ray_paxos.errors import TransferError

        for _ in range(times):
            master = self.master(1)
            others = [name for name in self._cluster.members if name != master]
            while self.master(1) == master:
                # A new master has not heard from everybody at once.
                with contextlib.suppress(TransferError):
                    self._cluster.transfer_master(others[0], 1, timeout_s=30)
                time.sleep(0.1)

    def damage(self, member: str) -> None:
        """Change one byte in the middle of a member's newest segment of group 1."""
        self._cluster.flush(1)
        folder = self._home / NAME / member / "learner" / "log" / "group=1"
        path = sorted(p for p in folder.glob("*.parquet") if not p.name.startswith("_"))[-1]
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            (byte,) = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))

    def damage_journal(self, member: str) -> None:
        """End a member, change a byte of its acceptor's journal, and start it again."""
        import ray_paxos

        self.end(member)
        journal = self._home / NAME / member / "acceptor" / "journal"
        path = max(journal.iterdir(), key=lambda each: each.stat().st_size)
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            (byte,) = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        self._cluster = ray_paxos.start(self._configuration)

    def end(self, member: str) -> None:
        """End all actors of a member for good."""
        from ray_paxos.actors.launching import actor_names

        for name in actor_names(self._cluster._spec, member):
            self._end_actor(name)

    def end_role(self, member: str, role: str) -> None:
        """End the actor of one role for good."""
        self._end_actor(f"{NAME}/{member}/{role}")

    def _end_actor(self, name: str) -> None:
        import ray

        from ray_paxos.actors.names import NAMESPACE

        # It may be gone already.
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)

    def fill_disk(self, for_s: float) -> None:
        """Leave no room on the disk of its own."""
        assert self._disk is not None
        self._disk.fill(for_s)

    def leave_room(self, byte_count: int) -> None:
        """Leave so much again on the disk that is full."""
        assert self._disk is not None
        (filler,) = self._disk.folder.glob(f"{FILLER}-*")
        os.truncate(filler, filler.stat().st_size - byte_count)

    def slow_disk(self, freeze_s: float, for_s: float) -> None:
        """Let it stand still again and again."""
        assert self._disk is not None
        self._disk.slow(freeze_s, for_s)

    def heal_disk(self) -> None:
        """End both."""
        assert self._disk is not None
        self._disk.heal()

    def stop(self) -> None:
        """Stop the cluster."""
        self._cluster.stop()


def main(port: str, roles: str, has_disk: str) -> None:
    """Serve the lines of the input."""
    home = Path(os.environ["RAY_PAXOS_HOME"])
    disk = None
    if has_disk == "disk":
        # Before there is any thread: all that is started from here on sees the disk, nobody else.
        hide_mounts()
        home.mkdir(parents=True, exist_ok=True)
        disk = make_disk(home.parent / "disk.img", home / NAME / OF_ITS_OWN)
    from ray_paxos.config import RayConfiguration

    os.environ.update(
        {
            **RayConfiguration().environment(),
            "RAY_AUTH_MODE": "disabled",
            # For its agent, too, which knows of no other way.
            "RAY_metrics_report_interval_ms": str(REPORT_MS),
        }
    )
    warnings.simplefilter("ignore")
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _metrics_export_port=int(port),
    )
    watched = Watched(home, roles, disk)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        command: Callable[..., Any] = getattr(watched, name)
        try:
            answer = {"value": command(*arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    if disk is not None:
        disk.heal()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
