"""The consumer's span and the log context of one delivery, in one place."""

from __future__ import annotations

from types import TracebackType

import structlog
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from millrace.bus.subscription import DeadLetter, Handled

_TRACER = trace.get_tracer("millrace.bus")


def _parent(traceparent: str | None) -> SpanContext | None:
    """Return the context to be a child of. Its form is checked by the envelope already."""
    parts = (traceparent or "").split("-")
    if len(parts) != 4 or len(parts[1]) != 32:
        return None
    context = SpanContext(
        trace_id=int(parts[1], 16),
        span_id=int(parts[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(parts[3], 16)),
    )
    return context if context.is_valid else None


class Consuming:
    """Runs its body in a span that is a child of the event's `traceparent`, with its ids bound to every log line.

    A class, because the context managers of `contextlib` and `start_as_current_span` cost more than the span.
    """

    def __init__(self, item: Handled, *, durable: str, stream: str) -> None:
        self._item = item
        self._durable = durable
        self._stream = stream

    def __enter__(self) -> None:
        """Open the span and bind the ids."""
        event_id, kind, project, correlation = _ids(self._item)
        parent = _parent(self._item.traceparent)
        around = Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())
        self._span = _TRACER.start_span(
            f"process {self._durable}",
            context=around,
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "nats",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": self._stream,
                "messaging.consumer.group.name": self._durable,
                "messaging.message.id": event_id,
                "millrace.event.type": kind,
                "millrace.project": project,
            },
        )
        self._token = attach(trace.set_span_in_context(self._span, around))
        own = self._span.get_span_context()
        structlog.contextvars.bind_contextvars(
            trace_id=f"{own.trace_id:032x}" if own.is_valid else None,
            event_id=event_id,
            event_type=kind,
            correlation_id=correlation,
            project=project,
            durable=self._durable,
        )

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span; the ids stay bound for the rest of this delivery's task, its settling."""
        detach(self._token)
        if exc_type is not None and isinstance(exc, Exception):
            self._span.set_status(Status(StatusCode.ERROR, exc_type.__name__))
            self._span.set_attribute("error.type", exc_type.__name__)
        self._span.end()


def _ids(item: Handled) -> tuple[str, str, str, str]:
    if isinstance(item, DeadLetter):
        return item.id, item.event_type or "", item.project or "", item.correlation or ""
    return item.id, item.type, item.project, item.correlationid
