"""Every page of the console as it is sent, without a browser; what a browser makes of it is `test_browser.py`'s."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from millrace.clock import new_id
from tests.e2e.conftest import Platform, until

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

PAGES = ("", "/datasets", "/datasets/etl", "/sites", "/runs", "/models", "/deployments", "/drift", "/events", "/upload")


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


V1, V2 = "/datasets/scans/versions/1", "/datasets/scans/versions/2"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (V2, ("chest", "notes.md", "fewer pictures", "archive.zip")),
        ("/datasets/scans/versions/latest", ('scans<span class="quiet">@2</span>',)),
        (f"{V2}?prefix=chest/", ("preview/chest/000.dcm?size=192", "6 files")),
        (f"{V2}?prefix=chest/&view=list", ("application/dicom",)),
        (f"{V2}?prefix=odd/%C3%A4%20%26%20b%23c%3Fd%25e/", ("&#34;quoted&#34; &lt;b&gt;.txt",)),
        (f"{V2}/file/chest/002.dcm", ("data-viewer", "Soft tissue", "application/dicom")),
        (f"{V2}/file/photos/blue.png", ("data-viewer", "image/png")),
        (f"{V1}/file/notes.md", ("&lt;script&gt;alert(1)&lt;/script&gt;",)),
        (f"{V1}/file/data.bin", ("There is no preview",)),
        (f"{V1}/file/empty.txt", ("0 bytes",)),
        (f"{V1}/file/odd/%C3%A4%20%26%20b%23c%3Fd%25e/%22quoted%22%20%3Cb%3E.txt", ("odd",)),
        ("/datasets/scans/diff?from=1&to=2", ("added.csv", "photos/red.png", "1 file", "notes.md")),
        ("/datasets/scans/diff?from=1&to=2&change=removed", ("photos/red.png",)),
        ("/datasets/scans/diff?from=2&to=2", ("Nothing differs.",)),
        (f"{V2}/lineage", ("scans@1", "Came from", "Led to")),
        (f"{V2}/copies?path=/chest/", ("Bring it near", ">/chest/</textarea>")),
        (f"{V2}?prefix=chest/", ("copies?path=/chest/",)),
        ("/datasets/etl/versions/1/lineage", ("run", "event", "ingestion job")),
        ("/lineage?node=dataset:etl@1", ("input", "/console/runs/")),
        ("/lineage?node=thing:unknown", ("Nothing is recorded.",)),
        ("/upload?dataset=scans", ('value="scans"', "Choose a folder")),
    ],
)
def test_a_page_of_the_data_plane_shows(
    visitor: httpx.Client, trained: dict[str, Any], scans: dict[str, Any], path: str, shown: tuple[str, ...]
) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.text.count("<h1") == 1
    for text in shown:
        assert text in answer.text, text
    assert "<script>alert" not in answer.text
    assert not re.search(r'\s(?:style|on[a-z]+)="', answer.text), "what the content policy forbids"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/datasets/scans/versions/99", 404),
        ("/datasets/scans/versions/UP", 400),
        ("/datasets/No_name", 400),
        (f"{V1}?prefix=nothing/", 404),
        (f"{V1}?prefix=../", 400),
        (f"{V1}?after=x", 400),
        (f"{V1}?view=other", 400),
        (f"{V1}/file/nothing", 404),
        (f"{V1}/file/chest", 404),
        ("/datasets/scans/diff", 400),
        ("/datasets/scans/diff?from=1&to=99", 404),
        ("/datasets/nothing/diff?from=1", 404),
        ("/lineage?node=nothing", 400),
        ("/uploads/nothing", 404),
        ("/fragments/copies/nothing", 404),
    ],
)
def test_a_wrong_address_is_answered_by_a_page(
    visitor: httpx.Client, scans: dict[str, Any], path: str, status: int
) -> None:
    answer = visitor.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h1>" in answer.text


def test_bytes_come_through_the_session(visitor: httpx.Client, scans: dict[str, Any]) -> None:
    data = "/data/datasets/scans/versions/1"
    picture = visitor.get(f"{data}/preview/chest/001.dcm", params={"size": 64, "center": 40, "width": 400})
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert picture.headers["millrace-window"] == "40,400"
    assert len(picture.headers.get_list("x-request-id")) == 1
    file = visitor.get(f"{data}/files/data.bin", headers={"range": "bytes=1-3"})
    assert (file.status_code, file.content) == (206, b"\1\2\3")
    assert file.headers["content-disposition"].startswith("attachment")
    whole = visitor.get(f"{data}/archive.zip", params={"prefix": "photos/"})
    with zipfile.ZipFile(io.BytesIO(whole.content)) as found:
        assert found.namelist() == ["photos/blue.png", "photos/green.png", "photos/red.png"]
    level = visitor.get(f"{data}/tree", params={"prefix": "chest/"}).json()
    assert level["files"] == 6
    assert visitor.get(f"{data}/preview/plan.dcm").status_code == 422
    visitor.cookies.clear()
    assert visitor.get(f"{data}/files/data.bin", follow_redirects=False).status_code == 303


def test_what_changes_something_comes_from_the_console_s_own_pages(
    visitor: httpx.Client, scans: dict[str, Any]
) -> None:
    elsewhere = {"origin": "https://evil.example"}
    for method, path in (
        ("POST", "/datasets/scans/cache"),
        ("POST", "/datasets/scans/pin"),
        ("POST", "/sites"),
        ("POST", "/sites/nfs-a/drain"),
        ("POST", "/sites/nfs-a/remove"),
        ("POST", "/data/landings"),
        ("PUT", "/data/landings/x/files/y"),
    ):
        answer = visitor.request(method, path, headers=elsewhere)
        assert answer.status_code == 403, path


def test_a_copy_is_cached_pinned_and_cleared_and_a_site_comes_and_goes(
    visitor: httpx.Client, scans: dict[str, Any], tmp_path: Any
) -> None:
    site = {"site": "nfs-test", "path": str(tmp_path / "site"), "gigabytes": "1", "inodes": "1000"}
    (tmp_path / "site").mkdir()
    part = {"hx-request": "true"}
    assert "nfs-test" in visitor.post("/sites", data=site, headers=part).text
    refused = visitor.post("/sites", data={**site, "path": "relative"}, headers=part)
    assert (refused.status_code, refused.headers["content-type"].partition(";")[0]) == (400, "text/plain")
    assert "absolute" in refused.text
    wrong = visitor.post("/sites", data={**site, "gigabytes": "many"}, headers=part)
    assert (wrong.status_code, "gigabytes" in wrong.text) == (400, True)

    assert visitor.post("/datasets/scans/cache", data={"site": "nfs-test", "version": "2"}).status_code == 200
    entry = until("the copy is ready", lambda: _entry(visitor, "Pin"))
    for place in ("/datasets/scans", "/sites/nfs-test"):
        pinned = visitor.post(f"{place}/pin", data={"entry": entry})
        assert "Unpin" in pinned.text
        visitor.post(f"{place}/unpin", data={"entry": entry, "pin": "console"})
    assert "complete" in visitor.get(f"/fragments/copies/{entry}").text
    in_use = visitor.post("/sites/nfs-test/remove", headers=part)
    assert (in_use.status_code, "drain it" in in_use.text) == (409, True)
    assert "draining" in visitor.post("/sites/nfs-test/drain").text
    visitor.post("/sites/nfs-test/clear", data={"entry": entry})
    until("the copy has left", lambda: _entry(visitor, "Clear") is None or None)
    assert "ready" in visitor.post("/sites/nfs-test/use").text
    (tmp_path / "other").mkdir()
    visitor.post("/sites", data={**site, "site": "nfs-other", "path": str(tmp_path / "other")})
    assert "nfs-other" in visitor.get("/sites").text
    assert "nfs-other" not in visitor.post("/sites/nfs-other/remove", headers=part).text


def _entry(visitor: httpx.Client, button: str) -> str | None:
    shown = visitor.get("/fragments/datasets/scans/versions").text
    found = re.search(rf'name="entry" value="(nfs-test[^"]*)"><button[^>]*>{button}', shown)
    return found.group(1) if found else None


def test_a_landing_goes_through_the_session(visitor: httpx.Client, scans: dict[str, Any]) -> None:
    landing = visitor.post("/data/landings").json()["landing"]
    part = b"x" * 2_000_000
    assert visitor.put(f"/data/landings/{landing}/files/a%20b/c.txt", content=part).status_code == 204
    refused = visitor.put(f"/data/landings/{landing}/files/%5C", content=b"x")
    assert (refused.status_code, refused.json()["code"]) == (400, "path-refused")
    body = {"dataset": "uploaded", "files": 1, "bytes": len(part)}
    operation = visitor.post(f"/data/landings/{landing}", json=body).json()["operation"]
    until("the version is there", lambda: "uploaded@1" in visitor.get(f"/fragments/uploads/{operation}").text or None)
    assert "a b" in visitor.get("/datasets/uploaded/versions/1").text


def test_parts_and_packs_are_copies_of_their_own(visitor: httpx.Client, scans: dict[str, Any], tmp_path: Any) -> None:
    (tmp_path / "site").mkdir()
    site = {"site": "nfs-parts", "path": str(tmp_path / "site"), "gigabytes": "1", "inodes": "1000"}
    visitor.post("/sites", data=site)
    part = {"hx-request": "true"}
    refused = visitor.post(f"{V2}/copies", data={"site": "nfs-parts", "paths": "!chest/"}, headers=part)
    assert refused.status_code == 400
    for asked in ({"paths": "/chest/\n\n *.md "}, {"mode": "packs"}):
        answer = visitor.post(f"{V2}/copies", data={"site": "nfs-parts", **asked})
        assert answer.status_code == 200, answer.text
    shown = until("both are ready", lambda: _ready(visitor, 2))
    assert ">/chest/, *.md<" in shown
    assert ">packs<" in shown
    table = visitor.get("/fragments/datasets/scans/versions").text
    assert re.search(r'name="site" value="nfs-parts">[^/]*name="version" value="2"', table), "the whole is not there"
    assert ">packs<" in table

    assert visitor.post("/datasets/scans/cache", data={"site": "nfs-parts", "version": "2"}).status_code == 200
    until("the whole is ready, too", lambda: _ready(visitor, 3))
    ids = _ids(visitor)
    packs = next(entry for entry in ids if entry.endswith("-packs"))
    assert "Unpin" in visitor.post(f"{V2}/pin", data={"entry": packs}).text
    whole = next(entry for entry in ids if "-" not in entry.rpartition(".")[2])
    visitor.post(f"{V2}/clear", data={"entry": whole})
    until("only the whole has left", lambda: whole not in _ids(visitor) or None)
    assert set(_ids(visitor)) == set(ids) - {whole}
    sites = visitor.get("/sites").text
    assert ">/chest/, *.md<" in sites
    assert visitor.post(f"{V2}/unpin", data={"entry": packs, "pin": "console"}).status_code == 200
    for entry in set(ids) - {whole}:
        visitor.post(f"{V2}/clear", data={"entry": entry})
    until("all have left", lambda: not _ids(visitor) or None)
    visitor.post("/sites/nfs-parts/remove")


def _ids(visitor: httpx.Client) -> list[str]:
    shown = visitor.get(f"/fragments{V2}/copies").text
    return sorted(set(re.findall(r'name="entry" value="(nfs-parts[^"]*)"', shown)))


def _ready(visitor: httpx.Client, count: int) -> str | None:
    shown = visitor.get(f"/fragments{V2}/copies").text
    rows = [row for row in shown.split("<tr>") if "nfs-parts" in row]
    return shown if sum("state good" in row for row in rows) == count else None
