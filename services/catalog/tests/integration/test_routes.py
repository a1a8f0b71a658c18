"""Every route: guarded, and never a 5xx for what a client can send wrongly."""

from __future__ import annotations

import json
import re

import pytest

from catalog import console
from catalog.entrypoints.docs.whole import Part, whole
from millrace.http import ANONYMOUS_PATHS, enumerate_routes

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

REVIEWED = {(method, path) for path in ANONYMOUS_PATHS for method in ("GET", "HEAD")} | {
    ("GET", "/docs"),
    ("GET", "/docs/files/{name}"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    ("OPTIONS", "/v1/events"),
}
"""What answers without a token: health, documentation, and the webhook handshake (allow-listed origins only)."""

RUN = "01a211e2-aff2-7716-9600-1ada771ff180"


def filled(path: str) -> str:
    """Return a path with its parameters filled in."""
    values = {"run": RUN, "token": "0" * 16, "ref": "latest"}
    return re.sub(r"{(\w+)(:path)?}", lambda match: values.get(match.group(1), "digits"), path)


async def test_every_route_refuses_anonymous_callers_but_the_reviewed_ones(gateway) -> None:
    routes = enumerate_routes(gateway.app)
    assert len(routes) > 60
    for route in routes:
        if (route.method, route.path) in REVIEWED or route.path in console.ANONYMOUS_PATHS:
            continue
        assert route.action is not None, f"{route.method} {route.path} has no guard"
        answer = await gateway.call(route.method, filled(route.path), who=None, json={})
        if route.action == "session":  # the console's pages show the sign-in form
            assert answer.status_code in (303, 401, 403), f"{route.method} {route.path}: {answer.status_code}"
            continue
        assert answer.status_code == 401, f"{route.method} {route.path}: {answer.status_code}"
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_roles_are_the_matrix(gateway) -> None:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    cases = [
        ("viewer", "GET", "/v1/datasets/digits", 200),
        ("viewer", "PUT", "/v1/datasets/other", 403),
        ("contributor", "PUT", "/v1/datasets/other", 201),
        ("contributor", "PUT", "/v1/policies/p", 403),
        ("viewer", "GET", "/v1/audit", 403),
        ("viewer", "GET", "/v1/fsck", 403),
        ("viewer", "POST", "/v1/tokens/introspect", 403),
        ("foreigner", "GET", "/v1/datasets/digits", 404),
        ("foreigner", "GET", "/v1/datasets?project=elsewhere", 200),
        ("foreigner", "POST", "/v1/tokens/introspect", 403),
        ("etl", "GET", "/v1/datasets/digits", 403),
        ("service-ingest", "PUT", "/v1/datasets/by-ingest", 201),
        ("service-serving", "PUT", "/v1/datasets/by-serving", 403),
        ("service-trainer", "POST", f"/v1/runs/{RUN}/metrics", 404),
        ("owner", "POST", f"/v1/runs/{RUN}/metrics", 403),
    ]
    point = {"fence": 1, "points": [{"key": "loss", "step": 1, "value": 1.0}]}
    bodies = {"metrics": point, "introspect": {"token": "x"}}
    for who, method, path, status in cases:
        body = bodies.get(path.rsplit("/", 1)[-1], {})
        answer = await gateway.call(method, path, who=who, json=None if method == "GET" else body)
        assert answer.status_code == status, f"{who} {method} {path}: {answer.status_code} {answer.text}"


HOSTILE = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"\xff\xfe",
    b"[" * 20_000,
    b'{"description": "\\ud800"}',
    b'{"description": "nul \\u0000"}',
    b'{"params": {"a": NaN}}',
    b'{"fence": 1e400, "points": []}',
    b'{"fence": 99999999999999999999999999, "points": [{"key": "k", "step": 1, "value": 1}]}',
    b'{"files": 99999999999999999999999999}',
    json.dumps({"dataset": "digits", "site": "s", "component": "c", "params": {"\ud800": 1}}).encode(),
    json.dumps({"dataset": "digits", "site": "s", "component": "c", "params": {"a": 10**30}}).encode(),
    json.dumps({"dataset": {"$gt": ""}, "site": "s", "component": "c"}).encode(),
    json.dumps({"model": "digits", "version": {"$ne": 1}}).encode(),
]


