"""The catalog over HTTP: what runs report, and the registration of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millrace.errors import Fenced, Invalid, MillraceError, Unavailable
from trainer.adapters.calls import Calls
from trainer.application import facts
from trainer.application.ports import Report
from trainer.domain.jobs import Job
from trainer.errors import IllegalMove


class HttpCatalog:
    """`Catalog` on the catalog's API."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def report(self, project: str, run: str, fence: int, reports: Sequence[Report]) -> None:
        """Store reports of one kind. Repeating them changes nothing.

        Raises:
            Fenced: a newer grant is in force. Invalid: refused for good. Unavailable: try again later.
        """
        kind = reports[0].kind
        path = f"/v1/runs/{run}/{kind}s"
        body = {"fence": fence, **_BODIES[kind](reports)}
        try:
            await self._calls("POST", path, project=project, body=body)
        except (Fenced, Invalid):
            raise
        except MillraceError as error:
            raise Unavailable(error.message) from None

    async def register(self, job: Job) -> int:
        """Register the job's package as a model version and return its number; idempotent by run.

        Raises:
            Unavailable: try again later. MillraceError: refused for good.
        """
        artifact, cause = job.artifact, facts.cause_of(job)
        if artifact is None:
            raise IllegalMove(f"run {job.run} has no package to register")
        body = {
            "run": job.run,
            "fence": job.fence,
            "digest": artifact.digest,
            "uri": artifact.prefix,
            "files": list(artifact.files),
            "framework": artifact.framework,
            "signature": artifact.signature,
            "metrics": artifact.metrics,
            "dataset": job.dataset,
            "version": job.version,
            "commit": job.commit,
            "reference": artifact.reference,
        }
        headers = {"x-correlation-id": cause.correlationid, "x-causation-id": cause.key}
        if cause.traceparent:
            headers["traceparent"] = cause.traceparent
        path = f"/v1/models/{job.model}/versions"
        answer = await self._calls("POST", path, project=job.project, body=body, headers=headers)
        try:
            return int(answer["version"])
        except (KeyError, TypeError, ValueError):
            raise Unavailable("the catalog's answer is no model version") from None


def _metrics(reports: Sequence[Report]) -> dict[str, Any]:
    return {
        "points": [
            {"key": key, "step": report.step, "value": _number(value), "at": report.at}
            for report in reports
            for key, value in report.values.items()
        ]
    }


def _number(value: float) -> float | str:
    """Return what JSON can carry: numbers that are not finite go as text."""
    return value if abs(value) < float("inf") else str(value)


def _stages(reports: Sequence[Report]) -> dict[str, Any]:
    return {"stages": [{"code": report.code, "message": report.text, "at": report.at} for report in reports]}


def _logs(reports: Sequence[Report]) -> dict[str, Any]:
    lines = [{"at": report.at, "stream": report.stream, "line": report.text} for report in reports]
    return {"offset": reports[0].offset, "lines": lines}


_BODIES = {"metric": _metrics, "stage": _stages, "log": _logs}
