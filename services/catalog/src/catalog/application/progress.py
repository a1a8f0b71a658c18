"""What a run's agent reports while it works: metrics, log lines, stages. Each report carries its fence.

A report under a lower fence than is known comes from a holder that lost its grant, and is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from catalog.application import views
from catalog.application.ports import Documents, Unit
from catalog.application.runs import find_run
from catalog.domain.metrics import LogLine, Point, downsample
from catalog.domain.runs import Stage

MAX_KEYS = 2_000


async def report_metrics(project: str, run_id: str, fence: int, points: list[Point], *, uow: Unit) -> dict[str, Any]:
    """Store points and keep the newest value of each key in the run.

    Raises:
        Fenced: a newer grant is in force.
    """
    run = (await find_run(project, run_id, documents=uow)).under(fence)
    fresh = [replace(point, fence=fence) for point in points]
    changed = await uow.points.record(project, run_id, fresh)
    if changed:
        run = run.measured([(point.key, point.step, point.value) for point in fresh])
        await uow.runs.save(run)
    return {"accepted": len(points), "changed": changed}


async def read_metrics(
    project: str, run_id: str, *, keys: list[str] | None, after_step: int, limit: int, documents: Documents
) -> list[dict[str, Any]]:
    """Return the points of a run, at most `limit` of each key, peaks kept."""
    await find_run(project, run_id, documents=documents)
    wanted = keys or (await documents.points.keys(run_id))[:MAX_KEYS]
    found: list[dict[str, Any]] = []
    for key in wanted:
        points = await documents.points.of(run_id, key, after_step=after_step)
        found.extend(views.point(point) for point in downsample(points, limit))
    return found


async def report_logs(project: str, run_id: str, fence: int, lines: list[LogLine], *, uow: Unit) -> dict[str, Any]:
    """Store log lines by (fence, offset); repeating them changes nothing.

    Raises:
        Fenced: a newer grant is in force.
    """
    run = await find_run(project, run_id, documents=uow)
    held = run.under(fence)
    if held is not run:
        await uow.runs.save(held)
    added = await uow.lines.append(project, run_id, lines)
    return {"accepted": len(lines), "added": added, "next_offset": max((line.offset + 1 for line in lines), default=0)}


async def report_stages(project: str, run_id: str, fence: int, stages: list[Stage], *, uow: Unit) -> dict[str, Any]:
    """Add dated progress codes to the run.

    Raises:
        Fenced: a newer grant is in force.
    """
    run = (await find_run(project, run_id, documents=uow)).under(fence)
    staged = run.staged(tuple(stages))
    if staged != run or run.fence == fence:
        staged = await uow.runs.save(staged)
    return {"accepted": len(stages), "stages": len(staged.stages)}
