"""The API: guarded, closed to other projects, and polite to nonsense."""

from __future__ import annotations

import json

import pytest

from millrace.http import ANONYMOUS_PATHS, enumerate_routes

from .conftest import LEAKY, Stage

pytestmark = [pytest.mark.servers, *LEAKY]


async def test_every_route_has_its_guard(stage: Stage) -> None:
    monitor = await stage.start()
    routes = enumerate_routes(monitor.app)
    open_routes = {route.path for route in routes if route.action is None}
    assert open_routes <= ANONYMOUS_PATHS | {"/openapi.json"}
    actions = {route.path: route.action for route in routes if route.action}
    assert actions["/v1/labels/queues/{queue}/answers"] == "labels:write"
    assert actions["/v1/drift/incidents"] == "drift:read"
    assert actions["/v1/fsck"] == "fsck:read"


STATUS = {
    "/v1/drift/deployments": 200,
    "/v1/drift/incidents?state=open&deployment=pets": 200,
    "/v1/labels/queues?state=landed": 200,
    "/v1/drift/deployments/nothing": 404,
    "/v1/drift/incidents/inc-0": 404,
    "/v1/labels/queues/queue-0": 404,
    "/v1/labels/queues/queue-0/items": 404,
    f"/v1/labels/queues/queue-0/samples/{'0' * 64}": 404,
    "/v1/labels/queues/queue-0/samples/..%2f..%2fmodels": 404,
    "/v1/labels/queues/Nope!/items": 400,
    "/v1/drift/incidents?state=gone": 400,
    "/v1/drift/deployments/pets?limit=0": 400,
    "/v1/drift/deployments/pets?before=-1": 400,
    "/v1/drift/incidents?project=other": 404,
    "/v1/fsck": 403,
}

MALFORMED: list[object] = [
    {},
    {"answers": []},
    {"answers": [{"prediction": "a"}]},
    {"answers": [{"prediction": "a", "label": 3}]},
    {"answers": [{"prediction": "a", "label": "b", "extra": 1}]},
    {"answers": [{"prediction": "a", "label": "b"}, {"prediction": "a", "label": "c"}]},
    {"answers": [{"prediction": "\0", "label": "\ud800"}]},
    [],
    None,
]


async def test_answers_have_the_documented_status(stage: Stage) -> None:
    await stage.start()
    async with stage.http("viewer") as client:
        for path, status in STATUS.items():
            answer = await client.get(path)
            assert answer.status_code == status, (path, answer.text)
            if status >= 400 and "%2f" not in path:
                assert answer.headers["content-type"] == "application/problem+json"


async def test_malformed_answers_are_refused(stage: Stage) -> None:
    await stage.start()
    headers = {"content-type": "application/json"}
    async with stage.http("contributor") as client:
        for body in MALFORMED:
            raw = json.dumps(body).encode()
            answer = await client.post("/v1/labels/queues/queue-0/answers", content=raw, headers=headers)
            assert answer.status_code in {400, 404}, (body, answer.text)
