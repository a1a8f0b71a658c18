"""Writing, replacing and removing policies."""

from __future__ import annotations

from dataclasses import replace

from catalog.application import views
from catalog.application.caller import Caller, Reply
from catalog.application.policies.documents import PolicyDocument
from catalog.application.ports import Unit
from catalog.domain.entity import key
from catalog.domain.policies import Policy
from catalog.errors import PolicyNotFound
from millrace.clock import Clock


async def put_policy(name: str, document: PolicyDocument, caller: Caller, *, uow: Unit, clock: Clock) -> Reply:
    """Create or replace a policy. It acts on events that happen from now on."""
    stored = document.stored()
    policy = await uow.policies.get(key(caller.project, name))
    if policy is not None and policy.document == stored:
        return Reply(200, views.policy(policy))
    if policy is None:
        policy = Policy(
            id=key(caller.project, name),
            project=caller.project,
            name=name,
            on=document.on,
            document=stored,
            created_by=caller.principal,
            created_at=clock.now(),
            updated_at=clock.now(),
        )
        await uow.policies.add(policy)
        status = 201
    else:
        policy = await uow.policies.save(replace(policy, on=document.on, document=stored, updated_at=clock.now()))
        status = 200
    uow.audit(caller.principal, "policy.put", f"policy:{name}", caller.project, {"on": document.on})
    return Reply(status, views.policy(policy))


async def delete_policy(name: str, caller: Caller, *, uow: Unit) -> None:
    """Remove a policy; its executions stay as history.

    Raises:
        PolicyNotFound: there is none.
    """
    if await uow.policies.get(key(caller.project, name)) is None:
        raise PolicyNotFound(f"no policy {name}")
    await uow.policies.remove(key(caller.project, name))
    uow.audit(caller.principal, "policy.delete", f"policy:{name}", caller.project, {})
