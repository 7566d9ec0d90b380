"""What those who watch a cluster ask its roles, each by one call that changes nothing.

A role has one question at a time. One that has not answered in time is not waited for any more, nor
asked again, until it has answered: a member that stands still does not find a thousand questions
when it goes on, and does not hold up those who watch the others.

Actors are looked up by name only while Ray's control service (the GCS) listens: Ray would wait for
it for a minute. Meanwhile those that were looked up before are asked as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from ray_paxos.actors.folders import explain
from ray_paxos.actors.names import NAMESPACE, ROLE_NAMES, actor_name, role_method
from ray_paxos.actors.ray_head import is_listening
from ray_paxos.core.messages import RoleName
from ray_paxos.observability.report import Answer, decode_report

OLDER = "it is of another release, which tells watchers nothing that is known here"
NOT_FOUND = "it cannot be looked up, since Ray's control service (the GCS) does not answer"
ANSWER_TIMEOUT_S = 5.0

Key = tuple[str, str]
"""Member and role."""


class Questions:
    """What roles are asked, and have not answered yet.

    Invariant: of each role at most one call is under way.
    """

    def __init__(self, cluster: str, *, is_fused: bool) -> None:
        """Ask nobody yet.

        Args:
            cluster: Its name.
            is_fused: Whether the four roles of a member are one actor.
        """
        self._cluster = cluster
        self._is_fused = is_fused
        self._handles: dict[str, Any] = {}
        self._doubted: set[str] = set()
        self._is_control_there: bool | None = None
        self._asked: dict[Key, Any] = {}
        self._late: set[Key] = set()

    def ask(
        self,
        members: Iterable[str],
        events_after: Mapping[Key, int],
        timeout_s: float = ANSWER_TIMEOUT_S,
        *,
        with_slow: bool = False,
    ) -> dict[Key, Answer]:
        """Ask all roles of these members, and wait for those that are not late already.

        Args:
            members: Their names.
            events_after: By (member, role), the number of the last event that is known.
            timeout_s: How long to wait.
            with_slow: Whether what was slow is wanted, too.

        Returns:
            By (member, role), what each tells, or why it tells nothing.
        """
        answers: dict[Key, Answer] = {}
        members = tuple(members)
        self._is_control_there = None
        self._asked = {key: each for key, each in self._asked.items() if key[0] in members}
        for member in members:
            for role, text in ROLE_NAMES.items():
                key = (member, text)
                if key in self._asked:
                    continue
                try:
                    self._asked[key] = self._call(member, role, events_after.get(key, 0), with_slow)
                except ValueError:
                    answers[key] = "no such actor lives in the Ray cluster"
                except (RayError, ConnectionError, RuntimeError):
                    answers[key] = NOT_FOUND
                except AttributeError:
                    answers[key] = OLDER
        for key in self._answered(timeout_s):
            answers[key] = self._answer(key)
        for key in self._asked:
            answers[key] = (
                "it has not answered for a while"
                if key in self._late
                else (f"no answer within {timeout_s:g} s")
            )
        self._late = set(self._asked)
        return answers

    def _call(self, member: str, role: RoleName, events_after: int, with_slow: bool) -> Any:
        """Ask; raises ValueError where no such actor lives, others where nobody tells."""
        if not ray.is_initialized():
            raise ValueError("this process is not connected to Ray")
        name = actor_name(self._cluster, member, role, is_fused=self._is_fused)
        if name not in self._handles or name in self._doubted:
            self._look_up(name)
        method = role_method(self._handles[name], role, "report", is_fused=self._is_fused)
        return method(events_after, with_slow)

    def _look_up(self, name: str) -> None:
        """Find an actor, or leave the one that was found before."""
        if self._is_control_there is None:
            # Once for all that are asked now: it may take some seconds.
            self._is_control_there = is_listening(str(ray.get_runtime_context().gcs_address))
        if not self._is_control_there:
            if name not in self._handles:
                raise ConnectionError(NOT_FOUND)
            return
        self._doubted.discard(name)
        self._handles.pop(name, None)
        self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)

    def _answered(self, timeout_s: float) -> list[Key]:
        """Those that have an answer, once all that are waited for have one, or the time is out."""
        waited = [reference for key, reference in self._asked.items() if key not in self._late]
        if waited:
            ray.wait(waited, num_returns=len(waited), timeout=timeout_s)
        keys = {reference: key for key, reference in self._asked.items()}
        if not keys:
            return []
        done, _ = ray.wait(list(keys), num_returns=len(keys), timeout=0)
        return [keys[reference] for reference in done]

    def _answer(self, key: Key) -> Answer:
        member, text = key
        try:
            state, report = ray.get(self._asked.pop(key))
        except RayError as error:
            # It may be made anew under the same name, as another actor.
            role = next(role for role, name in ROLE_NAMES.items() if name == text)
            name = actor_name(self._cluster, member, role, is_fused=self._is_fused)
            self._doubted.add(name)
            return explain(error)
        try:
            return state, decode_report(report)
        except msgspec.DecodeError:
            return OLDER
