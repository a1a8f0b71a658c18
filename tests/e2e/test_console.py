"""Every page of the console as it is sent, without a browser; what a browser makes of it is `test_browser.py`'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from millrace.clock import new_id
from tests.e2e.conftest import Platform

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

PAGES = ("", "/datasets", "/datasets/etl", "/runs", "/models", "/deployments", "/drift", "/events")


@pytest.fixture
def visitor(platform: Platform) -> Iterator[httpx.Client]:
    """Somebody who has signed in with the owner's token."""
    gateway = platform.urls["gateway"]
    with httpx.Client(
        base_url=f"{gateway}/console", headers={"origin": gateway}, timeout=30, follow_redirects=True
    ) as client:
        answer = client.post("/login", data={"token": platform.token}, follow_redirects=False)
        assert answer.status_code == 303
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_sent_under_a_strict_policy(visitor: httpx.Client, trained: dict[str, Any], path: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 200, answer.text
    assert not answer.history or path == ""
    assert answer.text.count("<h1>") == 1
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy or "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text


def test_what_came_from_outside_is_shown_with_its_end(visitor: httpx.Client, trained: dict[str, Any]) -> None:
    shown = visitor.get("/events").text
    assert "From outside" in shown
    assert "etl@1" in shown
    one_story = visitor.get("/events", params={"correlation": trained["committed"]["correlationid"]}).text
    assert "From outside" not in one_story


def test_a_run_has_a_page_and_a_stranger_has_none(visitor: httpx.Client, trained: dict[str, Any]) -> None:
    run = trained["completed"]["data"]["run"]
    assert run in visitor.get(f"/runs/{run}").text
    for missing in (f"/runs/{new_id()}", "/datasets/no-such-dataset", "/no-such-page"):
        answer = visitor.get(missing)
        assert (answer.status_code, "<h1>" in answer.text) == (404, True), missing
    visitor.cookies.clear()
    answer = visitor.get("/runs", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/login")
