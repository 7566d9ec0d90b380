"""A cluster in this process: real state machines, no Ray, no Paxos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ray_paxos.config import ClusterConfiguration
from ray_paxos.errors import ClusterError, CommandError, PaxosError
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.registry import MachineRegistry


@dataclass
class FakeResults:
    values: list[bytes | None]
    errors: dict[int, PaxosError]

    def __len__(self) -> int:
        return len(self.values)


@dataclass
class FakeDigest:
    applied_instance_id: int
    digest: str


@dataclass
class FakeStatus:
    alarms: tuple[str, ...]


@dataclass
class FakeClient:
    """Applies in order, in a thread of its own, as a client would settle its futures."""

    machines: dict[str, StateMachine]
    on_command: Callable[[bytes], None] = lambda command: None
    chunks: list[list[bytes]] = field(default_factory=list)
    in_flight_most: int = 0
    in_flight: int = 0
    _executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self._executor.shutdown()

    def propose_many_async(
        self,
        commands: Sequence[bytes],
        machine: str,
        *,
        timeout_s: float,
        on_progress: Callable[[int], None] | None,
    ) -> Future[FakeResults]:
        self.chunks.append(list(commands))
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        return self._executor.submit(self._apply, list(commands), machine, on_progress)

    def _apply(
        self, commands: list[bytes], machine: str, on_progress: Callable[[int], None] | None
    ) -> FakeResults:
        results = FakeResults([], {})
        context = ApplyContext()
        for position, command in enumerate(commands):
            try:
                self.on_command(command)
                results.values.append(self.machines[machine].apply(command, context))
            except CommandError as error:
                results.values.append(None)
                results.errors[position] = error
            if on_progress is not None:
                on_progress(position + 1)
        self.in_flight -= 1
        return results

    def query(self, request: bytes, machine: str) -> bytes:
        return self.machines[machine].query(request)

    @property
    def commands(self) -> list[bytes]:
        return [command for chunk in self.chunks for command in chunk]


@dataclass
class FakeCluster:
    """What jobs use of `ray_paxos.Cluster`; also stands for `ray_paxos.start`."""

    was_running: bool = False
    client_made: FakeClient | None = None
    on_command: Callable[[bytes], None] = lambda command: None
    digests: list[dict[str, FakeDigest]] = field(default_factory=list)
    starts: list[tuple[str | None, bool]] = field(default_factory=list)
    silent: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    stopped: int = 0
    flushed: int = 0
    name: str = ""
    members: tuple[str, ...] = ()
    command_bytes_max: int = 0

    def __call__(
        self, configuration: ClusterConfiguration, *, address: str | None, keep: bool
    ) -> FakeCluster:
        self.starts.append((address, keep))
        self.name = configuration.cluster
        self.command_bytes_max = configuration.proposer.command_bytes_max
        self.members = tuple(member.name for member in configuration.members)
        registry = MachineRegistry()
        machines = {}
        for spec in configuration.groups[0].machine_specs():
            machine_class = registry.find(spec.kind, spec.version)
            assert machine_class is not None
            machines[spec.name] = machine_class()
        self.client_made = FakeClient(machines, self.on_command)
        return self

    def client(self, group: int, *, label: str) -> FakeClient:
        assert self.client_made is not None
        return self.client_made

    def flush(self, group: int) -> None:
        self.flushed += 1

    def member_digests(self, group: int) -> dict[str, FakeDigest]:
        if self.digests:
            return self.digests.pop(0)
        return {name: FakeDigest(7, "ab" * 16) for name in self.members}

    def status(self) -> FakeStatus:
        return FakeStatus(self.alarms)

    def log_dir(self, member: str) -> str:
        if member in self.silent:
            raise ClusterError(f"the learner of member {member} does not answer")
        return f"/data/{self.name}/{member}/learner/log"

    def stop(self) -> None:
        self.stopped += 1
