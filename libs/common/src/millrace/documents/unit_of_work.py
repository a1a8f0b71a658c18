"""One MongoDB transaction, with the rows that must be written with its change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pymongo.asynchronous.client_session import AsyncClientSession

from millrace.clock import Clock
from millrace.documents import ledger
from millrace.documents.indexes import Database
from millrace.events import build, encode
from millrace.events.envelope import AnyEvent, D, Event

_PROPAGATOR = TraceContextTextMapPropagator()


def current_traceparent() -> str | None:
    """Return the W3C `traceparent` of the current span, if there is one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


class MongoUnitOfWork:
    """One transaction on `database` through `session`. Services subclass it and override `setup`.

        class CatalogUnitOfWork(MongoUnitOfWork):
            def setup(self) -> None:
                self.datasets = MongoDatasets(self.database["datasets"], self.session)

    Pass `session=self.session` to every driver call, and let driver errors through: the transactor reads their labels.
    """

    def __init__(self, session: AsyncClientSession, database: Database, *, clock: Clock, source: str) -> None:
        self.session = session
        self.database = database
        self.clock = clock
        self.source = source
        self.outbox: list[dict[str, Any]] = []
        self.audits: list[dict[str, Any]] = []
        self.calls: list[Callable[[], None]] = []
        self.setup()

    def setup(self) -> None:
        """Build the repositories of this transaction; does nothing here."""

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
        """Add an event to this transaction's outbox rows; its `traceparent` is the current span's.

        Raises:
            Invalid: the event is too large.
        """
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
            traceparent=current_traceparent() or (cause.traceparent if cause else None),
        )
        self.outbox.append(ledger.event_row(event, encode(event), event.time))
        return event

    def forward(self, event: AnyEvent) -> None:
        """Add an event that was made outside (at the HTTP edge) to this transaction, under its own id."""
        self.outbox.append(ledger.event_row(event, encode(event), self.clock.now()))

    def replay(self, durable: str, raw: bytes, *, original_subject: str) -> None:
        """Add the replay of a dead letter to this transaction: the same bytes, for one durable only."""
        headers = {"Millrace-Subject": original_subject}
        self.outbox.append(ledger.raw_row(f"replay.{durable}", raw, headers, self.clock.now()))

    def audit(self, principal: str, action: str, resource: str, project: str, detail: Mapping[str, Any]) -> None:
        """Add an audit row to this transaction."""
        self.audits.append(ledger.audit_row(principal, action, resource, project, detail, now=self.clock.now()))

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call `call()` once this transaction is committed."""
        self.calls.append(call)

    async def write_rows(self) -> None:
        """Write the collected outbox and audit rows; the transactor calls it just before the commit."""
        if self.outbox:
            await self.database[ledger.OUTBOX].insert_many(self.outbox, session=self.session)
        if self.audits:
            await self.database[ledger.AUDIT].insert_many(self.audits, session=self.session)
