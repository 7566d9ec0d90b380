"""Spans that are kept in memory, and a tracer that makes them; each of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from ray_paxos.observability.tracing import Tracing, trace_text

__all__ = ["KeptSpans", "ReadableSpan"]


class KeptSpans:
    """What a user's set-up makes of spans, in one process.

    Attributes:
        tracer: The user's.
        tracing: Ours.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        """Keep all spans that the sampler lets through; all there are, without one."""
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("user")
        self.tracing = Tracing(provider.get_tracer("ray_paxos"))

    @property
    def ended(self) -> list[ReadableSpan]:
        """In the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of one name."""
        return [span for span in self.ended if span.name == name]

    def only(self, name: str) -> ReadableSpan:
        """The only one of that name."""
        (span,) = self.named(name)
        return span

    def clear(self) -> None:
        """Forget all."""
        self._exporter.clear()


def place(span: ReadableSpan) -> tuple[int, int]:
    """(trace id, span id)."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def text(span: ReadableSpan) -> str:
    """Where it stands, as messages carry it."""
    context = span.get_span_context()
    assert context is not None
    return trace_text(context.trace_id, context.span_id, context.trace_flags)


def times(span: ReadableSpan) -> tuple[int, int]:
    """When it began and when it ended."""
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def is_within(span: ReadableSpan, outer: ReadableSpan) -> bool:
    """Whether it began and ended while the outer one lasted."""
    (begin, end), (outer_begin, outer_end) = times(span), times(outer)
    return outer_begin <= begin <= end <= outer_end


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    """(trace id, span id) of its parent; None for a root."""
    return (span.parent.trace_id, span.parent.span_id) if span.parent is not None else None


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """By name without our prefix."""
    shorten: Callable[[str], str] = lambda name: name.removeprefix("ray_paxos.")  # noqa: E731
    return {shorten(name): value for name, value in (span.attributes or {}).items()}
