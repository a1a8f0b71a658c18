"""Jobs as people see them."""

from __future__ import annotations

from typing import Any

from ingest.domain.jobs import Job
from ingest.domain.places import shown


def job(job: Job) -> dict[str, Any]:
    """Return a job."""
    return {
        "job": job.id,
        "project": job.project,
        "dataset": job.dataset,
        "uri": shown(job.uri),
        "mode": job.mode,
        "format": job.format,
        "origin": job.origin,
        "state": job.state.value,
        "reason": job.reason,
        "attempts": job.attempts,
        "files": job.files,
        "bytes": job.bytes,
        "dropped": job.dropped,
        "done": job.done,
        "version": job.version,
        "commit": job.commit,
        "lineage": dict(job.lineage),
        "correlation": job.cause.correlation,
        "revision": job.revision,
        "created_at": job.created_at.isoformat() if job.created_at else None,
        "updated_at": job.updated_at.isoformat() if job.updated_at else None,
    }
