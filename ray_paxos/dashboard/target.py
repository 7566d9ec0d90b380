"""What is shown: a running cluster, as a process sees it that is connected to its Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ray_paxos.dashboard.log_tail import LogTail, read_tail
from ray_paxos.errors import PaxosError

if TYPE_CHECKING:
    from ray_paxos.actors.watching import Watching
    from ray_paxos.cluster import Cluster
    from ray_paxos.observability.cluster_view import ClusterView

ANSWER_TIMEOUT_S = 3.0
WANTED_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Hello:
    """What is known once a target is there.

    Attributes:
        cluster: Name of the cluster.
        token: That whoever uses the Ray cluster has to show; None where it asks for none.
    """

    cluster: str
    token: str | None


class Target(Protocol):
    """What a watcher's process looks at."""

    def hello(self) -> Hello:
        """Say what it is."""

    def look(self) -> ClusterView:
        """See how it is; raises PaxosError where nobody answers."""

    def read_log(self, group: int, members: tuple[str, ...], count: int) -> LogTail:
        """The last instances of a group, from the first of these members that answers.

        Raises:
            PaxosError: None does.
        """


class ClusterTarget:
    """A cluster by its name. One look is taken at a time; beside it the log may be read."""

    def __init__(
        self, cluster: str, address: str | None, read_token: Callable[[], str | None]
    ) -> None:
        """Attach to it.

        Args:
            cluster: Its name.
            address: Of the Ray cluster; by default as `ray_paxos.connect`.
            read_token: Gives the token that this process shows to Ray, once it is connected.

        Raises:
            ClusterNotFoundError: No cluster of that name runs there.
            ClusterError: There is no Ray cluster, or it does not answer.
            ConfigurationError: The name is none.
        """
        logging.getLogger("ray").setLevel(logging.ERROR)
        self._name = cluster
        self._address = address
        self._cluster, self._watching = self._attach()
        self._token = read_token()
        self._is_lost = False
        self._kinds: dict[int, dict[str, str]] = {}

    def hello(self) -> Hello:
        """Say what it is."""
        return Hello(self._name, self._token)

    def look(self) -> ClusterView:
        """See how it is; attaches anew where the last look failed.

        Raises:
            ClusterError: The cluster is gone, or the Ray cluster under it.
        """
        if self._is_lost:
            # It may have been started again from other folders, with other ids.
            self._cluster, self._watching = self._attach()
        self._is_lost = True
        view = self._watching.look()
        self._is_lost = False
        return view

    def read_log(self, group: int, members: tuple[str, ...], count: int) -> LogTail:
        """The last instances of a group; see `log_tail`."""
        from ray_paxos.actors.administration import ask_all, messages_in
        from ray_paxos.core.messages import Message, RoleName

        administration = self._cluster._administration

        def ask(member: str, message: Message) -> tuple[Message, ...]:
            def send() -> Any:
                return administration.send(member, RoleName.LEARNER, group, message)

            return messages_in(ask_all({member: send}, ANSWER_TIMEOUT_S)[member])

        return read_tail(group, members, ask, count, self._machine_kinds(group))

    def _attach(self) -> tuple[Cluster, Watching]:
        from ray_paxos.actors.watching import Watching, watched_cluster

        cluster = watched_cluster(self._name, address=self._address)
        return cluster, Watching(cluster)

    def _machine_kinds(self, group: int) -> dict[str, str]:
        """The kind of each machine that a group starts with, by its name there."""
        if group not in self._kinds:
            try:
                wanted = self._cluster._system.last_known(timeout_s=WANTED_TIMEOUT_S)
            except PaxosError:
                wanted = None
            found = wanted.groups.get(group) if wanted is not None else None
            specs = [found.spec] if found is not None else []
            specs += [s for s in self._cluster._genesis.groups if s.group == group]
            if not specs:
                return {}
            self._kinds[group] = {each.name: each.kind for each in specs[0].machines}
        return self._kinds[group]
