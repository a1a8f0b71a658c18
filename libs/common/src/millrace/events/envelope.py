"""The envelope: CloudEvents 1.0 in structured JSON mode, as frozen pydantic models.

Extension attributes (lower-case alphanumerics, as the specification wants):

    traceparent    W3C trace context of the span that made the event
    correlationid  the id of the event, or of the request, that began the story
    causationid    the key of the event that directly caused this one: its id, unless it came from outside
    project        tenancy; the last token of the subject
    sequence       the aggregate's version after the change, rising by one per change
    principal      who did it
    datadigest     BLAKE3 of the canonical JSON of `data`, so that bit rot in a broker is noticed
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, TypeVar

from blake3 import blake3
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from millrace.events.names import Digest, EventId, Project, ResourceName

CONTENT_TYPE = "application/cloudevents+json"

OWN_SOURCES = "/millrace/"
"""Sources that begin so give UUIDs, which are unique everywhere; any other gives ids that are unique within itself."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class EventData(BaseModel):
    """Base of every event's payload. Subclasses set `TYPE` (`<aggregate>.<fact>`) and `VERSION`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1


class GrownEventData(EventData):
    """A payload that gained optional fields: an event that says nothing in them has the digest it always had."""

    LATER: ClassVar[tuple[str, ...]]
    """The fields that were added; left out of the JSON while they have their defaults."""

    @model_serializer(mode="wrap")
    def _without_what_is_new(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        for name in self.LATER:
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                document.pop(name, None)
        return document


D = TypeVar("D", bound=EventData)


class Event(BaseModel, Generic[D]):
    """One event as it travels: CloudEvents attributes, our extensions, and the typed `data`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: EventId
    source: str = Field(max_length=256, description="`/millrace/<service>`, or the outside system's own URI")
    type: str = Field(max_length=128)
    subject: str = Field(max_length=512, description="the aggregate's id, for example `digits` or a run id")
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str = Field(description="`urn:millrace:event:<type>:v<version>`")
    project: Project
    sequence: int = Field(ge=0, le=2**53)
    correlationid: EventId
    causationid: str | None = Field(default=None, max_length=128)
    principal: ResourceName | str | None = Field(default=None, max_length=256)
    traceparent: str | None = Field(default=None, pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
    datadigest: Digest
    data: D

    @field_validator("time")
    @classmethod
    def _aware(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("time must carry a timezone")
        return value

    @property
    def version(self) -> int:
        """Return the schema version of `data`."""
        return self.data.VERSION

    @property
    def key(self) -> str:
        """Return what this event is deduplicated by: no two events share it, whoever made them.

        CloudEvents 1.0 makes source and id unique together. Our own services' ids are UUIDs and stand alone; of an
        outside event it is a digest (32 hex digits) of project, source and id. Who claims to be one of us gains
        nothing: a UUID is no key of anything else, and any other id is digested.
        """
        if self.source.startswith(OWN_SOURCES) and _UUID.fullmatch(self.id):
            return self.id
        return blake3("\0".join((self.project, self.source, self.id)).encode()).hexdigest()[:32]

    @property
    def bus_subject(self) -> str:
        """Return the subject that this event is published on."""
        return bus_subject(self.type, self.version, self.project)


AnyEvent = Event[Any]


def bus_subject(event_type: str, version: int, project: str) -> str:
    """Return `evt.<aggregate>.<fact>.v<version>.<project>`."""
    return f"evt.{event_type}.v{version}.{project}"


def schema_urn(event_type: str, version: int) -> str:
    """Return the `dataschema` attribute of an event type at a version."""
    return f"urn:millrace:event:{event_type}:v{version}"


def data_digest(data: EventData) -> str:
    """Return the BLAKE3 hex digest of the canonical (sorted, compact) JSON of `data`."""
    return blake3(canonical_json(data.model_dump(mode="json"))).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return sorted, compact UTF-8 JSON, without NaN: the form that digests are taken over."""
    return _CANONICAL.encode(value).encode()
