"""Single files of a version over HTTP, by range, on real servers."""

from __future__ import annotations

from typing import Any

import pytest
from blake3 import blake3

from catalog.application.files import Part, part_of
from catalog.errors import RangeNotSatisfiable
from millrace.datasets.limits import CHUNK

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
SMALL = bytes(range(256)) * 4
BIG = bytes(range(251)) * ((CHUNK + 1_000_000) // 251)
BASE = "/v1/datasets/digits/versions/1/files"


@pytest.fixture
async def version(gateway: Any) -> Any:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    answer = await gateway.commit(await gateway.push(small=SMALL, empty=b"", big=BIG))
    assert answer.status_code == 201
    return gateway


async def test_a_file_is_sent_whole_or_in_part(version: Any) -> None:
    whole = await version.call("GET", f"{BASE}/small.txt")
    assert (whole.status_code, whole.content) == (200, SMALL)
    assert whole.headers["etag"] == f'"{blake3(SMALL).hexdigest()}"'
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''small.txt"
    assert (await version.call("GET", f"{BASE}/empty.txt")).content == b""
    for name, data in (("small", SMALL), ("big", BIG)):
        for text, start, stop in (
            ("bytes=0-0", 0, 1),
            ("bytes=5-9", 5, 10),
            ("bytes=1000-", 1_000, len(data)),
            ("bytes=-7", len(data) - 7, len(data)),
            (f"bytes={len(data) - 20}-{len(data) + 50}", len(data) - 20, len(data)),
        ):
            part = await version.call("GET", f"{BASE}/{name}.txt", headers={"range": text})
            assert (part.status_code, part.content) == (206, data[start:stop]), text
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(data)}"
    across = await version.call("GET", f"{BASE}/big.txt", headers={"range": f"bytes={CHUNK - 10}-{CHUNK + 9}"})
    assert across.content == BIG[CHUNK - 10 : CHUNK + 10]
    assert (await version.call("GET", f"{BASE}/big.txt")).content == BIG


async def test_a_known_file_is_not_sent_again(version: Any) -> None:
    tag = (await version.call("GET", f"{BASE}/small.txt")).headers["etag"]
    again = await version.call("GET", f"{BASE}/small.txt", headers={"if-none-match": f'"other", {tag}'})
    assert (again.status_code, again.content) == (304, b"")


async def test_what_is_not_there_is_said(version: Any) -> None:
    for path in ("nothing", "../small.txt", "%2e%2e/small.txt", "small.txt/x", "%00", "é" * 2_000):
        answer = await version.call("GET", f"{BASE}/{path}")
        assert answer.status_code in {404, 422}, path
        assert answer.headers["content-type"].startswith("application/problem+json")
    beyond = await version.call("GET", f"{BASE}/small.txt", headers={"range": "bytes=5000-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range-not-satisfiable")
    other = await version.call("GET", "/v1/datasets/digits/versions/1/files/small.txt", params={"project": "other"})
    assert other.status_code in {403, 404}
    assert (await version.call("GET", f"{BASE}/small.txt", who=None)).status_code == 401


@pytest.mark.parametrize(
    "text", [None, "", "bytes=-", "bytes=9-2", "bytes=1-2,4-5", "items=0-1", "bytes=a-b", "x" * 99]
)
def test_a_range_of_another_form_is_ignored(text: str | None) -> None:
    assert part_of(10, text) == Part(0, 10, partial=False)


@pytest.mark.parametrize(("size", "text"), [(10, "bytes=10-"), (0, "bytes=0-"), (0, "bytes=-5"), (10, "bytes=-0")])
def test_a_range_beyond_the_end_is_refused(size: int, text: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        part_of(size, text)
