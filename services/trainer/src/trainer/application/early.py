"""Early start: a run's reader has no token, and its agent speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from millrace.documents.ports import Transact
from millrace.errors import MillraceError
from trainer.application.ports import Cache, PackWish, Standing, TrainerUnit
from trainer.application.told import PacksWanted
from trainer.domain.jobs import Job
from trainer.errors import LeaseGone

log = structlog.get_logger(__name__)


async def pass_on(said: PacksWanted, job: Job, cache: Cache, transact: Transact[TrainerUnit]) -> Mapping[str, Any]:
    """Tell the cache manager what the run needs next, and return how its copy stands.

    The lease is that of the job as it is now: it may have been replaced since the process began. A cache manager that
    does not answer is no end: the reader asks again.
    """
    wish = PackWish(said.names, said.reader, said.waited)
    try:
        standing = await _standing(wish, job, cache, transact)
    except MillraceError as error:
        if not error.transient:
            raise
        standing = Standing("coming", error.message)
    return {"standing": standing.kind, "reason": standing.reason}


async def _standing(wish: PackWish, job: Job, cache: Cache, transact: Transact[TrainerUnit]) -> Standing:
    try:
        return await cache.want(job, wish)
    except LeaseGone as error:
        reason = error.message

    async def again(uow: TrainerUnit) -> Job | None:
        return await uow.jobs.get(job.run)

    known = await transact(again)
    if known is None or known.lease is None or known.lease == job.lease:
        log.warning("a copy that is read early will not be completed", run=job.run, reason=reason)
        return Standing("failed", reason)
    try:
        return await cache.want(known, wish)
    except LeaseGone as error:
        return Standing("failed", error.message)
