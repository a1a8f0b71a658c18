"""JSON lines on standard output, each with the trace it belongs to, none with a secret."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger

_SECRET_KEY = re.compile(
    r"(authorization|token|secret|password|passwd|api[_-]?key|seed|cookie|credential)", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"mlr_[a-z0-9]{1,16}_[0-9a-f]{16}_[0-9a-f]{64}_[0-9a-f]{8}"  # our tokens
    r"|\bS[UA][A-Z2-7]{56}\b"  # nkey seeds
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user:password in a URL
    r"|(?<=[?&]X-Amz-Signature=)[0-9a-f]+"
)
REDACTED = "[redacted]"
_PLAIN_KEYS = frozenset({"token", "fencing_token", "token_id"})


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace what looks like a secret, by the key's name or by the value's form."""
    return {key: _clean(key, value) for key, value in event.items()}


def _clean(key: str, value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        if _SECRET_KEY.search(key) and key not in _PLAIN_KEYS:
            return REDACTED
        return _SECRET_VALUE.sub(REDACTED, value)
    if depth < 6 and isinstance(value, dict):
        return {str(name): _clean(str(name), item, depth + 1) for name, item in value.items()}
    if depth < 6 and isinstance(value, list | tuple):
        return [_clean(key, item, depth + 1) for item in value]
    return value


def add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add `trace_id` and `span_id` of the current span, if there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", f"{context.trace_id:032x}")
        event.setdefault("span_id", f"{context.span_id:016x}")
    return event


def configure_logs(service: str, level: str = "info") -> None:
    """Send structlog's and the standard library's records to standard output as JSON lines.

    Fields: ts, level, service, event, trace_id, span_id, and what the caller bound (project, run, …).
    """

    def add_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        add_service,
        add_trace,
        structlog.processors.format_exc_info,
        redact,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for noisy in ("httpx", "httpcore", "pymongo", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
