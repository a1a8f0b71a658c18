"""The cache manager's leases over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from millrace.errors import Conflict, NotFound, Unavailable
from trainer.adapters.calls import Calls
from trainer.application.ports import PackWish, Standing
from trainer.domain.jobs import CacheLease, Job
from trainer.errors import LeaseGone, NotCached


class HttpCache:
    """`Cache` on the cache manager's API."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def acquire(self, job: Job) -> CacheLease:
        """Take the run's lease; taking it again replaces it.

        Raises:
            NotCached: not readable at the site yet; the message is the cache manager's.
            Unavailable: the cache manager does not answer.
        """
        body: dict[str, Any] = {"run": job.run, "site": job.site, "dataset": job.dataset, "commit": job.commit}
        if job.mode != "tree" or job.paths:
            body |= {"mode": job.mode, "paths": list(job.paths)}
        if job.early:
            body["early"] = True
        try:
            answer = await self._calls("POST", "/v1/cache/leases", project=job.project, body=body)
        except (Conflict, NotFound) as error:
            raise NotCached(error.message) from None
        try:
            return CacheLease(
                str(answer["lease"]),
                str(answer["path"]),
                int(answer.get("token", 0)),
                bool(answer.get("hit")),
                str(answer.get("early") or ""),
            )
        except (KeyError, TypeError, ValueError):
            raise Unavailable("the cache manager's answer is no lease") from None

    async def renew(self, job: Job) -> None:
        """Renew the run's lease.

        Raises:
            LeaseGone: the cache manager does not know it any more.
        """
        try:
            await self._calls("PUT", self._path(job), project=job.project)
        except (Conflict, NotFound) as error:
            raise LeaseGone(error.message) from None

    async def release(self, job: Job) -> None:
        """Give the run's lease back; an unknown one is no error."""
        try:
            await self._calls("DELETE", self._path(job), project=job.project)
        except (Conflict, NotFound):
            return

    async def want(self, job: Job, wish: PackWish) -> Standing:
        """Say which packs the run needs next, and return how its copy stands.

        Raises:
            LeaseGone: the cache manager does not know the lease any more.
            Unavailable: the cache manager does not answer.
        """
        body = {"names": list(wish.names), "reader": wish.reader, "waited_seconds": wish.waited}
        try:
            answer = await self._calls("POST", f"{self._path(job)}/wanted", project=job.project, body=body)
        except (Conflict, NotFound) as error:
            raise LeaseGone(error.message) from None
        return Standing("coming" if answer.get("early") else "there", str(answer.get("reason") or ""))

    def _path(self, job: Job) -> str:
        return f"/v1/cache/leases/{quote(job.need_lease().id, safe='')}"
