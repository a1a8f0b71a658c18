"""Names and ids as constrained types: what is not one of these never becomes a subject token, a key or a path."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from millrace.patterns import NAME_PATTERN

ResourceName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A dataset, model, site, policy, deployment …: `[a-z0-9][a-z0-9-]{0,62}`."""

Project = ResourceName
"""The tenancy that every resource belongs to."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A BLAKE3 digest in lower-case hex."""

EventId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:-]{0,127}$")]
"""An event's id. Ours are UUIDv7; outside systems may bring their own."""

RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
"""A run's id: a UUID in lower-case text."""

ObjectKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/=+@-]{1,1024}$")]
"""A key inside the lake's bucket, without the bucket and without a leading slash."""
