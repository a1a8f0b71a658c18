"""Datasets, their versions, what changed between two, and the way in: files from the browser."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import HTMLResponse, Response

from catalog.console.api import ConsoleApi
from catalog.console.pages.cache import VERSIONS, Removed, versions_with_copies
from catalog.console.paths import REF_PATTERN, After, Name, v1
from catalog.console.project import within
from catalog.console.render import PREFIX, new_router, page
from catalog.console.rights import rights_of
from catalog.console.session import Api
from millrace.errors import Unavailable
from millrace.patterns import NAME_PATTERN

router = new_router()

CHANGES = 200
AnyRef = Annotated[str, Query(pattern=REF_PATTERN)]


@router.get("/datasets", response_class=HTMLResponse)
async def datasets(request: Request, api: Api, *, removed: Removed = False) -> HTMLResponse:
    """List the datasets with their heads, those that were removed only if asked for."""
    wanted = {"removed": "true"} if removed else {}
    found, rights, encryption = await asyncio.gather(
        api.items("/v1/datasets", **wanted), rights_of(api), api.get("/v1/encryption")
    )
    heads = await asyncio.gather(*(_head(api, dataset) for dataset in found))
    shown = {"datasets": list(zip(found, heads, strict=True)), "removed": removed, "rights": rights}
    return page(request, "datasets.html", here="datasets", encryption=encryption, **shown)


@router.post("/encryption")
async def encrypt(request: Request, api: Api) -> Response:
    """Encrypt the project, and show its datasets again."""
    await api.put("/v1/encryption", None)
    return Response(status_code=204, headers={"hx-redirect": within(request, f"{PREFIX}/datasets")})


async def _head(api: ConsoleApi, dataset: dict[str, Any]) -> dict[str, Any] | None:
    if dataset["head"] is None or dataset["removed"]:
        return None
    found: dict[str, Any] = await api.get(v1("datasets", dataset["name"], "versions", dataset["head"]["version"]))
    return found


@router.get("/datasets/{name}", response_class=HTMLResponse)
async def dataset(
    request: Request, api: Api, name: Name, *, after: After = None, removed: Removed = False
) -> HTMLResponse:
    """Show a dataset's versions, where each is cached, and what the dataset demands of them."""
    demanded, context = await asyncio.gather(
        api.get(v1("datasets", name, "checks")), versions_with_copies(api, name, after, removed=removed)
    )
    return page(request, "dataset.html", here="datasets", demanded=demanded, **context)


@router.get("/datasets/{name}/diff", response_class=HTMLResponse)
async def diff(
    request: Request,
    api: Api,
    name: Name,
    *,
    old: Annotated[AnyRef, Query(alias="from")],
    new: Annotated[AnyRef, Query(alias="to")] = "latest",
    change: Literal["added", "removed", "changed"] | None = None,
    after: After = None,
) -> HTMLResponse:
    """Show what one version changed of another."""
    wanted = {"from": old, "to": new, "change": change, "after": after, "limit": CHANGES}
    found, versions = await asyncio.gather(
        api.get(v1("datasets", name, "diff"), **wanted), api.items(v1("datasets", name, "versions"), limit=VERSIONS)
    )
    shown = {"diff": found, "name": name, "versions": versions, "change": change, "after": after}
    return page(request, "diff.html", here="datasets", **shown)


@router.get("/upload", response_class=HTMLResponse)
async def upload(
    request: Request, api: Api, dataset: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None
) -> HTMLResponse:
    """Show the form that makes a version of files from this machine."""
    known = [item["name"] for item in await api.items("/v1/datasets", limit=1_000)]
    return page(request, "upload.html", here="datasets", dataset=dataset, known=known)


@router.get("/uploads/{operation}", response_class=HTMLResponse)
async def upload_progress(request: Request, api: Api, operation: str) -> HTMLResponse:
    """Show what becomes of an upload."""
    return page(request, "upload_progress.html", here="datasets", **await _operation(api, operation))


@router.get("/fragments/uploads/{operation}", response_class=HTMLResponse)
async def upload_fragment(request: Request, api: Api, operation: str) -> HTMLResponse:
    """Return how far an upload is, for the page that is open."""
    return page(request, "fragments/upload.html", **await _operation(api, operation))


async def _operation(api: ConsoleApi, operation: str) -> dict[str, Any]:
    """Return an operation with the job that works on it, as far as ingest answers and has one."""
    found = await api.get(v1("operations", operation))
    jobs: list[dict[str, Any]] = []
    if found["job"] and found["state"] not in {"completed", "failed"}:
        try:
            jobs = [await api.get(v1("ingest", "jobs", found["job"]))]
        except Unavailable:
            jobs = []
    return {"operation": found, "job": jobs[0] if jobs else None}
