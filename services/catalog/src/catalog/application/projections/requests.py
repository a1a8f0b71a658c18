"""Requests that policies made move on with what they asked for."""

from __future__ import annotations

from catalog.application.ports import Unit
from catalog.domain.policies import RequestState

MAX_EXECUTIONS = 100


async def settle(project: str, target: str, state: RequestState, reason: str, *, uow: Unit) -> None:
    """Bring the open requests for `target` to `state`, with a reason."""
    for execution in await uow.executions.find({"project": project, "targets": target}, limit=MAX_EXECUTIONS):
        settled = execution.settle(target, state, reason)
        if settled != execution:
            await uow.executions.save(settled)
