"""What the fixtures of `pytest_plugin` hand to tests: makers of in-process clusters and objects."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from ray_paxos.machines.objects import ObjectsMachine
from ray_paxos.replicated_handle import open_replicated
from ray_paxos.testing.in_process import InProcessCluster, Machines
from ray_paxos.testing.in_process_client import InProcessClient

OBJECTS = "objects"

P = ParamSpec("P")
T = TypeVar("T")


class ClusterFactory:
    """Makes in-process clusters for one test; `check` checks all of them in the end."""

    def __init__(self) -> None:
        """None yet."""
        self._made: list[tuple[InProcessCluster, bool]] = []

    def __call__(
        self, machines: Machines, *, members: int = 3, seed: int = 0, checks: bool = True
    ) -> InProcessCluster:
        """A new cluster, started.

        Args:
            machines: Classes by the name under which they are mounted.
            members: How many, 1 to 26.
            seed: Of all that happens by chance.
            checks: Whether it is checked after the test; False where the test is about a machine
                that fails.

        Raises:
            ConfigurationError: As `InProcessCluster`.
        """
        cluster = InProcessCluster(machines, members=members, seed=seed)
        self._made.append((cluster, checks))
        return cluster

    def check(self) -> None:
        """Mend the network, start what is down, and check each cluster that is to be checked.

        Raises:
            FaultyMachineError: As `InProcessCluster.check`.
        """
        for cluster, checks in self._made:
            if checks:
                cluster.heal()
                cluster.restart()
                cluster.check()


class ObjectsFactory:
    """Makes replicated objects on an in-process cluster of three members.

    Attributes:
        cluster: Which has them.
    """

    def __init__(self, cluster: InProcessCluster) -> None:
        """None yet; the cluster has a machine `objects`."""
        self.cluster = cluster
        self._channel = _ObjectChannel(cluster.client())

    def replicated(self, cls: Callable[P, T], name: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Find an object, or make it; a handle, as of `Cluster.replicated`.

        Args:
            cls: A class of `ray_paxos.Replicated`.
            name: Of the object.
            args: Of the constructor.
            kwargs: Also.

        Raises:
            Exception: As `Cluster.replicated`.
        """
        return open_replicated(self._channel, cls, name, *args, **kwargs)


def objects_factory(make: ClusterFactory) -> ObjectsFactory:
    """Replicated objects on a new cluster."""
    return ObjectsFactory(make({OBJECTS: ObjectsMachine}))


class _ObjectChannel:
    """From handles to the cluster. What is submitted is waited for: nothing runs in between."""

    def __init__(self, client: InProcessClient) -> None:
        self._client = client

    def propose(self, command: bytes) -> bytes | None:
        return self._client.propose(command, OBJECTS).value

    def query(self, request: bytes) -> bytes:
        return self._client.query(request, OBJECTS)

    def propose_async(self, command: bytes) -> Future[bytes | None]:
        return _done(self.propose, command)

    def query_async(self, request: bytes) -> Future[bytes]:
        return _done(self.query, request)


def _done(call: Callable[[bytes], T], argument: bytes) -> Future[T]:
    future: Future[T] = Future()
    try:
        future.set_result(call(argument))
    except Exception as error:
        future.set_exception(error)
    return future
