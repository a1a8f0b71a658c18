"""What the monitor hears on the bus, besides captured batches."""

from __future__ import annotations

from collections.abc import Callable

from drift_monitor.application.ports import MonitorUnitOfWork
from drift_monitor.application.retiring import on_dataset_committed, on_deployment_retired
from drift_monitor.application.watching import on_deployment_ready
from millrace.bus import Subscription
from millrace.events import AnyEvent, DatasetCommitted, DeploymentReady, DeploymentRetired


def subscriptions(kick_watches: Callable[[], None]) -> list[Subscription]:
    """Return the durables; `kick_watches` wakes the reconciler of watches."""

    async def heard_ready(event: AnyEvent, uow: MonitorUnitOfWork) -> None:
        await on_deployment_ready(event, uow)
        uow.after_commit(kick_watches)

    return [
        Subscription("drift-monitor-on-deployment-ready", DeploymentReady, heard_ready),
        Subscription("drift-monitor-on-deployment-retired", DeploymentRetired, on_deployment_retired),
        Subscription("drift-monitor-on-dataset-committed", DatasetCommitted, on_dataset_committed),
    ]
