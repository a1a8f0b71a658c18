"""Single files of a version over HTTP, by range, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import uvicorn
from blake3 import blake3

from catalog.application.files import Part, part_of
from catalog.entrypoints.routes import files
from catalog.errors import RangeNotSatisfiable
from millrace.datasets.limits import CHUNK

from .conftest import until

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


async def damage(gateway: Any, kind: str, data: bytes | None) -> None:
    """Lose every object of a kind, or replace its bytes."""
    for info in [info async for info in gateway.parts.store.list(f"default/{kind}/")]:
        if data is None:
            await gateway.parts.store.delete(info.key)
        else:
            await gateway.parts.store.put(info.key, data)


ROUTES = (f"{BASE}/small.txt", "/v1/datasets/digits/versions/1/archive.zip")
MORE = ("/v1/datasets/digits/versions/1/tree", f"{BASE.removesuffix('files')}preview/small.txt")


@pytest.mark.parametrize("kind", ["packs", "chunks", "manifests"])
@pytest.mark.parametrize("data", [None, b"damaged"])
async def test_what_the_lake_lost_is_not_the_caller_s_fault(version: Any, kind: str, data: bytes | None) -> None:
    await damage(version, kind, data)
    # A zip begins with the large file, so that it is under way before the packs are read; then it breaks.
    large = (f"{BASE}/big.txt", ROUTES[1])
    paths = {"chunks": large, "packs": (ROUTES[0], MORE[1]), "manifests": (*ROUTES, *MORE)}[kind]
    for path in paths:
        answer = await version.call("GET", path)
        code = "corrupt" if data else "object-lost"
        assert (answer.status_code, answer.json()["code"]) == (500, code), (path, answer.text)
        assert answer.headers["content-type"].startswith("application/problem+json")
    if kind != "manifests":
        absent = await version.call("GET", f"{BASE}/nothing")
        assert (absent.status_code, absent.json()["code"]) == (404, "file-not-in-version")
    assert files.ARCHIVES._free == files.ARCHIVES._count


async def test_a_reader_that_stalls_loses_its_connection_and_its_slot(version: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    server = uvicorn.Server(uvicorn.Config(version.app, port=0, lifespan="off", log_level="critical"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: _is(server.started))
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    request = f"GET {ROUTES[1]} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {version.tokens['owner']}\r\n\r\n"
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    length = int(next(it for it in head.lower().split(b"\r\n") if it.startswith(b"content-length")).split()[1])
    assert length > len(BIG)
    assert files.ARCHIVES._free == files.ARCHIVES._count - 1
    await until(lambda: _is(files.ARCHIVES._free == files.ARCHIVES._count))
    rest = 0
    with contextlib.suppress(ConnectionError):
        while piece := await asyncio.wait_for(reader.read(65_536), 10):
            rest += len(piece)
    assert rest < length, "the connection was broken"
    writer.close()
    server.should_exit = True
    await serving


async def _is(what: bool) -> bool:
    return what


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
