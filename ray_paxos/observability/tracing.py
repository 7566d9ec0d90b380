"""Spans of OpenTelemetry for commands, where the user has Ray's tracing on.

Ray runs the user's own set-up in every process of the cluster, where it was given one
(`ray.init(_tracing_startup_hook="module:function")`, or `ray start --tracing-startup-hook`). That
says what becomes of spans; here they are made.

Rules:

1. Where Ray's tracing is off nothing of OpenTelemetry is imported. Each client and each role asks
   once, when it begins.
2. Only what is sampled is carried on and told: who is not, or names no trace, gets no span.
3. Nothing that OpenTelemetry raises comes to who is traced. The first time it is written to the
   log.
4. Between processes a span is named by W3C's `traceparent` (`core.traces`).
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ray_paxos.observability.span_data import Attributes, SpanData

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Tracer

RAY_TRACING = "ray.util.tracing.tracing_helper"
"""Ray has no public way to ask; it imports this with itself."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1

_logger = logging.getLogger(__name__)


def is_on() -> bool:
    """Whether Ray's tracing is on in this process; imports nothing."""
    helper = sys.modules.get(RAY_TRACING)
    asks = getattr(helper, "_is_tracing_enabled", None)
    return bool(asks is not None and asks())


def start_tracing() -> Tracing | None:
    """What makes the spans of this process; None where tracing is off."""
    if not is_on():
        return None
    try:
        return Tracing()
    except Exception:
        # Whatever the user's set-up raises; without OpenTelemetry Ray would not have started.
        _logger.exception("Ray's tracing is on, and no spans are made here")
        return None


def place_of(trace: str) -> tuple[int, int, int] | None:
    """(trace id, span id, flags) of a `traceparent`; None where it is none."""
    found = _TRACEPARENT.fullmatch(trace)
    if found is None:
        return None
    trace_id, span_id, flags = (int(text, 16) for text in found.groups())
    return (trace_id, span_id, flags) if trace_id and span_id else None


def trace_text(trace_id: int, span_id: int, flags: int) -> str:
    """The `traceparent` of a span; empty where it is not sampled."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}" if flags & _SAMPLED else ""


class OpenSpan:
    """A span that is not over.

    Attributes:
        trace: Where it stands, for those who make its children.
    """

    def __init__(self, span: Span, trace: str) -> None:
        """Made by `Tracing.begin`."""
        self.trace = trace
        self._span = span

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """What is called within is its child; what comes of that is told by `end`."""
        with contextlib.ExitStack() as stack:
            with _guarded():
                from opentelemetry.trace import use_span

                used = use_span(
                    self._span,
                    end_on_exit=False,
                    record_exception=False,
                    set_status_on_exception=False,
                )
                stack.enter_context(used)
            yield

    def end(
        self,
        attributes: Attributes,
        *,
        error: BaseException | str | None = None,
        at_ns: int | None = None,
    ) -> None:
        """It is over.

        Args:
            attributes: What there is to say of it beside what it began with.
            error: Why it came to no good end; None where it did.
            at_ns: When, on the wall clock; None for now.
        """
        with _guarded():
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attributes(attributes)
            if isinstance(error, BaseException):
                self._span.record_exception(error)
                error = f"{type(error).__name__}: {error}"
            if error is not None:
                self._span.set_status(Status(StatusCode.ERROR, error))
            self._span.end(at_ns)


class Tracing:
    """Makes the spans of one client or one role; used by any thread."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        """Make spans.

        Args:
            tracer: Of the user's set-up; None for the one that OpenTelemetry gives.

        Raises:
            ImportError: OpenTelemetry is not installed.
        """
        from opentelemetry import trace

        self._tracer = tracer if tracer is not None else trace.get_tracer("ray_paxos")
        # Looked up once: a client asks for each of very many commands.
        self._current_span = trace.get_current_span
        self._client_kind = trace.SpanKind.CLIENT

    def begin_here(self, name: str, attributes: Attributes) -> OpenSpan | None:
        """Begin a client's span: a child of the one that is current in this thread.

        Returns:
            None where that is not sampled, or the user's sampler says no.
        """
        try:
            current = self._current_span().get_span_context()
            if current.is_valid and not current.trace_flags.sampled:
                return None
            return self._begin(name, self._client_kind, attributes, None, None)
        except Exception:
            _tell_once()
            return None

    def begin(self, name: str, parent: str, attributes: Attributes, at_ns: int) -> OpenSpan | None:
        """Begin a span at a role, for what another process has asked for.

        Args:
            name: Of what is done.
            parent: Where the span stands whose child it is.
            attributes: What there is to say of it.
            at_ns: When it began, on the wall clock.

        Returns:
            None where `parent` is no trace or is not sampled, or the user's sampler says no.
        """
        with _guarded():
            from opentelemetry.trace import SpanKind

            context = self._context(parent)
            if context is not None:
                return self._begin(name, SpanKind.SERVER, attributes, context, at_ns)
        return None

    def tell(self, parent: str, span: SpanData, *, is_asked: bool = False) -> None:
        """A span that is over.

        Args:
            parent: Where the span stands whose child it is; what is no trace gets no span.
            span: It.
            is_asked: Whether another process asked for it, rather than the parent's own.
        """
        with _guarded():
            from opentelemetry.trace import SpanKind

            context = self._context(parent)
            if context is None:
                return
            made = self._tracer.start_span(
                span.name,
                context,
                SpanKind.SERVER if is_asked else SpanKind.INTERNAL,
                span.attributes,
                start_time=span.start_ns,
            )
            for moment in span.moments:
                made.add_event(moment.name, moment.attributes, moment.at_ns)
            made.end(span.end_ns)

    def _begin(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        context: Context | None,
        at_ns: int | None,
    ) -> OpenSpan | None:
        span = self._tracer.start_span(name, context, kind, attributes, start_time=at_ns)
        if not span.is_recording():
            return None
        found = span.get_span_context()
        trace = trace_text(found.trace_id, found.span_id, found.trace_flags)
        return OpenSpan(span, trace) if trace else None

    def _context(self, trace: str) -> Context | None:
        """What to begin a child in; None for no trace, or one that is not sampled."""
        place = place_of(trace)
        if place is None or not place[2] & _SAMPLED:
            return None
        from opentelemetry.context import Context
        from opentelemetry.trace import (
            NonRecordingSpan,
            SpanContext,
            TraceFlags,
            set_span_in_context,
        )

        parent = SpanContext(place[0], place[1], is_remote=True, trace_flags=TraceFlags(place[2]))
        return set_span_in_context(NonRecordingSpan(parent), Context())


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """What the user's set-up of tracing raises ends here."""
    try:
        yield
    except Exception:
        _tell_once()


def _tell_once() -> None:
    """Write to the log what is being handled, the first time."""
    global _is_told
    if not _is_told:
        _is_told = True
        _logger.exception("a span could not be made; further ones are not told of")


_is_told = False
