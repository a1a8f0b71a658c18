"""The trainer's invariants: a device has at most one live job, fences only rise, a job is in exactly one state.

I6 and I9 of the reliability reference. `check` is pure; what needs the object store is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.domain.devices import Node
from trainer.domain.jobs import HELD, Job, State


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, in words, and where."""

    invariant: str
    what: str
    where: str


def check(
    jobs: Sequence[Job], nodes: Sequence[Node], last_fence: int, checkpoints: dict[str, str | None]
) -> list[Violation]:
    """Return every violation; `checkpoints` maps manifest keys to the digest of their bytes, None if missing."""
    found = [*_devices(jobs, nodes), *_fences(jobs, last_fence)]
    for job in jobs:
        found += [Violation("I9", what, f"run {job.run}") for what in _state(job)]
        made = job.checkpoint
        if made is not None and checkpoints.get(made.manifest, made.digest) != made.digest:
            found.append(Violation("I9", f"checkpoint {made.epoch} is missing or damaged", f"run {job.run}"))
    return found


def _devices(jobs: Sequence[Job], nodes: Sequence[Node]) -> list[Violation]:
    found: list[Violation] = []
    live = {job.run: job for job in jobs if job.state in HELD}
    claims = Counter((job.grant.node, device) for job in live.values() if job.grant for device in job.grant.devices)
    found += [
        Violation("I6", f"{count} live jobs hold it", f"{node} {it}")
        for (node, it), count in claims.items()
        if count > 1
    ]
    held: set[tuple[str, str]] = set()
    for node in nodes:
        for slot in node.slots:
            if slot.run is None:
                continue
            held.add((node.name, slot.device.id))
            grant = live[slot.run].grant if slot.run in live else None
            if grant is None or grant.fence != slot.fence or slot.device.id not in grant.devices:
                what = f"it is held by run {slot.run} under fence {slot.fence}, which holds no such grant"
                found.append(Violation("I6", what, f"{node.name} {slot.device.id}"))
    found += [
        Violation("I6", "a live job holds it and the node does not know", f"{n} {it}")
        for n, it in claims
        if (n, it) not in held
    ]
    return found


def _fences(jobs: Sequence[Job], last: int) -> list[Violation]:
    counts = Counter(job.fence for job in jobs if job.fence)
    twice = [Violation("I6", f"{count} jobs have it", f"fence {fence}") for fence, count in counts.items() if count > 1]
    above = [
        Violation("I6", f"fence {job.fence} was never drawn", f"run {job.run}") for job in jobs if job.fence > last
    ]
    return [*twice, *above]


def _state(job: Job) -> list[str]:
    problems = {
        "it is held without a grant": job.state in HELD and job.grant is None,
        "it has a grant and is not held": job.state not in HELD and job.grant is not None,
        "its grant has another fence": job.grant is not None and job.grant.fence != job.fence,
        "it is ready without a cache lease": job.state is State.READY and job.lease is None,
        "it has ended without a time": job.over and job.ended_at is None,
        "it has not ended and has a time": not job.over and job.ended_at is not None,
        "it is registering without a package": job.state is State.REGISTERING and job.artifact is None,
        "it waits without a reason": job.state in {State.WAITING, State.READY, State.REGISTERING} and not job.reason,
    }
    return [what for what, wrong in problems.items() if wrong]
