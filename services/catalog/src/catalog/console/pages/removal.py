"""Taking versions and datasets away, and bringing them back: a dialog that says what rests on them first."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Form, Query, Request
from fastapi.responses import HTMLResponse, Response

from catalog.console.api import ConsoleApi
from catalog.console.pages.cache import VERSIONS
from catalog.console.pages.lineage import thing
from catalog.console.paths import Name, v1
from catalog.console.project import within
from catalog.console.render import PREFIX, new_router, page
from catalog.console.session import Api
from millrace.errors import Invalid, MillraceError, Unauthenticated

router = new_router()

Number = Annotated[int | None, Query(ge=1, lt=2**31)]
NumberField = Annotated[int | None, Form(ge=1, lt=2**31)]


@router.get("/fragments/datasets/{name}/removal", response_class=HTMLResponse)
async def removal(request: Request, api: Api, name: Name, version: Number = None) -> HTMLResponse:
    """Return the dialog that asks whether a version, or the whole dataset, shall go."""
    return page(request, "fragments/removal.html", **await _asked(api, name, version))


@router.post("/datasets/{name}/remove")
async def remove(
    request: Request,
    api: Api,
    name: Name,
    *,
    reason: Annotated[str, Form(max_length=2_000)] = "",
    version: NumberField = None,
    force: Annotated[bool, Form()] = False,
) -> Response:
    """Remove a version or a dataset; a refusal is shown in the dialog, which then may offer to do it all the same."""
    if (error := await _refusal(api, _path(name, version), reason.strip(), force=force)) is not None:
        shown = {"refused": error, "reason": reason, **await _asked(api, name, version)}
        return page(request, "fragments/removal.html", **shown)
    return _sent_to(within(request, f"{PREFIX}/datasets/{name}" if version else f"{PREFIX}/datasets"))


@router.post("/datasets/{name}/restore")
async def restore(request: Request, api: Api, name: Name, version: NumberField = None) -> Response:
    """Bring a removed version or dataset back."""
    await api.post(f"{_path(name, version)}/restore", {})
    return _sent_to(within(request, f"{PREFIX}/datasets/{name}"))


async def _refusal(api: ConsoleApi, path: str, reason: str, *, force: bool) -> MillraceError | None:
    """Remove what lies at a path of the API, or return why that is refused."""
    if not reason:
        return Invalid("Say why it shall go; the reason is kept with the removal.")
    try:
        await api.delete(path, reason=reason, force="true" if force else None)
    except Unauthenticated:
        raise
    except MillraceError as error:
        return error
    return None


def _path(name: str, version: int | None) -> str:
    return v1("datasets", name, "versions", version) if version else v1("datasets", name)


def _sent_to(address: str) -> Response:
    return Response(status_code=204, headers={"hx-redirect": address})


async def _asked(api: ConsoleApi, name: str, version: int | None) -> dict[str, Any]:
    """Return what rests on a version, or on the newest ones of a dataset."""
    if version is None:
        listed = await api.items(v1("datasets", name, "versions"), limit=VERSIONS)
        numbers = [int(item["version"]) for item in listed]
    else:
        numbers = [version]
    found = await asyncio.gather(*(api.get("/v1/lineage", node=f"dataset:{name}@{number}") for number in numbers))
    resting = {edge["target"] for lineage in found for edge in lineage["downstream"] if edge["relation"] != "parent"}
    return {"name": name, "version": version, "resting": [thing(node) for node in sorted(resting)]}
