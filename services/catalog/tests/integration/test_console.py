"""The console while its neighbours are away: pages show what the catalog knows, and nothing answers with a 5xx."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from millrace.datasets.push import push

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
        ("/datasets/digits/versions/2/copies", "The cache manager does not answer"),
        ("/datasets/digits/versions/2/checks", "demands nothing"),
        ("/datasets?removed=true", "Hide removed"),
        ("/garbage", "Nothing was collected yet"),
        ("/fragments/garbage/plan", "Nothing would go"),
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


PART = {"hx-request": "true"}


async def test_a_version_goes_with_a_reason_and_comes_back(visitor: httpx.AsyncClient) -> None:
    page = "/console/datasets/digits"
    shown = (await visitor.get(page)).text
    assert "removal?version=1" in shown
    assert "removal?version=2" not in shown, "the head goes with its dataset only"
    dialog = await visitor.get("/console/fragments/datasets/digits/removal", params={"version": 1})
    assert "No run and no model rests on it" in dialog.text
    unsaid = await visitor.post(f"{page}/remove", data={"version": 1, "reason": " "}, headers=PART)
    assert (unsaid.status_code, "Say why" in unsaid.text) == (200, True)
    head = await visitor.post(f"{page}/remove", data={"version": 2, "reason": "x"}, headers=PART)
    assert "is the head" in head.text
    assert 'name="force"' not in head.text
    gone = await visitor.post(f"{page}/remove", data={"version": 1, "reason": "consent <withdrawn>"}, headers=PART)
    assert (gone.status_code, gone.headers["hx-redirect"]) == (204, page)
    assert "removal?version=1" not in (await visitor.get(page)).text
    removed = (await visitor.get(page, params={"removed": "true"})).text
    assert "consent &lt;withdrawn&gt;" in removed
    assert 'class="gone"' in removed
    answer = await visitor.get(f"{page}/versions/1")
    assert (answer.status_code, "consent &lt;withdrawn&gt;" in answer.text) == (410, True)
    back = await visitor.post(f"{page}/restore", data={"version": 1}, headers=PART)
    assert back.status_code == 204
    assert (await visitor.get(f"{page}/versions/1")).status_code == 200


async def test_what_is_rested_on_goes_only_by_force(visitor: httpx.AsyncClient, gateway: Any) -> None:
    run = {"dataset": "digits", "version": 1, "site": "nfs-a", "component": "noop"}
    assert (await gateway.call("POST", "/v1/runs", json=run)).status_code == 201
    dialog = await visitor.get("/console/fragments/datasets/digits/removal", params={"version": 1})
    assert "1 thing rests on it" in dialog.text
    assert 'name="force"' not in dialog.text, "force is offered only after a refusal"
    form = {"version": 1, "reason": "wrong"}
    refused = await visitor.post("/console/datasets/digits/remove", data=form, headers=PART)
    assert (refused.status_code, 'name="force"' in refused.text) == (200, True)
    assert 'value="wrong"' in refused.text
    forced = await visitor.post("/console/datasets/digits/remove", data={**form, "force": "true"}, headers=PART)
    assert forced.status_code == 204


async def test_a_dataset_goes_and_comes_back(visitor: httpx.AsyncClient) -> None:
    gone = await visitor.post("/console/datasets/digits/remove", data={"reason": "over"}, headers=PART)
    assert gone.headers["hx-redirect"] == "/console/datasets"
    assert "/datasets/digits" not in (await visitor.get("/console/datasets")).text
    assert "/datasets/digits/restore" in (await visitor.get("/console/datasets", params={"removed": "true"})).text
    await visitor.post("/console/datasets/digits/restore", headers=PART)
    assert (await visitor.get("/console/datasets/digits")).status_code == 200


async def test_garbage_is_collected_and_spared(visitor: httpx.AsyncClient) -> None:
    started = await visitor.post("/console/garbage/start", headers=PART)
    assert (started.status_code, "/garbage/stop" in started.text) == (200, True)
    assert "stopped" in (await visitor.post("/console/garbage/stop", headers=PART)).text


async def test_checks_are_said_in_words_and_tried(visitor: httpx.AsyncClient, gateway: Any) -> None:
    checks = [
        {"name": "enough", "files": {"min": 3, "match": ["*.txt"]}},
        {"name": "ages", "table": {"file": "t.csv", "columns": {"age": {"type": "integer", "max": 120, "nulls": 0}}}},
    ]
    await gateway.call("PUT", "/v1/datasets/digits/checks", json={"checks": checks})
    shown = (await visitor.get("/console/datasets/digits")).text
    assert "at least 3 files that match *.txt" in shown
    assert "t.csv, column age: integer, at most 120, no empty cell" in shown
    page = "/console/datasets/digits/versions/2/checks"
    assert "Nothing was demanded of this version" in (await visitor.get(page)).text
    tried = await visitor.post(page, headers=PART)
    assert (tried.status_code, "2 files, less than 3" in tried.text) == (200, True)
    await gateway.call("PUT", "/v1/datasets/digits/checks", json={"checks": [{"name": "one", "files": {"min": 1}}]})
    assert "passes" in (await visitor.post(page, headers=PART)).text


async def test_a_viewer_is_offered_nothing_that_would_be_refused(visitor: httpx.AsyncClient, gateway: Any) -> None:
    assert "Remove dataset" in (await visitor.get("/console/datasets/digits")).text
    await visitor.post("/console/login", data={"token": gateway.tokens["viewer"]})
    shown = (await visitor.get("/console/datasets/digits")).text
    for offer in ("Remove", "Upload files", "Restore"):
        assert offer not in shown, offer
    assert "Garbage" not in (await visitor.get("/console/datasets")).text
    assert "Garbage is collected by admins" in (await visitor.get("/console/garbage")).text
    refused = await visitor.post("/console/datasets/digits/remove", data={"version": 1, "reason": "x"}, headers=PART)
    assert "may not datasets:delete" in refused.text


async def test_every_address_of_a_page_keeps_the_project(
    visitor: httpx.AsyncClient, gateway: Any, tmp_path: Path
) -> None:
    second = {"project": "second"}
    (tmp_path / "data" / "sub").mkdir(parents=True)
    await gateway.call("PUT", "/v1/datasets/others", json={}, params=second)
    head = None
    for version in range(2):
        (tmp_path / "data" / f"{version}.txt").write_text("x")
        (tmp_path / "data" / "sub" / f"{version}.txt").write_text("x")
        made = await push(tmp_path / "data", gateway.parts.store, project="second")
        body: dict[str, Any] = {
            "manifest": made.manifest_id,
            "tree_root": made.tree_root,
            "packs": list(made.packs),
            "parent": head,
        }
        body |= {"files": made.files, "bytes": made.bytes}
        committed = await gateway.call("POST", "/v1/datasets/others/commits", json=body, params=second)
        assert committed.status_code == 201, committed.text
        head = committed.json()["commit"]
    seen, waiting = set(), ["/console?project=second"]
    while waiting:
        page = waiting.pop()
        if page in seen or "/data/" in page:
            continue
        seen.add(page)
        answer = await visitor.get(page)
        assert answer.status_code in {200, 503}, (page, answer.text)
        found = re.findall(r'\s(href|action|src|hx-get|hx-post|data-curves)="(/console[^"]*)"', answer.text)
        for name, written in found:
            address = html.unescape(written)
            if address.startswith(("/console/static", "/console/login", "/console/logout")):
                continue
            query = parse_qs(urlsplit(address).query)
            assert query.get("project") == ["second"], (page, written)
            if name in {"href", "hx-get"}:
                waiting.append(address)
        if 'method="get"' in answer.text:
            assert '<input type="hidden" name="project" value="second">' in answer.text, page
    visited = {urlsplit(page).path for page in seen}
    assert {"/console/datasets/others/versions/2/copies", "/console/datasets/others/versions/1/file/0.txt"} <= visited
    assert len(visited) > 25
    assert "/console/datasets/digits" not in visited
    form = {"version": 1, "reason": "x"}
    gone = await visitor.post("/console/datasets/others/remove", params=second, data=form, headers=PART)
    assert gone.headers["hx-redirect"] == "/console/datasets/others?project=second"
    for hostile in ('"><b>', "Second", "a&b"):
        refused = await visitor.get("/console/datasets", params={"project": hostile})
        assert refused.status_code == 400
        assert "<b>" not in refused.text
        assert "project=" not in refused.text, "no link goes on to what is no project"
