"""What the outside sees of a process: JSON logs, traces, metrics."""

from millrace.telemetry.logs import configure_logs
from millrace.telemetry.traces import configure_traces, current_traceparent, span

__all__ = ["configure_logs", "configure_traces", "current_traceparent", "span"]
