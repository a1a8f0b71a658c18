"""CloudEvents over HTTP: structured, binary and batched, read by the official SDK and then held to our own rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError

from catalog.application.landing import Landing
from catalog.application.values import check_json
from millrace.errors import Invalid
from millrace.events import DataLanded

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
MAX_BATCH = 1_000
MAX_ATTRIBUTE = 256
ACCEPTED = frozenset({DataLanded.TYPE})


def read_events(headers: Mapping[str, str], body: bytes) -> list[Landing]:
    """Return the `data.landed` events of a request, all of them or none.

    Raises:
        Invalid: not CloudEvents 1.0, or an event that outside systems may not send.
    """
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == BATCH:
        return [_landing(_structured(item)) for item in _batch(body)]
    return [_landing(_one(headers, content_type, body))]


def _batch(body: bytes) -> list[Any]:
    documents = _json(body)
    if not isinstance(documents, list) or not 1 <= len(documents) <= MAX_BATCH:
        raise Invalid(f"a batch is a JSON array of 1 to {MAX_BATCH} events")
    return documents


def _json(body: bytes) -> Any:
    try:
        return check_json(json.loads(body.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"not JSON that can be taken: {str(error)[:120]}") from None


def _one(headers: Mapping[str, str], content_type: str, body: bytes) -> CloudEvent:
    if any(name.startswith("ce-") for name in headers):
        data = _json(body)
        relevant = {name: value for name, value in headers.items() if name.startswith("ce-")}
        return _parsed(HTTPMessage({**relevant, "content-type": "application/json"}, json.dumps(data).encode()))
    if content_type in (STRUCTURED, "application/json"):
        return _structured(_json(body))
    raise Invalid(f"send {STRUCTURED}, {BATCH}, or ce- headers with a JSON body")


def _structured(document: Any) -> CloudEvent:
    if not isinstance(document, dict):
        raise Invalid("a CloudEvent is a JSON object")
    return _parsed(HTTPMessage({"content-type": STRUCTURED}, json.dumps(document).encode()))


def _parsed(message: HTTPMessage) -> CloudEvent:
    try:
        event = from_http(message, JSONFormat(), CloudEvent)
    except CloudEventValidationError as error:
        raise Invalid(f"not a CloudEvent 1.0: {_shown(error)}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Invalid(f"not a CloudEvent 1.0: {type(error).__name__}") from None
    if not isinstance(event, CloudEvent):
        raise Invalid("CloudEvents 1.0 only")
    return event


def _shown(error: CloudEventValidationError) -> str:
    names = sorted(getattr(error, "errors", {}) or {})
    return ", ".join(map(str, names))[:200] or "invalid attributes"


def _landing(event: CloudEvent) -> Landing:
    if event.get_type() not in ACCEPTED:
        raise Invalid(f"outside systems send {sorted(ACCEPTED)}", hint="see the event catalogue")
    source, event_id = event.get_source(), event.get_id()
    for value in (source, event_id):
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_ATTRIBUTE or not value.isprintable():
            raise Invalid(f"id and source are 1 to {MAX_ATTRIBUTE} printable characters")
    try:
        return Landing(source=source, id=event_id, data=DataLanded.model_validate(event.get_data()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise Invalid(f"data.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
