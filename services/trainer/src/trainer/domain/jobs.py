"""The life of a job as pure functions: what it is, and which move leads where.

    WAITING      -> READY                    the cache lease is held
    READY        -> GRANTED                  devices are claimed under a fence higher than any before
    GRANTED      -> RUNNING                  the process was spawned
    RUNNING      -> REGISTERING | COMPLETED  it ended well, with a model or without
    REGISTERING  -> COMPLETED | FAILED       the catalog knows the model | refuses it
    GRANTED, RUNNING -> READY                interrupted, or failed with attempts left
    GRANTED, RUNNING -> FAILED               failed for good
    every state before REGISTERING -> CANCELLED; a running one once its process is gone

COMPLETED, FAILED and CANCELLED never change. Every move raises `revision` by one, which numbers the job's events.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from trainer.errors import IllegalMove


class State(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    READY = "ready"
    GRANTED = "granted"
    RUNNING = "running"
    REGISTERING = "registering"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


PENDING = frozenset({State.WAITING, State.READY})
HELD = frozenset({State.GRANTED, State.RUNNING})
TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


@dataclass(frozen=True)
class CacheLease:
    """The right to read the version at `path` until the lease is given back.

    `early` is where packs are to be found until all of them are at `path`; empty for a copy that was complete.
    """

    id: str
    path: str
    token: int = 0
    hit: bool = False
    early: str = ""


@dataclass(frozen=True)
class Process:
    """A process group by the pid of its leader and the leader's start time, so that a reused pid is noticed."""

    pid: int
    start: str
    boot: str = ""


@dataclass(frozen=True)
class Grant:
    """Who may run the job: the agent that holds `node` under `token`, on these devices, under this fence."""

    node: str
    token: int
    devices: tuple[str, ...]
    fence: int
    process: Process | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint in the object store, named by its manifest."""

    epoch: int
    fence: int
    manifest: str
    digest: str


@dataclass(frozen=True)
class Artifact:
    """The model package that the run made, whole in the object store, and what registration needs to know of it."""

    digest: str
    prefix: str
    files: tuple[dict[str, Any], ...]
    framework: str
    signature: dict[str, Any]
    metrics: dict[str, float]
    reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run in the queue. `event` are the bytes of the `training.requested` that asked for it."""

    run: str
    project: str
    revision: int = 1
    ticket: int = 0
    state: State = State.WAITING
    reason: str = ""
    dataset: str
    version: int
    commit: str
    site: str
    component: str
    model: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    gpus: int = 1
    priority: int = 0
    experiment: str = "default"
    mode: str = "tree"
    paths: tuple[str, ...] = ()
    early: bool = False
    event: bytes = b""
    attempt: int = 0
    failures: int = 0
    interruptions: int = 0
    fence: int = 0
    grant: Grant | None = None
    lease: CacheLease | None = None
    checkpoint: Checkpoint | None = None
    artifact: Artifact | None = None
    cancelling: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    model_version: int | None = None
    exit_code: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Return whether the job has ended."""
        return self.state in TERMINAL

    def need_grant(self) -> Grant:
        """Return the grant.

        Raises:
            IllegalMove: nobody holds the job.
        """
        if self.grant is None:
            raise IllegalMove(f"run {self.run} is {self.state}, without a grant")
        return self.grant

    def need_lease(self) -> CacheLease:
        """Return the cache lease.

        Raises:
            IllegalMove: the job has none.
        """
        if self.lease is None:
            raise IllegalMove(f"run {self.run} has no cache lease")
        return self.lease

    def held_under(self, fence: int) -> bool:
        """Return whether somebody holds the job under this very fence."""
        return self.state in HELD and self.grant is not None and self.grant.fence == fence


def waits(job: Job, reason: str) -> Job:
    """Return the job with another reason to wait."""
    _require(job, *PENDING)
    return _moved(job, reason=reason)


def leased(job: Job, lease: CacheLease) -> Job:
    """Return the job with its version within reach."""
    _require(job, State.WAITING)
    return _moved(job, state=State.READY, lease=lease, reason="waits for a device")


def unleased(job: Job, reason: str) -> Job:
    """Return a job that lost its cache lease. One that runs goes on as long as its files are there."""
    _require(job, State.READY, *HELD)
    if job.state in HELD:
        return _moved(job, lease=None)
    return _moved(job, state=State.WAITING, lease=None, reason=reason)


def leased_again(job: Job, lease: CacheLease) -> Job:
    """Return a job whose lost cache lease was replaced before anybody noticed."""
    _require(job, State.READY, *HELD)
    return _moved(job, lease=lease)


def told(job: Job, reason: str) -> Job:
    """Return a held job with a note of what it is at."""
    _require(job, *HELD)
    return _moved(job, reason=reason[:2_000])


def granted(job: Job, grant: Grant) -> Job:
    """Return the job with devices. The grant's fence must be higher than any the job had."""
    _require(job, State.READY)
    if grant.fence <= job.fence:
        raise IllegalMove(f"fence {grant.fence} is not above {job.fence}")
    return _moved(
        job,
        state=State.GRANTED,
        grant=grant,
        fence=grant.fence,
        attempt=job.attempt + 1,
        reason=f"{', '.join(grant.devices)} on {grant.node}: the process is being started",
    )


