"""/v1/runs: asking for runs, and what their agents report."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from catalog.application import views
from catalog.application.caller import Caller, Reply, fingerprint, once
from catalog.application.ports import Unit
from catalog.application.progress import read_metrics, report_logs, report_metrics, report_stages
from catalog.application.runs import RunWish, find_run, start_run
from catalog.application.versions import find_version
from catalog.domain.metrics import LogLine, Point
from catalog.domain.runs import Stage
from catalog.entrypoints.bodies import LogsBody, MetricsBody, RunBody, StagesBody, moment
from catalog.entrypoints.dependencies import MAY_REPEAT, After, Here, Limit, answer, may, page
from millrace.errors import Invalid

router = APIRouter(prefix="/v1/runs", tags=["runs"])
Reader = Annotated[Caller, Depends(may("runs:read"))]
Writer = Annotated[Caller, Depends(may("runs:write"))]
Agent = Annotated[Caller, Depends(may("runs:report"))]
RunPath = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


@router.post("", status_code=201, responses=MAY_REPEAT)
async def post_run(body: RunBody, caller: Writer, catalog: Here) -> JSONResponse:
    """Ask for a run on a dataset version; the version is asked for at the site, too."""
    version = await find_version(caller.project, body.dataset, str(body.version), documents=catalog.documents)
    wish = RunWish(
        site=body.site,
        component=body.component,
        model=body.model,
        params=body.params,
        gpus=body.gpus,
        priority=body.priority,
        experiment=body.experiment,
        mode=body.mode,
        paths=body.paths,
        early=body.early,
    )

    async def work(uow: Unit) -> Reply:
        async def start() -> Reply:
            return await start_run(version, wish, caller, uow=uow, clock=catalog.clock)

        return await once(uow, caller, fingerprint("run", body.model_dump()), start, clock=catalog.clock)

    return answer(await catalog.transact(work))


@router.get("")
async def list_runs(
    *,
    caller: Reader,
    catalog: Here,
    limit: Limit = 100,
    after: After = None,
    state: Annotated[str | None, Query(max_length=32)] = None,
    dataset: Annotated[str | None, Query(max_length=63)] = None,
    model: Annotated[str | None, Query(max_length=63)] = None,
    correlation: Annotated[str | None, Query(max_length=128)] = None,
) -> dict[str, Any]:
    """List runs, newest first."""
    filters = {"state": state, "dataset": dataset, "model": model, "correlation": correlation}
    where = {"project": caller.project, **{name: value for name, value in filters.items() if value is not None}}
    found = await catalog.documents.runs.find(where, descending=True, after=after, limit=limit)
    return page([views.run(item) for item in found], limit, found[-1].id if found else None)


@router.get("/{run}")
async def get_run(run: RunPath, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return a run: its state and why, its stages, its newest metrics."""
    return views.run(await find_run(caller.project, run, documents=catalog.documents))


@router.post("/{run}/metrics")
async def post_metrics(run: RunPath, body: MetricsBody, caller: Agent, catalog: Here) -> dict[str, Any]:
    """Store metric points, unique by (run, key, step). Under a lower fence than is known: 409 `fenced`."""
    now = catalog.clock.now()
    points = [Point(it.key, it.step, it.value, moment(it.at, now), body.fence) for it in body.points]
    stored: dict[str, Any] = await catalog.in_unit(report_metrics, caller.project, run, body.fence, points)
    return stored


@router.get("/{run}/metrics")
async def get_metrics(
    *,
    run: RunPath,
    caller: Reader,
    catalog: Here,
    key: Annotated[list[str] | None, Query(max_length=50)] = None,
    after_step: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    limit: Annotated[int, Query(ge=4, le=10_000, description="most points per key; peaks are kept")] = 1_000,
) -> dict[str, Any]:
    """Return the curves of a run, all keys or those named."""
    items = await read_metrics(
        caller.project, run, keys=key, after_step=after_step, limit=limit, documents=catalog.documents
    )
    return {"items": items, "next": None}


@router.post("/{run}/logs")
async def post_logs(run: RunPath, body: LogsBody, caller: Agent, catalog: Here) -> dict[str, Any]:
    """Append log lines by offset; repeating them changes nothing. Under a lower fence: 409 `fenced`."""
    lines = [LogLine(body.fence, body.offset + place, it.at, it.stream, it.line) for place, it in enumerate(body.lines)]
    stored: dict[str, Any] = await catalog.in_unit(report_logs, caller.project, run, body.fence, lines)
    return stored


@router.get("/{run}/logs")
async def get_logs(
    *,
    run: RunPath,
    caller: Reader,
    catalog: Here,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    after: Annotated[str | None, Query(max_length=40, description="`<fence>:<offset>` of the last line seen")] = None,
    tail: bool = False,
) -> dict[str, Any]:
    """Return log lines in order; `tail=true` the last ones. `next` always goes on from the last line returned."""
    await find_run(caller.project, run, documents=catalog.documents)
    lines = catalog.documents.lines
    found = await lines.tail(run, limit) if tail else await lines.read(run, after=_place(after), limit=limit)
    last = f"{found[-1].fence}:{found[-1].offset}" if found else after
    return {"items": [views.line(item) for item in found], "next": last}


def _place(after: str | None) -> tuple[int, int]:
    if after is None:
        return (0, -1)
    fence, _, offset = after.partition(":")
    if not (fence.isdecimal() and offset.isdecimal() and after.isascii() and len(after) < 36):
        raise Invalid("`after` is `<fence>:<offset>`")
    return min(int(fence), 2**53), min(int(offset), 2**53)


@router.post("/{run}/stages")
async def post_stages(run: RunPath, body: StagesBody, caller: Agent, catalog: Here) -> dict[str, Any]:
    """Add dated progress codes. Under a lower fence: 409 `fenced`."""
    now = catalog.clock.now()
    stages = [Stage(it.code, it.message, moment(it.at, now)) for it in body.stages]
    stored: dict[str, Any] = await catalog.in_unit(report_stages, caller.project, run, body.fence, stages)
    return stored
