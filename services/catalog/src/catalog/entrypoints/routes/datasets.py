"""/v1/datasets: datasets, versions, uploads, commits, downloads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.datasets import CommitDataset, commit_dataset, describe_dataset
from catalog.application.encryption import check_sealed, sealed_with
from catalog.application.rebuilding import rebuild
from catalog.application.records import list_records, summarise_records
from catalog.application.removing import Remove, remove, restore
from catalog.application.versions import (
    WantedObject,
    find_dataset,
    find_version,
    open_downloads,
    open_uploads,
)
from catalog.entrypoints.bodies import CommitBody, DatasetBody, DownloadsBody, Safe, UploadsBody, plain
from catalog.entrypoints.dependencies import MAY_CREATE, MAY_REPEAT, After, Here, Limit, Name, answer, may, page
from millrace.errors import Invalid

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Reader = Annotated[Caller, Depends(may("datasets:read"))]
Writer = Annotated[Caller, Depends(may("datasets:write"))]
Remover = Annotated[Caller, Depends(may("datasets:delete"))]
Removed = Annotated[bool, Query(description="those that were removed, too")]
Reason = Annotated[str, Query(max_length=2_000, description="kept with the removal"), Safe]
Force = Annotated[bool, Query(description="although runs or models rest on it")]
Ref = Annotated[str, Path(max_length=64, description="a number, a commit or a prefix of one, or `latest`")]


@router.put("/{name}", responses=MAY_CREATE)
async def put_dataset(name: Name, body: DatasetBody, caller: Writer, catalog: Here) -> JSONResponse:
    """Create a dataset, or change its description."""
    return answer(await catalog.in_unit(describe_dataset, name, body.description, caller, clock=catalog.clock))


@router.get("")
async def list_datasets(
    caller: Reader, catalog: Here, *, limit: Limit = 100, after: After = None, removed: Removed = False
) -> dict[str, Any]:
    """List the datasets of a project by name."""
    start = f"{caller.project}/{after}" if after else None
    found = await catalog.documents.datasets.find(
        {"project": caller.project, **({} if removed else {"removed": None})}, after=start, limit=limit
    )
    return page([views.dataset(item) for item in found], limit, found[-1].name if found else None)


@router.get("/{name}")
async def get_dataset(name: Name, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return a dataset with its head."""
    return views.dataset(await find_dataset(caller.project, name, documents=catalog.documents))


@router.post("/{name}/uploads")
async def post_uploads(name: Name, body: UploadsBody, caller: Writer, catalog: Here) -> dict[str, Any]:
    """Return for each object a presigned URL to PUT it to; `url` is null where the lake has it already.

    The PUT must carry `headers`: lakes differ in what they want (Azure Blob: `x-ms-blob-type`), and in how a PUT says
    that it only creates. An answer of 409 or 412 means that somebody else was quicker; 403 may mean it, too.
    An encrypted project takes only what is `sealed` with its key.
    """
    sealed = await check_sealed(caller.project, body.sealed, documents=catalog.documents)
    wanted = [WantedObject(item.kind, item.id) for item in body.objects]
    items = await open_uploads(name, wanted, caller, documents=catalog.documents, lake=catalog.lake)
    return {"items": items, "next": None, "sealed": sealed}


@router.post("/{name}/commits", status_code=201, responses=MAY_REPEAT)
async def post_commit(name: Name, body: CommitBody, caller: Writer, catalog: Here) -> JSONResponse:
    """Verify what was uploaded and make it the next version: 201, or 200 if the head holds the same tree already."""
    cmd = CommitDataset(
        dataset=name,
        manifest=body.manifest,
        tree_root=body.tree_root,
        files=body.files,
        bytes=body.bytes,
        parent=body.parent,
        packs=tuple(body.packs),
        message=body.message,
        lineage=plain(body.lineage),
        records=body.records,
        attested=body.attested,
    )
    reply = await commit_dataset(
        cmd,
        caller,
        documents=catalog.documents,
        transact=catalog.transact,
        lake=catalog.lake,
        checker=catalog.checker,
        clock=catalog.clock,
    )
    return answer(reply)


