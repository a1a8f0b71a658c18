"""Runs work in one transaction: effect, inbox row, outbox rows and audit rows are committed together or not at all."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, overload

import structlog
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from millrace.clock import Clock
from millrace.documents import ledger
from millrace.documents.client import Client
from millrace.documents.failures import has_label, translate
from millrace.documents.indexes import Database
from millrace.documents.ports import InboxKey, T
from millrace.documents.unit_of_work import MongoUnitOfWork
from millrace.errors import DeadlineExceeded, MillraceError

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=MongoUnitOfWork)

TRANSIENT = "TransientTransactionError"
UNKNOWN_COMMIT = "UnknownTransactionCommitResult"
DEADLINE_SECONDS = 10.0

_SNAPSHOT = ReadConcern("snapshot")
_DURABLE = WriteConcern("majority", j=True)


class _SeenError(Exception):
    """The inbox knows this event already."""


class Transactor(Generic[M]):
    """Calls `work(uow)` inside a transaction on one database, again if the server asks for it.

    The driver's own `with_transaction` retries for two minutes; this loop keeps a deadline, keeps the inbox in the
    same transaction and says what a failure means. `on_emit` (the relay's `kick`) is called after a commit that
    wrote outbox rows.
    """

    def __init__(
        self,
        client: Client,
        database_name: str,
        unit_of_work: Callable[..., M],
        *,
        clock: Clock,
        source: str,
        deadline: float = DEADLINE_SECONDS,
        on_emit: Callable[[], None] | None = None,
    ) -> None:
        self.client = client
        self.database: Database = client[database_name]
        self.on_emit = on_emit
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._source = source
        self._deadline = deadline

    @overload
    async def __call__(self, work: Callable[[M], Awaitable[T]], *, inbox: None = None) -> T: ...

    @overload
    async def __call__(self, work: Callable[[M], Awaitable[T]], *, inbox: InboxKey | None) -> T | None: ...

    async def __call__(self, work: Callable[[M], Awaitable[T]], *, inbox: InboxKey | None = None) -> T | None:
        """Run `work(uow)` and commit; return its result. `work` may run more than once.

        With `inbox`, the key is written in the same transaction, and None is returned without work if it was there.

        Raises:
            Conflict: a unique key is taken.
            Unavailable, DeadlineExceeded: MongoDB did not take it within the deadline; the outcome may be unknown.
            MillraceError: whatever `work` raises; nothing is written then.
        """
        deadline = self._clock.monotonic() + self._deadline
        attempt = 0
        while True:
            try:
                return await self._once(work, inbox, deadline)
            except _SeenError:
                return None
            except (PyMongoError, MillraceError) as error:
                attempt += 1
                if not has_label(error, TRANSIENT) or not await self._pause(attempt, deadline):
                    if isinstance(error, PyMongoError):
                        raise translate(error) from error
                    raise

    async def _once(self, work: Callable[[M], Awaitable[T]], inbox: InboxKey | None, deadline: float) -> T:
        async with self.client.start_session() as session:
            await session.start_transaction(read_concern=_SNAPSHOT, write_concern=_DURABLE)
            uow = self._unit_of_work(session, self.database, clock=self._clock, source=self._source)
            try:
                if inbox is not None:
                    await self._remember(session, inbox)
                result = await work(uow)
                await uow.write_rows()
            except BaseException:
                await self._abort(session)
                raise
            await self._commit(session, deadline)
        self._committed(uow)
        return result

    async def _remember(self, session: AsyncClientSession, inbox: InboxKey) -> None:
        row = ledger.inbox_row(*inbox, self._clock.now())
        try:
            await self.database[ledger.INBOX].insert_one(row, session=session)
        except DuplicateKeyError:
            raise _SeenError from None

    async def _commit(self, session: AsyncClientSession, deadline: float) -> None:
        attempt = 0
        while True:
            try:
                await session.commit_transaction()
            except PyMongoError as error:
                attempt += 1
                if not has_label(error, UNKNOWN_COMMIT):
                    raise
                if not await self._pause(attempt, deadline):
                    raise DeadlineExceeded("the commit was not confirmed in time; its outcome is unknown") from None
            else:
                return

    async def _abort(self, session: AsyncClientSession) -> None:
        try:
            await session.abort_transaction()
        except PyMongoError as error:
            log.debug("transaction not aborted cleanly", reason=type(error).__name__)

    async def _pause(self, attempt: int, deadline: float) -> bool:
        delay = min(0.005 * 2**attempt, 0.5) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
        if self._clock.monotonic() + delay >= deadline:
            return False
        await self._clock.sleep(delay)
        return True

    def _committed(self, uow: M) -> None:
        calls: list[Callable[[], Any]] = list(uow.calls)
        if uow.outbox and self.on_emit is not None:
            calls.append(self.on_emit)
        for call in calls:
            try:
                call()
            except Exception:
                log.exception("a call after the commit broke")
