"""A client of one group: commands in order, each applied at most once, and reads of its own writes.

A client is one session. What it submits is applied in the order in which it was submitted, each
command at most once, however often calls fail and masters change meanwhile: commands are numbered
and sent again under the same number until their outcome is known.

It may be used by several threads; the order is then that of the calls. Pickled, it opens a new
session where it lands: a retried Ray task is thus another session, and what the first try had
submitted may be applied beside it.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from types import TracebackType

from ray_paxos.actors.client_arguments import (
    checked_requests,
    client_settings,
    deadline_of,
    no_bytes,
    query_settings,
    read_terms,
)
from ray_paxos.actors.client_tracing import trace_client
from ray_paxos.actors.outcomes import CommandFuture, ManyFuture, ManyResults, Result
from ray_paxos.actors.query_outcomes import QueriesFuture, QueryFuture
from ray_paxos.actors.query_sender import QuerySender
from ray_paxos.actors.quorum_reader import QuorumReadTurn
from ray_paxos.actors.reader import Reader
from ray_paxos.actors.role_actors import FoundRoles
from ray_paxos.actors.roster import roster_of
from ray_paxos.actors.sender import CommandSender, check_name
from ray_paxos.actors.spec import decode_spec
from ray_paxos.actors.wait_sender import WaitSender
from ray_paxos.core.client_errors import outcome_unknown
from ray_paxos.core.client_messages import Consistency
from ray_paxos.core.client_waits import ClientWaits
from ray_paxos.core.patience import Patience
from ray_paxos.core.query_batches import QueryBatches
from ray_paxos.core.query_calls import ReadTerms
from ray_paxos.core.requests import ClientRequests
from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    WithdrawnError,
)
from ray_paxos.observability.span_data import (
    PROPOSE,
    PROPOSE_ASYNC,
    PROPOSE_MANY,
    PROPOSE_MANY_ASYNC,
)

CLOSE_TIMEOUT_S = 5.0
SETTLE_NS = 5_000_000_000
_NO_TERMS = ReadTerms("", Consistency.STALE)


class Client:
    """Submits commands to one group and reads from it. Use it as a context manager."""

    def __init__(
        self, spec: bytes, group: int, label: str, turn: QuorumReadTurn | None = None
    ) -> None:
        """Made by `Cluster.client`; the session is opened with the first command.

        Args:
            spec: The cluster's, encoded.
            group: Which group.
            label: What a person calls this client.
            turn: Shared with other clients of the group in this process; None for one of its own.
        """
        if label:
            check_name("label", label)
        self._arguments = (spec, group, label)
        decoded = decode_spec(spec)
        roster = roster_of(decoded)
        self._group = group
        self._names = roster.names
        self._has_lease = decoded.proposer.lease_ns > 0
        self._roster = roster
        self._actors = FoundRoles(roster, is_fused=decoded.is_fused)
        self._query_sender: QuerySender | None = None
        self._wait_sender: WaitSender | None = None
        self._starting = threading.Lock()
        self._is_closed = False
        # Of the latest read: making them anew for each of very many costs as much as the rest.
        self._latest_terms: tuple[object, ReadTerms] = (None, _NO_TERMS)
        client_id = secrets.randbits(63) | 1
        self._patience = Patience(tuple(self._names))
        self._reader = Reader(
            roster=roster,
            patience=self._patience,
            group=group,
            has_lease=self._has_lease,
            turn=turn or QuorumReadTurn(),
            is_fused=decoded.is_fused,
        )
        settings = client_settings(decoded)
        requests = ClientRequests(
            self._patience, label=label, first=client_id >> 1, settings=settings
        )
        self._tracing = trace_client(roster.genesis.cluster, group)
        requests.session.is_traced = self._tracing is not None
        self._sender = CommandSender(
            genesis=roster.genesis.hash(),
            group=group,
            requests=requests,
            client_id=client_id,
            settings=settings,
            actors=self._actors,
        )
        # A client that is dropped without `close` leaves the thread, too.
        self._finalizer = weakref.finalize(self, self._sender.drop)

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
            NotAppliedError: It was certainly not applied, and will not be; which of its kinds says
                why: no master, no room, too large, a failed machine, client closed.
            OutcomeUnknownError: No answer in time; it may be applied, at most once. Its `number`
                is for `outcome` and `abandon`.
            SessionExpiredError: The session was evicted; it may have been applied.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        deadline_ns = deadline_of(timeout_s)
        self._check_may_wait()
        future = CommandFuture(deadline_ns)
        if self._tracing is None:
            return self._see_through(machine, command, future, timeout_s)
        with self._tracing.waiting(PROPOSE, machine, 1, future):
            return self._see_through(machine, command, future, timeout_s)

    def _see_through(
        self, machine: str, command: bytes, future: CommandFuture, timeout_s: float
    ) -> Result:
        self._sender.submit_alone(machine, command, future, timeout_s)
        if not _is_done_by(future, future.deadline_ns):
            # The sender's thread would tell it too, some time later.
            self._sender.part_with_overdue(max(future.deadline_ns, time.monotonic_ns()))
            # Known now, unless the outcome came in this very moment, in another thread.
            _is_done_by(future, time.monotonic_ns() + SETTLE_NS)
        return future.result(0)

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
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        future = CommandFuture(deadline_of(timeout_s))
        if self._tracing is None:
            self._sender.submit_one(machine, command, future, timeout_s)
        else:
            self._tracing.submit(
                PROPOSE_ASYNC,
                machine,
                1,
                future,
                # Not a closure, whose cells would be made for every command of everybody.
                partial(self._sender.submit_one, machine, command, future, timeout_s),
            )
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
        self._check_may_wait()
        future, checked = _many_future(commands, timeout_s, on_progress)
        if self._tracing is None:
            return self._see_many_through(machine, checked, future, timeout_s)
        with self._tracing.waiting(PROPOSE_MANY, machine, len(checked), future):
            return self._see_many_through(machine, checked, future, timeout_s)

    def _see_many_through(
        self, machine: str, commands: tuple[bytes, ...], future: ManyFuture, timeout_s: float
    ) -> ManyResults:
        self._submit_many(machine, commands, future, timeout_s)
        results = future.result()
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
        future, checked = _many_future(commands, timeout_s, on_progress)
        if self._tracing is None:
            self._submit_many(machine, checked, future, timeout_s)
        else:
            self._tracing.submit(
                PROPOSE_MANY_ASYNC,
                machine,
                len(checked),
                future,
                partial(self._submit_many, machine, checked, future, timeout_s),
            )
        return future

    def _submit_many(
        self, machine: str, commands: tuple[bytes, ...], future: ManyFuture, timeout_s: float
    ) -> None:
        if commands:
            self._sender.submit(machine, commands, future, timeout_s)
        else:
            future.set_result(ManyResults(0))

    # Outcomes that were not known in time.

    def outcome(self, number: int | None, *, timeout_s: float = 30.0) -> Result:
        """What became of a command after all, of which an `OutcomeUnknownError` was told.

        The client goes on sending the command by itself until that is known; this waits for it.
        Asking again gives the same. The latest 10,000 outcomes that came late are kept.

        Args:
            number: The error's.
            timeout_s: How long to wait.

        Returns:
            The command's result: it was applied.

        Raises:
            CommandError: The machine refused it; the command counts as applied.
            WithdrawnError: It was abandoned, and certainly not applied.
            OutcomeUnknownError: It is still not known; ask again.
            SessionExpiredError: It can never be known any more, other than from the state.
            ConfigurationError: The number is none of those, or its outcome is not kept any more.
        """
        return self._ask(number, timeout_s, withdraw=False)

    def abandon(self, number: int | None, *, timeout_s: float = 30.0) -> Result | None:
        """Give up a command of which an `OutcomeUnknownError` was told, and hear what became of it.

        The number is withdrawn: if the log does not have the command yet, it never will. Commands
        behind it stay in their order. Once this was called the command is not sent any more, also
        where no answer comes in time.

        Args:
            number: The error's.
            timeout_s: How long to wait.

        Returns:
            The result, where the command had been applied; None where it was not, and never will
            be.

        Raises:
            As `outcome`, but for WithdrawnError.
        """
        try:
            return self._ask(number, timeout_s, withdraw=True)
        except WithdrawnError:
            return None

    def _ask(self, number: int | None, timeout_s: float, *, withdraw: bool) -> Result:
        deadline_ns = deadline_of(timeout_s)
        if type(number) is not int:
            raise ConfigurationError(f"number: found {number!r}; allowed: a whole number")
        self._check_may_wait()
        future = CommandFuture(deadline_ns)
        self._sender.ask(number, future, withdraw=withdraw)
        try:
            _is_done_by(future, deadline_ns)
        finally:
            self._sender.leave(number, future)
        if not future.done():
            raise outcome_unknown(number, f"no answer within {timeout_s:g} s")
        return future.result(0)

    # Reads.

    def query(
        self,
        request: bytes,
        machine: str = "kv",
        *,
        consistency: str = "linearizable",
        at_least: int | None = None,
        max_staleness_ms: int | None = None,
        timeout_s: float = 10.0,
    ) -> bytes:
        """Read from a machine's state; adds nothing to the log.

        Args:
            request: For the machine.
            machine: Its name in the group.
            consistency: `linearizable`: the state holds every command that anybody was
                acknowledged before this call. `lease`: the same, without a round of messages, or
                not at all. `follower`: of any member, as fresh as the next two arguments say.
                `stale`: whatever the member asked has applied.
            at_least: The state holds everything up to this instance, such as the `instance_id` of
                a result. With `follower` by default what this client was acknowledged: it reads
                its own writes.
            max_staleness_ms: With `follower`: the state holds everything that anybody was
                acknowledged so long before the answer, or earlier.
            timeout_s: How long to try.

        Returns:
            The machine's answer.

        Raises:
            QueryError: The machine refused the request, or no member answered in time.
            StaleReadError: No member was fresh enough in time.
            LeaseError: With `lease`, no master held one in time.
            ConfigurationError: There is no such consistency, or an argument means nothing.
        """
        deadline_of(timeout_s)
        terms = read_terms(machine, consistency, at_least, max_staleness_ms)
        self._check_may_wait()
        at_least = terms.at_least
        return self._reader.read(
            request,
            machine,
            terms.consistency,
            at_least=self._sender.last_instance if at_least is None else at_least,
            max_staleness_ms=max_staleness_ms,
            timeout_s=timeout_s,
        )

    def query_async(
        self,
        request: bytes,
        machine: str = "kv",
        *,
        consistency: str = "linearizable",
        at_least: int | None = None,
        max_staleness_ms: int | None = None,
        timeout_s: float = 10.0,
    ) -> Future[bytes]:
        """Read from a machine's state and go on; what is asked at the same time goes together.

        Reads are not in the order of these calls, neither with each other nor with commands; each
        is as fresh as it asks for.

        Args:
            request: As of `query`.
            machine: As of `query`.
            consistency: As of `query`.
            at_least: As of `query`.
            max_staleness_ms: As of `query`.
            timeout_s: How long to wait for room, and how long until the future fails.

        Returns:
            The machine's answer, later, or an error as of `query`. `cancel` works until it is
            first sent.

        Raises:
            OverloadedError: There was no room in time.
            ClientClosedError: The client is closed.
            ConfigurationError: As of `query`.
        """
        future = QueryFuture(deadline_of(timeout_s))
        terms = self._latest_terms
        if (machine, consistency, at_least, max_staleness_ms) != terms[0]:
            terms = self._latest_terms = (
                (machine, consistency, at_least, max_staleness_ms),
                read_terms(machine, consistency, at_least, max_staleness_ms),
            )
        if type(request) is not bytes:
            raise no_bytes("request", request)
        self._queries.submit_one(terms[1], request, future, timeout_s)
        return future

    def query_many(
        self,
        requests: Sequence[bytes],
        machine: str = "kv",
        *,
        consistency: str = "linearizable",
        at_least: int | None = None,
        max_staleness_ms: int | None = None,
        timeout_s: float = 30.0,
    ) -> list[bytes]:
        """Read several things together and wait for all answers.

        Each answer is as fresh as asked for; they need not all be as of the same state.

        Args:
            requests: For the machine.
            machine: As of `query`.
            consistency: As of `query`.
            at_least: As of `query`.
            max_staleness_ms: As of `query`.
            timeout_s: How long to try.

        Returns:
            The machine's answers, in order.

        Raises:
            PaxosError: Of the first read that has no answer, as of `query` and `query_async`. With
                `query_async` each read has an outcome of its own.
        """
        deadline_ns = deadline_of(timeout_s)
        terms = read_terms(machine, consistency, at_least, max_staleness_ms)
        requests = checked_requests(requests)
        self._check_may_wait()
        if not requests:
            return []
        future = QueriesFuture(len(requests), deadline_ns)
        self._queries.submit(terms, requests, future, timeout_s)
        return future.result()

    # Reads that wait.

    def wait_for(
        self,
        request: bytes,
        machine: str = "kv",
        *,
        at_least: int | None = None,
        timeout_s: float = 60.0,
    ) -> Result:
        """Read from a machine's state as soon as there is an answer.

        For queries that have none yet: the machine raises `NotYetError` for them, and says in
        `apply` what has happened. Meanwhile a learner holds the query; nothing is polled, and all
        that one process waits for at one learner costs a call every few seconds.

        Args:
            request: For the machine.
            machine: Its name in the group.
            at_least: The state holds everything up to this instance; by default what this client
                was acknowledged.
            timeout_s: How long to wait.

        Returns:
            The machine's answer as `value`, and the instance that it is as of. It holds as of some
            instance since the call at or above `at_least`; whether it still does is for commands
            to say.

        Raises:
            NotYetError: There was none in time.
            QueryError: The machine refused the request, or no member could be asked.
            OverloadedError: Too many wait.
            ClientClosedError: The client is closed.
            ConfigurationError: An argument means nothing.
        """
        self._check_may_wait()
        future = self.wait_for_async(request, machine, at_least=at_least, timeout_s=timeout_s)
        try:
            return future.result()
        finally:
            # Where the caller was interrupted nobody waits any more.
            future.cancel()

    def wait_for_async(
        self,
        request: bytes,
        machine: str = "kv",
        *,
        at_least: int | None = None,
        timeout_s: float = 60.0,
    ) -> Future[Result]:
        """As `wait_for`, and go on; the future is cancelled by `cancel` until there is an answer.

        Raises:
            OverloadedError: Too many wait.
            ClientClosedError: The client is closed.
            ConfigurationError: An argument means nothing.
        """
        future = CommandFuture(deadline_of(timeout_s))
        terms = read_terms(machine, "follower", at_least, None)
        if type(request) is not bytes:
            raise no_bytes("request", request)
        if terms.at_least is None:
            at_least = self._sender.last_instance
        self._waits.add(machine, request, at_least or 0, future)
        return future

    @property
    def _waits(self) -> WaitSender:
        """What this client waits for; joins the thread of all clients with the first wait."""
        if self._wait_sender is None:
            with self._starting:
                if self._wait_sender is None:
                    self._wait_sender = self._start_waits()
        return self._wait_sender

    def _start_waits(self) -> WaitSender:
        # Not this object itself, or it would never be dropped.
        sender = self._sender
        waits = WaitSender(
            genesis=self._roster.genesis.hash(),
            group=self._group,
            waits=ClientWaits(
                self._names, self._patience, lambda: sender.guessed_master, random.Random()
            ),
            client_id=secrets.randbits(63) | 1,
            actors=self._actors,
            clock=time.monotonic_ns,
        )
        weakref.finalize(self, waits.drop)
        if self._is_closed:
            waits.close()
        return waits

    @property
    def _queries(self) -> QuerySender:
        """The reads that go together; their thread is started with the first one."""
        if self._query_sender is None:
            with self._starting:
                if self._query_sender is None:
                    self._query_sender = self._start_queries()
        return self._query_sender

    def _start_queries(self) -> QuerySender:
        batches = QueryBatches(
            self._names,
            self._patience,
            has_lease=self._has_lease,
            settings=query_settings(),
            random=random.Random(),
        )
        # Not this object itself, or it would never be dropped.
        sender = self._sender
        queries = QuerySender(self._reader.read_calls, batches, lambda: sender.last_instance)
        weakref.finalize(self, queries.drop)
        if self._is_closed:
            queries.close()
        return queries

    def _check_may_wait(self) -> None:
        self._sender.check_may_wait()
        if self._query_sender is not None:
            self._query_sender.check_may_wait()

    def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End the client; calling it again does nothing.

        Args:
            timeout_s: How long to wait for commands without an outcome. What is left then fails:
                with `ClientClosedError` if it was never sent, else with `OutcomeUnknownError`.

        Raises:
            ConfigurationError: The time means nothing; the client is as before.
        """
        deadline_of(timeout_s)
        with self._starting:
            self._is_closed = True
        if self._query_sender is not None:
            self._query_sender.close()
        if self._wait_sender is not None:
            self._wait_sender.close()
        self._sender.close(timeout_s)


def _many_future(
    commands: Sequence[bytes], timeout_s: float, on_progress: Callable[[int], None] | None
) -> tuple[ManyFuture, tuple[bytes, ...]]:
    """The future of commands that are submitted together, and the commands."""
    deadline_ns = deadline_of(timeout_s)
    if isinstance(commands, bytes | str) or not isinstance(commands, Sequence):
        kind = type(commands).__qualname__
        raise ConfigurationError(f"commands: found {kind}; allowed: a sequence of bytes")
    # A list that its owner goes on changing must not change what was submitted.
    checked = tuple(commands)
    return ManyFuture(len(checked), deadline_ns, on_progress), checked


def _is_done_by(future: CommandFuture, deadline_ns: int) -> bool:
    """Wait for an outcome, whatever it is."""
    try:
        future.exception(max(deadline_ns - time.monotonic_ns(), 0) / 1e9)
    except FutureTimeoutError:
        return False
    return True
