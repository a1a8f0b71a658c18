"""All checks of the catalog, one after the other."""

from __future__ import annotations

from typing import Any

from catalog.application.fsck.datasets import check_datasets
from catalog.application.fsck.events import check_events
from catalog.application.fsck.models import check_models
from catalog.application.fsck.report import Report
from catalog.application.fsck.runs import check_runs
from catalog.application.fsck.trail import check_trail
from catalog.application.lake import Lake
from catalog.application.ports import Documents
from millrace.clock import Clock


async def check(*, documents: Documents, lake: Lake, clock: Clock) -> dict[str, Any]:
    """Return what was checked and what does not hold: `{service, checked, violations}`."""
    report = Report()
    await check_datasets(report, documents=documents, lake=lake)
    await check_models(report, documents=documents, lake=lake)
    await check_runs(report, documents=documents)
    await check_events(report, documents=documents, clock=clock)
    await check_trail(report, documents=documents)
    return {"service": "catalog", "checked": report.checked, "violations": report.violations}
