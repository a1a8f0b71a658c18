"""An ingestion job: one landed event, one version, however often it is delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from ingest.domain.places import Format, Mode
from ingest.errors import IllegalMove


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Move(StrEnum):
    """What happens to a job."""

    START = "start"
    COMPLETE = "complete"
    FAIL = "fail"


ENDED = frozenset({State.COMPLETED, State.FAILED})

_MOVES = {
    (State.QUEUED, Move.START): State.RUNNING,
    (State.RUNNING, Move.COMPLETE): State.COMPLETED,
    (State.QUEUED, Move.FAIL): State.FAILED,
    (State.RUNNING, Move.FAIL): State.FAILED,
}


def after(state: State, move: Move) -> State:
    """Return the state that `move` leads to; terminal states never change.

    Raises:
        IllegalMove: there is no such move in this state.
    """
    try:
        return _MOVES[state, move]
    except KeyError:
        raise IllegalMove(f"{move} is no move of a job that is {state}") from None


@dataclass(frozen=True)
class Cause:
    """The event that the job answers, as it came; none for a batch that was found by looking."""

    event: bytes | None = None
    correlation: str | None = None
    traceparent: str | None = None
    principal: str | None = None


@dataclass(frozen=True)
class Job:
    """What is remembered of a job. `prepared` is the commit that was asked for last: it is asked for again first."""

    id: str
    project: str
    dataset: str
    uri: str
    mode: Mode
    format: Format = "files"
    urls: Sequence[str] = ()
    message: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "event"
    cause: Cause = field(default_factory=Cause)
    state: State = State.QUEUED
    reason: str = ""
    revision: int = 1
    token: int = 0
    attempts: int = 0
    mark: str | None = None
    prepared: Mapping[str, Any] | None = None
    files: int = 0
    bytes: int = 0
    dropped: int = 0
    done: int = 0
    version: int | None = None
    commit: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


def backoff(attempts: int, *, first: float, last: float) -> float:
    """Return the pause in seconds after so many failed attempts."""
    return float(min(last, first * 2 ** max(0, min(attempts, 30) - 1))) if attempts else 0.0
