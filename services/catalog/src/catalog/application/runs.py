"""Runs: asking for one, by hand or by policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from catalog.application import views
from catalog.application.caller import Caller, Reply
from catalog.application.ports import Documents, Unit
from catalog.domain.datasets import Version
from catalog.domain.records import edge
from catalog.domain.runs import Run
from catalog.errors import RunNotFound
from millrace.clock import Clock, new_id
from millrace.events import AnyEvent, CacheRequested, Selected, TrainingRequested


@dataclass(frozen=True)
class RunWish:
    """How a version should be trained on."""

    site: str
    component: str
    model: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    gpus: int = 1
    priority: int = 0
    experiment: str = "default"
    mode: Literal["tree", "packs"] = "tree"
    paths: tuple[str, ...] = ()
    early: bool = False


def request_cache(
    version: Version,
    site: str,
    by: str,
    *,
    cause: AnyEvent | None,
    uow: Unit,
    correlation: str | None = None,
    selected: Selected | None = None,
) -> AnyEvent:
    """Ask for a version, or what is selected of it, to be present at a site; repeating it asks for the same."""
    return uow.emit(
        CacheRequested(
            site=site,
            dataset=version.dataset,
            version=version.version,
            commit=version.commit,
            reason=by,
            selected=selected or Selected(),
        ),
        project=version.project,
        subject=f"{site}/{version.dataset}@{version.version}",
        sequence=version.version,
        cause=cause,
        principal=by,
        correlation=correlation,
    )


async def request_run(
    version: Version,
    wish: RunWish,
    by: str,
    *,
    cause: AnyEvent | None,
    correlation: str | None,
    uow: Unit,
    clock: Clock,
) -> Run:
    """Record a run and ask the trainer for it, in one transaction."""
    run_id = str(new_id())
    event = uow.emit(
        _request(run_id, version, wish),
        project=version.project,
        subject=run_id,
        sequence=1,
        cause=cause,
        principal=by,
        correlation=correlation,
    )
    run = Run(
        id=run_id,
        project=version.project,
        reason="waiting for the trainer to take it",
        dataset=version.dataset,
        version=version.version,
        commit=version.commit,
        site=wish.site,
        component=wish.component,
        model=wish.model,
        params=wish.params,
        gpus=wish.gpus,
        priority=wish.priority,
        experiment=wish.experiment,
        mode=wish.mode,
        paths=wish.paths,
        early=wish.early,
        created_by=by,
        created_at=clock.now(),
        correlation=event.correlationid,
        cause=event.causationid,
        event=event.id,
    )
    await uow.runs.add(run)
    source = f"dataset:{version.dataset}@{version.version}"
    await uow.edges.add(edge(version.project, source, "input", f"run:{run_id}"))
    detail = {"component": wish.component, "dataset": f"{version.dataset}@{version.version}", "site": wish.site}
    uow.audit(by, "run.request", f"run:{run_id}", version.project, detail)
    return run


def _request(run_id: str, version: Version, wish: RunWish) -> TrainingRequested:
    return TrainingRequested(
        run=run_id,
        dataset=version.dataset,
        version=version.version,
        commit=version.commit,
        site=wish.site,
        component=wish.component,
        model=wish.model,
        params=wish.params,
        gpus=wish.gpus,
        priority=wish.priority,
        experiment=wish.experiment,
        selected=Selected(mode=wish.mode, paths=wish.paths),
        early=wish.early,
    )


async def start_run(version: Version, wish: RunWish, caller: Caller, *, uow: Unit, clock: Clock) -> Reply:
    """Ask for a run by hand. The version is asked for at the site too, so that the run does not wait for ever."""
    run = await request_run(
        version, wish, caller.principal, cause=None, correlation=caller.correlation, uow=uow, clock=clock
    )
    request_cache(
        version,
        wish.site,
        caller.principal,
        cause=None,
        correlation=run.correlation,
        uow=uow,
        selected=Selected(mode=wish.mode, paths=wish.paths),
    )
    return Reply(201, views.run(run))


async def find_run(project: str, run_id: str, *, documents: Documents) -> Run:
    """Return a run of the project.

    Raises:
        RunNotFound: there is none of that id.
    """
    run = await documents.runs.get(run_id)
    if run is None or run.project != project:
        raise RunNotFound(f"no run {run_id[:64]!r}")
    return run
