"""Telling the world what became of an entry: the event is part of the transaction that changes it."""

from __future__ import annotations

from cache_manager.application.ports import Unit
from cache_manager.domain.entry import Cause, Entry
from millrace.events import CacheEvicted, CacheFailed, CacheReady, CacheRepaired, EventData, decode
from millrace.events.envelope import AnyEvent

MAX_REASON = 2_000


def ready(entry: Entry, path: str, seconds: float, *, uow: Unit) -> None:
    """Announce a complete, verified tree at its final path."""
    _emit(
        CacheReady(
            entry=entry.id,
            site=entry.site,
            dataset=entry.dataset,
            version=entry.version,
            commit=entry.commit,
            variant=entry.key.variant,
            path=path,
            files=entry.files,
            bytes=entry.bytes,
            fetched_bytes=entry.fetched_bytes,
            tree_root=entry.tree_root,
            token=entry.token,
            seconds=seconds,
        ),
        entry,
        uow,
    )


def failed(entry: Entry, *, uow: Unit) -> None:
    """Announce that a fill failed, and when it is tried again."""
    retry_at = entry.retry_at.isoformat() if entry.retry_at else None
    _emit(
        CacheFailed(
            entry=entry.id,
            site=entry.site,
            dataset=entry.dataset,
            version=entry.version,
            commit=entry.commit,
            variant=entry.key.variant,
            reason=entry.reason[:MAX_REASON],
            retry_at=retry_at,
        ),
        entry,
        uow,
    )


def evicted(entry: Entry, *, uow: Unit) -> None:
    """Announce that the copy left its final path."""
    _emit(
        CacheEvicted(
            entry=entry.id,
            site=entry.site,
            dataset=entry.dataset,
            version=entry.version,
            commit=entry.commit,
            variant=entry.key.variant,
            reason=entry.evict_reason,
            bytes=entry.bytes,
        ),
        entry,
        uow,
    )


def repaired(entry: Entry, files: int, *, uow: Unit) -> None:
    """Announce that damaged files were replaced from the lake."""
    _emit(
        CacheRepaired(
            entry=entry.id,
            site=entry.site,
            dataset=entry.dataset,
            version=entry.version,
            commit=entry.commit,
            variant=entry.key.variant,
            files=max(1, files),
        ),
        entry,
        uow,
    )


def _emit(data: EventData, entry: Entry, uow: Unit) -> None:
    cause = _event(entry.cause)
    uow.emit(
        data,
        project=entry.project,
        subject=entry.id,
        sequence=entry.revision,
        cause=cause,
        principal=entry.cause.principal,
        correlation=None if cause else entry.cause.correlation,
    )


def _event(cause: Cause) -> AnyEvent | None:
    return decode(cause.event) if cause.event else None
