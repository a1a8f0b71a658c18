"""What follows from other services' facts: revisions that serve no more, label queues that became a version."""

from __future__ import annotations

from dataclasses import replace

from drift_monitor.application.ports import MonitorUnitOfWork
from millrace.events import AnyEvent, DatasetCommitted, DeploymentRetired


async def on_deployment_retired(event: AnyEvent, uow: MonitorUnitOfWork) -> None:
    """Mark a watch retired: its last window, which nothing will fill any more, may close short."""
    data: DeploymentRetired = event.data
    watch = await uow.watches.get(event.project, data.deployment, data.revision)
    if watch is not None and not watch.retired:
        await uow.watches.save(replace(watch, retired=True))
        uow.audit("drift-monitor", "drift.retire", watch.id, event.project, {})


async def on_dataset_committed(event: AnyEvent, uow: MonitorUnitOfWork) -> None:
    """Note at a label queue which dataset version its labels became."""
    data: DatasetCommitted = event.data
    queue = await uow.queues.get(data.lineage.queue) if data.lineage.queue else None
    if queue is None or queue.project != event.project or queue.landed_version == data.version:
        return
    await uow.queues.save(replace(queue, landed_version=data.version))
    detail = {"dataset": f"{data.dataset}@{data.version}"}
    uow.audit("drift-monitor", "labels.committed", queue.id, event.project, detail)
