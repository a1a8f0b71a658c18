"""The catalog's documents in memory: one transaction after the other, each all or nothing."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

from catalog.application.projections.receive import OWN_SOURCE, log_row
from catalog.domain.collections import Collection, Condemned
from catalog.domain.datasets import Dataset, Version
from catalog.domain.deployments import Deployment
from catalog.domain.encryption import Encryption
from catalog.domain.entity import Entity
from catalog.domain.metrics import LogLine, Point
from catalog.domain.models import Model, ModelVersion
from catalog.domain.operations import Operation
from catalog.domain.policies import Execution, Policy
from catalog.domain.records import Answer, AuditRow, DeadLetter, Edge, LogRow
from catalog.domain.runs import Run
from catalog.domain.tokens import Token
from millrace.clock import Clock, new_id
from millrace.errors import Conflict
from millrace.events import AnyEvent, build
from millrace.events.envelope import D, Event

E = TypeVar("E", bound=Entity)
T = TypeVar("T")


class MemoryRepository(Generic[E]):
    """Entities of one kind in a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[str, E] = {}

    async def get(self, entity_id: str) -> E | None:
        """Return the entity, or None."""
        return self.rows.get(entity_id)

    async def add(self, entity: E) -> None:
        """Store a new entity."""
        if entity.id in self.rows:
            raise Conflict("a document with this key exists already")
        self.rows[entity.id] = entity

    async def save(self, entity: E) -> E:
        """Replace the entity if its revision is still the stored one."""
        stored = self.rows.get(entity.id)
        if stored is None or stored.revision != entity.revision:
            raise Conflict(f"{entity.id} changed meanwhile")
        self.rows[entity.id] = replace(entity, revision=entity.revision + 1)
        return self.rows[entity.id]

    async def remove(self, entity_id: str) -> None:
        """Remove the entity, if it is there."""
        self.rows.pop(entity_id, None)

    async def find(
        self,
        where: Mapping[str, Any],
        *,
        prefix: tuple[str, str] | None = None,
        order: str = "id",
        descending: bool = False,
        after: Any = None,
        limit: int = 100,
    ) -> list[E]:
        """Return entities whose fields equal `where`, in `order`, beyond `after`."""
        found = [row for row in self.rows.values() if all(_equals(row, name, value) for name, value in where.items())]
        if prefix is not None:
            found = [row for row in found if str(_field(row, prefix[0])).startswith(prefix[1])]
        if after is not None:
            found = [row for row in found if _beyond(_field(row, order), after, descending=descending)]
        ordered = sorted(found, key=lambda row: _sortable(_field(row, order)), reverse=descending)
        return ordered[:limit]

    async def count(self, where: Mapping[str, Any]) -> int:
        """Return how many entities match."""
        return len(await self.find(where, limit=len(self.rows) + 1))


def _field(entity: Any, path: str) -> Any:
    value = entity
    for name in path.split("."):
        if isinstance(value, tuple):
            value = tuple(_field(item, name) for item in value)
        else:
            value = getattr(value, name) if is_dataclass(value) and name in {it.name for it in fields(value)} else None
    return value


def _sortable(value: Any) -> tuple[bool, Any]:
    """Return a key that puts None first, as MongoDB does."""
    return (False, 0) if value is None else (True, value)


def _equals(entity: Any, path: str, wanted: Any) -> bool:
    value = _field(entity, path)
    if isinstance(wanted, tuple) and wanted:
        return value in wanted
    if isinstance(value, tuple):
        return value == wanted or wanted in value
    return bool(value == wanted)


def _beyond(value: Any, after: Any, *, descending: bool) -> bool:
    if value is None:
        return False
    return bool(value < after if descending else value > after)


class MemoryPoints:
    """Metric points in a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, int], Point] = {}

    async def record(self, project: str, run: str, points: list[Point]) -> int:  # noqa: ARG002 - the port's shape
        """Store points that are new or have a higher fence."""
        changed = 0
        for point in points:
            name = (run, point.key, point.step)
            if name not in self.rows or self.rows[name].fence < point.fence:
                self.rows[name] = point
                changed += 1
        return changed

    async def of(self, run: str, key: str, *, after_step: int = -1) -> list[Point]:
        """Return the points of one key by step."""
        found = [row for (owner, name, _), row in self.rows.items() if (owner, name) == (run, key)]
        return sorted((row for row in found if row.step > after_step), key=lambda row: row.step)

    async def keys(self, run: str) -> list[str]:
        """Return the keys of a run."""
        return sorted({key for owner, key, _ in self.rows if owner == run})


class MemoryLogLines:
    """Log lines in a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, int], LogLine] = {}

    async def append(self, project: str, run: str, lines: list[LogLine]) -> int:  # noqa: ARG002 - the port's shape
        """Store lines that are new."""
        fresh = {
            (run, line.fence, line.offset): line for line in lines if (run, line.fence, line.offset) not in self.rows
        }
        self.rows.update(fresh)
        return len(fresh)

    async def read(self, run: str, *, after: tuple[int, int], limit: int) -> list[LogLine]:
        """Return lines beyond (fence, offset)."""
        found = sorted((row for name, row in self.rows.items() if name[0] == run), key=lambda it: (it.fence, it.offset))
        return [row for row in found if (row.fence, row.offset) > after][:limit]

    async def tail(self, run: str, limit: int) -> list[LogLine]:
        """Return the last lines."""
        return (await self.read(run, after=(-1, -1), limit=2**31))[-limit:]


