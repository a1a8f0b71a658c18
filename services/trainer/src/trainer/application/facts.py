"""What the trainer tells others about a job: the event that goes with a move."""

from __future__ import annotations

from datetime import datetime

from millrace.events import (
    AnyEvent,
    EventData,
    TrainingCancelled,
    TrainingCheckpointed,
    TrainingCompleted,
    TrainingFailed,
    TrainingPreempted,
    TrainingQueued,
    TrainingStarted,
    decode,
)
from trainer.application.ports import TrainerUnit
from trainer.domain.jobs import Checkpoint, Grant, Job, State


def cause_of(job: Job) -> AnyEvent:
    """Return the event that asked for the job; everything the trainer says about it is caused by that."""
    return decode(job.event)


def announce(uow: TrainerUnit, job: Job, data: EventData) -> None:
    """Emit a fact about the job as it is now; its revision is the sequence."""
    uow.emit(data, project=job.project, subject=job.run, sequence=job.revision, cause=cause_of(job))


def queued(job: Job) -> TrainingQueued:
    """Return that the job waits, and for what."""
    return TrainingQueued(run=job.run, reason=job.reason[:2_000])


def started(job: Job) -> TrainingStarted:
    """Return that the job's process runs."""
    grant, lease = job.need_grant(), job.need_lease()
    return TrainingStarted(
        run=job.run,
        attempt=job.attempt,
        node=grant.node,
        device=", ".join(grant.devices)[:256],
        fence=grant.fence,
        commit=job.commit,
        site=job.site,
        path=lease.path,
        cache_hit=lease.hit,
        lease=lease.id,
    )


def checkpointed(job: Job, made: Checkpoint) -> TrainingCheckpointed:
    """Return that a checkpoint is whole."""
    return TrainingCheckpointed(
        run=job.run, fence=made.fence, epoch=made.epoch, manifest=made.manifest, digest=made.digest
    )


def outcome(job: Job, lost: Grant | None = None) -> EventData | None:
    """Return what to say of a job after a move that may have ended it or sent it back; None if there is nothing.

    `lost` is the grant that the move took away.
    """
    if job.state is State.COMPLETED:
        return TrainingCompleted(
            run=job.run,
            fence=job.fence,
            metrics=job.metrics,
            model=job.model if job.model_version else None,
            model_version=job.model_version,
            seconds=_seconds(job.started_at, job.ended_at),
        )
    if job.state is State.FAILED:
        return TrainingFailed(run=job.run, fence=job.fence, reason=job.reason, exit_code=job.exit_code)
    if job.state is State.CANCELLED:
        return TrainingCancelled(run=job.run, fence=job.fence)
    if lost is not None and job.grant is None and job.state in {State.READY, State.WAITING}:
        return TrainingPreempted(run=job.run, fence=lost.fence, reason=job.reason[:2_000])
    return None


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0
