"""Names on the wire: streams, subjects, headers."""

from __future__ import annotations

EVENTS = "EVENTS"
JOBS = "JOBS"
INFERENCE = "INFERENCE"
DLQ = "DLQ"

MESSAGE_ID = "Nats-Msg-Id"
CONTENT_TYPE = "Content-Type"

HEADER = "Millrace-"
"""Prefix of our own headers."""

REASON = "Millrace-Reason"
ERROR = "Millrace-Error"
SERVICE = "Millrace-Service"
DURABLE = "Millrace-Durable"
ATTEMPTS = "Millrace-Attempts"
SUBJECT = "Millrace-Subject"
STREAM = "Millrace-Stream"
SEQUENCE = "Millrace-Sequence"
TRACEPARENT = "Millrace-Traceparent"
EVENT_ID = "Millrace-Event-Id"
EVENT_TYPE = "Millrace-Event-Type"
PROJECT = "Millrace-Project"
CORRELATION = "Millrace-Correlation"
DROPPED = "Millrace-Headers-Dropped"


def dead_letter_subject(service: str, durable: str) -> str:
    """Return the subject that a durable's dead letters go to."""
    return f"dlq.{service}.{durable}"


def replay_subject(durable: str) -> str:
    """Return the subject on which a dead letter is given to one durable again."""
    return f"replay.{durable}"
