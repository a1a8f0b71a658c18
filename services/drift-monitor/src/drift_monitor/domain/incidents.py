"""An incident: from the window that drifted to the windows that are quiet again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b

from drift_monitor.domain.evaluation import Finding, Verdict
from drift_monitor.domain.selection import Candidate
from drift_monitor.domain.watch import Watch

OPEN, RESOLVED = "open", "resolved"
GATHERING, ASKED, ANSWERED, LANDED, NOT_ASKED = "gathering", "asked", "answered", "landed", "not-asked"
MAX_CANDIDATES = 512
"""Candidates of an incident beyond which no more are gathered: eight windows' worth."""


@dataclass(frozen=True, slots=True)
class Incident:
    """`state` is about the windows, `labels` about what people were asked; `cause` is the `drift.detected` event."""

    id: str
    watch: Watch
    window: int
    rows: int
    tests: tuple[Finding, ...]
    alpha: float
    state: str = OPEN
    labels: str = GATHERING
    reason: str = "gathering samples to ask about"
    candidates: tuple[Candidate, ...] = ()
    gathered_windows: int = 0
    asked_window: int | None = None
    queue: str | None = None
    quiet: int = 0
    seen_revision: int = 0
    """Highest deployment revision that had a window since the incident opened."""
    last_window: int = 0
    cause: bytes = b""
    revision: int = 1

    @property
    def gathers(self) -> bool:
        """Return whether the samples of a further alerting window are wanted."""
        return self.labels == GATHERING and len(self.candidates) < MAX_CANDIDATES


def incident_id(project: str, deployment: str, window: int) -> str:
    """Return the id of the incident that a window opens: the same whoever closes the window, so it opens once."""
    text = f"{project}/{deployment}/{window}".encode()
    return f"inc-{blake2b(text, digest_size=10, person=b'millrace-inc').hexdigest()}"


def opened(watch: Watch, window: int, rows: int, verdict: Verdict) -> Incident:
    """Return the incident that an alerting window opens."""
    return Incident(
        id=incident_id(watch.project, watch.deployment, window),
        watch=watch,
        window=window,
        rows=rows,
        tests=verdict.fired,
        alpha=verdict.alpha,
        seen_revision=watch.deployment_revision,
        last_window=window,
    )


def observed(
    incident: Incident,
    *,
    window: int,
    deployment_revision: int,
    verdict: Verdict,
    candidates: tuple[Candidate, ...],
    quiet_windows: int,
) -> Incident:
    """Return an open incident after one more window.

    Windows of an older revision than the newest seen are history and change nothing. `quiet_windows` quiet ones in a
    row, of one revision, resolve the incident.
    """
    if deployment_revision < incident.seen_revision or not (verdict.alert or verdict.quiet):
        return incident
    quiet = incident.quiet if deployment_revision == incident.seen_revision else 0
    incident = replace(incident, seen_revision=deployment_revision, last_window=window)
    if verdict.alert:
        wanted = incident.gathers and deployment_revision == incident.watch.deployment_revision
        incident = replace(incident, quiet=0)
        return gather(incident, candidates) if wanted else incident
    incident = replace(incident, quiet=quiet + 1)
    if incident.quiet < quiet_windows:
        return incident
    if incident.labels == GATHERING:
        incident = replace(incident, labels=NOT_ASKED, reason="quiet again before enough samples were gathered")
    return replace(incident, state=RESOLVED)


def gather(incident: Incident, candidates: tuple[Candidate, ...]) -> Incident:
    """Return the incident with a window's candidates added."""
    kept = (*incident.candidates, *candidates)
    return replace(incident, candidates=kept, gathered_windows=incident.gathered_windows + 1)