class MemoryDocuments:
    """All that the catalog remembers."""

    def __init__(self) -> None:
        self.datasets = MemoryRepository[Dataset]()
        self.versions = MemoryRepository[Version]()
        self.policies = MemoryRepository[Policy]()
        self.executions = MemoryRepository[Execution]()
        self.runs = MemoryRepository[Run]()
        self.models = MemoryRepository[Model]()
        self.model_versions = MemoryRepository[ModelVersion]()
        self.deployments = MemoryRepository[Deployment]()
        self.operations = MemoryRepository[Operation]()
        self.tokens = MemoryRepository[Token]()
        self.log = MemoryRepository[LogRow]()
        self.trail = MemoryRepository[AuditRow]()
        self.dead_letters = MemoryRepository[DeadLetter]()
        self.edges = MemoryRepository[Edge]()
        self.answers = MemoryRepository[Answer]()
        self.collections = MemoryRepository[Collection]()
        self.condemned = MemoryRepository[Condemned]()
        self.encryptions = MemoryRepository[Encryption]()
        self.points = MemoryPoints()
        self.lines = MemoryLogLines()
        self.counters: dict[str, int] = {}
        self.published: list[AnyEvent] = []
        self.replayed: list[tuple[str, bytes]] = []

    async def advance_counter(self, name: str, by: int) -> int:
        """Raise a counter and return its old value."""
        before = self.counters.get(name, 0)
        self.counters[name] = before + by
        return before

    async def counter(self, name: str) -> int:
        """Return a counter's value."""
        return self.counters.get(name, 0)


class MemoryUnit(MemoryDocuments):
    """One transaction on `MemoryDocuments`, whose rows it shares."""

    def __init__(self, documents: MemoryDocuments, clock: Clock) -> None:
        self.__dict__.update(documents.__dict__)
        self._clock = clock
        self.calls: list[Callable[[], None]] = []

    def emit(
        self,
        data: D,
        *,
        project: str,
        subject: str,
        sequence: int,
        cause: AnyEvent | None = None,
        principal: str | None = None,
        correlation: str | None = None,
    ) -> Event[D]:
        """Publish at once, and log."""
        event = build(
            data,
            source=OWN_SOURCE,
            subject=subject,
            project=project,
            sequence=sequence,
            clock=self._clock,
            cause=cause,
            principal=principal,
            correlation=correlation,
        )
        self.published.append(event)
        self.log.rows[event.key] = log_row(event, delivered=False)
        return event

    def audit(self, principal: str, action: str, resource: str, project: str, detail: Mapping[str, Any]) -> None:
        """Add an audit row."""
        row = AuditRow(
            id=str(new_id()),
            project=project,
            at=self._clock.now(),
            principal=principal,
            action=action,
            resource=resource,
            detail=dict(detail),
        )
        self.trail.rows[row.id] = row

    def replay(self, durable: str, raw: bytes, *, original_subject: str) -> None:  # noqa: ARG002 - the port's shape
        """Remember the replay."""
        self.replayed.append((durable, raw))

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call `call()` after the transaction."""
        self.calls.append(call)


class MemoryTransactor:
    """Runs one transaction at a time; an exception takes back what it did."""

    def __init__(self, documents: MemoryDocuments, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock
        self._lock = asyncio.Lock()
        self._seen: set[tuple[str, str]] = set()

    async def __call__(self, work: Callable[[Any], Awaitable[T]], *, inbox: tuple[str, str] | None = None) -> T | None:
        """Run `work(uow)`; None if the inbox knows the key."""
        async with self._lock:
            if inbox is not None and inbox in self._seen:
                return None
            before = copy.deepcopy(self._documents.__dict__)
            unit = MemoryUnit(self._documents, self._clock)
            try:
                result = await work(unit)
            except BaseException:
                self._documents.__dict__.update(before)
                raise
            if inbox is not None:
                self._seen.add(inbox)
        for call in unit.calls:
            call()
        return result
