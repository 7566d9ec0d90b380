"""A client of one group: commands in order, each applied at most once, and reads of its own writes.

A client is one session. What it submits is applied in the order in which it was submitted, each
command at most once, however often calls fail and masters change meanwhile: commands are numbered
and sent again under the same number until their outcome is known.

It may be used by several threads; the order is then that of the calls. Pickled, it opens a new
session where it lands: a retried Ray task is thus another session, and what the first try had
submitted may be applied beside it.
"""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError

from ray_paxos.actors.answers import state_of
from ray_paxos.actors.names import NAMESPACE, actor_name
from ray_paxos.actors.outcomes import CommandFuture, ManyFuture, ManyResults, Result
from ray_paxos.actors.sender import ActorProposers, CommandSender
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.core.messages import Address, Envelope, Query, QueryFailed, QueryResult, RoleName
from ray_paxos.core.requests import ClientRequests, ClientSettings, outcome_unknown
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    NotAppliedError,
    QueryError,
)

CONSISTENCIES = ("follower", "stale")
NOT_YET = ("linearizable", "lease")
CLOSE_TIMEOUT_S = 5.0
QUERY_TRY_S = 2.0
QUERY_PAUSE_S = 0.02


class Client:
    """Submits commands to one group and reads from it. Use it as a context manager."""

    def __init__(self, spec: bytes, group: int, label: str) -> None:
        """Made by `Cluster.client`; the session is opened with the first command.

        Args:
            spec: The cluster's, encoded.
            group: Which group.
            label: What a person calls this client.
        """
        self._arguments = (spec, group, label)
        decoded = decode_spec(spec)
        genesis = decoded.decoded_genesis()
        self._genesis_hash = genesis.hash()
        self._group = group
        self._names = {member.member_id: member.name for member in genesis.members}
        self._cluster = genesis.cluster
        self._learners: dict[int, Any] = {}
        self._query_count = 0
        client_id = secrets.randbits(63) | 1
        self._address = Address(client_id, RoleName.CLIENT)
        settings = _settings(decoded)
        requests = ClientRequests(
            tuple(self._names), label=label, first=client_id >> 1, settings=settings
        )
        self._sender = CommandSender(
            genesis=self._genesis_hash,
            group=group,
            requests=requests,
            client_id=client_id,
            settings=settings,
            proposers=ActorProposers(
                {
                    member_id: actor_name(self._cluster, name, RoleName.PROPOSER)
                    for member_id, name in self._names.items()
                }
            ),
        )
        # A client that is dropped without `close` ends its thread, too.
        self._finalizer = weakref.finalize(self, self._sender.abandon)

    def __reduce__(self) -> tuple[type[Client], tuple[bytes, int, str]]:
        return (Client, self._arguments)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(timeout_s=CLOSE_TIMEOUT_S if kind is None else 0.0)

    # Commands.

    def propose(self, command: bytes, machine: str = "kv", *, timeout_s: float = 30.0) -> Result:
        """Submit one command and wait for its result.

        Args:
            command: For the machine.
            machine: Its name in the group.
            timeout_s: How long to wait.

        Returns:
            The result; the command is durable on a majority of the members.

        Raises:
            CommandError: The machine refused it; the command counts as applied.
            NotAppliedError: It was certainly not applied (too large, no room, client closed).
            OutcomeUnknownError: No answer in time; it may be applied, at most once.
            SessionExpiredError: The session was evicted; it may have been applied.
        """
        self._sender.check_may_wait()
        deadline = time.monotonic() + timeout_s
        future = CommandFuture(_deadline_ns(timeout_s))
        self._sender.submit_alone(machine, command, future, timeout_s)
        try:
            return future.result(max(deadline - time.monotonic(), 0.0))
        except FutureTimeoutError:
            pass
        return _late(future, timeout_s)

    def propose_async(
        self, command: bytes, machine: str = "kv", *, timeout_s: float = 30.0
    ) -> Future[Result]:
        """Submit one command and go on; commands go in the order of these calls.

        Args:
            command: For the machine.
            machine: Its name in the group.
            timeout_s: How long to wait for room, and how long until the future fails with
                `OutcomeUnknownError`.

        Returns:
            Its result, later, or an error as of `propose`. `cancel` works until it is first sent.

        Raises:
            OverloadedError: There was no room in time; nothing was sent.
            CommandTooLargeError: As it says; nothing was sent.
            ClientClosedError: As it says; nothing was sent.
        """
        future = CommandFuture(_deadline_ns(timeout_s))
        self._sender.submit(machine, (command,), future, timeout_s)
        return future

    def propose_many(
        self,
        commands: Sequence[bytes],
        machine: str = "kv",
        *,
        timeout_s: float = 60.0,
        on_progress: Callable[[int], None] | None = None,
    ) -> ManyResults:
        """Submit commands together and wait for all results.

        Args:
            commands: For the machine, in order.
            machine: Its name in the group.
            timeout_s: How long to wait.
            on_progress: Hears, from another thread, how many outcomes are known.

        Returns:
            All results. Commands that the machine refused have a `CommandError` in `errors`.

        Raises:
            PaxosError: Of the first command that was not acknowledged, as of `propose`. Use
                `propose_many_async` to get what the others came to.
        """
        self._sender.check_may_wait()
        results = self.propose_many_async(
            commands, machine, timeout_s=timeout_s, on_progress=on_progress
        ).result()
        for _, error in sorted(results.errors.items()):
            if not isinstance(error, CommandError):
                raise error
        return results

    def propose_many_async(
        self,
        commands: Sequence[bytes],
        machine: str = "kv",
        *,
        timeout_s: float = 60.0,
        on_progress: Callable[[int], None] | None = None,
    ) -> Future[ManyResults]:
        """Submit commands together and go on; one future for all of them.

        Args and Raises as `propose_async` and `propose_many`.

        Returns:
            All results, later; errors of single commands are in its `errors`, by position.
        """
        future = ManyFuture(len(commands), _deadline_ns(timeout_s), on_progress)
        if commands:
            self._sender.submit(machine, commands, future, timeout_s)
        else:
            future.set_result(ManyResults(0))
        return future

    # Reads.

    def query(
        self,
        request: bytes,
        machine: str = "kv",
        *,
        consistency: str = "follower",
        timeout_s: float = 10.0,
    ) -> bytes:
        """Read from a machine's state; adds nothing to the log.

        Args:
            request: For the machine.
            machine: Its name in the group.
            consistency: `follower`: the state holds everything that this client was acknowledged,
                and everything that anybody was acknowledged before this client's session was
                opened. `stale`: whatever the member asked has applied.
            timeout_s: How long to try.

        Returns:
            The machine's answer.

        Raises:
            QueryError: The machine refused the request, or no member answered in time.
            ConfigurationError: There is no such consistency.
        """
        if consistency not in CONSISTENCIES:
            offered = ", ".join(CONSISTENCIES)
            later = " (not offered yet)" if consistency in NOT_YET else ""
            raise ConfigurationError(
                f"consistency: found {consistency!r}{later}; allowed: {offered}"
            )
        deadline = time.monotonic() + timeout_s
        at_least = 0
        if consistency == "follower":
            self._sender.check_may_wait()
            if not self._sender.wait_for_session(timeout_s):
                raise QueryError(f"no session within {timeout_s:g} s: the group has no master")
            at_least = self._sender.read_point()[1]
        first = self._sender.read_point()[0]
        ids = list(self._names)
        position = ids.index(first)
        problem = "no member answered"
        while True:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise QueryError(f"no answer within {timeout_s:g} s: {problem}")
            outcome = self._ask(ids[position], request, machine, at_least, remaining_s)
            if isinstance(outcome, bytes):
                return outcome
            problem = outcome
            position = (position + 1) % len(ids)
            time.sleep(QUERY_PAUSE_S)

    def _ask(
        self, member_id: int, request: bytes, machine: str, at_least: int, timeout_s: float
    ) -> bytes | str:
        """One try at one member: its answer, or why there is none."""
        name = self._names[member_id]
        self._query_count += 1
        query = Query(self._query_count, machine, request, at_least)
        envelope = Envelope(self._genesis_hash, self._group, self._address, 0, 0, 0, query)
        try:
            answer = ray.get(
                self._learner(member_id).deliver.remote(encode_envelopes((envelope,))),
                timeout=min(timeout_s, QUERY_TRY_S),
            )
        except GetTimeoutError:
            return f"member {name} took longer than {QUERY_TRY_S:g} s"
        except ValueError as error:
            return str(error)
        except RayError as error:
            if isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError):
                self._learners.pop(member_id, None)
            return f"member {name}: {type(error).__name__}"
        state = state_of(answer)
        if state is not None:
            return f"member {name}: {state}"
        for reply in decode_envelopes(answer):
            match reply.message:
                case QueryResult(result=result):
                    return result
                case QueryFailed(retry=False, message=message):
                    raise QueryError(message)
                case QueryFailed(message=message):
                    return f"member {name}: {message}"
                case _:
                    continue
        return f"member {name} does not have group {self._group}"

    def _learner(self, member_id: int) -> Any:
        learner = self._learners.get(member_id)
        if learner is None:
            name = actor_name(self._cluster, self._names[member_id], RoleName.LEARNER)
            learner = self._learners[member_id] = ray.get_actor(name, namespace=NAMESPACE)
        return learner

    def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End the client; calling it again does nothing.

        Args:
            timeout_s: How long to wait for commands without an outcome. What is left then fails:
                with `ClientClosedError` if it was never sent, else with `OutcomeUnknownError`.
        """
        self._sender.close(timeout_s)


def _settings(spec: ClusterSpec) -> ClientSettings:
    return ClientSettings(
        request_bytes_max=spec.proposer.batch_bytes_max,
        command_bytes_max=spec.proposer.command_bytes_max,
    )


def _deadline_ns(timeout_s: float) -> int:
    if not timeout_s >= 0:
        raise ConfigurationError(f"timeout_s: found {timeout_s!r}; allowed: seconds, 0 or more")
    return time.monotonic_ns() + int(min(timeout_s, 1e9) * 1e9)


def _late(future: CommandFuture, timeout_s: float) -> Result:
    if future.cancel():
        raise NotAppliedError(f"not sent within {timeout_s:g} s: the group has no master")
    if future.done():
        return future.result()
    raise outcome_unknown()
