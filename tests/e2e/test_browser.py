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

from tests.e2e import samples
from tests.e2e.conftest import Platform, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

PAGES = ("", "/datasets", "/datasets/etl", "/sites", "/runs", "/models", "/deployments", "/drift", "/events", "/upload")
VERSION = "/datasets/scans/versions/2"
SCANS = (
    VERSION,
    "/datasets/scans/versions/1?prefix=photos/",
    f"{VERSION}?prefix=chest/&view=list",
    f"{VERSION}/file/chest/001.dcm",
    f"{VERSION}/file/notes.md",
    f"{VERSION}/file/{samples.LONG}",
    f"{VERSION}/lineage",
    f"{VERSION}/copies?path=/chest/",
    f"{VERSION}/checks",
    "/datasets/scans",
    "/datasets/scans?removed=true",
    "/datasets?removed=true",
    "/garbage",
    "/datasets/scans/diff?from=1&to=2",
    "/lineage?node=dataset:scans@1",
)
CHROMIUM = os.environ.get("MILLRACE_CHROMIUM") or shutil.which("chromium") or ""
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about; who expects that clears it."""
    return []


@pytest.fixture
def page(request: pytest.FixtureRequest, platform: Platform, complaints: list[str]) -> Iterator[Page]:
    """A page that is signed in; whatever the browser complains about fails the test."""
    if not request.config.getoption("--browser"):
        pytest.skip("the browser tier runs by `make e2e-browser`")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

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


def test_a_version_is_removed_in_a_dialog_and_restored(platform: Platform, scans: dict[str, Any], page: Page) -> None:
    page.goto(f"{platform.urls['gateway']}/console/datasets/scans")
    page.get_by_role("button", name="Remove", exact=True).and_(page.locator(":enabled")).click()
    page.get_by_role("dialog").get_by_role("heading", name="Remove scans@1?").wait_for()
    page.get_by_role("button", name="Keep it").click()
    assert page.get_by_role("dialog").count() == 0
    page.get_by_role("button", name="Remove", exact=True).and_(page.locator(":enabled")).click()
    page.get_by_label("Why?").fill("a mistake")
    page.get_by_role("button", name="Remove scans@1").click()
    page.get_by_role("link", name="1", exact=True).wait_for(state="detached")
    page.get_by_role("link", name="Show removed versions").click()
    page.get_by_text("a mistake").wait_for()
    page.get_by_role("button", name="Restore").click()
    page.get_by_role("link", name="1", exact=True).wait_for()


def test_a_part_is_cached_from_its_folder(platform: Platform, scans: dict[str, Any], page: Page) -> None:
    page.goto(f"{platform.urls['gateway']}/console{VERSION}?prefix=photos/&view=list")
    page.get_by_role("link", name="Cache folder").click()
    assert page.get_by_label("Only what matches").input_value() == "/photos/"
    page.get_by_role("button", name="Cache", exact=True).click()
    row = page.get_by_role("row").filter(has_text="/photos/")
    row.locator(".state.good").wait_for()
    row.get_by_role("button", name="Clear").click()
    row.wait_for(state="detached")


def test_a_stranger_is_sent_to_the_sign_in_page(platform: Platform, page: Page) -> None:
    page.context.clear_cookies()
    page.goto(f"{platform.urls['gateway']}/console/runs")
    assert page.url.endswith("/console/login")


def test_the_session_cookie_is_out_of_scripts_reach(page: Page) -> None:
    cookie = next(cookie for cookie in page.context.cookies() if cookie["name"] == "millrace_session")
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", [*SCANS, "/sites", "/upload"])
def test_the_pages_of_the_data_plane_stand_in_any_window(
    platform: Platform, scans: dict[str, Any], page: Page, *, path: str, width: int, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": width, "height": 860})
    page.emulate_media(color_scheme="dark" if width < 800 else "light")
    page.goto(f"{platform.urls['gateway']}/console{path}")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert page.locator("nav [aria-current=page]").count() == 1


def shade(page: Page) -> list[int]:
    """Return the mean of each colour of the picture that is shown."""
    found: list[int] = page.evaluate(
        """() => {
            const canvas = document.querySelector(".stage canvas");
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const sums = [0, 0, 0];
            for (let at = 0; at < data.length; at += 4) for (const c of [0, 1, 2]) sums[c] += data[at + c];
            return sums.map((sum) => Math.round(sum / (data.length / 4)));
        }"""
    )
    return found


def test_a_series_is_looked_through_by_window_slider_and_key(
    platform: Platform, scans: dict[str, Any], page: Page
) -> None:
    page.goto(f"{platform.urls['gateway']}/console{VERSION}/file/chest/001.dcm")
    page.locator(".stage canvas").wait_for()
    page.get_by_text(f"2 of {samples.SLICES}").wait_for()
    own = shade(page)
    page.get_by_role("button", name="Bone").click()
    until("another window", lambda: shade(page) != own or None, 10)
    bone = shade(page)
    page.keyboard.press("1")
    until("the lung window", lambda: shade(page) not in (own, bone) or None, 10)
    assert page.get_by_role("button", name="Lung").get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    page.get_by_text(f"3 of {samples.SLICES}").wait_for()
    assert page.locator("h1").text_content() == "002.dcm"
    assert page.url.endswith("/file/chest/002.dcm")
    page.keyboard.press("End")
    page.get_by_text(f"{samples.SLICES} of {samples.SLICES}").wait_for()
    page.keyboard.press("0")
    until("its own window again", lambda: shade(page) == own or None, 10)
    page.locator("[data-slice]").fill("0")
    page.get_by_text(f"1 of {samples.SLICES}").wait_for()
    assert str(page.locator("[data-download]").get_attribute("href")).endswith("/files/chest/000.dcm")


def test_frames_are_looked_through_by_wheel(platform: Platform, scans: dict[str, Any], page: Page) -> None:
    page.goto(f"{platform.urls['gateway']}/console{VERSION}/file/many.dcm")
    page.locator("[data-frame-shown]", has_text="1 of 30").wait_for()
    page.locator(".stage").hover()
    page.mouse.wheel(0, 100)
    page.locator("[data-frame-shown]", has_text="2 of 30").wait_for()
    page.keyboard.press("ArrowDown")
    page.locator("[data-frame-shown]", has_text="3 of 30").wait_for()


def test_a_button_that_cannot_do_what_it_says_says_why(
    platform: Platform, scans: dict[str, Any], page: Page, complaints: list[str]
) -> None:
    page.goto(f"{platform.urls['gateway']}/console/sites")
    page.get_by_text("Add a site").click()
    page.fill("#site", "nfs-wrong")
    page.fill("#path", "not/absolute")
    page.fill("#gigabytes", "1")
    page.get_by_role("button", name="Save site").click()
    page.locator("#said", has_text="absolute").wait_for()
    complaints.clear()


def test_files_are_dropped_and_go_on_after_the_network_failed(
    platform: Platform, scans: dict[str, Any], page: Page, complaints: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    samples.write(
        folder, {"a/one.png": samples.photograph("red"), "big.bin": os.urandom(20_000_000), ".DS_Store": b"x"}
    )
    page.goto(f"{platform.urls['gateway']}/console/upload")
    page.fill("#dataset", "dropped")
    page.set_input_files("#folder", str(folder))
    page.locator("[data-chosen]", has_text="2 files, 20.0 MB; 1 of").wait_for()
    failed: list[str] = []

    def once(route: Any) -> None:
        if len(failed) < 2:
            failed.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    page.route("**/parts/big.bin?*", once)
    page.click("[data-start]")
    page.wait_for_url("**/console/uploads/*", timeout=60_000)
    page.get_by_role("link", name="dropped@1").click(timeout=60_000)
    page.get_by_role("link", name="big.bin").wait_for()
    assert len(failed) == 2
    complaints.clear()
    found = platform.get("/v1/datasets/dropped/versions/1/tree")
    assert [item["path"] for item in found["items"]] == ["a/", "big.bin"]


def test_an_upload_that_is_refused_says_why_and_can_be_stopped_and_go_on(
    platform: Platform, scans: dict[str, Any], page: Page, complaints: list[str], tmp_path: Path
) -> None:
    samples.write(tmp_path, {"big.bin": os.urandom(30_000_000)})
    page.goto(f"{platform.urls['gateway']}/console/upload")
    page.fill("#dataset", "stopped")
    page.set_input_files("#files", str(tmp_path / "big.bin"))
    page.route("**/parts/big.bin?*", lambda route: None)
    page.click("[data-start]")
    page.locator("[data-rows] tr").wait_for()
    page.click("[data-stop]")
    page.get_by_role("heading", name="Stopped").wait_for()
    page.unroute("**/parts/big.bin?*")
    page.click("[data-again]")
    page.get_by_role("link", name="stopped@1").wait_for(timeout=60_000)
    complaints.clear()
