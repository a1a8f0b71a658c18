"""The routes: each is guarded, sees its own project only, and says in problem documents what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from cache_manager.application.cache import Cache
from cache_manager.bootstrap import web as build_web
from millrace.auth import Principal
from millrace.errors import Unauthenticated
from millrace.http import ANONYMOUS_PATHS, enumerate_routes
from millrace.runtime import Runtime

pytestmark = pytest.mark.servers

RUN = "01890000-0000-7000-8000-000000000001"


class Names:
    """The token is the role; `other-` before it means project `other`."""

    async def authenticate(self, token: str) -> Principal:
        if token == "none":
            raise Unauthenticated("no")
        project = "other" if token.startswith("other-") else "*"
        return Principal(token, "person", project, frozenset({token.removeprefix("other-")}))


@pytest.fixture
async def web(lab: Any) -> AsyncIterator[Any]:
    manager = await lab.manager()
    door = build_web(Runtime("cache-manager"), Names(), Cache(manager.world))
    door.app.state.manager = manager
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=door), base_url="http://cache") as client:

        async def call(method: str, path: str, token: str = "owner", **options: Any) -> httpx.Response:
            return await client.request(method, path, headers={"authorization": f"Bearer {token}"}, **options)

        call.app = door.app  # type: ignore[attr-defined]
        yield call


async def test_every_route_is_guarded(web: Any) -> None:
    for guard in enumerate_routes(web.app):
        assert guard.action is not None or guard.path in ANONYMOUS_PATHS | {"/openapi.json"}, guard
    assert (await web("GET", "/v1/cache/sites", "none")).status_code == 401


async def test_cache_lease_and_clear_over_http(lab: Any, web: Any) -> None:
    version, manager = await lab.version(), web.app.state.manager
    asked = await web("POST", "/v1/cache/entries", json={"site": "nfs-a", "dataset": "digits", "version": 1})
    assert (asked.status_code, asked.json()["state"], asked.json()["path"]) == (202, "QUEUED", None)
    wish = {"run": RUN, "site": "nfs-a", "dataset": "digits", "commit": version.commit}
    early = await web("POST", "/v1/cache/leases", "trainer", json=wish)
    assert (early.status_code, early.json()["code"], early.json()["state"]) == (409, "cache-entry-not-ready", "QUEUED")

    entry = await lab.until_state(manager, lab.key(version), "READY")
    lease = (await web("POST", "/v1/cache/leases", "trainer", json=wish)).json()
    [shown] = (await web("GET", "/v1/cache/entries?dataset=digits", "viewer")).json()["items"]
    assert (shown["id"], shown["state"], shown["path"]) == (entry.id, "READY", lease["path"])
    assert shown["leases"] == [{"lease": lease["lease"], "run": RUN, "hit": False}]
    assert (await web("PUT", f"/v1/cache/leases/{lease['lease']}", "trainer")).status_code == 200

    assert (await web("DELETE", f"/v1/cache/entries/{entry.id}")).status_code == 202
    assert (await web("DELETE", f"/v1/cache/leases/{lease['lease']}", "trainer")).status_code == 204
    assert (await web("PUT", f"/v1/cache/leases/{lease['lease']}", "trainer")).json()["code"] == "cache-lease-lost"
    await lab.until_state(manager, lab.key(version), "ABSENT")
    assert (await web("GET", "/v1/cache/entries")).json() == {"items": [], "next": None}
    assert (await web("GET", "/v1/fsck", "admin")).json()["violations"] == []


async def test_an_early_lease_over_http(lab: Any, web: Any) -> None:
    version, manager = await lab.version(), web.app.state.manager
    going = asyncio.Event()

    async def wait(key: str) -> None:
        if "/packs/" in key:
            await going.wait()

    lab.store.before = wait
    wish = {"run": RUN, "site": "nfs-a", "dataset": "digits", "commit": version.commit, "early": True}
    refused = await web("POST", "/v1/cache/leases", "trainer", json=wish)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")
    wish["mode"] = "packs"
    assert (await web("POST", "/v1/cache/leases", "trainer", json=wish)).status_code == 409
    await manager.attendance.step()
    async with asyncio.timeout(20):
        while (got := await web("POST", "/v1/cache/leases", "trainer", json=wish)).status_code != 200:
            await asyncio.sleep(0.02)
    lease = got.json()["lease"]
    [shown] = (await web("GET", "/v1/cache/entries", "viewer")).json()["items"]
    assert (shown["state"], shown["path"], shown["reason"]) == ("FETCHING", None, "fetching; in use while filling")

    wanted = {"names": ["0" * 64], "reader": 3, "waited_seconds": 0.5}
    asked = await web("POST", f"/v1/cache/leases/{lease}/wanted", "trainer", json=wanted)
    looked = await web("GET", f"/v1/cache/leases/{lease}", "viewer")
    assert (asked.status_code, asked.json()) == (200, looked.json())
    assert (asked.json()["early"], asked.json()["path"]) == (got.json()["early"], got.json()["path"])
    for bad in ({"names": ["x"]}, {"names": ["0" * 64] * 17}, {"reader": 16}, {"waited_seconds": -1}, {"more": 1}):
        assert (await web("POST", f"/v1/cache/leases/{lease}/wanted", "trainer", json=bad)).status_code == 400
    assert (await web("POST", f"/v1/cache/leases/{lease}/wanted", "viewer", json=wanted)).status_code == 403
    other = await web("GET", f"/v1/cache/leases/{lease}?project=other", "other-owner")
    assert (other.status_code, other.json()["code"]) == (409, "cache-lease-lost")

    going.set()
    await manager.attendance.idle()
    asked = await web("POST", f"/v1/cache/leases/{lease}/wanted", "trainer", json=wanted)
    assert (asked.json()["state"], asked.json()["early"]) == ("READY", None)
    assert (await web("DELETE", f"/v1/cache/leases/{lease}", "trainer")).status_code == 204
    gone = await web("POST", f"/v1/cache/leases/{lease}/wanted", "trainer", json=wanted)
    assert gone.json()["code"] == "cache-lease-lost"


async def test_another_project_sees_and_changes_nothing(lab: Any, web: Any) -> None:
    version = await lab.version()
    entry = await lab.ready(web.app.state.manager, version)
    assert (await web("GET", f"/v1/cache/entries/{entry.id}", "other-owner")).status_code == 404
    for method in ("GET", "DELETE"):
        answer = await web(method, f"/v1/cache/entries/{entry.id}?project=other", "other-owner")
        assert (answer.status_code, answer.json()["code"]) == (404, "cache-entry-not-found")
    assert (await web("GET", "/v1/cache/entries?project=other", "other-owner")).json()["items"] == []
    [site] = (await web("GET", "/v1/cache/sites?project=other", "other-owner")).json()["items"]
    assert (site["entries"], site["saved_bytes"], site["used_bytes"]) == (0, 0, 36_000)
    assert (
        await web("PUT", "/v1/cache/sites/x", "other-owner", json={"path": "/x", "capacity_bytes": 1})
    ).status_code == 403
    assert (await web("GET", "/v1/fsck", "other-owner")).status_code == 403


async def test_sites_are_made_and_bad_ones_refused(lab: Any, web: Any) -> None:
    manager = web.app.state.manager
    made = await web("PUT", "/v1/cache/sites/nfs-b", json={"path": str(lab.scratch / "b"), "capacity_bytes": 10**9})
    assert (made.status_code, made.json()["site"]) == (200, "nfs-b")
    await lab.step(manager)
    version = await lab.version()
    await web("POST", "/v1/cache/entries", json={"site": "nfs-b", "dataset": "digits", "commit": version.commit})
    await lab.until_state(manager, lab.key(version, site="nfs-b"), "READY")
    for path in ("/", "/etc", "relative", "/a/../b", str(lab.site)):
        refused = await web("PUT", "/v1/cache/sites/nfs-c", json={"path": path, "capacity_bytes": 1})
        assert refused.status_code == 400, path
    moved = await web("PUT", "/v1/cache/sites/nfs-b", json={"path": "/elsewhere", "capacity_bytes": 1})
    assert "clear them" in moved.json()["hint"]


@pytest.mark.parametrize(
    "body",
    [
        {"site": "nfs-a", "dataset": "digits"},
        {"site": "nfs-a", "dataset": "digits", "version": 1, "commit": "0" * 64},
        {"site": "../etc", "dataset": "digits", "version": 1},
        {"site": "nfs-a", "dataset": "digits", "version": 0},
        {"site": "nfs-a", "dataset": "digits", "version": 10**12},
        {"site": "nfs-a", "dataset": "digits", "version": 1, "more": 1},
    ],
)
async def test_bad_bodies_are_refused(web: Any, body: dict[str, Any]) -> None:
    assert (await web("POST", "/v1/cache/entries", json=body)).status_code == 400


async def test_what_does_not_exist_is_404(web: Any) -> None:
    for site, version in (("nfs-z", 1), ("nfs-a", 77)):
        body = {"site": site, "dataset": "digits", "version": version}
        assert (await web("POST", "/v1/cache/entries", json=body)).status_code == 404
    for entry in ("x", "nfs-a.default." + "0" * 64, "..%2f..%2fetc"):
        assert (await web("DELETE", f"/v1/cache/entries/{entry}")).status_code == 404


async def test_pins_plan_and_why_over_http(lab: Any, web: Any) -> None:
    version, manager = await lab.version(), web.app.state.manager
    planned = (await web("GET", "/v1/cache/plan?dataset=digits&version=1", "viewer")).json()
    assert [(it["site"], it["verdict"]) for it in planned["sites"]] == [("nfs-a", "fits")]
    entry = await lab.ready(manager, version)
    path = f"/v1/cache/entries/{entry.id}"
    assert (await web("PUT", f"{path}/pins/paper", "contributor", json={})).status_code == 403
    assert (await web("PUT", f"{path}/pins/paper", "trainer", json={"reason": "figure 3"})).status_code == 200
    refused = await web("DELETE", path)
    assert (refused.status_code, refused.json()["code"]) == (409, "cache-entry-pinned")
    why = (await web("GET", f"{path}/why", "viewer")).json()
    assert (why["held_by"], why["age_out"]["rule"], why["sites"][0]["verdict"]) == (
        ["pin paper by trainer"],
        "pin",
        "ready",
    )
    assert (await web("DELETE", f"{path}/pins/paper", "trainer")).json()["pins"] == []
    for call in (("GET", "/why"), ("PUT", "/pins/paper"), ("DELETE", "/pins/paper")):
        answer = await web(call[0], f"{path}{call[1]}?project=other", "other-owner", json={})
        assert answer.status_code == 404, call


async def test_quotas_age_out_and_draining_over_http(web: Any) -> None:
    assert (await web("PUT", "/v1/cache/quotas", "other-admin", json={"bytes": 1})).status_code == 403
    limited = await web("PUT", "/v1/cache/quotas?project=other", json={"site": "nfs-a", "bytes": 5_000})
    assert (limited.json()["limit_bytes"], limited.json()["charged_bytes"]) == (5_000, 0)
    assert (await web("PUT", "/v1/cache/quotas", json={"site": "nfs-z", "bytes": 1})).status_code == 404
    [quota] = (await web("GET", "/v1/cache/quotas?project=other", "other-viewer")).json()["items"]
    assert quota["site"] == "nfs-a"

    assert (await web("PUT", "/v1/cache/age-out", "trainer", json={"seconds": 60})).status_code == 403
    rule = {"dataset": "digits", "seconds": 60}
    assert (await web("PUT", "/v1/cache/age-out", "deployer", json=rule)).status_code == 200
    assert (await web("PUT", "/v1/cache/age-out", "deployer", json={"seconds": float(10**12)})).status_code == 400
    assert (await web("GET", "/v1/cache/age-out", "viewer")).json()["items"] == [{"project": "default", **rule}]
    assert (await web("DELETE", "/v1/cache/age-out?dataset=digits", "deployer")).status_code == 204
    assert (await web("DELETE", "/v1/cache/age-out?dataset=digits", "deployer")).status_code == 404

    assert (await web("PUT", "/v1/cache/sites/nfs-a/drain", "other-admin")).status_code == 403
    assert (await web("PUT", "/v1/cache/sites/nfs-a/drain", "admin")).json()["state"] == "draining"
    assert (await web("DELETE", "/v1/cache/sites/nfs-a/drain", "admin")).json()["state"] == "ready"
    assert (await web("DELETE", "/v1/cache/sites/nfs-a", "admin")).status_code == 204
    assert (await web("DELETE", "/v1/cache/sites/nfs-a", "admin")).status_code == 404


WISH = {"run": RUN, "site": "nfs-a", "dataset": "digits", "commit": "0" * 64}


@pytest.mark.parametrize(
    ("status", "token", "query", "body"),
    [
        (401, "none", "", WISH),
        (403, "viewer", "", WISH),
        (404, "other-owner", "", WISH),
        (404, "owner", "", WISH),
        (404, "owner", "?project=other", WISH),
        (400, "owner", "?project=../x", WISH),
        (400, "owner", "", {**WISH, "run": "a.b"}),
        (400, "owner", "", {**WISH, "more": 1}),
        (400, "owner", "", [1]),
        (404, "owner", "", {**WISH, "site": "nfs-z"}),
    ],
)
async def test_the_door_refuses_leases_as_the_app_does(
    web: Any, status: int, token: str, query: str, body: Any
) -> None:
    through_door = await web("POST", f"/v1/cache/leases{query}", token, json=body)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web.app), base_url="http://cache") as client:
        headers = {"authorization": f"Bearer {token}"}
        plain = await client.post(f"/v1/cache/leases{query}", json=body, headers=headers)
    assert (through_door.status_code, plain.status_code) == (status, status)
    assert through_door.headers["content-type"] == plain.headers["content-type"]
    ignored = {"instance"}
    assert {k: v for k, v in through_door.json().items() if k not in ignored} == {
        k: v for k, v in plain.json().items() if k not in ignored
    }
    assert (await web("POST", "/v1/cache/leases", token, content=b"x" * 2_000_000)).status_code in {400, 401, 403, 413}


async def test_grants_that_come_together_are_told_apart(lab: Any, web: Any) -> None:
    version = await lab.version()
    await lab.ready(web.app.state.manager, version)
    runs = [f"01890000-0000-7000-8000-{number:012d}" for number in range(60)]
    asked = [*runs, runs[0], runs[0]]
    answers = await asyncio.gather(
        *(
            web("POST", "/v1/cache/leases", "trainer", json={**WISH, "run": run, "commit": version.commit})
            for run in asked
        )
    )
    leases = [answer.json() for answer in answers]
    assert sorted(lease["token"] for lease in leases) == list(range(1, 63))
    assert [lease["lease"].split(".")[3] for lease in leases] == asked
    entry = await web.app.state.manager.world.entries.get(lab.key(version).id)
    assert (entry.uses, entry.hits, entry.saved_bytes, len(entry.leases)) == (60, 59, 59 * 36_000, 60)
    assert [lease["hit"] for lease in leases].count(False) == 1 + 2 * (not leases[0]["hit"])


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"trigger": "commit", "dataset": "digits", "site": "nfs-a"}),
        (200, {"trigger": "run"}),
        (200, {"trigger": "schedule", "dataset": "digits", "site": "nfs-a", "at": "03:30"}),
        (400, {"trigger": "commit", "dataset": "digits"}),
        (400, {"trigger": "run", "site": "nfs-a"}),
        (400, {"trigger": "schedule", "dataset": "digits", "site": "nfs-a"}),
        (400, {"trigger": "schedule", "dataset": "digits", "site": "nfs-a", "at": "25:00"}),
        (400, {"trigger": "schedule", "site": "nfs-a", "at": "03:30"}),
        (400, {"trigger": "commit", "site": "nfs-a", "every_seconds": 3600}),
    ],
)
async def test_prefetch_rules_over_http(web: Any, status: int, body: dict[str, Any]) -> None:
    assert (await web("PUT", "/v1/cache/prefetch/nightly", "trainer", json=body)).status_code in {400, 403}
    assert (await web("PUT", "/v1/cache/prefetch/nightly", "deployer", json=body)).status_code == status
    found = (await web("GET", "/v1/cache/prefetch", "viewer")).json()["items"]
    assert [rule["name"] for rule in found] == ["nightly"] * (status == 200)
    assert (await web("GET", "/v1/cache/prefetch?project=other", "other-viewer")).json()["items"] == []
    expected = 204 if status == 200 else 404
    assert (await web("DELETE", "/v1/cache/prefetch/nightly", "deployer")).status_code == expected
