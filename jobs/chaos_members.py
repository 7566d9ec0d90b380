"""The members of a running cluster as a chaos run sees them: who serves, and signals to them.

The processes are signalled by an actor on each node (`chaos_node`), as they may be anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import chaos_node
from chaos_cluster import CONTROLLER, Life, MemberLog, Place, Sight
from job_roles import CONTROLLER_TITLE, ask_for_state, process_title, restart_member
from ray_paxos.actors.administration import LOG_FOLDER, ask_all
from ray_paxos.actors.controller import find_controller
from ray_paxos.actors.names import ROLE_NAMES
from ray_paxos.errors import ClusterError, PaxosError
from ray_paxos.observability.event_record import EventRecord, decode_record

if TYPE_CHECKING:
    from ray_paxos import Cluster

LOOK_S = 1.0
AGENT_S = 30.0
LOG_S = 300.0


class RayMembers:
    """Those of a cluster on Ray."""

    def __init__(self, cluster: Cluster, groups: Sequence[int]) -> None:
        """Look at some groups of a cluster."""
        self._cluster = cluster
        self._groups = tuple(groups)
        self._places: list[Place] = []
        self._has_controller = False
        self.watch(cluster.members, has_controller=False)
        self._roles = {text: role for role, text in ROLE_NAMES.items()}
        self._started: dict[tuple[str, int], int] = {}
        self._agents: dict[str, Any] = {}
        # Nodes of a cluster need not have this folder. (Ray's copy of cloudpickle has no types.)
        ray.cloudpickle.register_pickle_by_value(chaos_node)  # type: ignore[no-untyped-call]

    def watch(self, members: Sequence[str], *, has_controller: bool) -> None:
        """Ask these from here on."""
        self._places = [(m, role) for m in members for role in ROLE_NAMES.values()]
        self._has_controller = has_controller

    def look(self, without: Iterable[Place] = ()) -> Sight:
        """Ask every role."""
        skipped = set(without)
        calls: dict[Place, Callable[[], Any]] = {
            place: partial(self._ask, place) for place in self._places if place not in skipped
        }
        if self._has_controller:
            calls[CONTROLLER] = self._ask_controller
        answers = ask_all(calls, LOOK_S)
        states = {p: state for p, state in answers.items() if not isinstance(state, Exception)}
        controller = states.pop(CONTROLLER, None)
        self._identify(states, controller)
        lives: dict[Place, Life] = {}
        if controller is not None and controller["rounds"]:
            self._note_life(lives, CONTROLLER, controller)
        stopped: dict[str, str] = {}
        masters: dict[int, str] = {}
        refusals: dict[Place, str] = {}
        full = frozenset(place for place, state in states.items() if _is_full(state))
        learned: dict[tuple[str, int], int] = {}
        for place, state in states.items():
            member, role = place
            if state["phase"] == "serving":
                self._note_life(lives, place, state)
            if state["phase"] == "stopped":
                stopped[f"{member}/{role}"] = state["reason"]
            elif state["phase"] != "serving" and state["error"]:
                refusals[place] = state["reason"]
            for group, reason in (state["stopped_groups"] or {}).items():
                stopped[f"{member}/{role}, group {group}"] = reason
            for group in self._groups:
                of_group = (state["groups"] or {}).get(group, {})
                if role == "proposer" and of_group.get("is_serving"):
                    masters[group] = member
                if role == "learner" and of_group.get("stopped"):
                    stopped[f"{member}/{role}, group {group}"] = of_group["stopped"]
                if role == "learner" and of_group:
                    learned[member, group] = of_group["learned_through"]
        return Sight(lives, masters, stopped, refusals, full, learned)

    def _note_life(self, lives: dict[Place, Life], place: Place, state: Mapping[str, Any]) -> None:
        node_id, pid = state["node_id"], state["pid"]
        started = self._started.get((node_id, pid))
        if started is not None:
            lives[place] = Life(pid, started, node_id)

    def _ask(self, place: Place) -> Any:
        member, role = place
        return ask_for_state(self._cluster, member, self._roles[role])

    def _ask_controller(self) -> Any:
        controller = find_controller(self._cluster.name)
        if controller is None:
            raise ValueError("there is no controller")
        return controller.describe.remote()

    def _identify(
        self,
        states: Mapping[Place, Mapping[str, Any]],
        controller: Mapping[str, Any] | None,
    ) -> None:
        """Find out when processes started that were not seen before."""
        titles: dict[str, dict[int, str]] = {}
        if controller is not None:
            node_id, pid = controller["node_id"], controller["pid"]
            if (node_id, pid) not in self._started:
                titles.setdefault(node_id, {})[pid] = CONTROLLER_TITLE
        for (_member, role), state in states.items():
            node_id, pid = state["node_id"], state["pid"]
            if state["phase"] == "serving" and (node_id, pid) not in self._started:
                title = process_title(self._cluster, self._roles[role])
                titles.setdefault(node_id, {})[pid] = title
        calls = {
            node_id: partial(self._agent(node_id).identify.remote, of_node)
            for node_id, of_node in titles.items()
        }
        for node_id, found in ask_all(calls, AGENT_S).items():
            if not isinstance(found, Exception):
                self._started |= {(node_id, pid): started for pid, started in found.items()}

    def kill(self, lives: Sequence[Life]) -> int:
        """By the agents of all nodes concerned, at once."""
        return self._signal("kill", lives)

    def pause(self, lives: Sequence[Life], pause_s: float) -> int:
        """Likewise; each agent keeps the time by itself."""
        return self._signal("pause", lives, pause_s)

    def resume(self) -> None:
        """Likewise."""
        ask_all({n: agent.resume.remote for n, agent in self._agents.items()}, AGENT_S)

    def restart(self, member: str) -> None:
        """By the member's own roles, and by Ray."""
        restart_member(self._cluster, member)

    def wipe(self, member: str, lives: Sequence[Life]) -> int:
        """By the agent on its node."""
        folder = self._cluster.log_dir(member).removesuffix(f"/{LOG_FOLDER}")
        cluster_folder, _, name = folder.rpartition("/")
        spare = f"{cluster_folder}.{name}.wiped"
        (node_id,) = {life.node_id for life in lives}
        of_node = [(life.pid, life.started) for life in lives]
        reference = self._agent(node_id).wipe.remote(of_node, folder, spare)
        try:
            killed = ray.get(reference, timeout=AGENT_S)
        except RayError as error:
            raise ClusterError(f"the folder of {member} could not be deleted: {error}") from error
        return len(killed)

    def _signal(self, method: str, lives: Sequence[Life], *arguments: float) -> int:
        by_node: dict[str, list[tuple[int, int]]] = {}
        # Fused roles share a process, which is met once.
        for life in dict.fromkeys(lives):
            by_node.setdefault(life.node_id, []).append((life.pid, life.started))
        calls = {
            node_id: partial(getattr(self._agent(node_id), method).remote, of_node, *arguments)
            for node_id, of_node in by_node.items()
        }
        answers = ask_all(calls, AGENT_S)
        for life in lives:
            # It may be over now, and another process may get its number.
            self._started.pop((life.node_id, life.pid), None)
        count = 0
        for node_id, answer in answers.items():
            if isinstance(answer, Exception):
                raise ClusterError(f"the chaos run's actor on node {node_id[:6]}: {answer}")
            count += len(answer)
        return count

    def _agent(self, node_id: str) -> Any:
        agent = self._agents.get(node_id)
        if agent is None:
            remote: Any = ray.remote
            actor = remote(
                num_cpus=0,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )(chaos_node.NodeAgent)
            agent = self._agents[node_id] = actor.remote()
        return agent

    def read_logs(self, group: int, first: int, members: Sequence[str]) -> dict[str, MemberLog]:
        """By the agent on each member's node."""
        sight = self.look()
        logs = {}
        for member in members:
            life = sight.lives.get((member, "learner"))
            if life is None:
                logs[member] = MemberLog(None, "its learner does not serve")
                continue
            logs[member] = self._read_log(group, member, life.node_id, first)
        return logs

    def _read_log(self, group: int, member: str, node_id: str, first: int) -> MemberLog:
        try:
            folder = self._cluster.log_dir(member)
            reference = self._agent(node_id).read_log.remote(folder, group, first)
            read = ray.get(reference, timeout=LOG_S)
        except (PaxosError, RayError) as error:
            return MemberLog(None, str(error))
        rows = None
        if read["rows"] is not None:
            with pa.ipc.open_stream(read["rows"]) as stream:
                rows = stream.read_all()
        return MemberLog(rows, read["problem"])

    def read_events(self, members: Sequence[str]) -> tuple[list[EventRecord], list[str]]:
        """By the agent on each member's node."""
        sight = self.look()
        records: list[EventRecord] = []
        problems: list[str] = []
        for member in members:
            life = sight.lives.get((member, "learner"))
            if life is None:
                problems.append(f"{member}: its learner does not serve")
                continue
            try:
                folder = self._cluster.log_dir(member)
                reference = self._agent(life.node_id).read_events.remote(folder)
                read = ray.get(reference, timeout=LOG_S)
            except (PaxosError, RayError) as error:
                problems.append(f"{member}: {error}")
                continue
            records += map(decode_record, read["records"])
            problems += read["problems"]
        return records, problems

    def close(self) -> None:
        """Continue what is stopped, and end the agents."""
        try:
            self.resume()
        finally:
            for agent in self._agents.values():
                ray.kill(agent)
            self._agents = {}
            # Ray tells the node; the actors are gone soon after.
            time.sleep(0.05)


def _is_full(state: Mapping[str, Any]) -> bool:
    """Whether a role takes nothing in until its disk has room."""
    groups = (state["groups"] or {}).values()
    return any(group.get("storage_full") or group.get("is_full") for group in groups)
