"""The console while its neighbours are away: pages show what the catalog knows, and nothing answers with a 5xx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@pytest.fixture
async def visitor(gateway: Any) -> AsyncIterator[httpx.AsyncClient]:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    first = await gateway.commit(await gateway.push(a=b"1", b=b"2"))
    await gateway.commit(await gateway.push(a=b"1", c=b"3"), first.json()["commit"])
    await gateway.call("PUT", "/v1/datasets/empty", json={"description": "<b>nothing</b>"})
    async with gateway.client(None, follow_redirects=True) as client:
        client.headers["origin"] = "http://gateway"
        answer = await client.post("/console/login", data={"token": gateway.tokens["owner"]})
        assert answer.status_code == 200
        yield client


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("", "Overview"),
        ("/datasets", "digits"),
        ("/datasets/digits", "the cache manager does not answer"),
        ("/datasets/empty", "&lt;b&gt;nothing&lt;/b&gt;"),
        ("/fragments/datasets/digits/versions", "the cache manager does not answer"),
        ("/datasets/digits/versions/2", "c.txt"),
        ("/datasets/digits/versions/2/file/a.txt", "text/plain"),
        ("/datasets/digits/versions/2/lineage", "digits@1"),
        ("/datasets/digits/diff?from=1", "b.txt"),
        ("/sites", "The cache manager is away"),
        ("/fragments/sites", "The cache manager is away"),
        ("/upload", "Choose a folder"),
        ("/runs", "Runs"),
        ("/models", "Models"),
        ("/deployments", "Deployments"),
        ("/drift", "Drift"),
        ("/events", "Events"),
    ],
)
async def test_a_page_shows_without_the_neighbours(visitor: httpx.AsyncClient, path: str, shown: str) -> None:
    answer = await visitor.get(f"/console{path}")
    assert answer.status_code == 200, answer.text
    assert shown in answer.text


async def test_an_upload_is_followed_without_ingest(visitor: httpx.AsyncClient, gateway: Any) -> None:
    landing = (await visitor.post("/console/data/landings")).json()["landing"]
    await visitor.put(f"/console/data/landings/{landing}/files/a", content=b"12")
    body = {"dataset": "new", "files": 1, "bytes": 2}
    operation = (await visitor.post(f"/console/data/landings/{landing}", json=body)).json()["operation"]
    shown = await visitor.get(f"/console/uploads/{operation}")
    assert (shown.status_code, "waiting for ingest" in shown.text) == (200, True)


async def test_a_button_without_its_service_says_so_in_words(visitor: httpx.AsyncClient) -> None:
    part = {"hx-request": "true"}
    for path, data in (
        ("/datasets/digits/cache", {"site": "nfs-a", "version": 1}),
        ("/datasets/digits/clear", {"entry": "x"}),
        ("/sites/nfs-a/drain", {}),
    ):
        answer = await visitor.post(f"/console{path}", data=data, headers=part)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (503, "text/plain")
        assert "cache-manager is away" in answer.text


async def test_whoever_may_only_read_sees_and_is_refused_what_changes(visitor: httpx.AsyncClient, gateway: Any) -> None:
    await visitor.post("/console/login", data={"token": gateway.tokens["viewer"]})
    assert (await visitor.get("/console/datasets/digits/versions/1")).status_code == 200
    refused = await visitor.post("/console/data/landings")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    visitor.cookies.clear()
    asked = await visitor.put("/console/data/landings/x/files/a", content=b"x")
    assert (asked.status_code, asked.headers["content-type"]) == (401, "application/problem+json")


async def test_a_cookie_is_not_an_api_token_elsewhere(visitor: httpx.AsyncClient) -> None:
    """A page of another site that frames or posts gets nothing: cookie and origin stay within the console."""
    assert (await visitor.get("/v1/datasets")).status_code == 401
    other = {"origin": "https://evil.example"}
    for path in ("/console/data/landings", "/console/sites", "/console/datasets/digits/cache"):
        assert (await visitor.post(path, headers=other)).status_code == 403
