"""What the handlers need from the outside, as protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

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
from millrace.documents.ports import Transact as KernelTransact
from millrace.documents.ports import UnitOfWork

E = TypeVar("E", bound=Entity)


class Repository(Protocol[E]):
    """Entities of one kind. Every look-up names its project, or an id that holds it."""

    async def get(self, entity_id: str) -> E | None:
        """Return the entity, or None."""

    async def add(self, entity: E) -> None:
        """Store a new entity. Raises Conflict when the id is taken."""

    async def save(self, entity: E) -> E:
        """Replace the entity if its revision is still the stored one, and return it with the next one.

        Raises Conflict when somebody else was faster.
        """

    async def remove(self, entity_id: str) -> None:
        """Remove the entity, if it is there."""

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
        """Return entities whose fields equal `where` (a tuple: any of it), in `order`, beyond `after` in it.

        `prefix` is a (field, text) pair that the field must begin with.
        """

    async def count(self, where: Mapping[str, Any]) -> int:
        """Return how many entities match."""


class Points(Protocol):
    """Metric points, unique by (run, key, step)."""

    async def record(self, project: str, run: str, points: list[Point]) -> int:
        """Store points; one that is there already stays, unless the new one has a higher fence. Returns the changes."""

    async def of(self, run: str, key: str, *, after_step: int = -1) -> list[Point]:
        """Return the points of one key by step."""

    async def keys(self, run: str) -> list[str]:
        """Return the keys of a run, sorted."""


class LogLines(Protocol):
    """Log lines, unique by (run, fence, offset)."""

    async def append(self, project: str, run: str, lines: list[LogLine]) -> int:
        """Store lines; those that are there already stay. Returns how many were new."""

    async def read(self, run: str, *, after: tuple[int, int], limit: int) -> list[LogLine]:
        """Return lines beyond (fence, offset), in that order."""

    async def tail(self, run: str, limit: int) -> list[LogLine]:
        """Return the last lines, oldest first."""


class Documents(Protocol):
    """All that the catalog remembers. Read as it is now; written only through a unit of work."""

    @property
    def datasets(self) -> Repository[Dataset]:
        """Datasets."""

    @property
    def versions(self) -> Repository[Version]:
        """Dataset versions."""

    @property
    def policies(self) -> Repository[Policy]:
        """Policies."""

    @property
    def executions(self) -> Repository[Execution]:
        """Executions of policies."""

    @property
    def runs(self) -> Repository[Run]:
        """Runs."""

    @property
    def models(self) -> Repository[Model]:
        """Models."""

    @property
    def model_versions(self) -> Repository[ModelVersion]:
        """Model versions."""

    @property
    def deployments(self) -> Repository[Deployment]:
        """Deployments."""

    @property
    def operations(self) -> Repository[Operation]:
        """Operations."""

    @property
    def tokens(self) -> Repository[Token]:
        """API tokens."""

    @property
    def log(self) -> Repository[LogRow]:
        """The event log."""

    @property
    def trail(self) -> Repository[AuditRow]:
        """The audit trail."""

    @property
    def dead_letters(self) -> Repository[DeadLetter]:
        """Dead letters."""

    @property
    def edges(self) -> Repository[Edge]:
        """Lineage."""

    @property
    def answers(self) -> Repository[Answer]:
        """Answers under idempotency keys."""

    @property
    def collections(self) -> Repository[Collection]:
        """Garbage collections, one a project."""

    @property
    def condemned(self) -> Repository[Condemned]:
        """Objects of the lake that no version needs."""

    @property
    def encryptions(self) -> Repository[Encryption]:
        """What is settled about the encryption of projects."""

    @property
    def points(self) -> Points:
        """Metric points."""

    @property
    def lines(self) -> LogLines:
        """Log lines."""

    async def advance_counter(self, name: str, by: int) -> int:
        """Raise a counter by `by` and return its old value; concurrent transactions on one counter serialise."""

    async def counter(self, name: str) -> int:
        """Return a counter's value."""


class Unit(UnitOfWork, Documents, Protocol):
    """One transaction. What it emits and audits becomes visible with its change, or not at all."""

    def replay(self, durable: str, raw: bytes, *, original_subject: str) -> None:
        """Send the bytes of a dead letter to one durable again."""


Transact = KernelTransact[Unit]
"""Runs a function inside one transaction; it may run more than once, so it has no effects elsewhere."""
