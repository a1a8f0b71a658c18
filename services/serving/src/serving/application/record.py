"""Recording what is desired. The reconciler does the rest."""

from __future__ import annotations

from millrace.events import DeploymentRequested, Event, encode
from serving.application.ports import ServingUnitOfWork
from serving.domain.endpoint import Endpoint, Spec


async def record_request(event: Event[DeploymentRequested], *, uow: ServingUnitOfWork) -> bool:
    """Record the desired state that `event` asks for; return whether it was news.

    The newest revision wins: an older or repeated one changes nothing, in whatever order they come.
    """
    data = event.data
    spec = Spec(
        project=event.project,
        deployment=data.deployment,
        revision=data.revision,
        model=data.model,
        version=data.version,
        digest=data.digest,
        prefix=data.prefix,
        dataset=data.dataset,
        commit=data.commit,
        reference=data.reference,
        present=data.desired == "present",
    )
    cause = encode(event).decode()
    known = await uow.endpoints.get(event.project, data.deployment)
    endpoint = Endpoint(spec, cause) if known is None else known.requested(spec, cause)
    if endpoint is known:
        return False
    await uow.endpoints.save(endpoint)
    return True
