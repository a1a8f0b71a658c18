"""The catalog, asked over HTTP with the service's own token, in the name of the event that is worked on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from ingest.application.ports import Committed, Head
from ingest.domain.jobs import Job
from ingest.errors import HeadMoved, KeyReused
from millrace.errors import (
    ChecksFailed,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    MillraceError,
    NotFound,
    Unavailable,
)
from millrace.telemetry import current_traceparent

ASK_SECONDS = 10.0
COMMIT_SECONDS = 120.0
"""The catalog verifies the manifest and looks for every new object before it answers."""

PAGE = 100
MAX_PAGES = 100

_BY_STATUS: dict[int, type[MillraceError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: Invalid,
    422: Invalid,
}
_BY_CODE: dict[str, type[MillraceError]] = {
    HeadMoved.code: HeadMoved,
    KeyReused.code: KeyReused,
    ChecksFailed.code: ChecksFailed,
    "checks-changed": Unavailable,
    "object-missing": Unavailable,
}
"""What passes when it is tried again is transient: checks that were changed meanwhile, objects that a garbage
collection took between push and commit."""


class HttpCatalog:
    """`Catalog` on the catalog's API."""

    def __init__(self, client: httpx.AsyncClient, *, token: str) -> None:
        self._client = client
        self._token = token

    async def head(self, job: Job) -> Head | None:
        """Return the head of the job's dataset, making the dataset if there is none."""
        try:
            body = await self._ask("GET", _dataset(job), job)
        except NotFound:
            body = await self._ask("PUT", _dataset(job), job, json={"description": "ingested"})
        head = body.get("head")
        return None if head is None else Head(int(head["version"]), str(head["commit"]))

    async def commit(self, job: Job, body: Mapping[str, Any]) -> Committed:
        """Ask for a commit; the job's id makes repeats harmless."""
        path = f"{_dataset(job)}/commits"
        return _committed(await self._ask("POST", path, job, json=body, seconds=COMMIT_SECONDS, key=job.id))

    async def made_by(self, job: Job) -> Committed | None:
        """Return the version whose lineage names the job's event, if there is one."""
        after: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._ask("GET", f"{_dataset(job)}/versions", job, limit=PAGE, after=after, removed="true")
            for item in page["items"]:
                if item["lineage"].get("event") == job.id:
                    return _committed(item)
            after = page.get("next")
            if after is None:
                return None
        return None

    async def _ask(
        self,
        method: str,
        path: str,
        job: Job,
        *,
        json: Mapping[str, Any] | None = None,
        seconds: float = ASK_SECONDS,
        key: str | None = None,
        **query: Any,
    ) -> dict[str, Any]:
        params = {"project": job.project, **{name: value for name, value in query.items() if value is not None}}
        try:
            answer = await self._client.request(
                method, path, params=params, json=json, headers=self._headers(job, key), timeout=seconds
            )
        except httpx.TimeoutException:
            raise DeadlineExceeded("the catalog did not answer in time; the outcome is unknown") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"the catalog cannot be asked: {type(error).__name__}") from None
        if answer.is_success:
            body: dict[str, Any] = answer.json()
            return body
        raise _error(answer)

    def _headers(self, job: Job, key: str | None) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self._token}"}
        if job.cause.correlation:
            headers["x-correlation-id"] = job.cause.correlation
        if job.cause.event is not None:
            headers["x-causation-id"] = job.id
        if traceparent := current_traceparent():
            headers["traceparent"] = traceparent
        if key is not None:
            headers["idempotency-key"] = key
        return headers


def _dataset(job: Job) -> str:
    return f"/v1/datasets/{quote(job.dataset, safe='')}"


def _committed(body: Mapping[str, Any]) -> Committed:
    return Committed(
        dataset=str(body["dataset"]),
        version=int(body["version"]),
        commit=str(body["commit"]),
        files=int(body["files"]),
        bytes=int(body["bytes"]),
    )


def _error(answer: httpx.Response) -> MillraceError:
    """Return the error of a problem document; what is not the caller's fault is transient."""
    try:
        problem = answer.json()
        code, detail = str(problem.get("code", "")), str(problem.get("detail", ""))[:1_000]
    except (ValueError, AttributeError):
        code, detail = "", ""
    message = f"the catalog answered {answer.status_code}: {detail or 'no reason given'}"
    kind = _BY_CODE.get(code) or _BY_STATUS.get(answer.status_code) or Unavailable
    return kind(message)
