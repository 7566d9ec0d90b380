"""A client's spans: one for each call that submits commands.

A span is a child of the one that is current where the user makes the call. It ends when the
outcome is known: for a call that waits in the thread that waits, before it returns; for one that
goes on, in the thread that settles futures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from ray_paxos.actors.outcomes import CommandFuture, ManyFuture, ManyResults, Result
from ray_paxos.errors import CommandError, PaxosError
from ray_paxos.observability import span_data
from ray_paxos.observability.span_data import Attribute, Attributes
from ray_paxos.observability.tracing import OpenSpan, Tracing, start_tracing


class ClientTracing:
    """Of one client; used by any thread."""

    def __init__(self, tracing: Tracing, cluster: str, group: int) -> None:
        """Trace one client.

        Args:
            tracing: Makes the spans.
            cluster: Its cluster's name.
            group: Whose log it submits to.
        """
        self._tracing = tracing
        self._shared: Attributes = {span_data.CLUSTER: cluster, span_data.GROUP: group}

    @contextlib.contextmanager
    def waiting(
        self, call: str, machine: str, count: int, future: CommandFuture | ManyFuture
    ) -> Iterator[None]:
        """Around a call that submits commands and waits: its span ends with it.

        Args:
            call: The name of the span, after the client's method.
            machine: Which the commands are for.
            count: How many.
            future: Gets their outcome; from here on it names the span.
        """
        span = self._begin(call, machine, count, future)
        if span is None:
            yield
            return
        try:
            with span.current():
                yield
        except BaseException as error:
            span.end({}, error=error)
            raise
        _end(span, future)

    def submit(
        self,
        call: str,
        machine: str,
        count: int,
        future: CommandFuture | ManyFuture,
        submit: Callable[[], object],
    ) -> None:
        """As `waiting`, for a call that goes on: its span ends with the future.

        Args:
            call: As of `waiting`.
            machine: As of `waiting`.
            count: As of `waiting`.
            future: As of `waiting`.
            submit: Submits the commands.

        Raises:
            As `submit`: then nobody will ever settle the future.
        """
        span = self._begin(call, machine, count, future)
        if span is None:
            submit()
            return
        try:
            submit()
        except BaseException as error:
            span.end({}, error=error)
            raise
        future.add_done_callback(lambda done: _end(span, done))

    def _begin(
        self, call: str, machine: str, count: int, future: CommandFuture | ManyFuture
    ) -> OpenSpan | None:
        attributes = {**self._shared, span_data.MACHINE: machine, span_data.COMMANDS: count}
        span = self._tracing.begin_here(call, attributes)
        if span is not None:
            future.trace = span.trace
        return span


def trace_client(cluster: str, group: int) -> ClientTracing | None:
    """What traces a client that begins; None where tracing is off."""
    tracing = start_tracing()
    return ClientTracing(tracing, cluster, group) if tracing is not None else None


def _end(span: OpenSpan, done: Future[Result] | Future[ManyResults]) -> None:
    """End a span by what became of its commands."""
    if done.cancelled():
        span.end({span_data.CANCELLED: True})
        return
    error = done.exception(0)
    if error is not None:
        span.end({}, error=error)
        return
    result = done.result(0)
    if isinstance(result, Result):
        span.end({span_data.INSTANCE_ID: result.instance_id})
    else:
        lost = [e for e in result.errors.values() if not isinstance(e, CommandError)]
        span.end(_described(result), error=lost[0] if lost else None)


def _described(results: ManyResults) -> Attributes:
    attributes: dict[str, Attribute] = {span_data.ERRORS: len(results.errors)}
    for name, position in ((span_data.INSTANCE_ID, 0), (span_data.LAST_INSTANCE_ID, -1)):
        with contextlib.suppress(PaxosError, IndexError):
            attributes[name] = results[position].instance_id
    return attributes
