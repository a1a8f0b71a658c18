"""Tokens: shown once, never stronger than their maker, revoked at once."""

from __future__ import annotations

from datetime import datetime, timedelta

import httpx
import pytest

from millrace.auth import IntrospectingAuthenticator
from millrace.clock import SystemClock
from millrace.errors import Unauthenticated

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


async def test_a_token_lives_until_it_is_revoked_and_its_sessions_with_it(gateway) -> None:
    body = {"principal": "anna", "roles": ["admin"], "project": "default", "kind": "person"}
    made = (await gateway.call("POST", "/v1/tokens", json=body)).json()
    gateway.tokens["anna"] = made["token"]
    me = (await gateway.call("GET", "/v1/tokens/self", who="anna")).json()
    assert (me["principal"], me["project"], me["roles"]) == ("anna", "default", ["admin"])
    session = (await gateway.call("POST", "/v1/tokens/session", who="anna")).json()
    gateway.tokens["session"] = session["token"]
    assert session["expires_at"]
    assert (await gateway.call("GET", "/v1/datasets", who="session")).status_code == 200
    assert (await gateway.call("POST", "/v1/tokens/session", who="session")).status_code == 409
    assert (await gateway.call("DELETE", "/v1/tokens/session", who="anna")).status_code == 409
    listed = await gateway.call("GET", "/v1/tokens")
    assert made["token"] not in listed.text
    assert made["token"].split("_")[3] not in str(await _stored(gateway))
    assert (await gateway.call("DELETE", f"/v1/tokens/{made['id']}")).status_code == 204
    for who in ("anna", "session"):
        assert (await gateway.call("GET", "/v1/datasets", who=who)).status_code == 401


async def test_a_session_ends_no_later_than_the_token_it_came_from(gateway) -> None:
    body = {"principal": "eve", "roles": ["viewer"], "project": "default"}
    token = (await gateway.call("POST", "/v1/tokens", json=body)).json()
    gateway.tokens["eve"] = token["token"]
    soon = SystemClock().now() + timedelta(minutes=5)
    await gateway.parts.transactor.database["tokens"].update_one({"_id": token["id"]}, {"$set": {"expires_at": soon}})
    session = (await gateway.call("POST", "/v1/tokens/session", who="eve")).json()
    assert abs(datetime.fromisoformat(session["expires_at"]) - soon) < timedelta(seconds=5)
    gateway.tokens["session"] = session["token"]
    assert (await gateway.call("DELETE", "/v1/tokens/session", who="session")).status_code == 204
    assert (await gateway.call("GET", "/v1/datasets", who="session")).status_code == 401
    assert (await gateway.call("GET", "/v1/datasets", who="eve")).status_code == 200


async def _stored(gateway) -> list:
    return [row async for row in gateway.parts.transactor.database["tokens"].find()]


async def test_no_token_is_stronger_than_its_maker(gateway) -> None:
    body = {"principal": "bob", "roles": ["admin"], "project": "default"}
    gateway.tokens["bob"] = (await gateway.call("POST", "/v1/tokens", json=body)).json()["token"]
    for more in ({"roles": ["owner"]}, {"project": "*"}, {"project": "elsewhere"}, {"roles": ["service-trainer"]}):
        answer = await gateway.call("POST", "/v1/tokens", who="bob", json={**body, **more})
        assert answer.status_code == 403, answer.text
    weaker = {**body, "roles": ["viewer"], "scopes": ["datasets:read"]}
    made = await gateway.call("POST", "/v1/tokens", who="bob", json=weaker)
    assert made.status_code == 201
    gateway.tokens["weak"] = made.json()["token"]
    assert (await gateway.call("GET", "/v1/datasets", who="weak")).status_code == 200
    assert (await gateway.call("GET", "/v1/runs", who="weak")).status_code == 403
    assert (await gateway.call("POST", "/v1/tokens", json={**body, "roles": ["king"]})).status_code == 400
    assert (await gateway.call("DELETE", "/v1/tokens/" + "0" * 16)).status_code == 404


async def test_services_learn_who_is_asking(gateway) -> None:
    transport = httpx.ASGITransport(app=gateway.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        asker = IntrospectingAuthenticator(client, own_token=gateway.tokens["service-serving"], clock=SystemClock())
        principal = await asker.authenticate(gateway.tokens["viewer"])
        assert (principal.id, principal.project, principal.roles) == ("viewer", "default", frozenset({"viewer"}))
        forged = gateway.tokens["viewer"][:-10] + "0" * 10
        with pytest.raises(Unauthenticated):
            await asker.authenticate(forged)
