"""The console in a real browser: pages without an error, within their content policy, that do what their buttons say.

Run by `make e2e-browser`; it needs Debian's chromium and the dependency group `browser`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import Platform

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

PAGES = ("", "/datasets", "/datasets/etl", "/runs", "/models", "/deployments", "/drift", "/events")
CHROMIUM = os.environ.get("MILLRACE_CHROMIUM") or shutil.which("chromium") or ""
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def page(request: pytest.FixtureRequest, platform: Platform) -> Iterator[Page]:
    """A page that is signed in; whatever the browser complains about fails the test."""
    if not request.config.getoption("--browser"):
        pytest.skip("the browser tier runs by `make e2e-browser`")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        shown = browser.new_page(viewport={"width": 1280, "height": 860})
        shown.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.goto(f"{platform.urls['gateway']}/console/login")
        shown.fill("#token", platform.token)
        shown.click("button")
        shown.wait_for_url("**/console")
        yield shown
        browser.close()
    assert complaints == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_shows_itself_without_complaint(
    platform: Platform, trained: dict[str, Any], page: Page, path: str, tmp_path: Path
) -> None:
    page.goto(f"{platform.urls['gateway']}/console{path}")
    assert page.locator("h1").count() == 1
    assert page.locator("nav [aria-current=page]").count() == 1
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page scrolls sideways"


def test_clear_and_cache_do_what_they_say(platform: Platform, trained: dict[str, Any], page: Page) -> None:
    page.goto(f"{platform.urls['gateway']}/console/datasets/etl")
    page.get_by_role("button", name="Clear").first.click()
    page.get_by_role("button", name="Cache").first.wait_for()
    page.get_by_role("button", name="Cache").first.click()
    page.get_by_role("button", name="Clear").first.wait_for()
    page.locator(".state.good").first.wait_for()


def test_a_stranger_is_sent_to_the_sign_in_page(platform: Platform, page: Page) -> None:
    page.context.clear_cookies()
    page.goto(f"{platform.urls['gateway']}/console/runs")
    assert page.url.endswith("/console/login")


def test_the_session_cookie_is_out_of_scripts_reach(page: Page) -> None:
    cookie = next(cookie for cookie in page.context.cookies() if cookie["name"] == "millrace_session")
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""
