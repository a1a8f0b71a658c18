"""The routes, and the client of the catalog's API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ingest.adapters.catalog_http import HttpCatalog
from ingest.domain.jobs import Cause, Job
from ingest.entrypoints.http import fsck_router, router
from ingest.errors import HeadMoved, KeyReused
from millrace.auth import Principal
from millrace.errors import ChecksFailed, DeadlineExceeded, Forbidden, Invalid, MillraceError, NotFound, Unavailable
from millrace.http import ANONYMOUS_PATHS, create_app, enumerate_routes
from millrace.runtime import Runtime


class Names:
    """The token is the role; `other-` before it means project `other`."""

    async def authenticate(self, token: str) -> Principal:
        project = "other" if token.startswith("other-") else "*"
        return Principal(token, "person", project, frozenset({token.removeprefix("other-")}))


@pytest.fixture
async def web(lab: Any) -> AsyncIterator[Any]:
    engine = await lab.ingest()
    app = create_app("ingest", runtime=Runtime("ingest"), authenticator=Names(), routers=[router, fsck_router])
    app.state.world, app.state.commits, app.state.engine = engine.world, engine.lake, engine
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://ingest") as client:

        async def get(path: str, token: str = "owner") -> httpx.Response:
            return await client.get(path, headers={"authorization": f"Bearer {token}"})

        get.app = app  # type: ignore[attr-defined]
        yield get


@pytest.mark.servers
async def test_jobs_are_listed_within_their_project(lab: Any, web: Any) -> None:
    for guard in enumerate_routes(web.app):
        assert guard.action is not None or guard.path in ANONYMOUS_PATHS, guard
    engine = web.app.state.engine
    jobs = [await lab.take(engine, await lab.land(f"default/landing/z/{n}/", {"a": bytes([n])})) for n in range(3)]

    first = (await web("/v1/ingest/jobs?limit=2", "viewer")).json()
    rest = (await web(f"/v1/ingest/jobs?limit=2&after={first['next']}", "viewer")).json()

    assert [item["job"] for item in first["items"] + rest["items"]] == [job.id for job in reversed(jobs)]
    assert (await web(f"/v1/ingest/jobs/{jobs[0].id}")).json()["version"] == 1
    assert (await web(f"/v1/ingest/jobs/{jobs[0].id}?project=other", "other-owner")).status_code == 404
    assert (await web("/v1/ingest/jobs", "other-owner")).status_code == 404
    assert (await web("/v1/ingest/jobs?state=FAILED")).json()["items"] == []
    assert (await web("/v1/fsck")).json() == {"service": "ingest", "checked": 3, "violations": []}
    assert (await web("/v1/fsck", "viewer")).status_code == 403


def job() -> Job:
    return Job("event-1", "default", "digits", "s3://b/p/", "append", cause=Cause(event=b"{}", correlation="story-1"))


def catalog(answer: Any) -> HttpCatalog:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://catalog")
    return HttpCatalog(client, token="secret")


async def test_a_commit_carries_key_and_story() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json={"dataset": "digits", "version": 2, "commit": "c", "files": 1, "bytes": 1})

    made = await catalog(answer).commit(job(), {"parent": None})

    [request] = seen
    assert (made.version, request.url.params["project"]) == (2, "default")
    wanted = {"idempotency-key": "event-1", "x-correlation-id": "story-1", "x-causation-id": "event-1"}
    assert {name: request.headers[name] for name in wanted} == wanted


async def test_a_dataset_that_is_missing_is_made() -> None:
    methods: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        if request.method == "GET":
            return httpx.Response(404, json={"code": "dataset-not-found", "detail": "no dataset digits"})
        return httpx.Response(201, json={"name": "digits", "head": None})

    assert await catalog(answer).head(job()) is None
    assert methods == ["GET", "PUT"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (409, "head-moved", HeadMoved),
        (409, "idempotency-key-reused", KeyReused),
        (400, "object-missing", Unavailable),
        (400, "records-mismatch", Invalid),
        (409, "checks-changed", Unavailable),
        (410, "version-removed", NotFound),
        (422, "checks-failed", ChecksFailed),
        (403, "forbidden", Forbidden),
        (401, "unauthenticated", Unavailable),
        (500, "error", Unavailable),
        (503, "unavailable", Unavailable),
    ],
)
async def test_answers_become_our_errors(status: int, code: str, kind: type[MillraceError]) -> None:
    with pytest.raises(kind) as caught:
        await catalog(lambda _: httpx.Response(status, json={"code": code, "detail": "why"})).commit(job(), {})
    assert type(caught.value) is kind


async def test_no_answer_is_unknown_and_not_failed() -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(DeadlineExceeded):
        await catalog(slow).commit(job(), {})
