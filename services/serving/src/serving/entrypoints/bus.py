"""What serving hears on the bus."""

from __future__ import annotations

from collections.abc import Callable

from millrace.bus import Subscription
from millrace.events import AnyEvent, DeploymentRequested, ModelPromoted
from millrace.failpoints import fp
from serving.application.ports import ServingUnitOfWork
from serving.application.record import record_request


def subscriptions(kick: Callable[[], None]) -> list[Subscription]:
    """Return the durables; `kick` wakes the reconciler that does the work."""

    async def on_deployment_requested(event: AnyEvent, uow: ServingUnitOfWork) -> None:
        await fp("deploy.P1.before")
        if await record_request(event, uow=uow):
            uow.after_commit(kick)
        await fp("deploy.P1.after")

    async def on_model_promoted(_: AnyEvent, uow: ServingUnitOfWork) -> None:
        """Look again: what a promotion means for deployments, the catalog's policies decide."""
        uow.after_commit(kick)

    return [
        Subscription("serving-on-deployment-requested", DeploymentRequested, on_deployment_requested),
        Subscription("serving-on-model-promoted", ModelPromoted, on_model_promoted),
    ]
