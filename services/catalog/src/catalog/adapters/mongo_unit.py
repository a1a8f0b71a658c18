"""All collections of the catalog: read as they are now, or written inside one transaction."""

from __future__ import annotations

from pymongo.asynchronous.client_session import AsyncClientSession

from catalog.adapters.codec import Codec
from catalog.adapters.mongo import Counters, MongoRepository
from catalog.adapters.mongo_progress import MongoLogLines, MongoPoints
from catalog.application.projections.receive import log_row
from catalog.domain.collections import Collection, Condemned
from catalog.domain.datasets import Dataset, Version
from catalog.domain.deployments import Deployment
from catalog.domain.encryption import Encryption
from catalog.domain.models import Model, ModelVersion
from catalog.domain.operations import Operation
from catalog.domain.policies import Execution, Policy
from catalog.domain.records import Answer, AuditRow, DeadLetter, Edge, LogRow
from catalog.domain.runs import Run
from catalog.domain.tokens import Token
from millrace.documents import MongoUnitOfWork
from millrace.documents.indexes import Database
from millrace.events.envelope import AnyEvent, D, Event

DATASETS = Codec(Dataset)
VERSIONS = Codec(Version)
POLICIES = Codec(Policy)
EXECUTIONS = Codec(Execution)
RUNS = Codec(Run)
MODELS = Codec(Model)
MODEL_VERSIONS = Codec(ModelVersion)
DEPLOYMENTS = Codec(Deployment)
OPERATIONS = Codec(Operation)
TOKENS = Codec(Token)
LOG = Codec(LogRow)
AUDIT = Codec(AuditRow, plain=True)
DEAD_LETTERS = Codec(DeadLetter)
EDGES = Codec(Edge)
ANSWERS = Codec(Answer)
COLLECTIONS = Codec(Collection)
CONDEMNED = Codec(Condemned)
ENCRYPTIONS = Codec(Encryption)


class MongoDocuments:
    """The catalog's repositories on one database."""

    def __init__(self, database: Database, session: AsyncClientSession | None = None) -> None:
        self.datasets = MongoRepository(database["datasets"], DATASETS, session)
        self.versions = MongoRepository(database["versions"], VERSIONS, session)
        self.policies = MongoRepository(database["policies"], POLICIES, session)
        self.executions = MongoRepository(database["executions"], EXECUTIONS, session)
        self.runs = MongoRepository(database["runs"], RUNS, session)
        self.models = MongoRepository(database["models"], MODELS, session)
        self.model_versions = MongoRepository(database["model_versions"], MODEL_VERSIONS, session)
        self.deployments = MongoRepository(database["deployments"], DEPLOYMENTS, session)
        self.operations = MongoRepository(database["operations"], OPERATIONS, session)
        self.tokens = MongoRepository(database["tokens"], TOKENS, session)
        self.log = MongoRepository(database["event_log"], LOG, session)
        self.trail = MongoRepository(database["audit"], AUDIT, session)
        self.dead_letters = MongoRepository(database["dead_letters"], DEAD_LETTERS, session)
        self.edges = MongoRepository(database["edges"], EDGES, session)
        self.answers = MongoRepository(database["answers"], ANSWERS, session)
        self.collections = MongoRepository(database["collections"], COLLECTIONS, session)
        self.condemned = MongoRepository(database["condemned"], CONDEMNED, session)
        self.encryptions = MongoRepository(database["encryptions"], ENCRYPTIONS, session)
        self.points = MongoPoints(database["metrics"], session)
        self.lines = MongoLogLines(database["run_logs"], session)
        self._counters = Counters(database["counters"], session)

    async def advance_counter(self, name: str, by: int) -> int:
        """Raise a counter and return its old value."""
        return await self._counters.advance(name, by)

    async def counter(self, name: str) -> int:
        """Return a counter's value."""
        return await self._counters.value(name)


class CatalogUnitOfWork(MongoUnitOfWork, MongoDocuments):
    """One transaction on the catalog's database. What it emits enters the event log with it."""

    def setup(self) -> None:
        """Build the repositories of this transaction."""
        MongoDocuments.__init__(self, self.database, self.session)
        self._emitted: list[AnyEvent] = []

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
        """Add an event to the outbox and to the event log of this transaction."""
        event = super().emit(
            data,
            project=project,
            subject=subject,
            sequence=sequence,
            cause=cause,
            principal=principal,
            correlation=correlation,
        )
        self._emitted.append(event)
        return event

    async def write_rows(self) -> None:
        """Write the rows that go with the change."""
        for event in self._emitted:
            await self.log.add(log_row(event, delivered=False))
        await super().write_rows()
