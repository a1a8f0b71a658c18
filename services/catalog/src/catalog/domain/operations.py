"""Operations: what became of an event that an outside system sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from catalog.domain.entity import Entity
from millrace.clock import new_id

OperationState = Literal["accepted", "running", "completed", "failed"]
ENDED: frozenset[str] = frozenset({"completed", "failed"})


@dataclass(frozen=True, kw_only=True)
class Operation(Entity):
    """One outside event on its way to a dataset version. Its id is made of project, source and event id.

    `number` rises with the time at which operations were accepted (a UUIDv7): the order of lists.
    """

    state: OperationState = "accepted"
    reason: str = "waiting for ingest"
    source: str
    external_id: str
    event: str
    type: str
    dataset: str
    job: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    children: tuple[str, ...] = ()
    number: str = field(default_factory=lambda: str(new_id()))
    created_at: datetime
    updated_at: datetime


def combined(states: list[str]) -> OperationState:
    """Return the state of a batch: failed or completed only once all of it has ended."""
    if all(state in ENDED for state in states):
        return "failed" if "failed" in states else "completed"
    return "running" if "running" in states or any(state in ENDED for state in states) else "accepted"