async def test_hostile_bodies_are_a_4xx_and_never_a_5xx(gateway) -> None:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    for route in enumerate_routes(gateway.app):
        if route.method not in {"POST", "PUT", "DELETE"} or route.action == "forwarded":
            continue
        if route.path == "/v1/tokens/session" or not route.path.startswith("/v1/"):
            continue
        for who in ("owner", "service-trainer"):
            async with gateway.client(who) as client:
                for body in HOSTILE:
                    for content_type in ("application/json", "application/cloudevents+json"):
                        answer = await client.request(
                            route.method, filled(route.path), content=body, headers={"content-type": content_type}
                        )
                        where = f"{who} {route.method} {route.path} {body[:60]!r}: {answer.status_code} {answer.text}"
                        assert answer.status_code < 500, where
                        if answer.status_code >= 400:
                            assert answer.headers["content-type"] == "application/problem+json", where


@pytest.mark.parametrize(
    "path",
    [
        "/v1/datasets/UPPER",
        "/v1/datasets/a%00b",
        "/v1/datasets/%ED%A0%80",
        "/v1/datasets/..%2f..%2fetc",
        "/v1/datasets/digits/versions/$gt",
        "/v1/datasets/digits/versions?after=x",
        "/v1/datasets/digits/versions?after=99999999999999999999999",
        "/v1/datasets?limit=0",
        "/v1/datasets?limit=1000000",
        "/v1/datasets?project=a%2fb",
        "/v1/runs?after=%00",
        "/v1/runs/not-a-run",
        f"/v1/runs/{RUN}/logs?after=x",
        "/v1/events?after=-1",
        "/v1/events?after=99999999999999999999",
        "/v1/lineage?node=x",
        "/v1/operations/%00",
        "/v1/dlq/%00",
        "/v1/models/digits/versions/..%2f..",
        "/v1/events?correlation=%ED%A0%80",
    ],
)
async def test_hostile_paths_and_queries_are_a_4xx_or_empty(gateway, path: str) -> None:
    answer = await gateway.call("GET", path)
    assert answer.status_code < 500, answer.text


async def test_ten_megabytes_are_a_413_declared_or_streamed(gateway) -> None:
    body = b"x" * (10 * 1024 * 1024)

    async def chunks():
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    headers = {"content-type": "application/cloudevents+json"}
    for content in (body, chunks()):
        answer = await gateway.call("POST", "/v1/events", content=content, headers=headers)
        assert answer.status_code == 413, answer.text
    assert (await gateway.call("PUT", "/v1/policies/p", content=b"x" * 100_000)).status_code == 413


async def test_the_documentation_needs_no_other_host_and_no_inline_code(gateway) -> None:
    page = await gateway.call("GET", "/docs", who=None)
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.findall(r"https?://", page.text)
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", page.text)
    for path in re.findall(r'(?:src|href)="(/docs/files/[^"]+)"', page.text):
        assert (await gateway.call("GET", path, who=None)).status_code == 200
    assert (await gateway.call("GET", "/docs/files/..%2fpage.py", who=None)).status_code == 404
    document = (await gateway.call("GET", "/openapi.json", who=None)).json()
    assert document["openapi"].startswith("3.1")
    assert "/v1/datasets/{name}/commits" in document["paths"]


async def test_the_description_says_who_may_ask_and_how_a_refusal_looks(gateway) -> None:
    document = (await gateway.call("GET", "/openapi.json", who=None)).json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert "422" not in operation["responses"]
        assert "application/problem+json" in operation["responses"]["default"]["content"]
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    schemas = document["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)


def test_documents_of_services_become_one() -> None:
    reference = {"$ref": "#/components/schemas/Body"}
    own = {"paths": {"/v1/own": {"get": {}}}, "components": {"schemas": {"Body": {"title": "own"}}, "x": 1}}
    other = {
        "paths": {"/v1/queue": {"get": reference}, "/v1/queue/{run}": {}, "/v1/queues": {}, "/v1/fsck": {}},
        "components": {"schemas": {"Body": {"title": "other"}, "Problem": {}}},
    }
    made = whole(own, [Part("cache-manager", ("/v1/queue",), other)])
    assert set(made["paths"]) == {"/v1/own", "/v1/queue", "/v1/queue/{run}"}
    assert made["paths"]["/v1/queue"]["get"] == {"$ref": "#/components/schemas/CacheManagerBody"}
    schemas = {"Body": {"title": "own"}, "CacheManagerBody": {"title": "other"}, "Problem": {}}
    assert made["components"] == {"schemas": schemas, "x": 1}


async def test_a_forwarded_route_says_who_is_away(gateway) -> None:
    answer = await gateway.call("GET", "/v1/cache/sites")
    assert answer.status_code == 503
    assert answer.json()["service"] == "cache-manager"
    assert answer.headers["content-type"] == "application/problem+json"
