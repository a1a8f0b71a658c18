"""What application code knows of a transaction. Free of drivers, so that handlers stay testable in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar, overload

from millrace.events.envelope import AnyEvent, D, Event

T = TypeVar("T")
U = TypeVar("U", bound="UnitOfWork")
U_co = TypeVar("U_co", bound="UnitOfWork", covariant=True)

InboxKey = tuple[str, str]
"""(consumer, event id): the effect that is keyed by it happens once."""


class UnitOfWork(Protocol):
    """One transaction: what is emitted and audited here is written with the change, or not at all.

    A unit of work may be run again from its beginning (a transient conflict), so that nothing inside may touch the
    world outside the database; use `after_commit` for that.
    """

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
        """Add an event to the transaction; the relay publishes it once the transaction is committed.

        `subject` is the aggregate's id and `sequence` its version after the change: events of one aggregate are
        published in the order of `sequence`.
        """

    def audit(self, principal: str, action: str, resource: str, project: str, detail: Mapping[str, Any]) -> None:
        """Add an audit row to the transaction. `detail` holds facts that are safe to show, never secrets."""

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call `call()` once the transaction is committed: kicks and caches only, since a crash may skip it."""


class Transact(Protocol[U_co]):
    """Runs `work` in one transaction. `Transactor` is it on MongoDB, `InMemoryTransactor` in tests."""

    @overload
    async def __call__(self, work: Callable[[U_co], Awaitable[T]], *, inbox: None = None) -> T: ...

    @overload
    async def __call__(self, work: Callable[[U_co], Awaitable[T]], *, inbox: InboxKey | None) -> T | None: ...

    async def __call__(self, work: Callable[[U_co], Awaitable[T]], *, inbox: InboxKey | None = None) -> T | None:
        """Run `work(uow)` and commit. With `inbox`, None is returned without work if that key was seen before."""
