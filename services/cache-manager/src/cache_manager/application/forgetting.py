"""Copies of what was removed from the catalog: they are not waited for, and go as soon as nothing reads them."""

from __future__ import annotations

from typing import Any

from cache_manager.application.ports import Unit
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.domain.entry import Asked, Cause
from millrace.clock import Clock
from millrace.events import DatasetRemoved


async def forget_removed(
    project: str, removed: DatasetRemoved, *, asked: Asked, cause: Cause, uow: Unit, clock: Clock
) -> bool:
    """Wish every copy of the version, or of all the dataset's versions, absent; return whether there was one."""
    where: dict[str, Any] = {"project": project, "dataset": removed.dataset}
    if removed.commit is not None:
        where["commit"] = removed.commit
    entries = [entry for entry in await uow.entries.find(where) if entry.desired != "absent"]
    for entry in entries:
        wish = RequestCache(
            site=entry.site,
            project=project,
            dataset=entry.dataset,
            version=entry.version,
            commit=entry.commit,
            desired="absent",
            asked=asked,
            cause=cause,
            selection=entry.selection,
        )
        await request_cache(wish, uow=uow, clock=clock)
    return bool(entries)
