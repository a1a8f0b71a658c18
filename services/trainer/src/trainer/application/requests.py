"""Taking jobs into the queue, and out of it again by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from millrace.clock import Clock
from millrace.events import AnyEvent, TrainingRequested, encode
from millrace.failpoints import fp, fp_sync
from trainer.application import facts
from trainer.application.moves import move_any
from trainer.application.ports import TrainerUnit
from trainer.domain import jobs
from trainer.domain.components import Components
from trainer.domain.jobs import Job, State
from trainer.errors import JobNotFound


async def record(
    event: AnyEvent, *, uow: TrainerUnit, components: Components, clock: Clock, kick: Callable[[], None]
) -> None:
    """Record a requested run, once; say in what state it is and why."""
    wanted: TrainingRequested = event.data
    await fp("train.T1.before")
    if await uow.jobs.get(wanted.run) is not None:
        return
    job = Job(
        run=wanted.run,
        project=event.project,
        ticket=await uow.next("ticket"),
        dataset=wanted.dataset,
        version=wanted.version,
        commit=wanted.commit,
        site=wanted.site,
        component=wanted.component,
        model=wanted.model,
        params=wanted.params,
        gpus=wanted.gpus,
        priority=wanted.priority,
        experiment=wanted.experiment,
        mode=wanted.selected.mode,
        paths=wanted.selected.paths,
        early=wanted.early and wanted.selected.mode == "packs",
        event=encode(event),
        created_at=clock.now(),
        reason=f"waits for {wanted.dataset}@{wanted.version} at site {wanted.site}",
    )
    if components.argv(wanted.component) is None:
        known = ", ".join(components.names())
        reason = f"there is no component {wanted.component}; this trainer knows {known}"
        job = replace(job, state=State.FAILED, reason=reason, ended_at=clock.now())
    await uow.jobs.add(job)
    facts.announce(uow, job, facts.outcome(job) or facts.queued(job))
    await fp("train.T1.during")
    uow.after_commit(kick)
    uow.after_commit(lambda: fp_sync("train.T1.after"))


async def cancel(run: str, *, project: str, principal: str, uow: TrainerUnit, clock: Clock) -> Job:
    """Cancel a job, or begin to stop its process.

    Raises:
        JobNotFound: there is none in this project. IllegalMove: it has ended, or its model is being registered.
    """
    job = await uow.jobs.get(run)
    if job is None or job.project != project:
        raise JobNotFound(f"no run {run} in the queue")
    moved = await move_any(uow, run, lambda held: jobs.cancel(held, clock.now()))
    if moved != job:
        uow.audit(principal, "queue.cancel", f"run:{run}", project, {"state": str(job.state)})
    return moved
