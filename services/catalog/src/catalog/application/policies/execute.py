"""A policy meets an event: its requests are made in the transaction that marks the event as dealt with.

The event log row carries `policies: due` from the transaction that announced the event. Whoever comes first, the bus
handler or the reconciler, turns it to `done` together with the executions and their requests; the other finds nothing
to do. So losing the broker's copy of an event delays nothing and doubles nothing.
"""

from __future__ import annotations

from dataclasses import replace

from catalog.application.policies.documents import PolicyDocument
from catalog.application.policies.requests import ask_cache, ask_deployment, ask_training
from catalog.application.ports import Unit
from catalog.domain.deployments import deployment_id
from catalog.domain.models import ModelVersion, model_version_id
from catalog.domain.policies import Execution, Policy, Request, Verdict, execution_id, matches, not_worse
from catalog.domain.records import LogRow
from millrace.clock import Clock
from millrace.events import AnyEvent, decode

MAX_POLICIES = 1_000


async def execute_policies(row: LogRow, *, uow: Unit, clock: Clock) -> int:
    """Run every policy that the logged event concerns, and mark the row as done. Returns the number of executions."""
    fresh = await uow.log.get(row.id)
    if fresh is None or fresh.policies == "done":
        return 0
    await uow.log.save(replace(fresh, policies="done"))
    event = decode(fresh.raw.encode())
    where = {"project": event.project, "on": event.type}
    made = 0
    for policy in await uow.policies.find(where, limit=MAX_POLICIES):
        document = PolicyDocument.model_validate(policy.document)
        if document.enabled and matches(document.where, event.data.model_dump(mode="json")):
            await _execute(policy, document, event, uow, clock)
            made += 1
    return made


async def _execute(policy: Policy, document: PolicyDocument, event: AnyEvent, uow: Unit, clock: Clock) -> None:
    execution = execution_id(policy.project, policy.name, event.key)
    if await uow.executions.get(execution) is not None:
        return
    verdict = await _judge(document, event, uow)
    requests = await _ask(policy, document, event, verdict, uow=uow, clock=clock)
    await uow.executions.add(
        Execution(
            id=execution,
            project=policy.project,
            policy=policy.name,
            policy_revision=policy.revision,
            event=event.key,
            event_type=event.type,
            correlation=event.correlationid,
            requests=requests,
            targets=tuple(request.target for request in requests),
            created_at=clock.now(),
        )
    )
    uow.audit(
        f"policy:{policy.name}",
        "policy.execute",
        f"policy:{policy.name}",
        policy.project,
        {"event": event.key, "requests": [f"{request.kind} {request.state}" for request in requests]},
    )


async def _ask(
    policy: Policy, document: PolicyDocument, event: AnyEvent, verdict: Verdict, *, uow: Unit, clock: Clock
) -> tuple[Request, ...]:
    by = f"policy:{policy.name}"
    cached = {action.cache.site for action in document.do if action.cache}
    requests: list[Request] = []
    for action in document.do:
        if not verdict.passes:
            kind = action.kinds[0]
            spec = getattr(action, kind).model_dump(mode="json", exclude_none=True)
            requests.append(Request(kind=kind, target=kind, state="skipped", reason=verdict.why, spec=spec))
        elif action.cache is not None:
            requests.append(await ask_cache(action.cache, event, by, uow=uow))
        elif action.train is not None:
            also_cache = action.train.site not in cached
            requests.append(await ask_training(action.train, event, by, also_cache=also_cache, uow=uow, clock=clock))
            cached.add(action.train.site)
        elif action.deploy is not None:
            requests.append(await ask_deployment(action.deploy, event, by, verdict.why, uow=uow, clock=clock))
    return tuple(requests)


async def _judge(document: PolicyDocument, event: AnyEvent, uow: Unit) -> Verdict:
    condition = document.unless_worse_than_deployed
    if condition is None:
        return Verdict(True, "")
    candidate = await _model_version(event.project, event.data.model, event.data.version, uow)
    deployment = await uow.deployments.get(deployment_id(event.project, condition.deployment))
    held = deployment.compared() if deployment else None
    if held is None:
        return Verdict(True, f"nothing is deployed as {condition.deployment} yet")
    deployed = await _model_version(event.project, *held, uow)
    return not_worse(
        condition.metric,
        candidate.metrics.get(condition.metric) if candidate else None,
        deployed.metrics.get(condition.metric) if deployed else None,
        condition.tolerance,
    )


async def _model_version(project: str, model: str, version: int, uow: Unit) -> ModelVersion | None:
    return await uow.model_versions.get(model_version_id(project, model, version))
