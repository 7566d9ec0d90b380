"""The controller: one detached actor that runs the reconciler's rounds.

It keeps no state: it may be killed at any point, and Ray starts it again; a second one, of a Ray
cluster that took the first for dead, does nothing that the first would not (`core.reconciliation`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from ray_paxos.actors.administration import Administration
from ray_paxos.actors.memberships import Memberships
from ray_paxos.actors.names import NAMESPACE, controller_name
from ray_paxos.actors.placement import RayNode, going_nodes
from ray_paxos.actors.reconciler import Reconciler
from ray_paxos.actors.roster import roster_of
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.client import Client
from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.errors import PaxosError
from ray_paxos.observability.event_log import set_up_logging
from ray_paxos.system_group import SystemGroup

_logger = logging.getLogger(__name__)


class ControllerActor:
    """Runs rounds in a thread of its own until it is stopped."""

    def __init__(self, spec: bytes) -> None:
        """Begin.

        Args:
            spec: The cluster's, encoded.
        """
        self._over = threading.Event()
        self._rounds = 0
        self._last = "none yet"
        self._node_id: str = ray.get_runtime_context().get_node_id()
        self._thread = threading.Thread(
            target=self._run, args=(decode_spec(spec),), name="ray_paxos-controller", daemon=True
        )
        self._thread.start()

    def describe(self) -> dict[str, Any]:
        """Where this life of it runs, how many rounds it has run, and what came of the last one.

        The last is for a person.
        """
        return {
            "pid": os.getpid(),
            "node_id": self._node_id,
            "rounds": self._rounds,
            "last": self._last,
        }

    def stop(self, timeout_s: float) -> None:
        """Begin no further round, and wait for the one that runs."""
        self._over.set()
        self._thread.join(timeout_s)

    def _run(self, spec: ClusterSpec) -> None:
        set_up_logging(spec.log_level)
        administration = Administration(roster_of(spec), is_fused=spec.is_fused)
        administration.roster.look()
        encoded = spec.encoded()
        system = SystemGroup(spec, lambda: Client(encoded, SYSTEM_GROUP, "controller"))
        settings = spec.controller
        node_id = ray.get_runtime_context().get_node_id()
        reconciler = Reconciler(spec, administration, Memberships(administration), system, settings)
        while not self._over.is_set():
            began = time.monotonic()
            pause_s = settings.interval_ns / 1e9
            try:
                outcome = reconciler.run_round()
                self._last = f"{len(outcome.taken)} steps taken, {len(outcome.failed)} failed"
                if outcome.taken:
                    _logger.info("%s", "; ".join(map(str, outcome.taken)))
                    # What these make possible is not kept waiting.
                    pause_s = 0.0
                elif is_to_move(node_id, outcome.nodes):
                    _move(spec.decoded_genesis().cluster)
            except (PaxosError, RayError) as error:
                self._last = f"{type(error).__name__}: {error}"
                _logger.warning("a round broke off: %s", self._last)
            self._rounds += 1
            self._over.wait(max(pause_s - (time.monotonic() - began), 0.0))
        system.close()


def is_to_move(node_id: str, nodes: Sequence[RayNode]) -> bool:
    """Whether the controller's own node is about to be ended, and another one is not."""
    going = going_nodes(nodes)
    return node_id in going and len(going) < len(nodes)


def _move(cluster: str) -> None:
    """End this process; Ray makes another one elsewhere.

    A node that is drained ends once nothing lives on it, and must not wait for its controller.
    """
    controller = find_controller(cluster)
    if controller is not None:
        _logger.info("this node is drained: the controller moves")
        ray.kill(controller, no_restart=False)


def ensure_controller(spec: ClusterSpec) -> None:
    """Make the controller of a cluster where it is not there."""
    remote: Any = ray.remote
    remote(
        name=controller_name(spec.decoded_genesis().cluster),
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0,
        max_concurrency=4,
    )(ControllerActor).remote(spec.encoded())


def find_controller(cluster: str) -> Any | None:
    """The handle of a cluster's controller; None where there is none."""
    try:
        return ray.get_actor(controller_name(cluster), namespace=NAMESPACE)
    except ValueError:
        return None


def end_controller(cluster: str, timeout_s: float) -> None:
    """Stop a cluster's controller, if there is one, and end its actor for good."""
    controller = find_controller(cluster)
    if controller is None:
        return
    ray.wait([controller.stop.remote(timeout_s)], timeout=timeout_s)
    ray.kill(controller, no_restart=True)
