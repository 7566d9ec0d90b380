"""What a driver asks of a running cluster's role actors, many at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from ray_paxos.actors.answers import state_of
from ray_paxos.actors.folders import explain
from ray_paxos.actors.names import NAMESPACE, ROLE_NAMES, actor_name, role_method
from ray_paxos.actors.roster import Roster
from ray_paxos.core.client_messages import Flush
from ray_paxos.core.learner_messages import LearnerStatus
from ray_paxos.core.messages import (
    Address,
    Envelope,
    Message,
    RoleName,
)
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.errors import ClusterError
from ray_paxos.observability.status import MemberDigest, MemberStatus, RoleStatus

ANSWER_TIMEOUT_S = 5.0
PAUSE_S = 0.01
PAUSE_MAX_S = 0.2
CLOSING_ORDER = (RoleName.PROPOSER, RoleName.LEARNER, RoleName.CHECKPOINTER, RoleName.ACCEPTOR)
"""No new commands, then what is learned, then the votes."""
LOG_FOLDER = "learner/log"

_logger = logging.getLogger(__name__)


def ask_all(calls: Mapping[Any, Callable[[], Any]], timeout_s: float) -> dict[Any, Any]:
    """Make calls to actors, all at once.

    Args:
        calls: Each makes its call and gives the reference; raises ValueError where the actor is
            gone.
        timeout_s: For all of them together.

    Returns:
        What was answered, by key; an error stands for itself.
    """
    references: dict[Any, Any] = {}
    answers: dict[Any, Any] = {}
    for key, call in calls.items():
        try:
            references[call()] = key
        except ValueError as error:
            answers[key] = error
    done: list[Any] = []
    late: list[Any] = []
    if references:
        done, late = ray.wait(list(references), num_returns=len(references), timeout=timeout_s)
    for reference in done:
        try:
            answers[references[reference]] = ray.get(reference)
        except RayError as error:
            answers[references[reference]] = error
    for reference in late:
        answers[references[reference]] = TimeoutError(f"no answer within {timeout_s:g} s")
    return answers


class Administration:
    """Asks the actors of one cluster.

    Attributes:
        roster: Its members, as far as they are known.
    """

    def __init__(self, roster: Roster, *, is_fused: bool = False) -> None:
        """Ask the members that are known.

        Args:
            roster: Knows them.
            is_fused: Whether the four roles of a member are one actor.
        """
        self.roster = roster
        self._genesis = roster.genesis
        self._is_fused = is_fused

    @property
    def _ids(self) -> dict[str, int]:
        return self.roster.ids

    def actor(self, member: str, role: RoleName) -> Any:
        """The handle of a role's actor; raises ValueError where no such actor lives."""
        if not ray.is_initialized():
            # Ray would start a cluster, and find nothing in it.
            raise ValueError("this process is not connected to Ray")
        name = actor_name(self._genesis.cluster, member, role, is_fused=self._is_fused)
        return ray.get_actor(name, namespace=NAMESPACE)

    def call(self, member: str, role: RoleName, method: str, *arguments: Any) -> Any:
        """Call a role's method; gives Ray's reference of the answer, raises as `actor`."""
        handle = self.actor(member, role)
        return role_method(handle, role, method, is_fused=self._is_fused)(*arguments)

    def statuses(self) -> tuple[MemberStatus, ...]:
        """What every role says of itself."""
        ids = self._ids
        keys = [(name, role) for name in ids for role in ROLE_NAMES]
        answers = ask_all(
            {key: partial(self.call, *key, "state") for key in keys},
            ANSWER_TIMEOUT_S,
        )
        return tuple(
            MemberStatus(
                name,
                member_id,
                {text: _status(answers[name, role]) for role, text in ROLE_NAMES.items()},
            )
            for name, member_id in ids.items()
        )

    def log_folder(self, member: str) -> str:
        """Path of a member's chosen log on its node.

        Raises:
            ClusterError: Its learner does not answer.
        """
        answer = ask_all(
            {member: partial(self.call, member, RoleName.LEARNER, "folder")},
            ANSWER_TIMEOUT_S,
        )[member]
        if isinstance(answer, Exception):
            raise ClusterError(f"the learner of member {member} does not answer: {_text(answer)}")
        return f"{answer}/{LOG_FOLDER}"

    def observe(
        self, members: Iterable[str], is_on: bool, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> dict[str, str]:
        """Have every role of these members observe from here on, or not.

        Args:
            members: Their names.
            is_on: Whether they are to observe.
            timeout_s: For all of them together.

        Returns:
            Why it is not known of some that they do as ordered: by the role's name, as in
            `m1/acceptor`, or by the member's where it is the same of all its roles.
        """
        names = tuple(members)
        calls = {
            (name, role): partial(self._order_observing, name, role, is_on)
            for name in names
            for role in ROLE_NAMES
        }
        answers = ask_all(calls, timeout_s)
        missed: dict[str, str] = {}
        for name in names:
            problems = {
                f"{name}/{text}": _text(answer)
                for role, text in ROLE_NAMES.items()
                if isinstance(answer := answers[name, role], Exception)
            }
            if len(problems) == len(ROLE_NAMES) and len(set(problems.values())) == 1:
                problems = {name: next(iter(problems.values()))}
            missed |= problems
        return missed

    def _order_observing(self, member: str, role: RoleName, is_on: bool) -> Any:
        """As `call`; what is raised is for a person."""
        try:
            return self.call(member, role, "observe", is_on)
        except ValueError as error:
            if not ray.is_initialized():
                raise
            raise ValueError("no such actor lives in the Ray cluster") from error
        except AttributeError as error:
            raise ValueError("it is of another release, which cannot be switched") from error

    def flush(self, groups: Iterable[int], deadline: float) -> None:
        """Have all reachable learners seal what they have learned, and wait until they did.

        Raises:
            ClusterError: One did not in time, or none answers.
        """
        wanted = {(name, group): 0 for name in self._ids for group in groups}
        is_first, pause_s = True, PAUSE_S
        while wanted:
            statuses = self._flush_once(wanted)
            if is_first:
                # What is learned by now is meant; more may be learned meanwhile.
                wanted = {key: status.learned_through for key, status in statuses.items()}
                if not wanted:
                    raise ClusterError("no learner answers")
                is_first = False
            wanted = {
                key: through
                for key, through in wanted.items()
                if key in statuses and statuses[key].durable_through < through
            }
            if wanted and time.monotonic() > deadline:
                late = ", ".join(f"{name} (group {group})" for name, group in wanted)
                raise ClusterError(f"not sealed in time at {late}")
            pause_s = _pause(pause_s) if wanted else pause_s

    def _flush_once(self, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], LearnerStatus]:
        calls = {
            (name, group): partial(self.send, name, RoleName.LEARNER, group, Flush())
            for name, group in keys
        }
        statuses = {}
        for key, answer in ask_all(calls, ANSWER_TIMEOUT_S).items():
            for message in messages_in(answer):
                if isinstance(message, LearnerStatus):
                    statuses[key] = message
        return statuses

    def send(self, member: str, role: RoleName, group: int, message: Message) -> Any:
        """Give a role one message of a client's.

        Returns:
            The call's reference; `messages_in` tells what came of it.

        Raises:
            ValueError: No such actor lives.
        """
        sender = Address(1, RoleName.CLIENT)
        envelope = Envelope(self._genesis.hash(), group, sender, 0, 0, 0, message)
        return self.call(member, role, "deliver", encode_envelopes((envelope,)))

    def digests(self, group: int, deadline: float) -> dict[str, MemberDigest]:
        """The members' digests, once all that answer have applied what the furthest has.

        Raises:
            ClusterError: They did not get there in time, or none answers.
        """
        pause_s, ids = PAUSE_S, self._ids
        while True:
            answers = ask_all(
                {name: partial(self.call, name, RoleName.LEARNER, "digest", group) for name in ids},
                # Were it less, only those that happen to be quick would be compared in the end.
                max(deadline - time.monotonic(), ANSWER_TIMEOUT_S),
            )
            digests = {
                name: MemberDigest(*answers[name])
                for name in ids
                if not isinstance(answers[name], Exception)
            }
            applied = {digest.applied_instance_id for digest in digests.values()}
            if len(applied) == 1:
                return digests
            if time.monotonic() > deadline:
                if not digests:
                    problems = "; ".join(f"{name}: {_text(answers[name])}" for name in ids)
                    raise ClusterError(f"no learner answers for group {group}: {problems}")
                behind = ", ".join(f"{n} at {d.applied_instance_id}" for n, d in digests.items())
                raise ClusterError(f"the members of group {group} did not catch up: {behind}")
            pause_s = _pause(pause_s)

    def stop(self, deadline: float, *, members: Iterable[str] | None = None) -> None:
        """Close roles, cleanly where they answer, and end their actors for good.

        Args:
            deadline: Until when roles may take to close, by `time.monotonic`.
            members: Names of those whose roles are meant; by default all that are known.
        """
        names = tuple(self._ids if members is None else members)
        for role in CLOSING_ORDER:
            answers = ask_all(
                {name: partial(self.call, name, role, "close") for name in names},
                max(deadline - time.monotonic(), PAUSE_S),
            )
            for name, answer in answers.items():
                if isinstance(answer, Exception) and not isinstance(answer, ValueError):
                    _logger.warning("%s/%s: %s", name, ROLE_NAMES[role], _text(answer))
        self._end_actors(names)

    def _end_actors(self, names: Iterable[str]) -> None:
        """End the role actors' processes; Ray does not start them again."""
        for name in names:
            for role in ROLE_NAMES:
                try:
                    ray.kill(self.actor(name, role), no_restart=True)
                except ValueError:
                    continue


def messages_in(answer: Any) -> tuple[Message, ...]:
    """What a role answered to `Administration.send`: nothing where it failed or does not serve."""
    if isinstance(answer, Exception) or state_of(answer) is not None:
        return ()
    return tuple(envelope.message for envelope in decode_envelopes(answer))


def _status(answer: Any) -> RoleStatus:
    return RoleStatus.of(_text(answer) if isinstance(answer, Exception) else answer)


def _text(error: Exception) -> str:
    return explain(error) if isinstance(error, RayError) else str(error)


def _pause(pause_s: float) -> float:
    time.sleep(pause_s)
    return min(2 * pause_s, PAUSE_MAX_S)
