"""Asks a running cluster how it is, again and again, without disturbing it.

Rules:

1. All roles are asked at once, each by one call that changes nothing. No session is opened, and
   nothing is written.
2. A member that stands still finds one question of each role when it goes on, and does not hold up
   those who watch the others (`questions`).
3. A cluster of which no actor lives any more, or a Ray cluster that is gone, is an error that says
   so; a member that does not answer is only seen to be down.
4. Where Ray's control service (the GCS) alone is gone, members serve on, and are watched. After a
   minute Ray would end this process without a word of ours, so the watch ends before.
"""

from __future__ import annotations

import time

import ray
from ray.exceptions import RayError

from ray_paxos.actors.folders import cluster_folder
from ray_paxos.actors.launching import live_actor_names, running_spec
from ray_paxos.actors.questions import Key, Questions
from ray_paxos.actors.ray_connection import connect_running_ray
from ray_paxos.actors.ray_head import is_listening
from ray_paxos.actors.roster import roster_of
from ray_paxos.cluster import Cluster
from ray_paxos.errors import ClusterError, ClusterNotFoundError
from ray_paxos.observability.cluster_view import ClusterView
from ray_paxos.observability.cluster_watch import ClusterWatch
from ray_paxos.observability.report import Answer
from ray_paxos.observability.wall_time import wall_ms

LOOK_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 20.0
REFRESH_S = 10.0
"""Who else has joined or left, and on which nodes, is asked no more often."""

CONTROL_LOST_MAX_S = 30.0
"""Looked at every 10 s, this is over before Ray ends a process, 60 s after the loss."""


def watched_cluster(name: str, *, address: str | None = None) -> Cluster:
    """A running cluster to watch; unlike `ray_paxos.connect` also one without a majority.

    Args:
        name: The cluster's.
        address: Of the Ray cluster; by default as of `ray_paxos.connect`.

    Raises:
        ClusterNotFoundError: No cluster of that name runs there.
        ClusterError: There is no Ray cluster, or no actor of the cluster answers.
    """
    connection = connect_running_ray(address, cluster_folder(name, None))
    spec = running_spec(name, CONNECT_TIMEOUT_S)
    if spec is None:
        raise ClusterNotFoundError(
            f"no cluster {name} runs in the Ray cluster at {connection.address}; start it by "
            "`ray-paxos up`"
        )
    return Cluster(spec, connection, was_running=True)


class Watching:
    """Watches one cluster. Not for several threads at once."""

    def __init__(self, cluster: Cluster, *, timeout_s: float = LOOK_TIMEOUT_S) -> None:
        """Ask nobody yet.

        Args:
            cluster: As `watched_cluster`, `connect` or `start` gives it.
            timeout_s: How long a role that answered before is waited for.
        """
        spec = cluster.spec
        self._cluster = cluster
        self._address = str(ray.get_runtime_context().gcs_address)
        self._roster = roster_of(spec)
        self._questions = Questions(cluster.name, is_fused=spec.is_fused)
        self._timeout_s = timeout_s
        self._has_silent = False
        self._gone: frozenset[str] = frozenset()
        self._nodes: dict[str, str] = {}
        self._refresh_at = 0.0
        self._control = Loss()
        cluster_id = spec.decoded_genesis().cluster_id
        self._watch = ClusterWatch(
            cluster.name, cluster_id, self._roster.ids, checkpointer=spec.checkpointer
        )

    def look(self) -> ClusterView:
        """Ask all roles, and see how the cluster is.

        Returns:
            It; rates are since the last look, and None at the first.

        Raises:
            ClusterError: The cluster is gone, or the Ray cluster under it.
        """
        if time.monotonic() >= self._refresh_at:
            self._refresh()
        answers = self._ask()
        if not answers or all(isinstance(answer, str) for answer in answers.values()):
            self._check_is_there()
        silent = {member for member, _ in answers}
        silent -= {member for (member, _), each in answers.items() if not isinstance(each, str)}
        if silent and not self._has_silent:
            # It may have left for ever, which group 0 knows.
            self._has_silent = True
            self._gone = self._cluster.members_gone()
            answers = {key: each for key, each in answers.items() if key[0] not in self._gone}
        self._has_silent = bool(silent)
        self._watch.members = {member: self._roster.ids[member] for member, _ in answers}
        return self._watch.take(answers, self._nodes, wall_ms())

    def _ask(self) -> dict[Key, Answer]:
        members = [name for name in self._roster.ids if name not in self._gone]
        return self._questions.ask(members, self._watch.last_events, self._timeout_s)

    def _refresh(self) -> None:
        """See who has joined or left, and on which nodes they are; what is not told stays."""
        self._refresh_at = time.monotonic() + REFRESH_S
        is_there = ray.is_initialized() and is_listening(self._address)
        if self._control.lost_s(is_there=is_there, now_s=time.monotonic()) >= CONTROL_LOST_MAX_S:
            raise ClusterError(
                f"Ray's control service (the GCS) at {self._address} has not answered for "
                f"{CONTROL_LOST_MAX_S:g} s, after which Ray ends what is connected to it. The "
                f"members of cluster {self._cluster.name} may serve on for a while; watch again "
                "once it is back"
            )
        if not is_there:
            return
        try:
            self._roster.look()
            nodes = ray.nodes()  # type: ignore[no-untyped-call]
        except (RayError, ConnectionError, RuntimeError):
            # It went just now, which the next look at it tells.
            return
        if self._has_silent:
            self._gone = self._cluster.members_gone()
        self._nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes}

    def _check_is_there(self) -> None:
        """Tell a cluster of which nobody answers from one that is gone."""
        name = self._cluster.name
        try:
            is_there = ray.is_initialized() and is_listening(self._address)
            actors = live_actor_names(name) if is_there else set()
        except (RayError, ConnectionError, RuntimeError):
            is_there = False
        if not is_there:
            raise ClusterError(
                f"the Ray cluster at {self._address} does not answer any more, nor does cluster "
                f"{name} in it. The data is on the members' disks: if that Ray cluster has ended, "
                "`ray-paxos up` with the cluster's configuration starts both again"
            )
        if not actors:
            raise ClusterNotFoundError(
                f"cluster {name} runs no more: none of its actors lives in the Ray cluster at "
                f"{self._address}. The data is on the members' disks: `ray-paxos up` with the "
                "cluster's configuration starts it again"
            )


class Loss:
    """For how long something has been lost."""

    def __init__(self) -> None:
        """It is there."""
        self._since_s: float | None = None

    def lost_s(self, *, is_there: bool, now_s: float) -> float:
        """Seconds since it was found to be lost; 0 while it is there."""
        if is_there:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        return 0.0 if self._since_s is None else now_s - self._since_s
