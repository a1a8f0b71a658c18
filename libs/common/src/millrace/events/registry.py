"""Which event types exist, and the way in and out of bytes.

The registry is the only place that turns bytes into events. Whatever does not fit raises a subclass of `Invalid`
that says why, so that a consumer can dead-letter it with a reason and go on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from millrace.clock import Clock, new_id
from millrace.errors import Invalid
from millrace.events import cache, datasets, deployments, drift, models, training
from millrace.events.datasets import DataLanded
from millrace.events.envelope import AnyEvent, D, Event, EventData, bus_subject, data_digest, schema_urn

MAX_EVENT_BYTES = 256 * 1024
"""Largest event in bytes; the broker refuses more."""


class UnparsableEvent(Invalid):
    """The bytes are not a CloudEvent in structured JSON."""

    code = "unparsable-event"


class UnknownEventType(Invalid):
    """No such event type is known here."""

    code = "unknown-event-type"


class FutureVersion(Invalid):
    """The event's schema is newer than this program; an upgrade and a replay will handle it."""

    code = "future-version"


class MismatchedEvent(Invalid):
    """Envelope, subject and data contradict each other (project, type or digest)."""

    code = "mismatched-event"


def _public(module: Any) -> Iterable[type[EventData]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, EventData) and hasattr(value, "TYPE"):
            yield value


EVENT_CLASSES: dict[tuple[str, int], type[EventData]] = {
    (cls.TYPE, cls.VERSION): cls
    for module in (datasets, cache, training, models, deployments, drift)
    for cls in _public(module)
}

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(type, old version) → function from old data to the data of the next version."""

_LATEST: dict[str, int] = {}
for _type, _version in EVENT_CLASSES:
    _LATEST[_type] = max(_version, _LATEST.get(_type, 0))


FROM_OUTSIDE = frozenset({DataLanded.TYPE})
"""Types that outside systems publish themselves. They need not know our extension attributes."""


class _Head(BaseModel):
    model_config = ConfigDict(extra="ignore")

    specversion: str
    type: str
    dataschema: str


def data_class(event_type: str, version: int | None = None) -> type[EventData]:
    """Return the payload class of an event type (newest version by default).

    Raises:
        UnknownEventType: no such type.
        FutureVersion: the version is newer than any known here.
    """
    latest = _LATEST.get(event_type)
    if latest is None:
        raise UnknownEventType(f"unknown event type {event_type[:80]!r}")
    if version is not None and version > latest:
        raise FutureVersion(f"{event_type} v{version} is newer than v{latest}", hint="upgrade this, then replay")
    return EVENT_CLASSES[(event_type, version or latest)]


def encode(event: AnyEvent) -> bytes:
    """Return the structured JSON of an event.

    Raises:
        Invalid: the event is larger than `MAX_EVENT_BYTES`.
    """
    raw = event.model_dump_json(exclude_none=True).encode()
    if len(raw) > MAX_EVENT_BYTES:
        raise Invalid(f"event of {len(raw)} bytes exceeds {MAX_EVENT_BYTES}", hint="send references, not bytes")
    return raw


def decode(raw: bytes, *, subject: str | None = None) -> AnyEvent:
    """Parse and check one event; `subject` is the bus subject it came on, if it did.

    Raises:
        UnparsableEvent, UnknownEventType, FutureVersion, MismatchedEvent: what their names say.
    """
    document = _parse(raw)
    if isinstance(document.get("type"), str) and document["type"] in FROM_OUTSIDE:
        document = _completed(document)
    try:
        head = _Head.model_validate(document)
    except ValidationError as error:
        raise UnparsableEvent(_why(error)) from None
    document["data"], version = _upcast(head, document.get("data"))
    cls = data_class(head.type, version)
    try:
        event: AnyEvent = _envelope(cls).model_validate(document)
    except ValidationError as error:
        raise UnparsableEvent(_why(error)) from None
    _check(event, head, subject)
    return event


@functools.cache
def _envelope(cls: type[EventData]) -> type[AnyEvent]:
    return Event[cls]  # type: ignore[valid-type]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """Return an outside system's event with the attributes that only we know: a plain CloudEvent is enough."""
    defaults = {
        "dataschema": schema_urn(document["type"], 1),
        "sequence": 0,
        "correlationid": document.get("id"),
        "subject": document["type"],
        "datacontenttype": "application/json",
    }
    completed = {**defaults, **document}
    if "datadigest" not in document and isinstance(document.get("data"), dict):
        with contextlib.suppress(ValidationError):
            completed["datadigest"] = data_digest(DataLanded.model_validate(document["data"]))
    return completed


def _parse(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_EVENT_BYTES:
        raise UnparsableEvent(f"event of {len(raw)} bytes exceeds {MAX_EVENT_BYTES}")
    try:
        text = raw.decode("utf-8")
        document = _DECODER.decode(text)
        nul = False
        if "\\u" in text:  # only an escape can smuggle a lone surrogate or a NUL into a document
            json.dumps(document, ensure_ascii=False).encode("utf-8")
            nul = _has_nul(document)
    except (ValueError, RecursionError) as error:
        raise UnparsableEvent(f"not valid JSON text: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise UnparsableEvent("a CloudEvent is a JSON object")
    if nul:
        raise UnparsableEvent("NUL characters are not allowed")
    return document


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _upcast(head: _Head, data: Any) -> tuple[Any, int]:
    prefix = f"urn:millrace:event:{head.type}:v"
    number = head.dataschema.removeprefix(prefix)
    if not head.dataschema.startswith(prefix) or not number.isdecimal() or len(number) > 6 or int(number) < 1:
        data_class(head.type)
        raise MismatchedEvent(f"dataschema does not belong to type {head.type[:80]!r}")
    version = int(number)
    data_class(head.type, version)
    if isinstance(data, dict):
        while (upcaster := UPCASTERS.get((head.type, version))) is not None:
            data, version = upcaster(data), version + 1
    return data, version


def _check(event: AnyEvent, head: _Head, subject: str | None) -> None:
    original = int(head.dataschema.rsplit("v", 1)[1])
    if original == event.version and data_digest(event.data) != event.datadigest:
        raise MismatchedEvent("datadigest does not match the data", hint="the event was altered or damaged on its way")
    if subject is not None and subject != bus_subject(event.type, original, event.project):
        raise MismatchedEvent("subject contradicts the event's type, version or project")


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"[:300]


def build(
    data: D,
    *,
    source: str,
    subject: str,
    project: str,
    sequence: int,
    clock: Clock,
    cause: AnyEvent | None = None,
    correlation: str | None = None,
    principal: str | None = None,
    traceparent: str | None = None,
) -> Event[D]:
    """Wrap `data` in a fresh envelope; the correlation id is the cause's, the caller's, or the new event's own id."""
    event_id = str(new_id())
    envelope: type[Event[D]] = Event[type(data)]  # type: ignore[assignment,misc]
    return envelope(
        id=event_id,
        source=source,
        type=data.TYPE,
        subject=subject,
        time=clock.now(),
        dataschema=schema_urn(data.TYPE, data.VERSION),
        project=project,
        sequence=sequence,
        correlationid=correlation or (cause.correlationid if cause else event_id),
        causationid=cause.key if cause else None,
        principal=principal or (cause.principal if cause else None),
        traceparent=traceparent,
        datadigest=data_digest(data),
        data=data,
    )
