"""The one way to open MongoDB: durable writes, majority reads, and a deadline on every call."""

from __future__ import annotations

from typing import Any

from pymongo import AsyncMongoClient

from millrace.cancellation import mend_wait_for
from millrace.errors import Invalid

CALL_MILLISECONDS = 4_000
CONNECT_MILLISECONDS = 1_500
HEARTBEAT_MILLISECONDS = 1_000

Client = AsyncMongoClient[dict[str, Any]]


def connect(uri: str, *, app_name: str) -> Client:
    """Return a client for `uri`; it connects at the first call.

    Every write waits for a majority's journal and every read sees only what a majority has. Each call ends within
    4 s, an election included; a frozen primary is noticed after at most 1.5 s of connecting and 1 s of heartbeat.

    Raises:
        Invalid: `uri` is not a connection string.
    """
    mend_wait_for()
    try:
        return AsyncMongoClient(
            uri,
            appname=app_name,
            w="majority",
            journal=True,
            readConcernLevel="majority",
            retryWrites=True,
            retryReads=True,
            timeoutMS=CALL_MILLISECONDS,
            connectTimeoutMS=CONNECT_MILLISECONDS,
            heartbeatFrequencyMS=HEARTBEAT_MILLISECONDS,
            tz_aware=True,
            uuidRepresentation="standard",
        )
    except (ValueError, TypeError) as error:
        raise Invalid(f"not a MongoDB connection string: {type(error).__name__}") from None
