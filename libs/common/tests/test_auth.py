"""Tokens and the one authorisation decision."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.auth import ROLES, IntrospectingAuthenticator, Principal, authorise, introspection, mint, parse, verify
from millrace.clock import SystemClock
from millrace.errors import Forbidden, NotFound, Unauthenticated, Unavailable

PEPPER = b"p" * 32


def test_a_minted_token_is_parsed_and_verified() -> None:
    token = mint("prod")
    again = parse(token.text)
    assert again == token
    assert verify(again, token.hash(PEPPER), PEPPER)
    assert not verify(again, token.hash(b"q" * 32), PEPPER)


def test_a_token_hides_its_secret_from_tracebacks() -> None:
    token = mint()
    assert token.secret not in repr(token)


@given(st.integers(0, 200), st.sampled_from("0123456789abcdefz_ é\0"))
def test_one_changed_character_is_rejected_without_a_lookup(position: int, character: str) -> None:
    text = mint().text
    position %= len(text)
    changed = text[:position] + character + text[position + 1 :]
    if changed != text:
        with pytest.raises(Unauthenticated):
            parse(changed)


@given(st.text(max_size=300))
def test_junk_is_no_token(text: str) -> None:
    with pytest.raises(Unauthenticated):
        parse(text)


def test_roles_of_people_grow_and_never_hold_service_powers() -> None:
    for weaker, stronger in [("viewer", "contributor"), ("contributor", "trainer"), ("trainer", "deployer")]:
        assert ROLES[weaker] < ROLES[stronger]
    for role in ("viewer", "contributor", "trainer", "deployer", "admin", "owner"):
        assert not ROLES[role] & {"tokens:introspect", "runs:report"}


def test_scopes_narrow_and_never_widen() -> None:
    principal = Principal("a", "token", "p", frozenset({"viewer"}), frozenset({"datasets:read", "datasets:write"}))
    authorise(principal, "datasets:read", "p")
    with pytest.raises(Forbidden):
        authorise(principal, "datasets:write", "p")
    with pytest.raises(Forbidden):
        authorise(principal, "runs:read", "p")


def test_a_foreign_project_does_not_exist() -> None:
    with pytest.raises(NotFound):
        authorise(Principal("a", "person", "p", frozenset({"owner"})), "datasets:read", "q")


def an_authenticator(answer: httpx.Response, calls: list[str]) -> IntrospectingAuthenticator:
    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        return answer

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://catalog")
    return IntrospectingAuthenticator(client, own_token=mint().text, clock=SystemClock())


async def test_introspection_is_asked_once_within_thirty_seconds() -> None:
    calls: list[str] = []
    ada = Principal("ada", "person", "default", frozenset({"viewer"}), token_id="x")
    authenticator = an_authenticator(httpx.Response(200, json=introspection(ada)), calls)
    token = mint().text
    assert await authenticator.authenticate(token) == ada
    assert await authenticator.authenticate(token) == ada
    assert calls == ["/v1/tokens/introspect"]


async def test_an_inactive_token_is_unauthenticated_and_a_catalog_away_is_unavailable() -> None:
    inactive = an_authenticator(httpx.Response(200, json={"active": False}), [])
    with pytest.raises(Unauthenticated):
        await inactive.authenticate(mint().text)
    away = an_authenticator(httpx.Response(502), [])
    with pytest.raises(Unavailable):
        await away.authenticate(mint().text)
