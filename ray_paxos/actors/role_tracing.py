"""The roles' spans, made by their shells around what they do; the core only hands texts on.

A proposer puts its own span in the place of the client's as a request comes in, so that what the
request asks of acceptors and of the learner is the child of that. Whatever answers the request
ends it: results, with its hops; or a redirect or a refusal, which then shows where a command was,
and for how long, before it came to its master.

All is told in a turn of the shell, by one thread at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import msgspec

from ray_paxos.actors.errands import Delivery
from ray_paxos.actors.spec import decode_spec
from ray_paxos.core.client_messages import Redirected, Refused, Submit
from ray_paxos.core.driver import Action, Observe
from ray_paxos.core.events import CommandsAnswered, InstanceApplied
from ray_paxos.core.learner_messages import Chosen
from ray_paxos.core.messages import Accept, Address, Envelope
from ray_paxos.core.traces import traces_in
from ray_paxos.observability import span_data
from ray_paxos.observability.span_data import Attributes, SpanData, commands_in, hops_of
from ray_paxos.observability.tracing import OpenSpan, Tracing, start_tracing
from ray_paxos.observability.wall_time import Clock, WallTime

OPEN_REQUESTS_MAX = 10_000
"""So many requests have open spans at once; beyond that the oldest are not followed further."""

Key: TypeAlias = tuple[Address, int]
"""A client, and the number of its request."""


@dataclass(slots=True, eq=False)
class RoleTracing:
    """Of one role of one member.

    Attributes:
        tracing: Makes the spans.
        cluster: Its cluster's name.
        member: Its member's name.
        names: Of the members, by member_id.
        clock: The shell's, in nanoseconds.
        wall_time: Of that clock.
    """

    tracing: Tracing
    cluster: str
    member: str
    names: Mapping[int, str]
    clock: Clock
    wall_time: WallTime

    def handled(self, envelope: Envelope, begun_ns: int, actions: Sequence[Action]) -> None:
        """A message from another role was handled; most roles tell of it otherwise.

        Args:
            envelope: It.
            begun_ns: When that began, on the shell's clock.
            actions: What came of it.
        """

    def _of_group(self, group: int) -> Attributes:
        return {
            span_data.CLUSTER: self.cluster,
            span_data.MEMBER: self.member,
            span_data.GROUP: group,
        }

    def _tell(self, trace: str, name: str, begun_ns: int, attributes: Attributes) -> None:
        """What was asked for from outside, and is over now."""
        end_ns = self.clock()
        wall_ns = self.wall_time.difference_ns
        span = SpanData(name, begun_ns + wall_ns, end_ns + wall_ns, attributes)
        for parent in traces_in(trace):
            self.tracing.tell(parent, span, is_asked=True)


@dataclass(frozen=True, slots=True)
class _Followed:
    """A request that is not answered.

    Attributes:
        spans: One for each trace that it names.
        wall_ns: What all its times are brought to the wall clock by.
    """

    spans: list[OpenSpan]
    wall_ns: int


@dataclass(slots=True, eq=False)
class ProposerTracing(RoleTracing):
    """Of a proposer.

    Invariants: at most `OPEN_REQUESTS_MAX` requests are open, in the order in which they came; each
    has a span at least.
    """

    _open: OrderedDict[Key, _Followed] = field(default_factory=OrderedDict, init=False)

    @property
    def open_requests(self) -> int:
        """How many requests are followed."""
        return len(self._open)

    def admit(self, envelope: Envelope, now_ns: int) -> Envelope:
        """A request comes in: begin its spans.

        Args:
            envelope: As it came.
            now_ns: The shell's clock.

        Returns:
            What the core is to be given: it names the spans that were begun.
        """
        submit = envelope.message
        if not isinstance(submit, Submit) or not submit.trace:
            return envelope
        key = (envelope.sender, submit.request_id)
        followed = self._open.get(key)
        if followed is None:
            followed = self._begin(envelope.group, submit, now_ns)
            if not followed.spans:
                return envelope
            self._open[key] = followed
            self._bound()
        trace = " ".join(span.trace for span in followed.spans)
        traced = msgspec.structs.replace(submit, trace=trace)
        return msgspec.structs.replace(envelope, message=traced)

    def _begin(self, group: int, submit: Submit, now_ns: int) -> _Followed:
        attributes = {**self._of_group(group), **commands_in(submit.batches)}
        wall_ns = self.wall_time.difference_ns
        begun = (
            self.tracing.begin(span_data.PROPOSER, parent, attributes, now_ns + wall_ns)
            for parent in traces_in(submit.trace)
        )
        return _Followed([span for span in begun if span is not None], wall_ns)

    def _bound(self) -> None:
        if len(self._open) > OPEN_REQUESTS_MAX:
            self._end(next(iter(self._open)), "not followed further", None)

    def answered(self, event: CommandsAnswered) -> None:
        """An instance is applied, and the clients in it are about to be answered."""
        if not self._open:
            return
        instance: Attributes = {span_data.INSTANCE_ID: event.instance_id}
        for request in event.requests:
            followed = self._open.pop((request.client, request.request_id), None)
            if followed is None:
                continue
            hops = hops_of(event, request, followed.wall_ns, self.names)
            for span in followed.spans:
                for hop in hops:
                    self.tracing.tell(span.trace, hop)
                span.end(instance, at_ns=event.answered_ns + followed.wall_ns)

    def sent(self, client: Address, envelope: Envelope) -> None:
        """A client is answered; with anything but results it has to ask again, or to give up."""
        match envelope.message:
            case Redirected(request_id=request_id):
                self._end((client, request_id), "redirected", None)
            case Refused(request_id=request_id, code=code, message=why):
                self._end((client, request_id), f"refused: {code.name.lower()}", why)

    def _end(self, key: Key, outcome: str, error: str | None) -> None:
        followed = self._open.pop(key, None)
        if followed is not None:
            at_ns = self.clock() + followed.wall_ns
            for span in followed.spans:
                span.end({span_data.OUTCOME: outcome}, error=error, at_ns=at_ns)


@dataclass(slots=True, eq=False)
class AcceptorTracing(RoleTracing):
    """Of an acceptor."""

    def voted(
        self, deliveries: Sequence[Delivery], begun_ns: int, fsync_ns: int, records: int
    ) -> None:
        """Messages were handled, and their answers may leave.

        Args:
            deliveries: All that were handled together.
            begun_ns: When that began, on the shell's clock.
            fsync_ns: How long the append to the journal and the fsync took.
            records: How many records shared them; 0 where nothing was written.
        """
        for each in deliveries:
            accept = each.envelope.message
            if isinstance(accept, Accept) and accept.trace:
                attributes = {
                    **self._of_group(each.envelope.group),
                    span_data.INSTANCE_ID: accept.instance_id,
                    span_data.BYTES: len(accept.value),
                    span_data.RECORDS: records,
                    span_data.FSYNC_MS: fsync_ns / 1e6,
                }
                self._tell(accept.trace, span_data.ACCEPTOR, begun_ns, attributes)


class LearnerTracing(RoleTracing):
    """Of a learner."""

    def handled(self, envelope: Envelope, begun_ns: int, actions: Sequence[Action]) -> None:
        """What is chosen was learned, and applied as far as may be; as of every role."""
        chosen = envelope.message
        if isinstance(chosen, Chosen) and chosen.trace and chosen.values:
            applied = [action for action in actions if _is_applied(action)]
            attributes = {
                **self._of_group(envelope.group),
                span_data.INSTANCE_ID: chosen.values[0].instance_id,
                span_data.INSTANCES: len(applied),
            }
            self._tell(chosen.trace, span_data.LEARNER, begun_ns, attributes)


def _is_applied(action: Action) -> bool:
    return isinstance(action, Observe) and isinstance(action.event, InstanceApplied)


AnyRole = TypeVar("AnyRole", bound=RoleTracing)


def trace_role(kind: type[AnyRole], spec: bytes, member: str, clock: Clock) -> AnyRole | None:
    """What traces a role that begins to serve.

    Args:
        kind: For which role.
        spec: The cluster's, encoded.
        member: The role's.
        clock: The shell's, in nanoseconds.

    Returns:
        None where Ray's tracing is off.
    """
    tracing = start_tracing()
    if tracing is None:
        return None
    decoded = decode_spec(spec)
    names = {each.member_id: each.name for each in decoded.members}
    cluster = decoded.decoded_genesis().cluster
    return kind(tracing, cluster, member, names, clock, WallTime(clock))
