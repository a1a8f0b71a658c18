"""/v1/policies: what happens by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.policies.documents import PolicyDocument
from catalog.application.policies.edit import delete_policy, put_policy
from catalog.domain.entity import key
from catalog.entrypoints.dependencies import MAY_CREATE, After, Here, Limit, Name, answer, may, page
from catalog.entrypoints.policy_text import read_policy
from catalog.errors import PolicyNotFound

router = APIRouter(prefix="/v1/policies", tags=["policies"])
Reader = Annotated[Caller, Depends(may("policies:read"))]
Writer = Annotated[Caller, Depends(may("policies:write"))]


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a JSON Schema without `$ref`: its `$defs` would not be found inside an OpenAPI document."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(item, definitions) for name, item in node.items() if name != "$defs"}


SCHEMA = PolicyDocument.model_json_schema()
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": _inlined(SCHEMA, SCHEMA["$defs"])},
        },
    }
}


@router.put("/{name}", openapi_extra=BODY, responses=MAY_CREATE)
async def put(name: Name, request: Request, caller: Writer, catalog: Here) -> JSONResponse:
    """Create or replace a policy, in YAML or JSON."""
    document = read_policy(await request.body())
    return answer(await catalog.in_unit(put_policy, name, document, caller, clock=catalog.clock))


@router.get("")
async def list_policies(caller: Reader, catalog: Here, limit: Limit = 100, after: After = None) -> dict[str, Any]:
    """List the policies of a project by name."""
    start = f"{caller.project}/{after}" if after else None
    found = await catalog.documents.policies.find({"project": caller.project}, after=start, limit=limit)
    return page([views.policy(item) for item in found], limit, found[-1].name if found else None)


@router.get("/{name}")
async def get(name: Name, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return a policy."""
    policy = await catalog.documents.policies.get(key(caller.project, name))
    if policy is None:
        raise PolicyNotFound(f"no policy {name}")
    return views.policy(policy)


@router.delete("/{name}", status_code=204)
async def delete(name: Name, caller: Writer, catalog: Here) -> Response:
    """Remove a policy; its executions stay."""
    await catalog.in_unit(delete_policy, name, caller)
    return Response(status_code=204)


@router.get("/{name}/executions")
async def list_executions(
    name: Name, caller: Reader, catalog: Here, limit: Limit = 100, after: After = None
) -> dict[str, Any]:
    """List what the policy did, newest first: each request with its state and the reason for it."""
    start = key(caller.project, name, after) if after else None
    found = await catalog.documents.executions.find(
        {"project": caller.project, "policy": name}, descending=True, after=start, limit=limit
    )
    return page([views.execution(item) for item in found], limit, found[-1].event if found else None)