def started(job: Job, process: Process, at: datetime) -> Job:
    """Return the job with a live process."""
    _require(job, State.GRANTED)
    grant, first = replace(job.need_grant(), process=process), job.started_at or at
    return _moved(job, state=State.RUNNING, grant=grant, started_at=first, reason="")


def checkpointed(job: Job, checkpoint: Checkpoint) -> Job:
    """Return the job with a newer checkpoint."""
    _require(job, State.RUNNING)
    return _moved(job, checkpoint=checkpoint)


def interrupted(job: Job, reason: str, at: datetime, *, most: int) -> Job:
    """Return a job whose process is gone through no fault of its own; after `most` times that is a failure too."""
    _require(job, *HELD)
    if job.cancelling:
        return _ended(job, State.CANCELLED, "cancelled", at)
    if job.interruptions + 1 > most:
        return _ended(job, State.FAILED, f"interrupted {job.interruptions + 1} times; the last time: {reason}", at)
    return _again(job, reason, interruptions=job.interruptions + 1)


def broke(job: Job, reason: str, exit_code: int | None, at: datetime, *, attempts: int, final: bool) -> Job:
    """Return a job whose process failed: it tries again from its checkpoint, up to `attempts` failures in all."""
    _require(job, *HELD)
    if job.cancelling:
        return _ended(job, State.CANCELLED, "cancelled", at)
    failures = job.failures + 1
    if final or failures >= attempts:
        return replace(_ended(job, State.FAILED, reason, at), failures=failures, exit_code=exit_code)
    told = f"attempt {job.attempt} failed and is tried again ({failures} of {attempts}): {reason}"
    return _again(job, told[:2_000], failures=failures, exit_code=exit_code)


def produced(job: Job, artifact: Artifact | None, metrics: dict[str, float], at: datetime) -> Job:
    """Return a job whose process ended well. Its devices are free at once."""
    _require(job, State.RUNNING)
    if artifact is None or job.model is None:
        return replace(_ended(job, State.COMPLETED, "", at), metrics=metrics, exit_code=0)
    return _moved(
        job,
        state=State.REGISTERING,
        grant=None,
        artifact=artifact,
        metrics=metrics,
        exit_code=0,
        reason=f"its package is stored; waits for the catalog to register it as a version of {job.model}",
    )


def registered(job: Job, version: int, at: datetime) -> Job:
    """Return a job whose model the catalog knows."""
    _require(job, State.REGISTERING)
    return replace(_ended(job, State.COMPLETED, "", at), model_version=version)


def refused(job: Job, reason: str, at: datetime) -> Job:
    """Return a job whose model the catalog refuses for good."""
    _require(job, State.REGISTERING)
    return _ended(job, State.FAILED, reason, at)


def cancel(job: Job, at: datetime) -> Job:
    """Return the job cancelled, or about to be: a process is stopped first.

    Raises:
        IllegalMove: the job has ended, or its model is being registered.
    """
    _require(job, *PENDING, *HELD)
    if job.state in PENDING:
        return _ended(job, State.CANCELLED, "cancelled", at)
    return job if job.cancelling else _moved(job, cancelling=True, reason="is being stopped")


def released(job: Job) -> Job:
    """Return a job that gave its cache lease back."""
    _require(job, *TERMINAL, State.REGISTERING)
    return _moved(job, lease=None)


def _again(job: Job, reason: str, **changes: Any) -> Job:
    state = State.READY if job.lease is not None else State.WAITING
    return _moved(job, state=state, grant=None, reason=reason, **changes)


def _ended(job: Job, state: State, reason: str, at: datetime) -> Job:
    return _moved(job, state=state, grant=None, reason=reason[:2_000], ended_at=at, cancelling=False)


def _moved(job: Job, **changes: Any) -> Job:
    return replace(job, revision=job.revision + 1, **changes)


def _require(job: Job, *states: State) -> None:
    if job.state not in states:
        raise IllegalMove(f"run {job.run} is {job.state}", state=str(job.state))
