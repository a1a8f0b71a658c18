"""Telling the world what became of a job: the event is part of the transaction that changes it."""

from __future__ import annotations

from ingest.application.ports import Committed, Unit
from ingest.domain.jobs import Job
from ingest.domain.places import shown
from millrace.events import EventData, IngestCompleted, IngestFailed, IngestStarted, decode

MAX_REASON = 2_000


def started(job: Job, *, uow: Unit) -> None:
    """Announce that the landed data is being read."""
    _emit(IngestStarted(job=job.id, dataset=job.dataset, uri=shown(job.uri)), job, uow)


def completed(job: Job, version: Committed, *, uow: Unit) -> None:
    """Announce that the landed data is a version."""
    data = IngestCompleted(
        job=job.id,
        dataset=job.dataset,
        version=version.version,
        commit=version.commit,
        files=version.files,
        bytes=version.bytes,
    )
    _emit(data, job, uow)


def failed(job: Job, *, uow: Unit) -> None:
    """Announce that the landed data was refused whole."""
    _emit(IngestFailed(job=job.id, dataset=job.dataset, reason=job.reason[:MAX_REASON]), job, uow)


def _emit(data: EventData, job: Job, uow: Unit) -> None:
    uow.emit(
        data,
        project=job.project,
        subject=job.id,
        sequence=job.revision,
        cause=decode(job.cause.event) if job.cause.event else None,
        principal=job.cause.principal,
        correlation=None if job.cause.event else job.cause.correlation,
    )
