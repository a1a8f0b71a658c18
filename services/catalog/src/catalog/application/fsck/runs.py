"""I9 and I10: a run's end agrees with what was reported, and its newest metrics are readable."""

from __future__ import annotations

import json

from catalog.application.fsck.report import Report, every
from catalog.application.ports import Documents
from catalog.domain.records import LogRow
from catalog.domain.runs import Run

ENDS = {"completed": "training.completed", "failed": "training.failed", "cancelled": "training.cancelled"}


async def check_runs(report: Report, *, documents: Documents) -> None:
    """Check every run."""
    async for run in every(documents.runs, {}):
        await _check_end(run, report, documents)
        await _check_metrics(run, report, documents)
        resource = f"run:{run.id}"
        rows = await documents.trail.count({"project": run.project, "resource": resource})
        report.expect(rows == 1, "I11", f"{rows} audit rows instead of one", resource)


async def _check_end(run: Run, report: Report, documents: Documents) -> None:
    where = {"project": run.project, "subject": run.id, "type": tuple(ENDS.values())}
    rows = await documents.log.find(where, limit=10)
    ends = sorted({row.type for row in rows if _counts(row, run)})
    wanted = [ENDS[run.state]] if run.over else []
    agrees = ends == wanted if not run.over else wanted[0] in ends
    report.expect(agrees, "I9", f"the run is {run.state}, the log has {ends}", f"run:{run.id}")


def _counts(row: LogRow, run: Run) -> bool:
    """Return whether a logged end is not from a holder that had lost its grant."""
    fence = int(json.loads(row.raw)["data"].get("fence", 0))
    return fence == 0 or fence >= run.fence


async def _check_metrics(run: Run, report: Report, documents: Documents) -> None:
    for key, step in run.latest_steps.items():
        points = await documents.points.of(run.id, key, after_step=step - 1)
        found = bool(points) and points[0].step == step
        report.expect(found, "I10", f"{key} at step {step} was acknowledged and is gone", f"run:{run.id}")
        steps = [point.step for point in points]
        report.expect(len(set(steps)) == len(steps), "I10", f"{key} has a step twice", f"run:{run.id}")
