"""A full window gets its verdict: statistic, incident, events and the shrunken checkpoint in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from drift_monitor.application import meters
from drift_monitor.application.ports import Baselines, ClosedWindow, MonitorUnitOfWork, Repositories
from drift_monitor.application.samples import Samples
from drift_monitor.domain.checkpoint import Checkpoint
from drift_monitor.domain.evaluation import Finding, Rules, Verdict, decide, examine
from drift_monitor.domain.incidents import RESOLVED, Incident, observed, opened
from drift_monitor.domain.selection import gathered
from drift_monitor.domain.statistics import AlphaSpending
from drift_monitor.domain.watch import Watch
from drift_monitor.domain.window import Window
from drift_monitor.errors import WatchMissing
from millrace.documents.ports import Transact
from millrace.errors import MillraceError
from millrace.events import DriftDetected, DriftResolved, TestResult, decode, encode
from millrace.failpoints import fp
from millrace.telemetry import span

log = structlog.get_logger(__name__)

SERVICE = "drift-monitor"
MAX_TESTS = 64


@dataclass(frozen=True, slots=True)
class ClosingConfig:
    """How windows are judged."""

    rules: Rules
    spending: AlphaSpending
    quiet_windows: int


@dataclass(frozen=True, slots=True)
class _Judged:
    window: Window
    watch: Watch
    findings: tuple[Finding, ...]
    verdict: Verdict
    spent: Checkpoint


class Closing:
    """Closes windows of checkpoints that this process owns."""

    def __init__(
        self,
        transact: Transact[MonitorUnitOfWork],
        kept: Repositories,
        baselines: Baselines,
        samples: Samples,
        config: ClosingConfig,
        *,
        on_gathered: Callable[[], None],
    ) -> None:
        self._transact = transact
        self._kept = kept
        self._baselines = baselines
        self._samples = samples
        self._config = config
        self._on_gathered = on_gathered

    async def close_all(self, checkpoint: Checkpoint) -> Checkpoint:
        """Close what is closing, oldest first, and return the checkpoint as it is then stored."""
        while checkpoint.closing:
            with span("close window"), meters.EVALUATION.time():
                checkpoint = await self._close_first(checkpoint)
        return checkpoint

    async def _close_first(self, checkpoint: Checkpoint) -> Checkpoint:
        await fp("drift.M3.before")
        judged = await self._judge(checkpoint)
        incident = await self._kept.incidents.get(checkpoint.incident) if checkpoint.incident else None
        if judged.verdict.alert and (incident is None or incident.gathers):
            random, margin = judged.window.pane.pools.chosen()
            await self._samples.store(checkpoint.project, (*random, *margin))
        await fp("drift.M3.after")
        await fp("drift.M4.before")
        stored = await self._transact(lambda uow: self._record(judged, uow))
        await fp("drift.M5.after")
        meters.WINDOWS.labels(judged.verdict.outcome).inc()
        meters.ALPHA.labels(checkpoint.project, checkpoint.deployment).set(stored.spent)
        return stored

    async def _judge(self, checkpoint: Checkpoint) -> _Judged:
        window = checkpoint.closing[0]
        watch = await self._kept.watches.get(checkpoint.project, checkpoint.deployment, window.deployment_revision)
        if watch is None or watch.reference is None:
            raise WatchMissing(f"window {window.number} of {checkpoint.id} has no reference")
        rules = self._config.rules
        try:
            baseline = await self._baselines.load(watch.reference)
            findings = await asyncio.to_thread(examine, window.pane, baseline)
        except MillraceError as error:
            if error.transient:
                raise
            log.warning("window not judged", window=window.number, checkpoint=checkpoint.id, reason=error.message)
            return _Judged(window, watch, (), Verdict("unjudged", 0.0), checkpoint)
        if window.pane.rows < rules.min_rows:
            return _Judged(window, watch, findings, decide(findings, rows=0, alpha=0.0, rules=rules), checkpoint)
        alpha, spent = checkpoint.alpha(window, self._config.spending)
        return _Judged(
            window, watch, findings, decide(findings, rows=window.pane.rows, alpha=alpha, rules=rules), spent
        )

    async def _record(self, judged: _Judged, uow: MonitorUnitOfWork) -> Checkpoint:
        """Write everything that the verdict changes."""
        incident_id = judged.spent.incident
        before = await uow.incidents.get(incident_id) if incident_id else None
        after = self._advance(judged, before)
        closed = ClosedWindow(
            project=judged.watch.project,
            deployment=judged.watch.deployment,
            window=judged.window,
            model=judged.watch.model,
            version=judged.watch.version,
            findings=judged.findings,
            verdict=judged.verdict,
            incident=after.id if after is not None else None,
        )
        await uow.windows.add(closed)
        await fp("drift.M4.after")
        await fp("drift.M5.before")
        if after is not None and before is None:
            await self._open(after, uow)
        elif after is not None and after != before:
            await self._follow(after, judged.watch, uow)
        still = after.id if after is not None and after.state != RESOLVED else None
        return await uow.checkpoints.save(judged.spent.closed(still))

    def _advance(self, judged: _Judged, incident: Incident | None) -> Incident | None:
        window, verdict = judged.window, judged.verdict
        candidates = gathered(window.number, window.pane.pools.chosen())
        if incident is not None:
            return observed(
                incident,
                window=window.number,
                deployment_revision=window.deployment_revision,
                verdict=verdict,
                candidates=candidates,
                quiet_windows=self._config.quiet_windows,
            )
        if not verdict.alert:
            return None
        return replace(opened(judged.watch, window.number, window.pane.rows, verdict), candidates=candidates)

    async def _open(self, incident: Incident, uow: MonitorUnitOfWork) -> None:
        watch = incident.watch
        data = DriftDetected(
            incident=incident.id,
            deployment=watch.deployment,
            revision=watch.deployment_revision,
            model=watch.model,
            version=watch.version,
            dataset=watch.dataset,
            commit=watch.commit,
            window=incident.window,
            rows=incident.rows,
            tests=tuple(_result(finding) for finding in incident.tests[:MAX_TESTS]),
        )
        cause = decode(watch.cause) if watch.cause else None
        event = uow.emit(
            data,
            project=watch.project,
            subject=incident.id,
            sequence=1,
            cause=cause,
            correlation=None if cause else incident.id,
        )
        await uow.incidents.add(replace(incident, cause=encode(event)))
        uow.audit(SERVICE, "drift.detect", incident.id, watch.project, {"window": incident.window})
        uow.after_commit(lambda: meters.INCIDENTS.labels("detected").inc())
        uow.after_commit(self._on_gathered)

    async def _follow(self, incident: Incident, watch: Watch, uow: MonitorUnitOfWork) -> None:
        """Write an incident's next state; the watch is that of the window that changed it."""
        stored = await uow.incidents.save(incident)
        uow.after_commit(self._on_gathered)
        if stored.state != RESOLVED:
            return
        own = incident.watch
        data = DriftResolved(
            incident=incident.id,
            deployment=own.deployment,
            revision=watch.deployment_revision,
            model=watch.model,
            version=watch.version,
            dataset=watch.dataset,
            commit=watch.commit,
            quiet_windows=incident.quiet,
        )
        newer = watch.deployment_revision > own.deployment_revision and watch.cause is not None
        cause = decode(watch.cause if newer and watch.cause else incident.cause)
        uow.emit(
            data,
            project=own.project,
            subject=incident.id,
            sequence=stored.revision,
            cause=cause,
            correlation=decode(incident.cause).correlationid,
        )
        uow.audit(SERVICE, "drift.resolve", incident.id, own.project, {"window": incident.last_window})
        uow.after_commit(lambda: meters.INCIDENTS.labels("resolved").inc())


def _result(finding: Finding) -> TestResult:
    return TestResult(
        feature=finding.feature,
        test=finding.test,
        statistic=finding.statistic,
        p_value=finding.adjusted,
        effect=finding.effect,
    )
