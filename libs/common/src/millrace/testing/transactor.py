"""Transactions in memory: one at a time, all or nothing, with the same emit, audit and inbox rules as the real ones."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar, overload

from millrace.clock import Clock
from millrace.documents.ports import InboxKey, T
from millrace.events import build, encode
from millrace.events.envelope import AnyEvent, D, Event
from millrace.testing.clock import ManualClock

Documents = dict[str, dict[Any, Any]]
"""Collection name → id → document."""


class MemoryDatabase:
    """What was committed: documents of services, events in the order of their commits, audit rows, inbox keys."""

    def __init__(self) -> None:
        self.documents: Documents = {}
        self.events: list[AnyEvent] = []
        self.replays: list[tuple[str, bytes, str]] = []
        self.audits: list[dict[str, Any]] = []
        self.inbox: set[InboxKey] = set()

    def events_of(self, kind: type[D]) -> list[Event[D]]:
        """Return the committed events of one type."""
        return [event for event in self.events if isinstance(event.data, kind)]


class InMemoryUnitOfWork:
    """One transaction. Services subclass it and override `setup`, building repositories on `self.documents`."""

    def __init__(self, documents: Documents, *, clock: Clock, source: str) -> None:
        self.documents = documents
        self.clock = clock
        self.source = source
        self.emitted: list[AnyEvent] = []
        self.replays: list[tuple[str, bytes, str]] = []
        self.audits: list[dict[str, Any]] = []
        self.calls: list[Callable[[], None]] = []
        self.setup()

    def setup(self) -> None:
        """Build the repositories of this transaction; does nothing here."""

    def collection(self, name: str) -> dict[Any, Any]:
        """Return the documents of a collection in this transaction; changes are kept if it commits."""
        return self.documents.setdefault(name, {})

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
        """Add an event to the transaction."""
        event = build(
            data,
            source=self.source,
            subject=subject,
            project=project,
            sequence=sequence,
            clock=self.clock,
            cause=cause,
            correlation=correlation,
            principal=principal,
            traceparent=cause.traceparent if cause else None,
        )
        encode(event)
        self.emitted.append(event)
        return event

    def forward(self, event: AnyEvent) -> None:
        """Add an event that was made outside."""
        encode(event)
        self.emitted.append(event)

    def replay(self, durable: str, raw: bytes, *, original_subject: str) -> None:
        """Add the replay of a dead letter."""
        self.replays.append((durable, raw, original_subject))

    def audit(self, principal: str, action: str, resource: str, project: str, detail: Mapping[str, Any]) -> None:
        """Add an audit row."""
        row = {"principal": principal, "action": action, "resource": resource, "project": project}
        self.audits.append({**row, "detail": dict(detail), "at": self.clock.now()})

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call `call()` once the transaction is committed."""
        self.calls.append(call)


M = TypeVar("M", bound=InMemoryUnitOfWork)


class InMemoryTransactor(Generic[M]):
    """Runs work on a copy of the documents and keeps the copy if it ends well. `failures` are raised by commits."""

    def __init__(
        self,
        unit_of_work: Callable[..., M],
        *,
        database: MemoryDatabase | None = None,
        clock: Clock | None = None,
        source: str = "/millrace/test",
        on_emit: Callable[[], None] | None = None,
    ) -> None:
        self.database = database or MemoryDatabase()
        self.failures: list[Exception] = []
        self.on_emit = on_emit
        self._unit_of_work = unit_of_work
        self._clock: Clock = clock or ManualClock()
        self._source = source
        self._lock = asyncio.Lock()

    @overload
    async def __call__(self, work: Callable[[M], Awaitable[T]], *, inbox: None = None) -> T: ...

    @overload
    async def __call__(self, work: Callable[[M], Awaitable[T]], *, inbox: InboxKey | None) -> T | None: ...

    async def __call__(self, work: Callable[[M], Awaitable[T]], *, inbox: InboxKey | None = None) -> T | None:
        """Run `work(uow)` and commit; None without work if `inbox` was seen before."""
        async with self._lock:
            if inbox is not None and inbox in self.database.inbox:
                return None
            documents = copy.deepcopy(self.database.documents)
            uow = self._unit_of_work(documents, clock=self._clock, source=self._source)
            result = await work(uow)
            if self.failures:
                raise self.failures.pop(0)
            self._commit(uow, inbox)
        for call in uow.calls:
            call()
        if (uow.emitted or uow.replays) and self.on_emit is not None:
            self.on_emit()
        return result

    def _commit(self, uow: M, inbox: InboxKey | None) -> None:
        self.database.documents = uow.documents
        self.database.events += uow.emitted
        self.database.replays += uow.replays
        self.database.audits += uow.audits
        if inbox is not None:
            self.database.inbox.add(inbox)