@router.get("/{name}/versions")
async def list_versions(
    name: Name, caller: Reader, catalog: Here, *, limit: Limit = 100, after: After = None, removed: Removed = False
) -> dict[str, Any]:
    """List versions, newest first."""
    dataset = await find_dataset(caller.project, name, documents=catalog.documents)
    if after is not None and not (after.isascii() and after.isdecimal() and len(after) < 10):
        raise Invalid("`after` is the `next` of a page of versions")
    found = await catalog.documents.versions.find(
        {"project": caller.project, "dataset": name, **({} if removed else {"removed": None})},
        order="version",
        descending=True,
        after=int(after) if after else None,
        limit=limit,
    )
    if not removed:
        found = [item for item in found if item.removed_at(dataset) is None]
    return page([views.version(item) for item in found], limit, str(found[-1].version) if found else None)


@router.get("/{name}/versions/{ref}")
async def get_version(name: Name, ref: Ref, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return one version."""
    return views.version(await find_version(caller.project, name, ref, documents=catalog.documents))


@router.delete("/{name}")
async def delete_dataset(
    name: Name, caller: Remover, catalog: Here, *, reason: Reason = "", force: Force = False
) -> JSONResponse:
    """Remove a dataset with all its versions; its bytes stay until garbage collection."""
    cmd = Remove(name, reason=reason, force=force)
    return answer(await catalog.in_unit(remove, cmd, caller, clock=catalog.clock))


@router.delete("/{name}/versions/{ref}")
async def delete_version(
    name: Name, ref: Ref, caller: Remover, catalog: Here, *, reason: Reason = "", force: Force = False
) -> JSONResponse:
    """Remove a version that is not the head; its number stays taken, its bytes stay until garbage collection."""
    cmd = Remove(name, ref, reason=reason, force=force)
    return answer(await catalog.in_unit(remove, cmd, caller, clock=catalog.clock))


@router.post("/{name}/restore")
async def post_restore_dataset(name: Name, caller: Remover, catalog: Here) -> JSONResponse:
    """Bring a removed dataset back, as long as its bytes are kept."""
    return answer(await catalog.in_unit(restore, name, None, caller))


@router.post("/{name}/versions/{ref}/restore")
async def post_restore_version(name: Name, ref: Ref, caller: Remover, catalog: Here) -> JSONResponse:
    """Bring a removed version back, as long as its bytes are kept."""
    return answer(await catalog.in_unit(restore, name, ref, caller))


@router.post("/{name}/rebuild")
async def post_rebuild(name: Name, caller: Remover, catalog: Here) -> dict[str, Any]:
    """Make manifests and commit objects that the lake lost again: from packs, and from what the catalog remembers."""
    return await rebuild(name, caller, documents=catalog.documents, lake=catalog.lake)


@router.post("/{name}/versions/{ref}/downloads")
async def post_downloads(name: Name, ref: Ref, body: DownloadsBody, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return for each object of the version a presigned URL to GET it from, and `headers` that must go with it.

    Where `sealed` names a key, what comes is sealed with it.
    """
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    wanted = [WantedObject(item.kind, item.id) for item in body.objects]
    items = await open_downloads(version, wanted, lake=catalog.lake)
    return {"items": items, "next": None, "sealed": await sealed_with(caller.project, documents=catalog.documents)}


@router.get("/{name}/versions/{ref}/records")
async def get_records(
    name: Name,
    ref: Ref,
    caller: Reader,
    catalog: Here,
    *,
    kind: Annotated[str | None, Query(alias="type", max_length=63, description="only records of this type")] = None,
    path: Annotated[str, Query(max_length=1_024, description="only ids that begin so")] = "",
    after: Annotated[str | None, Query(max_length=16, description="the `next` of the page before")] = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """List the typed records of a version by id; a version without a table has none."""
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    return await list_records(version, kind=kind, path=path, after=after, limit=limit, lake=catalog.lake)


@router.get("/{name}/versions/{ref}/records/summary")
async def get_record_summary(name: Name, ref: Ref, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Count the records of a version by type, and name their metadata fields."""
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    return await summarise_records(version, lake=catalog.lake)
