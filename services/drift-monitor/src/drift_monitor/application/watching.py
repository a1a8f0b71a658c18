"""Which deployments are watched: heard from serving, or found by asking."""

from __future__ import annotations

import structlog

from drift_monitor.application.ports import MonitorUnitOfWork, Registry, Repositories
from drift_monitor.domain.watch import Watch
from drift_monitor.errors import ReferenceInvalid, WatchMissing
from millrace.documents.ports import Transact
from millrace.errors import MillraceError
from millrace.events import AnyEvent, DeploymentReady, encode
from millrace.inference import BatchHeader

log = structlog.get_logger(__name__)


async def on_deployment_ready(event: AnyEvent, uow: MonitorUnitOfWork) -> None:
    """Watch the revision that serving announces; hearing it again changes nothing."""
    data: DeploymentReady = event.data
    if data.reference is not None and not data.reference.startswith(f"{event.project}/"):
        raise ReferenceInvalid(f"reference {data.reference} lies outside of project {event.project}")
    watch = Watch(
        project=event.project,
        deployment=data.deployment,
        deployment_revision=data.revision,
        model=data.model,
        version=data.version,
        digest=data.digest,
        dataset=data.dataset,
        commit=data.commit,
        reference=data.reference,
        cause=encode(event),
    )
    await start_watch(watch, uow=uow)


async def start_watch(watch: Watch, *, uow: MonitorUnitOfWork) -> None:
    """Remember a watch unless its revision is watched already."""
    if await uow.watches.add(watch):
        detail = {"model": f"{watch.model}@{watch.version}", "reference": watch.reference}
        uow.audit("drift-monitor", "drift.watch", watch.id, watch.project, detail)
        uow.after_commit(lambda: log.info("deployment watched", watch=watch.id, **detail))


class WatchBook:
    """Finds the watch of a batch, asking the catalog where the announcement was lost or is late."""

    def __init__(self, transact: Transact[MonitorUnitOfWork], kept: Repositories, registry: Registry) -> None:
        self._transact = transact
        self._kept = kept
        self._registry = registry
        self._known: dict[str, Watch] = {}

    async def find(self, header: BatchHeader) -> Watch:
        """Return the watch of a batch's revision.

        Raises:
            WatchMissing: nobody knows it yet.
        """
        watch = Watch(
            project=header.project,
            deployment=header.deployment,
            deployment_revision=header.revision,
            model=header.model,
            version=header.version,
            digest=header.digest,
            dataset=header.dataset,
            commit=header.commit,
            reference=None,
        )
        known = self._known.get(watch.id) or await self._kept.watches.get(
            header.project, header.deployment, header.revision
        )
        if known is None:
            known = await self._adopt(watch)
        self._known[watch.id] = known
        return known

    async def _adopt(self, watch: Watch) -> Watch:
        try:
            found = await self._registry.watch_of(watch)
        except MillraceError as error:
            raise WatchMissing(f"revision {watch.id} is not known yet: {error.message}") from None
        log.info("watch found by asking", watch=watch.id, reference=found.reference)
        await self._transact(lambda uow: start_watch(found, uow=uow))
        kept = await self._kept.watches.get(watch.project, watch.deployment, watch.deployment_revision)
        return kept or found

    async def reconcile(self) -> None:
        """Watch every revision that serves, as the catalog says; one that cannot be completed is left for later."""
        projects = {"default", *(watch.project for watch in await self._kept.watches.every())}
        for watch in await self._registry.deployed(projects):
            if await self._kept.watches.get(watch.project, watch.deployment, watch.deployment_revision) is None:
                try:
                    await self._adopt(watch)
                except MillraceError as error:
                    log.warning("deployment not watched", watch=watch.id, reason=error.message)
