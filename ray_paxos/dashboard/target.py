"""What is shown: a running cluster, as a process sees it that is connected to its Ray cluster."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ray_paxos.dashboard.log_tail import LogTail, read_tail
from ray_paxos.errors import ClusterError

if TYPE_CHECKING:
    from ray_paxos.actors.watching import Watching
    from ray_paxos.cluster import Cluster
    from ray_paxos.observability.cluster_view import ClusterView

ANSWER_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 8.0
"""For all members that are asked for a log together, and what else is asked for it."""


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
            PaxosError: None does in time.
        """


class ClusterTarget:
    """A cluster by its name. One look is taken at a time; beside it the log may be read."""

    def __init__(self, cluster: str, address: str | None) -> None:
        """Attach to it.

        Args:
            cluster: Its name.
            address: Of the Ray cluster; by default as `ray_paxos.connect`.

        Raises:
            ClusterNotFoundError: No cluster of that name runs there.
            ClusterError: There is no Ray cluster, it does not answer, or does not tell its token.
            ConfigurationError: The name is none.
        """
        from ray_paxos.actors.ray_connection import shown_token

        logging.getLogger("ray").setLevel(logging.ERROR)
        self._name = cluster
        self._address = address
        self._cluster, self._watching = self._attach()
        self._token = shown_token()
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
            self._kinds.clear()
            self._cluster, self._watching = self._attach()
        self._is_lost = True
        view = self._watching.look()
        self._is_lost = False
        return view

    def read_log(self, group: int, members: tuple[str, ...], count: int) -> LogTail:
        """The last instances of a group; see `log_tail`. Over after `READ_TIMEOUT_S`."""
        deadline_s = time.monotonic() + READ_TIMEOUT_S
        from ray_paxos.actors.administration import Administration, ask_all, messages_in
        from ray_paxos.actors.roster import roster_of
        from ray_paxos.core.messages import Message, RoleName

        spec = self._cluster.spec
        administration = Administration(roster_of(spec), is_fused=spec.is_fused)

        def ask(member: str, message: Message) -> tuple[Message, ...]:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise ClusterError(f"no learner gave the log within {READ_TIMEOUT_S:g} s")

            def send() -> Any:
                return administration.send(member, RoleName.LEARNER, group, message)

            return messages_in(ask_all({member: send}, min(ANSWER_TIMEOUT_S, left_s))[member])

        return read_tail(group, members, ask, count, self._machine_kinds(group))

    def _attach(self) -> tuple[Cluster, Watching]:
        from ray_paxos.actors.watching import Watching, watched_cluster

        cluster = watched_cluster(self._name, address=self._address)
        return cluster, Watching(cluster)

    def _machine_kinds(self, group: int) -> dict[str, str]:
        """The kind of each machine that a group starts with, by its name there."""
        found = self._kinds.get(group) or self._cluster.machines(group)
        if found:
            self._kinds[group] = found
        return found
